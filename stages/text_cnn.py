"""Convolutions of several widths over word vectors, trained on the task: n-gram detectors, one map per filter.

Source: MulG, "Text" (word2vec -> "CNN with several filter widths"), after Kim (2014). Decisions: X10 (the classifier
and the output), G12 (sequences are cached, so padding keeps the length), H13 (a fold fits on its own rows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline.stage import Item, Modality, Rows, Spec, Stage, State, Target, Track
from stages._training import Training


@dataclass(frozen=True, kw_only=True)
class TextCnn(Stage):
    """[T, len(widths) * channels], the maps of all widths side by side, after ReLU and before pooling over time.

    There is one step per token of `text_word2vec`, valid if the token has a vector. A step sees (width - 1) // 2 tokens
    before it and width // 2 after it. widths, channels, dropout (of the pooled maps) and balanced (class weights by
    inverse frequency) are parameters of the classifier that trains the filters; epochs, batch_size, learning_rate
    (AdamW), patience (epochs without a better validation loss) and seed are those of its training.
    """

    version: ClassVar[int] = 1
    modality: ClassVar[Modality] = "text"
    inputs: ClassVar[tuple[str, ...]] = ("text_word2vec",)
    libraries: ClassVar[tuple[str, ...]] = ("torch",)
    batch: ClassVar[int] = 256
    imports: ClassVar[tuple[str, ...]] = ("stages._text_cnn",)

    widths: tuple[int, ...] = (3, 4, 5)
    channels: int = 100
    dropout: float = 0.5
    balanced: bool = False
    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 1e-3
    patience: int = 3
    seed: int = 0

    @property
    def fitted(self) -> bool:
        """True: such filters are not published."""
        return True

    def check(self) -> None:
        """Raises ValueError for sizes that give no network or no training."""
        if not self.widths or min(self.widths) < 1 or len(set(self.widths)) < len(self.widths):
            raise ValueError(f"widths are different counts of tokens, at least one, are {self.widths}")
        if self.channels < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"channels must be at least 1, dropout in [0, 1); are {self.channels}, {self.dropout}")
        Training.of(self).check()

    def fit(self, train: Rows, valid: Rows, target: Target, device: str) -> State:
        """Trains the classifier on the task's loss, without the rows that have no word vector.

        tensors: `filters.mean` and `filters.deviation` [D] of the train words, which standardise the vectors (X1);
        `filters.convolutions.<i>.weight` [channels, D, width] and `.bias` for each of the widths; `head.weight` [K,
        len(widths) * channels] and `head.bias` of the classifier, which `transform` does not read. Raises InputError if
        no train row is left.
        """
        from stages._text_cnn import Classifier, Filters, fit

        def build(dim: int) -> Classifier:
            return Classifier(Filters(dim, self.widths, self.channels), self.dropout, target.outputs)

        return fit(build, train, valid, target, Training.of(self), device)

    def spec(self, loaded: None) -> Spec:
        """The names are `w<width>_<channel>`."""
        names = tuple(f"w{width}_{channel}" for width in self.widths for channel in range(self.channels))
        return Spec(dim=len(names), names=names)

    def transform(self, loaded: None, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """Returns the maps of each utterance; one whose track has no values has the reason of that track."""
        from stages._text_cnn import Filters, transform

        if state is None:
            raise ValueError("text_cnn needs the state of its fit")
        dim = state.tensors["filters.convolutions.0.weight"].shape[1]
        filters = Filters(dim, self.widths, self.channels)
        return transform(filters, state, [item["text_word2vec"] for item in batch])
