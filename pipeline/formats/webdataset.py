"""WebDataset: tar files in which the files of one utterance lie side by side, for reading in a stream.

`<key>.json` has the utterance, `<key>.<modality>.npy` its features [T, D], `<key>.<modality>_valid.npy` the mask of its
valid steps [T]. A key is a number, since ids may have dots, which would end it.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.formats.content import Content
from pipeline.utterance import Utterance

LARGEST = 2**28
"""How many bytes of samples end a tar file."""


def write(content: Content, folder: Path) -> None:
    """Writes `<part>-000000.tar` and so on for each part of the split."""
    for part in ("train", "valid", "test"):
        numbers = [number for number, row in enumerate(content.rows) if row.split == part]
        samples = (_sample(content, number) for number in numbers)
        for shard, files in enumerate(_shards(samples)):
            with tarfile.open(folder / f"{part}-{shard:06}.tar", "w") as tar:
                for name, data in files:
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def _shards(samples: Iterator[list[tuple[str, bytes]]]) -> Iterator[list[tuple[str, bytes]]]:
    """The files of each tar, a sample never in two of them."""
    files: list[tuple[str, bytes]] = []
    size = 0
    for sample in samples:
        files += sample
        size += sum(len(data) for _, data in sample)
        if size >= LARGEST:
            yield files
            files, size = [], 0
    if files:
        yield files


def _sample(content: Content, number: int) -> list[tuple[str, bytes]]:
    key = f"{number:08}"
    files = [(f"{key}.json", json.dumps(_described(content.rows[number]), ensure_ascii=False).encode())]
    for modality, tracks in content.tracks.items():
        steps = tracks.read(number)
        if steps is not None:
            files.append((f"{key}.{modality}.npy", _npy(np.where(steps.valid[:, None], steps.values, 0))))
            files.append((f"{key}.{modality}_valid.npy", _npy(steps.valid)))
    return files


def _described(row: Utterance) -> dict[str, Any]:
    names = ("id", "dialogue", "turn", "speaker", "text", "split")
    return {name: getattr(row, name) for name in names} | dict(row.labels)


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
