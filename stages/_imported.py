"""Features that others computed, looked up in their file by the utterance's id: what the three modalities share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pipeline.errors import InputError
from pipeline.formats import feature_file
from pipeline.formats.content import Content
from pipeline.reason import Reason
from pipeline.stage import SOURCE, Item, Modality, Spec, Stage, State, Track
from pipeline.written_path import written_path


@dataclass(frozen=True)
class Imported:
    """One modality of a file of features."""

    content: Content
    modality: Modality
    file: str

    @property
    def spec(self) -> Spec:
        """The width and the names of the file's features."""
        tracks = self.content.tracks[self.modality]
        return Spec(tracks.dim, tracks.names)

    def track(self, name: str) -> Track:
        """The track of an utterance, whose steps have no times; `absent` for one of which the file has none."""
        steps = self.content.of(self.modality, name)
        if steps is None:
            known = name in self.content.numbers
            return Track.failed(Reason.ABSENT, f"{self.file} has no {self.modality} of it" if known else "")
        return Track.of(steps.values, valid=steps.valid)


def opened(file: str, modality: Modality) -> Imported:
    """One modality of the file, or of the only file of features in a folder.

    Raises InputError if there is none or its variable is not set, if it cannot be read, and if it has no such modality.
    """
    if not file:
        raise InputError(f"{modality}_imported needs `file`, a file of features such as MMSA's unaligned_50.pkl")
    written = written_path(file, variables=True)
    if str(written).startswith("$"):
        raise InputError(f"{file} is not set: set it to the file that {modality}_imported reads, or give ROOT=")
    path = feature_file.find(written)
    content = feature_file.read(path)
    if modality not in content.tracks:
        raise InputError(f"{path} has no {modality}: it has {', '.join(content.tracks)}")
    return Imported(content, modality, path.name)


@dataclass(frozen=True, kw_only=True)
class ImportedStage(Stage):
    """[T, D], the steps that the file has of the utterance, without its padding; see docs/exchange.md.

    file: one that docs/exchange.md lists, such as MMSA's unaligned_50.pkl, or a folder with one. Its bytes are in the
    key. Reasons: absent for an utterance that is not in it.
    """

    inputs: ClassVar[tuple[str, ...]] = ("id",)

    file: str = field(default="", metadata=SOURCE)

    def load(self, device: str) -> Imported:
        """Opens the file. Raises InputError if there is none, or if it lacks the modality."""
        return opened(self.file, self.modality)

    def spec(self, loaded: Imported) -> Spec:
        """D is the width of the file's features."""
        return loaded.spec

    def transform(self, loaded: Imported, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """Returns the track of each utterance."""
        return [loaded.track(item["id"]) for item in batch]
