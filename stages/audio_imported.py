"""Features of the sound that others computed, from a file of theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.stage import Modality
from stages._imported import ImportedStage


@dataclass(frozen=True, kw_only=True)
class AudioImported(ImportedStage):
    """[T, D], the file's features of the sound; see `ImportedStage`."""

    version: ClassVar[int] = 1
    modality: ClassVar[Modality] = "audio"
