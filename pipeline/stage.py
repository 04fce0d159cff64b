"""The Stage contract: a stage turns text, audio, video, or the tracks of other stages into features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.dialogue import Context
from pipeline.reader import Label, Task
from pipeline.reason import Reason
from pipeline.remark import Remark

Modality = Literal["text", "audio", "visual"]
RAW = {"text": "text", "dialogue": "text", "audio": "audio", "video": "visual"}
"""The modality of each kind of raw input."""
ID = "id"
"""The input of a stage that looks an utterance up by its name, in a file of features; it is of no modality."""

SOURCE: Mapping[str, bool] = {"source": True}
"""Metadata of a field that names weights, or a file of features. If it names a local path, the key holds the digest of
the bytes instead."""


@dataclass(frozen=True, slots=True)
class Waveform:
    """Mono samples, float32 [N], at the file's own rate. Sample 0 is the start of the utterance's stretches, joined.

    remarks: what reading them left in doubt. They come to the row of every stage that reads the samples.
    """

    samples: NDArray[np.float32]
    rate_hz: int
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class Frames:
    """RGB images, uint8 [T, h, w, 3], and their times [T] in seconds from the start of the stretches, joined.

    remarks: as those of a `Waveform`.
    """

    images: NDArray[np.uint8]
    time_s: NDArray[np.float64]
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class Track:
    """The features of one utterance, or the reason why it has none; never both.

    values: [T, D]. time_s: [T], the centre of each step in seconds, None for text. valid: [T], False for a step without
    information (no face, no voice), whose values are to be ignored. message: more about the reason, in one line; it is
    kept in the record of a shard and never in the shard. remarks: doubts that do not take the values, kept likewise.
    """

    values: NDArray[np.float32] | None = None
    time_s: NDArray[np.float32] | None = None
    valid: NDArray[np.bool_] | None = None
    reason: Reason | None = None
    message: str = ""
    remarks: tuple[Remark, ...] = ()

    @classmethod
    def of(
        cls,
        values: NDArray[Any],
        time_s: NDArray[Any] | None = None,
        valid: NDArray[Any] | None = None,
        remarks: tuple[Remark, ...] = (),
    ) -> Track:
        """A track of [T, D] values; all steps are valid if `valid` is None."""
        mask = np.ones(len(values), bool) if valid is None else np.asarray(valid, bool)
        times = None if time_s is None else np.asarray(time_s, np.float32)
        return cls(np.ascontiguousarray(values), times, mask, remarks=remarks)

    @classmethod
    def failed(cls, reason: Reason, message: str = "") -> Track:
        """A track without values."""
        return cls(reason=reason, message=message)


@dataclass(frozen=True)
class Spec:
    """The promised form of a stage's output, which is checked after every call.

    dim: D. names: of the D dimensions, or none. tolerance: the largest difference between two runs of the same key,
    relative to the larger of 1 and the value.
    """

    dim: int
    names: tuple[str, ...] = ()
    dtype: Literal["float32", "float16"] = "float32"
    tolerance: float = 1e-4


@dataclass(frozen=True, slots=True)
class Item:
    """One utterance as a stage sees it: its inputs, by the names in the stage's `reads`.

    "text" is a str, "audio" a Waveform, "video" the Frames that this stage picked and shrunk, a stage's name a Track,
    "id" the utterance's name.
    "dialogue" is a tuple of Turns in their order: at most as many as the stage's `dialogue` says, then the utterance.
    """

    id: str
    inputs: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.inputs[name]


@dataclass(frozen=True)
class Target:
    """The labels that a fit learns to predict, see `pipeline.reader.Labels`."""

    task: Task
    classes: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """Width of the logits: C for multiclass, two per head for multilabel (G13), one per number for regression."""
        count = len(self.classes)
        return {"regression": max(1, count), "multiclass": count, "multilabel": 2 * count}[self.task]

    @property
    def several(self) -> bool:
        """True for a regression of several numbers at once, whose labels are tuples."""
        return self.task == "regression" and len(self.classes) > 1


@dataclass(frozen=True)
class Rows:
    """The only rows that a fit may see: items and labels in the same order. Items may be read lazily."""

    items: Sequence[Item]
    labels: Sequence[Label]


@dataclass(frozen=True)
class State:
    """What a fit learned: arrays, and text such as a tokenizer's JSON. All but `log` goes into one safetensors file."""

    tensors: Mapping[str, NDArray[Any]]
    text: Mapping[str, str] = field(default_factory=dict)
    log: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """A frozen dataclass whose fields are its parameters. All fields enter the key, so nothing else may be a field.

    version: bumped by hand when the output may change. inputs: "text", "audio", "video", "id", or names of other
    stages.
    libraries: the distributions whose versions may decide the output; those that founded a generation of rows enter its
    keys, and others are compared with them, see `pipeline.plan.generations`. batch: how many utterances `transform`
    gets at once, unless the run sets another number; values must not depend on it. gpu: whether the stage runs on a GPU
    if there is one. The module of a stage imports nothing heavy at its top, because a plan reads it without torch;
    imports: the modules that its methods import then, which the workers of a machine import once for all.
    """

    version: ClassVar[int]
    modality: ClassVar[Modality]
    inputs: ClassVar[tuple[str, ...]]
    libraries: ClassVar[tuple[str, ...]] = ()
    batch: ClassVar[int] = 32
    gpu: ClassVar[bool] = False
    imports: ClassVar[tuple[str, ...]] = ()

    @property
    def fitted(self) -> bool:
        """True if `fit` has to run before `transform`; may depend on the parameters."""
        return False

    @property
    def dialogue(self) -> Context | None:
        """What the stage reads of the dialogue before the utterance; None for a stage that reads the utterance alone.

        May depend on the parameters. Such a stage has "text" among its `inputs`, and gets "dialogue" in its place.
        """
        return None

    @property
    def reads(self) -> tuple[str, ...]:
        """The inputs that an Item holds for this stage: its `inputs`, or "dialogue" in place of "text"."""
        return tuple("dialogue" if name == "text" and self.dialogue else name for name in self.inputs)

    @property
    def steps(self) -> int | None:
        """The largest number of steps of a track, which no view may exceed; None if the parameters don't decide it."""
        return None

    def sources(self) -> dict[str, str]:
        """The weights that the stage reads, by the `SOURCE` field that names them; none if they are drawn at random.

        A source is a local path, a URL, `org/model@revision` of the hub or `torchvision/network/SET`: see
        `pipeline.cache.weights`. A stage overrides this if other fields say which revision or network is meant.
        """
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("source")}
        return {name: value for name, value in named.items() if value not in ("", "random")}

    def words(self, text: str, state: State | None) -> list[str] | None:
        """The word that each step of the track of a text is, for plots; "" if it goes on with the one before.

        None if its steps are no words. state: of the stage's own fit, None for a stage that needs none.
        """
        return None

    def check(self) -> None:  # noqa: B027 - optional
        """Raises ValueError if parameters contradict each other. Called when the recipe is read."""

    def refuse(self, names: Sequence[str], why: str) -> None:
        """Raises ValueError if some of these parameters are set although nothing reads them; for use in `check`.

        Another value than the default would change the key, and nothing else.
        """
        changed = [f.name for f in fields(self) if f.name in names and getattr(self, f.name) != f.default]
        if changed:
            raise ValueError(f"{' and '.join(changed)}: {why}")

    def load(self, device: str) -> Any:
        """Loads what is heavy, once per worker process; the result is passed to `spec` and `transform`."""
        return None

    def restore(self, state: State, device: str) -> Any:
        """Loads for use with a fitted state: like `load`, unless the state makes weights needless that `load` reads."""
        return self.load(device)

    def fit(self, train: Rows, valid: Rows, target: Target, device: str) -> State:
        """Learns from the train and validation rows of one fold. Only called if the stage is `fitted`."""
        raise TypeError(f"{type(self).__name__} has nothing to fit")

    @abstractmethod
    def spec(self, loaded: Any) -> Spec:
        """The form of the tracks that `transform` returns."""

    @abstractmethod
    def transform(self, loaded: Any, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """Returns one track for each item, in order, which does not depend on the other items of the batch."""
