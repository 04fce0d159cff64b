"""The Model contract: what a file of `models/` offers, what the training loop gives it, and what it gives back.

Shapes: B rows of the batch, T steps of a sequence, S steps of a source, D features of a modality, C dialogues of U
turns. Masks are bool, True where a step is valid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.stage import Target

MODALITIES = ("text", "audio", "visual")


@dataclass(frozen=True)
class Input:
    """What a model knows of one modality: `dim` features in each step, `length` steps after alignment."""

    dim: int
    length: int


class Turns(NamedTuple):
    """The dialogues of a batch: each of its rows is one turn of one dialogue.

    turns: int64 [C, U], the row within the batch of each turn, in the order of the dialogue; -1 after the last turn.
    speakers: int64 [B], the speaker of each row, numbered within the dialogue from 0. All turns of a dialogue whose
    speaker is unknown have one number.
    """

    turns: Tensor
    speakers: Tensor

    @property
    def mask(self) -> Tensor:
        """bool [C, U], False after a dialogue's last turn."""
        return self.turns >= 0

    def of_rows(self, x: Tensor) -> Tensor:
        """Rows x [B, ...] in their places in the dialogues: [C, U, ...], 0 after a dialogue's last turn."""
        absent = ~self.mask.view(*self.turns.shape, *[1] * (x.dim() - 1))
        return x[self.turns.clamp(min=0)].masked_fill(absent, 0)

    def to_rows(self, x: Tensor) -> Tensor:
        """The inverse of `of_rows`: turns x [C, U, ...] in the order of the batch's rows, [B, ...]."""
        return x[self.mask][self.turns[self.mask].argsort()]

    def to(self, device: str) -> Turns:
        """The same on a device."""
        return Turns(self.turns.to(device), self.speakers.to(device))


class Batch(NamedTuple):
    """rows: [B], their numbers in the view. values, masks: modality -> [B, T, D], [B, T]. labels: [B] or [B, heads].

    turns: of a `DialogueModel`, None for other models.
    """

    rows: Tensor
    values: dict[str, Tensor]
    masks: dict[str, Tensor]
    labels: Tensor
    turns: Turns | None = None


class Prediction(NamedTuple):
    """What every model returns; `gates` and `attention` are detached, for plots.

    logits: [B, outputs]. gates: modality -> [B], the mean share of that modality, None for a model without gates.
    attention: "source->target" -> [B, T, S] with T steps of the target and S of the source, None unless `Model.maps`
    asks for it, and for a model without attention between modalities. parts: what the model's own loss needs, with
    gradients; None for a model without one.
    """

    logits: Tensor
    gates: dict[str, Tensor] | None = None
    attention: dict[str, Tensor] | None = None
    parts: dict[str, Tensor] | None = None


