"""Fetches the published weights that recipes name, checks them, and pins them in the lock file beside each recipe.

Of a model of the hub only configuration, tokenizer and safetensors are fetched. A file of torchvision is checked by the
digest in its name, read with `weights_only`, and kept as safetensors. The file of a URL is kept as it is.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, build_opener

from pipeline.cache import keys
from pipeline.cache.atomic import space
from pipeline.cache.home import Home
from pipeline.cache.weights import (
    LOCK,
    Pin,
    Weights,
    copy_in,
    describe,
    first_line,
    published_sources,
    verified_copy,
    weights_folder,
)
from pipeline.console import BYTES, Bars
from pipeline.corpus.recipe_file import read_stages, recipe_path
from pipeline.corpus.recipe_text import RECIPES
from pipeline.errors import InputError, RemoteError, closest
from pipeline.reader import Download
from pipeline.transfer import download
from pipeline.transfer.fetch_corpus import alone

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoSibling

_HUB = re.compile(r"(\w[\w.-]*(?:/\w[\w.-]*)?)(?:@(\w[\w./-]*))?")
_TORCHVISION = re.compile(r"torchvision/(\w+)/(\w+)")
_TIMM = re.compile(r"timm/[\w.-]+/\w+")
_A_FILE = re.compile(r".*\.(bin|gz|txt|safetensors|pth|pt)")
_OF_THE_HUB = re.compile(
    r"((preprocessor_)?config|tokenizer(_config)?|special_tokens_map|added_tokens|vocab)\.json|vocab\.txt|merges\.txt"
    r"|\w[\w.-]*\.model|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json"
)
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


@dataclass
class Fetched:
    """The sources by outcome: fetched now, there already, or not to be had, with a message."""

    fetched: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def fetch_weights(home: Home, datasets: Sequence[str], changes: Sequence[str] = ()) -> dict[str, Any]:
    """Answers `affectory weights`: fetches and pins the weights of the given recipes, or of all in `manifests/`.

    Weights that are pinned already are fetched only if they are not at home, and must not have changed. Returns the
    sources that were `fetched`, those that were `there` already, and the lock files. Raises InputError for a recipe
    that can't be read, and at the end for all weights that could not be fetched, when the others are pinned; SpaceError
    if the disk is full.
    """
    locks: dict[Path, dict[str, str]] = {}
    for path in [recipe_path(name) for name in datasets] or sorted(RECIPES.glob("*.toml")):
        sources = locks.setdefault(path.with_name(LOCK), {})
        for stage in read_stages(path, changes=changes, memory=home.memory):
            sources.update({source: name for name, source in published_sources(stage).items()})
    _check_writable(locks)
    root = weights_folder(home)
    root.mkdir(parents=True, exist_ok=True)
    outcome = Fetched()
    with alone(root), space(root):
        for lock, sources in locks.items():
            _fetch_all(root, lock, sources, outcome)
    if outcome.problems:
        raise InputError("\n".join(dict.fromkeys(outcome.problems)))
    pinned = [str(lock) for lock, sources in locks.items() if sources]
    return {"fetched": outcome.fetched, "there": outcome.there, "locks": pinned}


def obtain(root: Path, source: str, pin: Pin | None) -> tuple[Pin, bool]:
    """The pin of a source, whose copy is then below `root`, and whether it was fetched just now.

    Raises InputError if the source cannot be fetched, or is no longer what `pin` says; RemoteError.
    """
    if pin and _is_held(root, pin, source):
        return pin, False
    part = root / "partial" / keys.digest(source, pin.revision if pin else "")[:16]
    part.mkdir(parents=True, exist_ok=True)
    revision = _take(source, pin.revision if pin else "", part)
    path = copy_in(part)
    if path is None:
        raise InputError(f"{source} is empty")
    digest = keys.file_digest(path)
    if pin and digest != pin.digest:
        shutil.rmtree(part)
        raise InputError(
            f"{source} is no longer what {LOCK} pins, its digest is {digest}, not {pin.digest}: remove its entry from "
            f"the file to accept the change"
        )
    _place(part, root / digest)
    files = sorted(p.relative_to(root / digest).as_posix() for p in (root / digest).rglob("*") if p.is_file())
    size = sum((root / digest / name).stat().st_size for name in files)
    return Pin(revision=revision, digest=digest, files=tuple(files), bytes=size), True


def _check_writable(locks: Iterable[Path]) -> None:
    for lock in locks:
        if not os.access(lock.parent, os.W_OK):
            raise InputError(f"{lock} cannot be written: copy the recipe to a folder of your own")


def _fetch_all(root: Path, lock: Path, sources: Mapping[str, str], outcome: Fetched) -> None:
    """Pins one source after the other. sources: the parameter that names each source."""
    for source, parameter in sources.items():
        weights = Weights.read(lock)
        try:
            pin, new = obtain(root, source, weights.pins.get(source))
        except (InputError, RemoteError) as error:
            outcome.problems.append(f'{error}\nA local path needs no fetching: {parameter} = "/path/to/it"')
            continue
        Weights({**weights.pins, source: pin}).write(lock)
        (outcome.fetched if new else outcome.there).append(source)


def _is_held(root: Path, pin: Pin, source: str) -> bool:
    try:
        verified_copy(root, pin.digest, source)
    except InputError:
        return False
    return True


def _place(part: Path, place: Path) -> None:
    """Moves what was fetched to its place. Anything there is damaged, or is the same under another name."""
    if place.exists():
        shutil.rmtree(place)
    part.replace(place)


def _take(source: str, revision: str, part: Path) -> str:
    """Fetches the files of a source into the folder `part`, which may hold some already. Returns their revision."""
    if source.startswith(("https://", "http://")):
        return f"sha256:{_download(source, part / _name(source))}"
    if match := _TORCHVISION.fullmatch(source):
        return _torchvision(match[1], match[2], revision, part)
    if _TIMM.fullmatch(source):
        raise InputError(
            f"{source}: weights of timm are not fetched here: download model.safetensors of this network and set from "
            "https://huggingface.co/timm, and name its path in the recipe"
        )
    match = _HUB.fullmatch(source)
    if "$" in source:
        raise InputError(f"{source} is not set: set it to the path or the URL of the weights")
    if not match or _A_FILE.fullmatch(source):
        raise InputError(f"no weights at {source}: neither a local path, nor a URL, nor weights of the hub")
    return _hub(match[1], revision or match[2] or "main", part)


def _hub(model: str, revision: str, part: Path) -> str:
    """Fetches configuration, tokenizer and safetensors of a commit, and checks each file by the hub's digest of it."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError as HubError  # type: ignore[attr-defined]

    try:
        info = describe(model, revision)
        files = [file for file in info.siblings or () if _OF_THE_HUB.fullmatch(file.rfilename)]
        if not any(file.rfilename.endswith(".safetensors") for file in files):
            raise InputError("it has no model.safetensors, and pickled weights are not read")
        for file in files:
            _hub_file(HfApi(), model, str(info.sha), file, part)
    except (InputError, HubError, OSError, ValueError) as error:
        raise InputError(_unavailable(f"{model} at {revision}", error)) from error
    _keep(part, [file.rfilename for file in files])
    return str(info.sha)


