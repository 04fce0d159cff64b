"""The only hashing code: what a row, a shard, a state and a view are called.

A key holds everything that can change the values and nothing else. Left out on purpose, everywhere below: device,
batch size, workers, threads, paths, dates, host, and labels (but for those of a state).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from blake3 import blake3

from pipeline.plugins import name_of
from pipeline.reader import Label
from pipeline.stage import Stage
from pipeline.utterance import Audio, Utterance, Video

KEY_VERSION = 1
"""Bumped when the meaning of a key changes; everything cached before is then made again."""


_canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def digest(*parts: Any) -> str:
    """64 hex digits of the BLAKE3 of `parts` as canonical JSON; raises ValueError on NaN and infinity."""
    return blake3(_canonical(parts).encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: Path) -> str:
    """The BLAKE3 of a file's bytes; of a directory, that of its files' names and digests."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        return digest("dir", [(p.relative_to(path).as_posix(), file_digest(p)) for p in files])
    if not path.stat().st_size:
        return blake3().hexdigest()
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()


def text_digest(row: Utterance) -> str | None:
    """What is said; None where there is no transcript, so that the row is absent."""
    return row.text_digest if row.text is None else digest("text", row.text)


def audio_digest(audio: Audio | None, version: int) -> str | None:
    """What is heard: the file's content and the stretch; not its path. `version` is that of the decoding code."""
    if audio is None:
        return None
    return digest("audio", version, audio.digest, audio.start_s, audio.end_s, audio.channel)


def video_digest(video: Video | None, version: int) -> str | None:
    """What is seen: the file's content, the stretch and the crop; not its path."""
    if video is None:
        return None
    return digest("video", version, video.digest, video.start_s, video.end_s, video.crop)


def stage_params(stage: Stage, source: Callable[[str], str]) -> dict[str, Any]:
    """Every field of the stage by name. A field that names weights goes through `source`, which gives the digest of
    the bytes where the name is a local path, so that the path itself stays out of the key."""
    return {
        f.name: source(getattr(stage, f.name)) if f.metadata.get("source") else getattr(stage, f.name)
        for f in fields(stage)
    }


@cache
def library_version(name: str) -> str:
    """The installed version of a distribution that decides an output."""
    return version(name)


def stage_digest(stage: Stage, params: Mapping[str, Any], upstream: Sequence[str]) -> str:
    """Identifies a stage with its parameters, its libraries' versions and the stages it stands on."""
    libraries = {name: library_version(name) for name in stage.libraries}
    return digest("stage", KEY_VERSION, name_of(type(stage)), stage.version, params, libraries, list(upstream))


def row_key(stage: str, state: str | None, inputs: Sequence[str | None]) -> str:
    """One utterance through one stage. `stage` is its digest, `state` the digest of the fitted state's bytes, since a
    fit is not reproducible to the bit; `inputs` are digests of raw rows or keys of upstream rows.

    It is `digest("row", stage, state, inputs)`, written out since there are millions: no digest needs escaping.
    """
    given = ",".join([f'"{key}"' if key is not None else "null" for key in inputs])
    learned = "null" if state is None else f'"{state}"'
    return blake3(f'["row","{stage}",{learned},[{given}]]'.encode()).hexdigest()


def shard_key(ids: Sequence[str], row_keys: Sequence[str]) -> str:
    """Ids are in it, so that equal text under other ids is never served the first one's ids."""
    return digest("shard", list(zip(ids, row_keys, strict=True)))


FitRow = tuple[str, str, Label]


def state_key(stage: str, target: Sequence[Any], train: Sequence[FitRow], valid: Sequence[FitRow]) -> str:
    """Looks a fitted state up: who it learned from, in order, with which inputs and labels. The seed is a parameter
    of the stage, so it stands in `stage`."""
    return digest("state", KEY_VERSION, stage, list(target), list(train), list(valid))


def view_key(row_keys: Sequence[Sequence[str]], mode: str, length: int) -> str:
    """A column of a view: the rows of each concatenated part in manifest order, and how they are aligned."""
    return digest("view", KEY_VERSION, [list(keys) for keys in row_keys], mode, length)
