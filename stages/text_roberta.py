"""Hidden states of RoBERTa, or of any text encoder in `transformers`: published, fine-tuned per fold, or made here.

Source: HJCAG, "Text": RoBERTa-large, 1024 dimensions per token (Liu et al. 2019), fine-tuned with AdamW. Decisions: X7
(all tokens, [CLS] first), H13 (a fold fine-tunes on its own rows), X14 (normalisation), X21 (random weights), X22 (the
turns before).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.cache.weights import check_revision, hub_source
from pipeline.dialogue import Context
from pipeline.reason import Reason
from pipeline.stage import SOURCE, Item, Modality, Rows, Spec, Stage, State, Target, Track
from stages._context import Passage
from stages._text import Case, Tags, normalise
from stages._training import UNTRAINED, Training

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

    from stages._fit import Examples
    from stages._hub import Source
    from stages._roberta import Worker

PUBLISHED = ("FacebookAI/roberta-large", "722cf37b1afa9454edce342e7895e588b6ff1d59")
"""The default model, and the commit of the hub that it is pinned to."""

_SIZES = ("hidden", "layers", "heads", "vocab_size")
_OPTIMISER = ("learning_rate", "weight_decay", "fit_precision", "gradient_checkpointing")
_TRAINING = (*_OPTIMISER, "epochs", "repeats", "balanced", "batch_size", "patience", "seed")


@dataclass(frozen=True, kw_only=True)
class TextRoberta(Stage):
    """[T, H], the last hidden states of the first token ([CLS], `<s>`) and of the text's own tokens; [1, H] for `cls`.

    context: how many turns of the dialogue before the utterance the encoder reads with it, in the form of EmoBERTa (Kim
    and Vossen 2021), see `stages._context`. speakers: whether each turn begins with its speaker's name. Neither the
    turns before nor a name has steps of its own. A fit reads the turns before its rows too.

    init: `pretrained` reads `model`, a local directory or a hub id, with its `revision`, a commit; the default is
    `PUBLISHED`. `random` makes a RoBERTa of `hidden` (H), `layers` and `heads`, with a byte-level tokenizer of at most
    `vocab_size` tokens learned from the train transcripts of the fold; it needs no download. fine_tune: trains the
    encoder per fold on the task, with a linear head on the first token; `random` always does. learning_rate, epochs,
    repeats: None is, for `pretrained`, HJCAG's 2e-5, 10 epochs, and the best of 3 runs by validation loss; for
    `random`, 5e-4, 20 epochs and one run (X21). For `pretrained` the rate rises over the first tenth of the steps and
    then falls linearly; for `random` it is constant. patience: epochs without a better validation loss. balanced: class
    weights by inverse frequency. weight_decay: AdamW's. fit_precision, gradient_checkpointing: autocast to bfloat16,
    and activations computed twice, for large encoders on small GPUs. max_tokens: the length at which a text is
    truncated, special tokens included; with a context, the oldest turns are left out first. precision: `bf16` runs the
    encoder in bfloat16, which differs from float32 by more than its tolerance. case, tags: see
    `stages._text.normalise`.
    """

    version: ClassVar[int] = 1
    modality: ClassVar[Modality] = "text"
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers")
    batch: ClassVar[int] = 64
    gpu: ClassVar[bool] = True
    imports: ClassVar[tuple[str, ...]] = ("stages._roberta",)

    model: str = field(default="", metadata=SOURCE)
    revision: str = ""
    init: Literal["pretrained", "random"] = "pretrained"
    fine_tune: bool = False
    output: Literal["tokens", "cls"] = "tokens"
    context: int = 0
    speakers: bool = True
    max_tokens: int = 128
    precision: Literal["float32", "bf16"] = "float32"
    case: Case = "keep"
    tags: Tags = "drop"
    hidden: int = 128
    layers: int = 2
    heads: int = 4
    vocab_size: int = 4000
    learning_rate: float | None = None
    epochs: int | None = None
    repeats: int | None = None
    balanced: bool = False
    batch_size: int = 16
    patience: int = 3
    weight_decay: float = 0.01
    fit_precision: Literal["float32", "bf16"] = "float32"
    gradient_checkpointing: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Writes out the default model and its revision, so that the key holds them."""
        if self.init == "pretrained" and self.model in ("", PUBLISHED[0]):
            object.__setattr__(self, "model", PUBLISHED[0])
            object.__setattr__(self, "revision", self.revision or PUBLISHED[1])

    def sources(self) -> dict[str, str]:
        """The model at its revision."""
        return {} if self.init == "random" else {"model": hub_source(self.model, self.revision)}

    @property
    def dialogue(self) -> Context | None:
        """`context` turns; None if there are none."""
        return Context(self.context, self.speakers) if self.context else None

    @property
    def fitted(self) -> bool:
        """True if the weights depend on the fold."""
        return self.fine_tune or self.init == "random"

    def check(self) -> None:
        """Raises ValueError for parameters that have no effect beside others, or give no encoder or no training."""
        if self.init == "random" and (self.model or self.revision):
            raise ValueError('init = "random" reads no weights: leave model and revision out')
        if self.init == "pretrained":
            self._check_published()
        if self.context < 0:
            raise ValueError(f"context is a number of turns, is {self.context}")
        if not self.context:
            self.refuse(("speakers",), "only for context above 0")
        if not 8 <= self.max_tokens <= 512:
            raise ValueError(f"max_tokens is 8 to 512, is {self.max_tokens}")
        if min(self.layers, self.heads) < 1 or self.hidden % self.heads or self.vocab_size < 300:
            raise ValueError("layers and heads are at least 1, heads divide hidden, vocab_size is at least 300")
        self._check_training()

    def _check_published(self) -> None:
        self.refuse(_SIZES, 'only for init = "random", a published model has its own')
        check_revision(self.model, self.revision)

    def _check_training(self) -> None:
        if not self.fitted:
            self.refuse(_TRAINING, UNTRAINED)
        self._training.check()

    def load(self, device: str) -> Worker:
        """Returns the published encoder, or only its width if a state holds the encoder. Raises InputError."""
        from stages._roberta import Encoder, Worker, read_config, read_model, read_tokenizer

        if self.init == "random":
            return Worker(self.hidden, device, self.precision)
        if self.fine_tune:
            return Worker(read_config(self._source).hidden_size, device, self.precision)
        tokenizer = read_tokenizer(self._source, self.max_tokens)
        encoder = Encoder(tokenizer, read_model(self._source, self.max_tokens))
        return Worker(encoder.model.config.hidden_size, device, self.precision, encoder)

    def restore(self, state: State, device: str) -> Worker:
        """Returns the width, which the state holds too, so that no published weights are needed."""
        from stages._roberta import Worker, config_of

        return Worker(config_of(state).hidden_size, device, self.precision)

    def fit(self, train: Rows, valid: Rows, target: Target, device: str) -> State:
        """Trains encoder and head on the task's loss, and the tokenizer if `random`, on the rows that have a text.

        For the tensors and the text of the state see `stages._roberta_fit.fit`. Raises InputError if no train row is
        left.
        """
        from stages._roberta_fit import Classifier, fit

        learned_from, validated_on = (self._examples(rows) for rows in (train, valid))
        tokenizer = self._tokenizer([passage.written for passage in learned_from.inputs])

        def build() -> Classifier:
            model, fixed = self._model(tokenizer), self.init == "random"
            classifier = Classifier(model, target.outputs, fixed=fixed, checkpointing=self.gradient_checkpointing)
            return classifier.to(device)

        return fit(tokenizer, build, learned_from, validated_on, target, self._training)

    def spec(self, loaded: Worker) -> Spec:
        """D is H, the encoder's width. bfloat16 has eight bits of precision, so values depend on the batch."""
        return Spec(dim=loaded.dim, tolerance=1e-4 if self.precision == "float32" else 0.1)

    def transform(self, loaded: Worker, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """Returns the states of each text; a text that is empty after normalisation has the reason `no_text`, and one
        that does not fit `max_tokens` the remark `text_cut`, or `turns_left_out`."""
        passages = [self._passage(item) for item in batch]
        tracks = [Track.failed(Reason.NO_TEXT)] * len(passages)
        kept = [row for row, passage in enumerate(passages) if passage.text]
        for row, states, remarks in loaded.encoder(state).states([passages[row] for row in kept]):
            tracks[kept[row]] = Track.of(states[:1] if self.output == "cls" else states, remarks=remarks)
        return tracks

    def words(self, text: str, state: State | None) -> list[str] | None:
        """The words of a text, each at its first token, and "" at its other ones; the first token by its own name.

        None with a context, whose turns are not in the text, and for `cls`.
        """
        from stages._context import encode

        if self.context or self.output == "cls":
            return None
        return encode(self._tokenizer_of(state), Passage(self._normalised(text))).words

    def _tokenizer_of(self, state: State | None) -> Tokenizer:
        from stages._roberta import read_tokenizer, tokenizer_from_state

        return tokenizer_from_state(state) if state else read_tokenizer(self._source, self.max_tokens)

    @property
    def _source(self) -> Source:
        from stages._hub import Source

        return Source(self.model, self.revision)

    @property
    def _training(self) -> Training:
        published = self.init == "pretrained"
        rate, epochs, repeats = (2e-5, 10, 3) if published else (5e-4, 20, 1)
        return Training.of(
            self,
            epochs=epochs if self.epochs is None else self.epochs,
            learning_rate=rate if self.learning_rate is None else self.learning_rate,
            warmup=0.1 if published else None,
            repeats=repeats if self.repeats is None else self.repeats,
        )

    def _tokenizer(self, texts: Sequence[str]) -> Tokenizer:
        from stages._roberta import learn_tokenizer, read_tokenizer

        if self.init == "random":
            return learn_tokenizer(texts, self.vocab_size, self.max_tokens)
        return read_tokenizer(self._source, self.max_tokens)

    def _model(self, tokenizer: Tokenizer) -> PreTrainedModel:
        from stages._roberta import make_model, read_model

        if self.init == "random":
            return make_model(
                tokenizer, self.vocab_size, self.hidden, self.layers, self.heads, self.max_tokens, self.seed
            )
        return read_model(self._source, self.max_tokens)

    def _passage(self, item: Item) -> Passage:
        if not self.context:
            return Passage(self._normalised(item["text"]))
        return Passage.of(item["dialogue"], self._normalised)

    def _normalised(self, text: str) -> str:
        return normalise(text, self.case, self.tags)

    def _examples(self, rows: Rows) -> Examples[Passage]:
        """The rows that have a text."""
        from stages._fit import Examples

        pairs = [(self._passage(item), label) for item, label in zip(rows.items, rows.labels, strict=True)]
        kept = [(passage, label) for passage, label in pairs if passage.text]
        return Examples([passage for passage, _ in kept], [label for _, label in kept])
