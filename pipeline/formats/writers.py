"""Writes a content in any format, whole or not at all, with a description of it as JSON."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, closest
from pipeline.formats import csd, erc, mmsa, npz, parquet, webdataset
from pipeline.formats.content import Content


@dataclass(frozen=True)
class Format:
    """A format that is written.

    write: writes a content to a path, a new folder if `folder`, else a new file. aligned: whether all modalities have
    to have the same number of steps.
    """

    write: Callable[[Content, Path], None]
    folder: bool = False
    aligned: bool = False


FORMATS: Mapping[str, Format] = {
    "mmsa": Format(partial(mmsa.write, aligned=False)),
    "mmsa_aligned": Format(partial(mmsa.write, aligned=True), aligned=True),
    "erc": Format(erc.write),
    "npz": Format(npz.write),
    "parquet": Format(parquet.write, folder=True),
    "csd": Format(csd.write, folder=True),
    "webdataset": Format(webdataset.write, folder=True),
}


def named(name: str) -> Format:
    """The format of this name. Raises InputError, with the closest name, if there is none."""
    if name not in FORMATS:
        raise InputError(f"no format {name!r}: {closest(name, FORMATS)}")
    return FORMATS[name]


def write(content: Content, about: Mapping[str, Any], form: Format, path: Path) -> Path:
    """Writes a content and its description, and returns the place of the description.

    It is `about.json` in a folder, and beside a file `<file>.json`. Raises InputError if there is something at `path`.
    """
    if path.exists():
        raise InputError(f"{path} is there already: remove it, or name another place")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    description = json.dumps(about, indent=1, ensure_ascii=False)
    try:
        if form.folder:
            partial.mkdir()
            (partial / "about.json").write_text(description, encoding="utf-8")
        form.write(content, partial)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)
    if form.folder:
        return path / "about.json"
    beside = path.with_name(f"{path.name}.json")
    beside.write_text(description, encoding="utf-8")
    return beside