class Standardiser(nn.Module):
    """(x - mean) / std in each dimension, with statistics of the train rows kept as buffers (X1).

    A dimension whose deviation is 0, or is rounding noise beside its mean, gives 0. All other values are clipped at ten
    deviations. A modality whose statistics were never set passes unchanged and unclipped. Invalid steps give 0
    whatever they hold.
    """

    CLIP = 10.0
    FLOOR = 1e-8  # below the deviation of any feature that is not constant
    NOISE = 1e-6  # times the mean: the deviation of a constant in float32

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__()
        for modality, dim in dims.items():
            self.register_buffer(f"mean_{modality}", torch.zeros(dim))
            self.register_buffer(f"std_{modality}", torch.ones(dim))
            self.register_buffer(f"limit_{modality}", torch.tensor(torch.inf))

    def set(self, modality: str, mean: Tensor, std: Tensor) -> None:
        """Takes the statistics of one modality, each [D]. Raises ValueError if shape or content is impossible."""
        old = self.get_buffer(f"mean_{modality}")
        if mean.shape != old.shape or std.shape != old.shape:
            raise ValueError(f"{modality}: expected [{len(old)}], got mean {[*mean.shape]} and std {[*std.shape]}")
        if not (mean.isfinite().all() and std.isfinite().all() and (std >= 0).all()):
            raise ValueError(f"{modality}: mean and std must be finite, std not negative")
        constant = std <= self.NOISE * mean.abs()
        old.copy_(mean)
        self.get_buffer(f"std_{modality}").copy_(std.clamp(min=self.FLOOR).masked_fill(constant | (std == 0), 0.0))
        self.get_buffer(f"limit_{modality}").fill_(self.CLIP)

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """values: modality -> [B, T, D], masks: modality -> [B, T] -> standardised values, [B, T, D].

        The values of a modality may have one step, and its mask more.
        """
        return {modality: self._one(modality, x, masks[modality]) for modality, x in values.items()}

    def _one(self, modality: str, x: Tensor, mask: Tensor) -> Tensor:
        mean, std = self.get_buffer(f"mean_{modality}"), self.get_buffer(f"std_{modality}")
        limit = self.get_buffer(f"limit_{modality}")
        if x.shape[1] == 1:  # a broadcast vector is valid if any of its steps is (X6)
            mask = mask.any(dim=1, keepdim=True)
        scale = torch.where(std > 0, 1 / std, 0.0)
        scaled = (x.to(mean.dtype) - mean).mul_(scale).clamp_(-limit, limit)  # in place: x is large
        return scaled.masked_fill_(~mask.unsqueeze(-1), 0.0)


class Trainable(nn.Module):
    """What the training loop trains: a network with a loss."""

    def predict(self, batch: Batch) -> Prediction:
        """The prediction for a batch, whose tensors are on this network's device."""
        prediction: Prediction = self(batch.values, batch.masks)
        return prediction

    def loss(self, prediction: Prediction, labels: Tensor, rows: Tensor, objective: Callable[..., Tensor]) -> Tensor:
        """What training minimises on a batch, a scalar: the task's objective, unless a model says otherwise.

        labels: [B] or [B, heads]. rows: int64 [B], the numbers of the rows in the view. objective(logits, labels) is
        the loss of the task, see `pipeline.objective`; validation selects by it alone.
        """
        return objective(prediction.logits, labels)


