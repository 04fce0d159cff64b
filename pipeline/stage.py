"""The Stage contract: what turns raw text, audio and video, or another stage's tracks, into features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.reader import Label, Task
from pipeline.reason import Reason

Modality = Literal["text", "audio", "visual"]
RAW = {"text": "text", "audio": "audio", "video": "visual"}

SOURCE: Mapping[str, bool] = {"source": True}
"""Metadata of a field that names weights: where it is a local path, the digest of the bytes enters the key instead."""


@dataclass(frozen=True, slots=True)
class Waveform:
    """Mono samples, float32 [N], at the file's own rate; sample 0 stands at the start of the utterance's stretch."""

    samples: NDArray[np.float32]
    rate_hz: int


@dataclass(frozen=True, slots=True)
class Frames:
    """RGB images, uint8 [T, h, w, 3], and their times in seconds from the start of the utterance's stretch, [T]."""

    images: NDArray[np.uint8]
    time_s: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Track:
    """What a stage returns for one utterance.

    values: [T, D]. time_s: [T], the centre of each step in seconds, None for text. valid: [T], False where a step has
    nothing to say (no face, no voice) and its values are to be ignored. Either values or a reason, never both.
    """

    values: NDArray[np.float32] | None = None
    time_s: NDArray[np.float32] | None = None
    valid: NDArray[np.bool_] | None = None
    reason: Reason | None = None

    @classmethod
    def of(cls, values: NDArray[Any], time_s: NDArray[Any] | None = None, valid: NDArray[Any] | None = None) -> Track:
        """A track of [T, D] values, all steps valid unless told otherwise."""
        mask = np.ones(len(values), bool) if valid is None else np.asarray(valid, bool)
        times = None if time_s is None else np.asarray(time_s, np.float32)
        return cls(np.ascontiguousarray(values), times, mask)

    @classmethod
    def failed(cls, reason: Reason) -> Track:
        """A track without values."""
        return cls(reason=reason)


@dataclass(frozen=True)
class Spec:
    """What a stage promises of its output; checked after every call.

    tolerance: the largest difference, relative to the larger of 1 and the value, between two runs of the same key.
    """

    dim: int
    names: tuple[str, ...] = ()
    dtype: Literal["float32", "float16"] = "float32"
    tolerance: float = 1e-4


@dataclass(frozen=True, slots=True)
class Item:
    """One utterance as a stage sees it: `inputs` by the names in the stage's `inputs`.

    "text" gives str, "audio" Waveform, "video" Frames (already picked and shrunk for this stage), a stage's name Track.
    """

    id: str
    inputs: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.inputs[name]


@dataclass(frozen=True)
class Target:
    """What a fit learns to predict: see `pipeline.reader.Labels`."""

    task: Task
    classes: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """Width of the logits: C for multiclass, two for each head of multilabel (G13), one for each number else."""
        count = len(self.classes)
        return {"regression": max(1, count), "multiclass": count, "multilabel": 2 * count}[self.task]

    @property
    def several(self) -> bool:
        """True for a regression of more than one number, whose labels are tuples."""
        return self.task == "regression" and len(self.classes) > 1


@dataclass(frozen=True)
class Rows:
    """The rows a fit may see, and nothing else: items and labels in the same order. Items may be read lazily."""

    items: Sequence[Item]
    labels: Sequence[Label]


@dataclass(frozen=True)
class State:
    """What a fit learned: arrays and text (a tokenizer's JSON), stored as one safetensors file; `log` stays outside."""

    tensors: Mapping[str, NDArray[Any]]
    text: Mapping[str, str] = field(default_factory=dict)
    log: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """A frozen dataclass whose fields are its parameters: all of them enter the key, and nothing else is a field.

    version is bumped by hand when the output may change. inputs are "text", "audio", "video" or names of stages.
    libraries are the distributions whose version decides the output; their exact versions enter the key.
    batch is how many utterances `transform` gets at once unless the run says otherwise; it must not change values.
    Modules of stages import nothing heavy at their top: a plan reads them without torch.
    """

    version: ClassVar[int]
    modality: ClassVar[Modality]
    inputs: ClassVar[tuple[str, ...]]
    libraries: ClassVar[tuple[str, ...]] = ()
    batch: ClassVar[int] = 32
    gpu: ClassVar[bool] = False

    @property
    def fitted(self) -> bool:
        """True where `fit` has to run before `transform`; may depend on the parameters."""
        return False

    @property
    def steps(self) -> int | None:
        """The most steps of a track, where the parameters alone decide it; no view may ask for more."""
        return None

    def check(self) -> None:  # noqa: B027 - optional
        """Raises ValueError where parameters contradict each other; called when the recipe is read."""

    def refuse(self, names: Sequence[str], why: str) -> None:
        """For `check`: raises ValueError for those of the parameters that are set although nothing reads them.

        A value beside its default would move the key, and nothing else.
        """
        changed = [f.name for f in fields(self) if f.name in names and getattr(self, f.name) != f.default]
        if changed:
            raise ValueError(f"{' and '.join(changed)}: {why}")

    def load(self, device: str) -> Any:
        """Whatever is heavy, once per worker process."""
        return None

    def restore(self, state: State, device: str) -> Any:
        """What is loaded where a fit has run: the same, unless the state tells what else the weights would."""
        return self.load(device)

    def fit(self, train: Rows, valid: Rows, target: Target, device: str) -> State:
        """Learns from the rows of one fold's train and validation parts. Only for stages that are `fitted`."""
        raise TypeError(f"{type(self).__name__} has nothing to fit")

    @abstractmethod
    def spec(self, loaded: Any) -> Spec:
        """What `transform` returns."""

    @abstractmethod
    def transform(self, loaded: Any, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """One track for each item, in order; the same whatever else stands in the batch."""
