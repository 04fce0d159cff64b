"""The files of a bundle, each named with its digest in `bundle.json`: safetensors, JSON, TOML, Markdown. No pickle.

A bundle may come from anybody, so nothing of it is read before all of it is checked.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pipeline.cache import keys
from pipeline.cache.atomic import publish, replacing
from pipeline.corpus.lock_file import DIGEST
from pipeline.errors import InputError
from pipeline.stage import Modality
from pipeline.text_file import regular
from pipeline.train.model_file import CARD, WEIGHTS
from pipeline.transfer.unpack import unpack

NAME, RECIPE, METRICS, README = "bundle.json", "recipe.toml", "metrics.json", "README.md"
STATES = "states"
"""The folder of fitted states, each named by the digest of its stage."""
LARGEST = 1 << 24
"""In bytes, of `bundle.json`, which names some tens of files and stages."""
LARGEST_UNPACKED = 1 << 35
"""In bytes; what a zip may unpack to."""

Digest = Annotated[str, StringConstraints(pattern=DIGEST)]
_File = Annotated[
    str, StringConstraints(pattern=rf"^({STATES}/[0-9a-f]{{64}}\.safetensors|[A-Za-z][A-Za-z_.]{{0,40}})$")
]
_Line = Annotated[str, StringConstraints(max_length=2000, pattern="^[^\\n\\r]*$")]


class Contents(BaseModel):
    """What `bundle.json` says.

    name: of the run. dataset, fold: what its model learned from. features: the feature set of the recipe that the model
    reads. changes: `table.key=value`, the settings that were in force beside the recipe. stages: modality -> each stage
    of its selection as `Node.describe` gives it. decoding: the versions of the code that decodes sound and pictures.
    probe: the logits that the model gave for made features, see `pipeline.bundle.probe`. files: name -> digest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal[1] = 1
    name: _Line
    dataset: _Line
    fold: _Line
    features: _Line
    changes: tuple[_Line, ...] = Field((), max_length=1000)
    stages: Mapping[Modality, tuple[Mapping[str, Any], ...]]
    decoding: Mapping[str, int]
    probe: tuple[tuple[float, ...], ...] = Field(max_length=100)
    files: Mapping[_File, Digest] = Field(max_length=1000)


_NEEDED = {WEIGHTS, CARD, RECIPE, METRICS, README}


def digests(folder: Path) -> dict[str, str]:
    """The digest of each file below a folder but `bundle.json`, by name. Raises InputError for a link or a device."""
    paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    if odd := [path for path in paths if path.is_symlink() or not path.is_file()]:
        raise InputError(f"{odd[0]} is no plain file")
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: keys.file_digest(path) for name, path in names.items() if name != NAME}


def write_contents(folder: Path, contents: Contents) -> None:
    """Writes `bundle.json`, whose first entry is the digest of all others."""
    entries = contents.model_dump(mode="json")
    publish(folder / NAME, json.dumps({"digest": keys.digest("bundle", entries), **entries}, indent=1) + "\n")


def read_contents(folder: Path) -> Contents:
    """What a bundle's `bundle.json` says, once every file is what it says.

    Raises InputError if there is none, and for a file that was changed, is missing, or is not named.
    """
    contents = _parsed(folder / NAME)
    found = digests(folder)
    changed = [name for name, digest in contents.files.items() if found.get(name, digest) != digest]
    missing = sorted({*contents.files, *_NEEDED} - found.keys())
    foreign = sorted(found.keys() - contents.files.keys())
    problems = {"changed since it was written": changed, "missing": missing, f"not named in {NAME}": foreign}
    if wrong := [f"{', '.join(names[:5])}: {what}" for what, names in problems.items() if names]:
        raise InputError(f"{folder} is not the bundle that was written: {'; '.join(wrong)}")
    return contents


def _parsed(path: Path) -> Contents:
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} is larger than that of any bundle")
        entries = json.loads(regular(path).read_bytes(), parse_constant=_refused)
        digest = entries.pop("digest")
        if digest != keys.digest("bundle", entries):
            raise InputError(f"{path} was changed since it was written: its digest is not that of its content")
        return Contents.model_validate_json(json.dumps(entries))
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} is no bundle: it has no {NAME}; `affectory bundle RUN` makes one") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} holds no bundle: {error!r}") from error


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


# --- folders and zips ------------------------------------------------------------------------------------------


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder of a bundle; of a zip a temporary one, which it is unpacked to. Raises InputError as `unpack` does."""
    if path.is_dir():
        yield path
        return
    if not path.is_file():
        raise InputError(f"no bundle {path}: `affectory bundle RUN --out {path}` makes one")
    if path.suffix != ".zip":
        raise InputError(f"{path} is no bundle: a folder, or a file that ends in .zip")
    with tempfile.TemporaryDirectory(prefix="affectory-bundle-") as folder:
        unpack(path, Path(folder), LARGEST_UNPACKED)
        yield Path(folder)


def place(written: Path, out: Path) -> None:
    """Moves a written bundle to its place, or packs it there if the place ends in .zip."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix != ".zip":
        written.rename(out)
        return
    names: Sequence[str] = sorted(p.relative_to(written).as_posix() for p in written.rglob("*") if p.is_file())
    with replacing(out) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(written / name, name)
