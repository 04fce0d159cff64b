"""Keys: the digests by which rows, shards, fitted states and views are found in the cache.

A key is made of everything that can change the values, and of nothing else. So no key depends on device, batch size,
workers, threads, paths, dates or host, and none but that of a state on labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from blake3 import blake3

from pipeline.dialogue import Context
from pipeline.plugins import name_of
from pipeline.reader import Label
from pipeline.stage import Stage
from pipeline.utterance import Audio, NoisyAudio, Utterance, Video

KEY_VERSION = 2
"""Bumped when the meaning of a key changes; everything cached before is then computed again."""


BLOCK = 8 * 2**20
"""Bytes of a file that are hashed at once, by all cores."""

_canonical = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


_CACHES = (".", "__pycache__")


def digest(*parts: Any) -> str:
    """64 hex digits of the BLAKE3 of `parts` as canonical JSON; raises ValueError on NaN and infinity."""
    return blake3(_canonical(parts).encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: Path) -> str:
    """The BLAKE3 of a file's bytes; for a folder, the digest of the names and digests of its files.

    Caches and hidden files in a folder (`__pycache__`, the time stamps that a hub's client keeps in `.cache`) are left
    out. A file is read, not mapped: one that another process truncates meanwhile would kill a process that maps it.
    """
    if path.is_dir():
        names = {p: p.relative_to(path) for p in path.rglob("*") if p.is_file()}
        kept = sorted(p for p, name in names.items() if not any(part.startswith(_CACHES) for part in name.parts))
        return digest("dir", [(names[p].as_posix(), file_digest(p)) for p in kept])
    content = blake3(max_threads=blake3.AUTO)
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            content.update(block)
    return content.hexdigest()


def text_digest(row: Utterance) -> str | None:
    """The digest of a transcript; None if there is none, so that the row is absent."""
    return row.text_digest if row.text is None else digest("text", row.text)


def id_digest(row: Utterance) -> str:
    """The digest of an utterance's name, for a stage that looks it up in a file."""
    return digest("id", row.id)


def turn_digest(row: Utterance, context: Context) -> str:
    """The digest of a turn as a stage reads it: of its transcript, and of its speaker's name if that is read.

    A stage reads the name itself, so another name is another input. A turn's id, number and times are in no digest.
    """
    return digest("turn", text_digest(row), row.speaker if context.speakers else None)


def dialogue_digest(turns: Sequence[str]) -> str:
    """The digest of what a stage reads of a dialogue, from those of its turns in order, the utterance's own last."""
    return digest("dialogue", list(turns))


def audio_digest(audio: Sequence[Audio], version: int) -> str | None:
    """The digest of a row's sound: of its stretches in order, each with its file's bytes, and not of their paths.

    Noise that is mixed in belongs to it. version: that of the decoding code. None if there is no stretch, so that the
    row is absent.
    """
    if not audio:
        return None
    noises = [part.noise for part in audio if isinstance(part, NoisyAudio)]
    mixed_in = [(noise.snr_db, noise.seed, noise.digest) for noise in noises[:1]]
    stretches = [(part.digest, part.start_s, part.end_s, part.channel) for part in audio]
    return digest("audio", version, stretches, *mixed_in)


def video_digest(video: Sequence[Video], version: int) -> str | None:
    """The digest of a row's pictures: of its stretches in order, each with its file's bytes and its crop."""
    if not video:
        return None
    return digest("video", version, [(part.digest, part.start_s, part.end_s, part.crop) for part in video])


def stage_params(stage: Stage, digest_of: Callable[[str], str]) -> dict[str, Any]:
    """Every field of the stage by name, as it enters the key.

    digest_of: gives the digest of the bytes of a source that is a local path, and any other source as it is. A field
    that names a local path enters by that digest, so that no path enters the key. `random`, and the name of a set of
    torchvision's, are no sources: a folder of that name in the working directory changes nothing.
    """
    digests = {name: digest_of(source) for name, source in stage.sources().items()}
    local = {name: digest for name, digest in digests.items() if digest != stage.sources()[name]}
    return {f.name: local.get(f.name, getattr(stage, f.name)) for f in fields(stage)}


NOT_INSTALLED = "not installed"
"""Stands for the version of a library that is not here."""


@cache
def library_version(name: str) -> str:
    """The installed version of a distribution that decides an output, or `NOT_INSTALLED`."""
    try:
        return version(name)
    except PackageNotFoundError:
        return NOT_INSTALLED


def installed(stage: Stage) -> dict[str, str]:
    """The installed version of each library that decides the output of a stage."""
    return {name: library_version(name) for name in stage.libraries}


def family(stage: Stage, params: Mapping[str, Any], upstream: Sequence[str]) -> str:
    """The digest of a stage with its parameters and the inputs it reads, whatever the versions of its libraries are."""
    return digest("family", KEY_VERSION, name_of(type(stage)), stage.version, params, list(upstream))


def stage_digest(family: str, founding: Mapping[str, str]) -> str:
    """The digest of one generation of a stage: that whose rows were first computed with these versions of its
    libraries. Rows that other versions compute belong to it too, if they agree: see `pipeline.plan.generations`."""
    return digest("stage", family, dict(founding))


def row_key(stage: str, state: str | None, inputs: Sequence[str | None]) -> str:
    """The key of one utterance in one stage: `digest("row", stage, state, inputs)`.

    stage: its digest. state: the digest of the fitted state's bytes, since a fit is not reproducible to the bit.
    inputs: the digests of raw inputs or the keys of upstream rows, None for an input that is absent.
    """
    # written out, since there are millions of rows: no digest needs escaping
    input_list = ",".join([f'"{key}"' if key is not None else "null" for key in inputs])
    state_text = "null" if state is None else f'"{state}"'
    return blake3(f'["row","{stage}",{state_text},[{input_list}]]'.encode()).hexdigest()


def shard_key(ids: Sequence[str], row_keys: Sequence[str]) -> str:
    """The key of a shard. Ids are part of it, since two utterances of equal text have equal row keys."""
    return digest("shard", list(zip(ids, row_keys, strict=True)))


FitRow = tuple[str, str, Label]
"""Utterance, key of its row, and label."""


def state_key(stage: str, target: Sequence[Any], train: Sequence[FitRow], valid: Sequence[FitRow]) -> str:
    """The key of a fitted state: the rows it learns from, in order, with their inputs and labels.

    The seed is a parameter of the stage, so it is part of `stage`, the stage's digest.
    """
    return digest("state", KEY_VERSION, stage, list(target), list(train), list(valid))


def view_key(row_keys: Sequence[Sequence[str]], mode: str, length: int) -> str:
    """The key of a view's column: the rows of each concatenated stage in manifest order, and how they are aligned."""
    return digest("view", KEY_VERSION, [list(keys) for keys in row_keys], mode, length)