def _keep(part: Path, names: Sequence[str]) -> None:
    """Removes the hub's own notes, and files of another commit that an earlier try left."""
    shutil.rmtree(part / ".cache", ignore_errors=True)
    for path in part.iterdir():
        if path.name not in names:
            path.unlink()


def _hub_file(api: HfApi, model: str, commit: str, file: RepoSibling, part: Path) -> None:
    with space(part):
        path = Path(api.hf_hub_download(model, file.rfilename, revision=commit, local_dir=part))
    with path.open("rb") as copy_in:
        if file.lfs:
            right = hashlib.file_digest(copy_in, "sha256").hexdigest() == file.lfs.sha256
        else:
            blob = b"blob %d\0" % path.stat().st_size + copy_in.read()  # git names a file by the SHA-1 of this
            right = hashlib.sha1(blob, usedforsecurity=False).hexdigest() == file.blob_id
    if not right:
        shutil.rmtree(part)
        raise InputError(f"{file.rfilename} came damaged: run `make weights` again")


def _torchvision(network: str, name: str, url: str, part: Path) -> str:
    """Fetches weights and keeps their state dict as safetensors. url: the pinned one, or "" for torchvision's own."""
    url = url or _torchvision_url(network, name)
    stated = _DIGEST_IN_NAME.search(url)
    if not stated:
        raise InputError(f"{url} does not state its digest, as torchvision's names do")
    path = part / "fetched.pth"
    digest = _download(url, path)
    if not digest.startswith(stated[1]):
        path.unlink()
        raise InputError(f"{url} is not the expected file: its SHA-256 is {digest}")
    _convert(path, part / f"{network}.safetensors")
    return url


def _torchvision_url(network: str, name: str) -> str:
    from torchvision.models import get_model_weights, list_models

    if network not in list_models():
        raise InputError(f"torchvision has no network {network!r}: {closest(network, list_models())}")
    known = {entry.name: entry for entry in get_model_weights(network)}
    if name not in known:
        raise InputError(f"{network} has no weights {name!r}: {closest(name, [*known, 'random'])}")
    return str(known[name].url)


def _convert(path: Path, target: Path) -> None:
    import torch
    from safetensors.torch import save_file

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        save_file({name: value.contiguous() for name, value in state.items()}, target)
    except (RuntimeError, ValueError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} holds no weights: {error}") from error
    path.unlink()


def _name(url: str) -> str:
    """The file name at the end of a URL. Its ending tells the format of the file."""
    name = PurePosixPath(urlsplit(url).path).name
    if not name or name.startswith("."):
        raise InputError(f"{url} names no file")
    return name


def _download(url: str, path: Path) -> str:
    """Downloads a file of unknown content, resuming if it broke off before. Returns its SHA-256."""
    item = Download(url=url, name=path.name, bytes=_size(url), sha256="")
    with Bars() as bars, download.Part(path, partial(bars.reach, path.name)) as part:
        bars.grow(path.name, BYTES, item.bytes)
        download.complete(item, part)
        part.finish(path)
        return part.digest()


def _size(url: str) -> int:
    """The bytes of the file at a URL. Raises InputError if the server cannot be reached or does not state them."""
    download.check_url(url, url)
    request = Request(url, method="HEAD", headers={"User-Agent": "affectory"})  # noqa: S310 - check_url saw it
    try:
        with build_opener(download.Redirect).open(request, timeout=download.TIMEOUT_S) as response:
            size = response.headers.get("Content-Length", "")
    except (OSError, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise InputError(_unavailable(url, error)) from error
    if not size.isdecimal():
        raise InputError(f"{url} does not state its size")
    return int(size)


def _unavailable(name: str, error: Exception) -> str:
    return (
        f"no weights {name}: {first_line(error)}.\n"
        f"If it cannot be reached from here, run `make weights` on a machine that reaches it, and copy its weights "
        f"folder and {LOCK}."
    )
