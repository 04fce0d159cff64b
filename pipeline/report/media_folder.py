"""The folder beside a report that holds the pictures and clips of its utterances, within a bound of bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote

from pipeline.cache import keys
from pipeline.cache.atomic import replacing
from pipeline.media.files import CorpusRoot
from pipeline.pages.clip_look import Still
from pipeline.pages.excerpt import Excerpt
from pipeline.utterance import UNREADABLE, Stretch, Utterance


@dataclass(frozen=True)
class Picture:
    """A frame of a filmstrip by its address, from the page."""

    time_s: float
    address: str


@dataclass(frozen=True)
class Shown:
    """What a page shows of an utterance. player: "video", "audio" or "". wave: the outline of the waveform, a path."""

    stills: tuple[Picture, ...] = ()
    player: str = ""
    media: str = ""
    wave: str = ""
    problems: tuple[str, ...] = ()


class MediaFolder:
    """The folder, which is made anew.

    root: that of the corpus. most_bytes: of clips; None for a report without any media. The pictures, of which an
    utterance has about 12 kB, are not counted.
    """

    def __init__(self, page: Path, root: Path, most_bytes: int | None) -> None:
        self.root = root
        self.wanted = most_bytes is not None
        self.clips_bytes = self.without_clip = self.not_here = 0
        self.most_bytes = most_bytes or 0
        self._folder = page.with_name(f"{page.stem}-media")
        self._files: set[str] = set()
        self._corpus_root = CorpusRoot(root)
        self._full = not most_bytes

    @property
    def has_room(self) -> bool:
        """Whether another clip may fit."""
        return not self._full

    def within_reach(self, row: Utterance) -> Utterance:
        """The utterance with the sound and the pictures alone whose files are all here."""
        audio = row.audio if self._are_here(row.audio) else ()
        video = row.video if self._are_here(row.video) else ()
        self.not_here += bool(row.stretches) and not (audio or video)
        return replace(row, audio=audio, video=video)

    def _are_here(self, stretches: Iterable[Stretch]) -> bool:
        looks = [self._corpus_root.look(stretch.path) for stretch in stretches]
        return all(look.inside and look.stamp not in (None, UNREADABLE) for look in looks)

    def add(self, row: Utterance, made: Excerpt) -> Shown:
        """Writes the files of an utterance, its clip if there is room."""
        name = keys.digest(row.id, [asdict(stretch) for stretch in row.stretches])[:16]
        stills = tuple(self._picture(f"{name}-{i}.jpg", still) for i, still in enumerate(made.stills))
        address = ""
        if made.clip and self.clips_bytes + len(made.clip) <= self.most_bytes:
            address = self._write(f"{name}.{'mp4' if made.pictures else 'm4a'}", made.clip)
            self.clips_bytes += len(made.clip)
        elif made.clip or (self._full and (made.stills or made.peaks is not None)):
            self._full = True
            self.without_clip += 1
        player = "" if not address else "video" if made.pictures else "audio"
        return Shown(stills, player, address, _outline(made), made.problems)

    def _picture(self, name: str, still: Still) -> Picture:
        return Picture(still.time_s, self._write(name, still.jpeg))

    def _write(self, name: str, content: bytes) -> str:
        with replacing(self._folder / name) as path:
            path.write_bytes(content)
        self._files.add(name)
        return f"{quote(self._folder.name)}/{name}"

    def clean(self) -> None:
        """Deletes what an earlier report has left, once the page is there that does without it."""
        if not self._files:
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        for path in self._folder.iterdir():
            if path.name not in self._files:
                path.unlink()


def _outline(made: Excerpt) -> str:
    """The outline of the waveform, one unit a moment wide and from -1 to 1; "" without sound."""
    if made.peaks is None:
        return ""
    heights = made.peaks / (float(made.peaks.max()) or 1.0)
    upper = [f"{x} {-height:.2f}" for x, height in enumerate(heights.tolist())]
    lower = [f"{x} {height:.2f}" for x, height in reversed(list(enumerate(heights.tolist())))]
    return f"M{'L'.join(upper + lower)}Z"
