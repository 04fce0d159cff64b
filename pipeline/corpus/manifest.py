"""A recipe's corpus, scanned, checked and digested."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.cache import keys
from pipeline.errors import InputError
from pipeline.media.files import CorpusRoot, Look, remembered
from pipeline.reader import Reader
from pipeline.utterance import Audio, Utterance, Video, in_order

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifest:
    """Every utterance of the scan, in order, with the digests of its media.

    media: False where the manifest alone is here, as another team pushed it, and no media.
    """

    root: Path
    rows: tuple[Utterance, ...]
    media: bool = True

    @cached_property
    def digest(self) -> str:
        """Of everything but transcripts, which enter by their digests: the same with and without them."""
        return keys.digest("manifest", [_canonical(row) for row in self.rows])

    def without_text(self) -> Manifest:
        """The same with the digests of the transcripts in their place."""
        return replace(self, rows=tuple(map(without_text, self.rows)))


def build(reader: Reader, root: Path, memory: Path) -> Manifest:
    """Scans the corpus at `root`; `memory` remembers digests of media files by path, size and time of change.

    Raises InputError listing every offending row: duplicate ids, an end before its start, a path outside the root.
    """
    reader.prepare(root)
    rows = in_order(reader.scan(root))
    looks = check(rows, root)
    digests = remembered({f"{root}/{path}": look.stamp for path, look in looks.items()}, memory, shown=True)
    return Manifest(root, tuple(_digested(rows, {path: digests[f"{root}/{path}"] for path in looks})))


def check(rows: Sequence[Utterance], root: Path) -> dict[str, Look]:
    """What lies at each path of the rows. Raises InputError listing every offending row; see `build`."""
    looks = _looks(rows, root)
    problems = list(_problems(rows, root, looks))
    if problems:
        shown = "\n".join(problems[:50]) + (f"\n... and {len(problems) - 50} more" if len(problems) > 50 else "")
        raise InputError(f"{len(problems)} rows of the manifest are wrong:\n{shown}")
    return looks


def _canonical(row: Utterance) -> dict[str, Any]:
    """A row as JSON, the same after Parquet, which turns whole numbers among others into fractions."""
    found = asdict(without_text(row))
    labels = {name: float(value) if isinstance(value, int) else value for name, value in row.labels.items()}
    return found | {"labels": {name: value for name, value in labels.items() if value is not None}}


def without_text(row: Utterance) -> Utterance:
    """The row with its transcript's digest in place of the transcript."""
    return replace(row, text=None, text_digest=keys.text_digest(row))


def _problems(rows: Sequence[Utterance], root: Path, looks: Mapping[str, Look]) -> Iterator[str]:
    if not rows:
        yield f"no utterance found in {root}"
    for name, count in Counter(row.id for row in rows).items():
        if count > 1:
            yield f"{name}: {count} rows have this id"
    for row in rows:
        if row.start_s is not None and row.end_s is not None and row.end_s < row.start_s:
            yield f"{row.id}: ends at {row.end_s} s, before its start at {row.start_s} s"
        for media in _media(row):
            if not looks[media.path].inside:
                yield f"{row.id}: {media.path} lies outside {root}"
            if media.start_s is not None and media.end_s is not None and media.end_s < media.start_s:
                yield f"{row.id}: {media.path} is cut from {media.start_s} to {media.end_s} s"


def _looks(rows: Sequence[Utterance], root: Path) -> dict[str, Look]:
    folder = CorpusRoot(root)
    return {path: folder.look(path) for path in sorted({media.path for row in rows for media in _media(row)})}


def _media(row: Utterance) -> list[Audio | Video]:
    return [media for media in (row.audio, row.video) if media is not None]


def _digested(rows: Sequence[Utterance], digests: Mapping[str, str]) -> Iterator[Utterance]:
    for row in rows:
        media = {kind: getattr(row, kind) for kind in ("audio", "video")}
        named = {kind: replace(each, digest=digests[each.path]) for kind, each in media.items() if each is not None}
        yield replace(row, **named) if named else row
