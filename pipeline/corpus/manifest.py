"""Makes the manifest of a corpus: scans it, checks its rows, and digests its media."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from pipeline.cache import keys
from pipeline.collection import paused_collection
from pipeline.errors import InputError
from pipeline.media.files import CorpusRoot, Look, remembered
from pipeline.reader import Reader
from pipeline.utterance import Utterance, in_order

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Manifest:
    """Every utterance of a scan, in order, with the digests of its media.

    media: False if only the manifest is here, as another team pushed it, without the media.
    """

    root: Path
    rows: tuple[Utterance, ...]
    media: bool = True

    @cached_property
    def digest(self) -> str:
        """The manifest's digest. Transcripts enter it by their digests, so it is the same without them."""
        return keys.digest("manifest", [_canonical(row) for row in self.rows])

    def without_text(self) -> Manifest:
        """This manifest with digests in place of the transcripts."""
        return replace(self, rows=tuple(map(without_text, self.rows)))


def build(reader: Reader, root: Path, memory: Path) -> Manifest:
    """Makes the manifest of the corpus at `root`, which the reader prepares and scans.

    memory: the file that remembers digests of media files by path, size and time of change. Raises InputError listing
    the wrong rows: an id that two rows have, an end before its start, a path outside the root.
    """
    reader.prepare(root)
    with paused_collection():
        rows = in_order(reader.scan(root))
        looks = check(rows, root)
        digests = remembered({f"{root}/{path}": look.stamp for path, look in looks.items()}, memory, shown=True)
        by_path = {path: digests[f"{root}/{path}"] for path in looks}
        for number, row in enumerate(rows):  # one by one, so that there are never two of each
            rows[number] = _digested(row, by_path)
        return Manifest(root, tuple(rows))


def check(rows: Sequence[Utterance], root: Path) -> dict[str, Look]:
    """What there is at each path of the rows. Raises InputError listing the wrong rows; see `build`."""
    looks = _looks(rows, root)
    problems = list(_problems(rows, root, looks))
    if problems:
        shown = "\n".join(problems[:50]) + (f"\n... and {len(problems) - 50} more" if len(problems) > 50 else "")
        raise InputError(f"{len(problems)} rows of the manifest are wrong:\n{shown}")
    return looks


def _canonical(row: Utterance) -> dict[str, Any]:
    """A row as JSON. Whole numbers become floats, as they do in a Parquet column that also has fractions."""
    labels = {name: float(value) if isinstance(value, int) else value for name, value in row.labels.items()}
    known = {name: value for name, value in labels.items() if value is not None}
    return asdict(without_text(row)) | {"labels": known}


def without_text(row: Utterance) -> Utterance:
    """The row with a digest in place of its transcript."""
    return replace(row, text=None, text_digest=keys.text_digest(row))


def _problems(rows: Sequence[Utterance], root: Path, looks: Mapping[str, Look]) -> Iterator[str]:
    if not rows:
        yield f"no utterance found in {root}"
    for name, count in Counter(row.id for row in rows).items():
        if count > 1:
            yield f"{name}: {count} rows have this id"
    for row in rows:
        yield from _no_numbers(row)
        if row.start_s is not None and row.end_s is not None and row.end_s < row.start_s:
            yield f"{row.id}: ends at {row.end_s} s, before its start at {row.start_s} s"
        for media in row.stretches:
            if not looks[media.path].inside:
                yield f"{row.id}: {media.path} is outside {root}"
            if media.start_s is not None and media.end_s is not None and media.end_s < media.start_s:
                yield f"{row.id}: {media.path} is cut from {media.start_s} to {media.end_s} s"


def _no_numbers(row: Utterance) -> Iterator[str]:
    """A line for each time, crop or annotation that is infinite or not a number: no key can hold it."""
    numbers: list[tuple[str, Any]] = [("start_s", row.start_s), ("end_s", row.end_s), *row.labels.items()]
    for media in row.stretches:
        numbers += [(f"{media.path} start_s", media.start_s), (f"{media.path} end_s", media.end_s)]
    for pictures in row.video:
        numbers += [(f"crop[{i}]", value) for i, value in enumerate(pictures.crop or ())]
    for name, value in numbers:
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{row.id}: {name} is {value}"


def _looks(rows: Sequence[Utterance], root: Path) -> dict[str, Look]:
    corpus = CorpusRoot(root)
    return {path: corpus.look(path) for path in sorted({media.path for row in rows for media in row.stretches})}


def _digested(row: Utterance, digests: Mapping[str, str]) -> Utterance:
    audio = tuple([_changed(stretch, {"digest": digests[stretch.path]}) for stretch in row.audio])
    video = tuple([_changed(stretch, {"digest": digests[stretch.path]}) for stretch in row.video])
    return _changed(row, {"audio": audio, "video": video})


def _changed(value: T, changes: Mapping[str, Any]) -> T:
    """As `dataclasses.replace`, in a fifth of its time: there are millions of rows, and nothing in them is checked."""
    kind: Any = type(value)
    made: T = object.__new__(kind)
    names, values = _fields(kind)
    for name, before in zip(names, values(value), strict=True):
        object.__setattr__(made, name, changes.get(name, before))
    return made


@cache
def _fields(kind: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """The names of a dataclass's fields, and what takes their values from an instance."""
    names = tuple(field.name for field in fields(kind))
    return names, attrgetter(*names)
