"""New clips, and what is said in them when: the utterances that a bundle's model predicts."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pipeline.corpus.init_table import clips_in
from pipeline.errors import InputError
from pipeline.media.child import DEADLINE_S, Child
from pipeline.media.container import length_s
from pipeline.reason import Unreadable
from pipeline.text_file import read_text
from pipeline.utterance import Audio, Utterance, Video

SUBTITLES = (".srt", ".vtt")
MOST_LINES = 100_000
"""The most utterances of one clip."""
_SAME_S = 1e-6


class Said(NamedTuple):
    """One utterance of a clip: its stretch, None for the beginning or the end, and its transcript and speaker, None if
    unknown.
    """

    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None
    speaker: str | None = None


@dataclass(frozen=True)
class Clip:
    """A clip. name: what people call it. video, audio: its files; without `audio`, the sound is that of the video."""

    name: str
    video: Path | None
    audio: Path | None
    said: tuple[Said, ...] = (Said(),)

    @property
    def media(self) -> Path:
        """The file that decides how long the clip is."""
        media = self.video or self.audio
        assert media is not None, "a clip has a file"
        return media


def asked_clips(
    video: str, audio: str, text: str, subtitles: str, window_s: float | None, hop_s: float | None
) -> list[Clip]:
    """The clips that are asked for: those of a folder, or one of these files, cut into windows if `window_s` is given.

    hop_s: from window to window; None for the length of a window. Raises InputError as the functions below do.
    """
    if video and Path(video).is_dir():
        if audio or text or subtitles:
            raise InputError("for a folder of clips, --audio, --text and --subtitles are files beside each clip")
        clips = folder_of_clips(Path(video))
    else:
        clips = [one_clip(video, audio, text, subtitles)]
    if window_s is None and hop_s is not None:
        raise InputError("--hop-s is from window to window: add --window-s")
    return clips if window_s is None else [in_windows(clip, window_s, hop_s or window_s) for clip in clips]


def one_clip(video: str, audio: str, text: str, subtitles: str) -> Clip:
    """The clip of a video file, an audio file or both, "" for none; text: what is said in it, if that is known.

    Raises InputError if there is no file, and if both `text` and `subtitles` say what is said.
    """
    if not video and not audio:
        raise InputError("no clip: give --video, or --audio for sound alone")
    if text and subtitles:
        raise InputError("--text is what the whole clip says, and --subtitles say it line by line: give one of them")
    files = {kind: _file(path) if path else None for kind, path in (("video", video), ("audio", audio))}
    said = read_subtitles(_file(subtitles)) if subtitles else (Said(text=text or None),)
    return Clip(Path(video or audio).name, files["video"], files["audio"], said)


def folder_of_clips(folder: Path) -> list[Clip]:
    """The clips of a folder and those below: see `pipeline.corpus.init_table`. `<stem>.srt` or `.vtt` beside a clip
    says what is said when, and `<stem>.txt` what is said in all of it.

    Raises InputError for a folder without a clip.
    """
    found, _ = clips_in(folder)
    if not found:
        raise InputError(f"no clips in {folder}")
    clips = []
    for clip in found:
        files = {kind: folder / clip.path(kind) for kind in ("video", "audio", "text") if clip.path(kind)}
        beside = [path for suffix in SUBTITLES if (path := folder / f"{clip.name}{suffix}").is_file()]
        text = _joined(read_text(files["text"])) if "text" in files else None
        said = read_subtitles(beside[0]) if beside else (Said(text=text or None),)
        clips.append(Clip(clip.path("video") or clip.path("audio"), files.get("video"), files.get("audio"), said))
    return clips


def read_subtitles(path: Path) -> tuple[Said, ...]:
    """The lines of an .srt or .vtt file in the order of their starts. A voice, `<v Ann>`, says whose a line is.

    Raises InputError if it holds none.
    """
    import pysubs2

    if path.suffix.lower() not in SUBTITLES:
        raise InputError(f"{path}: subtitles are {' or '.join(SUBTITLES)}")
    text = read_text(path)
    try:
        lines = pysubs2.SSAFile.from_string(text, format_=path.suffix.lower()[1:], keep_html_tags=True)
    except (pysubs2.exceptions.Pysubs2Error, ValueError, IndexError) as error:
        raise InputError(f"{path} holds no subtitles: {error}") from error
    timed = [line for line in lines if 0 <= line.start < line.end]
    said = (Said(line.start / 1000, line.end / 1000, _plain(line.plaintext), _voice(line.plaintext)) for line in timed)
    kept = sorted((line for line in said if line.text), key=lambda line: line[:3])
    if not 0 < len(kept) <= MOST_LINES:
        raise InputError(f"{path} holds {len(kept)} lines with a time and words: between 1 and {MOST_LINES:,} can be")
    return tuple(kept)


def in_windows(clip: Clip, window_s: float, hop_s: float) -> Clip:
    """The clip cut into windows, each an utterance without a transcript, the last one as long as what is left.

    Raises InputError for a clip whose text is known, for a window or a hop that is not positive, and for a file that
    does not say how long it is.
    """
    if any(line.text for line in clip.said):
        raise InputError(f"{clip.name}: its text says what is said, but not in which window: give subtitles instead")
    if not (window_s > 0 and hop_s > 0):
        raise InputError("--window-s and --hop-s are positive seconds")
    try:
        with Child() as child:
            length: float = child.call(length_s, clip.media, deadline_s=DEADLINE_S)
    except Unreadable as why:
        raise InputError(f"{clip.name} can't be cut into windows: {why}") from why
    count = 1 if length <= window_s else int((length - window_s - _SAME_S) // hop_s) + 2
    if count > MOST_LINES:
        raise InputError(f"{clip.name}: {count:,} windows are too many: use a longer --hop-s")
    starts = (number * hop_s for number in range(count))
    windows = [Said(start, min(start + window_s, length)) for start in starts if start < length]
    return replace(clip, said=tuple(windows))


def common_root(clips: Iterable[Clip]) -> Path:
    """The deepest folder that holds the files of all clips, links followed."""
    files = [path for clip in clips for path in (clip.video, clip.audio) if path]
    return Path(os.path.commonpath([os.path.realpath(path.parent) for path in files]))


def utterances(clips: Sequence[Clip], root: Path) -> list[Utterance]:
    """A row for each utterance of each clip, which is a dialogue. root: see `common_root`."""
    return [row for number, clip in enumerate(clips) for row in _rows(clip, f"{number:05d}", root)]


def _rows(clip: Clip, dialogue: str, root: Path) -> Iterable[Utterance]:
    video, audio = (_below(path, root) for path in (clip.video, clip.audio or clip.video))
    for turn, (start_s, end_s, text, speaker) in enumerate(clip.said):
        yield Utterance(
            id=f"{dialogue}-{turn:05d}",
            dialogue=dialogue,
            turn=turn,
            speaker=speaker,
            text=text,
            audio=(Audio(path=audio, start_s=start_s, end_s=end_s),) if audio else (),
            video=(Video(path=video, start_s=start_s, end_s=end_s),) if video else (),
            start_s=start_s,
            end_s=end_s,
        )


def _below(path: Path | None, root: Path) -> str:
    return os.path.relpath(os.path.realpath(path), root) if path else ""


def _file(path: str) -> Path:
    if not Path(path).is_file():
        raise InputError(f"no file {path}")
    return Path(path)


def _plain(text: str) -> str:
    """The words of a line, without the marks of fonts and voices."""
    return _joined(re.sub(r"<[^>]*>", "", text))


def _voice(text: str) -> str | None:
    """The first voice that a line of WebVTT names."""
    found = re.search(r"<v(?:\.[^\s>]*)?\s+([^>]+)>", text)
    return found and _joined(html.unescape(found[1])) or None


def _joined(text: str) -> str:
    return " ".join(text.split())