class Model(Trainable, ABC):
    """A network that predicts a target from aligned features. A file in `models/` defines one public subclass.

    Config is a frozen dataclass with a default for every field. It raises ValueError with a line for each impossible
    value. A recipe's `[train.<model>]` overrides its fields.
    features names the feature set of the recipe that the model reads: `[features.<features>]`.
    train_defaults are this model's settings of the training loop: at least the fields of `TrainConfig` that have no
    default there.
    ablations are the paper's: a name -> what it changes in `[train.<model>]`.
    claimed are the paper's scores: the reader of a corpus -> their text. `affectory table` shows them beside ours.
    maps: whether `Prediction.attention` is asked for, which costs time and memory; not while a model trains.
    fixed_length: its weights belong to steps, so it gets as many as `Input.length` says; other models get batches that
    are cut to their longest row, and may get fewer.
    first_decides: its logits depend on its first modality alone, in the order of `MODALITIES`; the others serve its
    loss, and need not be there to predict.
    """

    Config: ClassVar[type[Any]]
    features: ClassVar[str]
    train_defaults: ClassVar[Mapping[str, float | int | bool]]
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    claimed: ClassVar[Mapping[str, str]] = MappingProxyType({})
    fixed_length: ClassVar[bool] = False
    first_decides: ClassVar[bool] = False
    maps: bool = False

    def __init__(self, config: Any, inputs: Mapping[str, Input], outputs: int) -> None:
        """Keeps what the model is built from, and makes its standardiser.

        config: a `Config`. inputs: modality -> Input, one to three of `MODALITIES` in any order. outputs: the width of
        the logits, `Target.outputs`. Raises ValueError if there is no modality or an unknown one; a subclass also if
        its configuration and the inputs contradict each other.
        """
        super().__init__()
        if not inputs or not set(inputs) <= set(MODALITIES):
            raise ValueError(f"modalities must be one to three of {MODALITIES}, got {sorted(inputs)}")
        self.config, self.outputs = config, outputs
        self.inputs = {modality: inputs[modality] for modality in MODALITIES if modality in inputs}
        self.standardise = Standardiser({modality: given.dim for modality, given in self.inputs.items()})

    def reductions(self) -> dict[str, nn.Module]:
        """The parts that unimodal pretraining may train first (X8), by modality: none, unless a model says otherwise.

        Each maps standardised features [B, T, D] to [B, T, any width], and is a part of this model, so that what it
        learns stays in the model.
        """
        return {}

    def begin(self, count: int, rows: Tensor, labels: Tensor, target: Target) -> None:  # noqa: B027, most need nothing
        """Is called once before training, also before a killed run resumes; does nothing unless a model says otherwise.

        count: how many rows the view has. rows: int64 [n], the numbers of the train rows in it. labels: [n] or
        [n, heads]. What a model keeps for each row has to be in buffers that are not persistent: they are in the
        checkpoint of the loop, and not in the saved model.
        """

    @classmethod
    def learns(cls, target: Target) -> bool:
        """False if the model can't learn this target, whatever the features are; most learn all."""
        return True

    @abstractmethod
    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, T, D], masks: modality -> bool [B, T] -> logits [B, outputs].

        The modalities are those of `inputs`. T is the modality's `length` or less (`fixed_length`), or 1 for one vector
        that stands for every step (X6); then its mask may have one step or all of them. The values are not standardised
        yet, and an invalid step may hold anything, also nan. A row's logits do not depend on other rows of the batch.
        """


class DialogueModel(Model):
    """A model that reads each utterance among the others of its dialogue.

    Its batches hold whole dialogues, so `batch_size` counts dialogues. A dialogue in a batch has those turns that are
    in the same part (train, valid, test) and have a valid step of any modality. An utterance is one step of each
    modality, the mean of its valid ones: the literature's models of conversations read such vectors.
    """

    def predict(self, batch: Batch) -> Prediction:
        """As `Trainable` says. Raises ValueError if the batch does not say its turns."""
        if batch.turns is None:
            raise ValueError(f"{type(self).__name__} reads dialogues, and the batch has no turns")
        prediction: Prediction = self(batch.values, batch.masks, batch.turns)
        return prediction

    def vectors(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor], turns: Turns) -> dict[str, Tensor]:
        """One vector of each modality for each turn: the mean of its standardised features over the valid steps.

        values: modality -> [B, T, D], masks: modality -> [B, T] -> modality -> [C, U, D], 0 where the modality is
        missing.
        """
        x = self.standardise({m: values[m] for m in self.inputs}, masks)
        means = {m: masked_mean(x[m], masks[m]) for m in self.inputs}
        return {m: turns.of_rows(mean) for m, mean in means.items()}

    @abstractmethod
    def forward(  # type: ignore[override]
        self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor], turns: Turns
    ) -> Prediction:
        """As `Model.forward`, with the dialogues of the batch's rows. A row's logits depend on no row of another
        dialogue, and not on the order of the rows in the batch."""


class Solved(Model):
    """A model whose weights are solved for at once, not trained by epochs.

    Of the training loop it reads `batch_size`, `normalize` and `modalities` alone.
    """

    @abstractmethod
    def solve(self, train: Iterable[Batch], valid: Iterable[Batch], target: Target) -> None:
        """Sets the weights by the batches of the train rows; those of validation may choose a setting.

        The values are raw, as in `forward`.
        """


def zero_invalid(x: Tensor, mask: Tensor) -> Tensor:
    """Returns x [B, T, d] with 0 wherever mask [B, T] is False, even over nan and inf (X3)."""
    return x.masked_fill(~mask.unsqueeze(-1), 0.0)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the valid steps, 0 over none: x [B, T or 1, d], mask [B, T] -> [B, d]."""
    count = mask.sum(dim=1, keepdim=True).clamp(min=1)
    return zero_invalid(x, mask).sum(dim=1) / count
