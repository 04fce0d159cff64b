"""A release `releases/<name>-<version>.json`: a recipe and the digests of all its features, agreed on for good.

It is the elder sibling of a lock. It holds all that another team needs to train on these features: the text of the
recipe with the settings in force, the pins of published weights, the object of the manifest, and the index of each
stage. Its file never changes, and may come from a remote, so it is checked before any of it is believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pipeline.cache.atomic import publish
from pipeline.cache.home import Home
from pipeline.cache.record import LARGEST_OBJECT, Record
from pipeline.cache.weights import LOCK as WEIGHTS
from pipeline.cache.weights import Pin
from pipeline.corpus.lock_file import DIGEST, Lock, read_lock
from pipeline.corpus.pulled_manifest import Pulled, stage_of
from pipeline.corpus.recipe_text import RECIPES
from pipeline.errors import InputError
from pipeline.text_file import regular

FOLDER = "releases"
"""The folder of releases: beside recipes, at home, and on a remote."""
LARGEST = 1 << 24
"""In bytes; the recipe and the folds of the largest release are a fraction of it."""
_NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,39}"
_VERSION = "[A-Za-z0-9][A-Za-z0-9_.]{0,19}"
_LABEL = re.compile(f"(?P<name>{_NAME})-(?P<version>{_VERSION})")

Name = Annotated[str, StringConstraints(pattern=f"^{_NAME}$")]
Line = Annotated[str, StringConstraints(max_length=2000, pattern="^[^\\n\\r]*$")]
Digest = Annotated[str, StringConstraints(pattern=DIGEST)]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Bytes = Annotated[int, Field(ge=0, le=LARGEST_OBJECT)]
Stage = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_]{1,80} [0-9a-f]{64}([.][a-z]{1,20})?$")]
Source = Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ReleasedManifest(_Checked):
    """The digest of the rows, and the object that holds them with its key in the cache and its size."""

    digest: Digest
    object: Digest
    key: Digest
    bytes: Bytes


class ReleasedStage(_Checked):
    """The digest of a stage's index, and what it names: rows, those that failed, objects and their size."""

    index: Digest
    rows: Count
    failed: Count
    objects: Count
    bytes: Count


class ReleasedFolds(_Checked):
    """A team's own folds: the name of their file without its suffix, and its lines."""

    name: Name
    lines: tuple[Line, ...] = Field(max_length=1_000_000)


class Release(_Checked):
    """A release. Its label is `<name>-<version>`.

    dataset: the name of the recipe. date: in UTC. rows: of the manifest. recipe: the lines of the recipe's text.
    changes: `table.key=value`, the settings that were in force beside it. pins: of published weights, by source.
    weights: the digests of local weights, by their names in the recipe. stages: by name and digest, as in a lock.
    """

    name: Name
    version: Annotated[str, StringConstraints(pattern=f"^{_VERSION}$")]
    dataset: Name
    date: Annotated[str, StringConstraints(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    licence: Annotated[str, StringConstraints(max_length=10_000)] = ""
    rows: Count
    recipe: tuple[Line, ...] = Field(max_length=10_000)
    changes: tuple[Line, ...] = Field((), max_length=1000)
    folds: ReleasedFolds | None = None
    pins: Mapping[Source, Pin] = Field({}, max_length=1000)
    manifest: ReleasedManifest
    weights: Mapping[Source, Digest] = Field({}, max_length=1000)
    stages: Mapping[Stage, ReleasedStage] = Field(max_length=10_000)

    @property
    def label(self) -> str:
        """The name of its file without the suffix."""
        return f"{self.name}-{self.version}"

    @property
    def text(self) -> str:
        """The recipe's text."""
        return "\n".join(self.recipe)

    @property
    def lock(self) -> Lock:
        """What a run on this release is locked to."""
        return Lock(
            manifest=self.manifest.digest,
            manifest_object=self.manifest.object,
            weights=self.weights,
            stages={name: stage.index for name, stage in self.stages.items()},
        )

    @property
    def named(self) -> set[str]:
        """The digests of its indexes and of the object of its manifest."""
        return {*self.lock.indexes.values(), self.manifest.object}

    @property
    def pulled(self) -> Pulled:
        """The manifest, as one that was pulled."""
        about = {"manifest": self.manifest.digest, "weights": dict(self.weights), "rows": self.rows}
        return Pulled(
            Record(
                stage=stage_of(self.dataset),
                key=self.manifest.key,
                object=self.manifest.object,
                suffix=".parquet",
                size=self.manifest.bytes,
                about={"dataset": self.dataset, **about},
            )
        )

    def differences(self, other: Release) -> list[str]:
        """A line for each difference between this release and `other` of the same label, whatever their dates are."""
        fields = ("dataset", "licence", "rows", "recipe", "changes", "folds", "pins", "stages", "manifest")
        differing = [f"another {name}" for name in fields if getattr(self, name) != getattr(other, name)]
        return [*differing, *self.lock.differences(other.lock)]


def checked_label(label: str) -> str:
    """The label of a release, such as iemocap-1.0. Raises InputError for any other text, before it is made a path."""
    if not _LABEL.fullmatch(label):
        raise InputError(
            f"{label!r} is no release: a name and a version, such as iemocap-1.0, of letters, digits, '_', '.' and, in "
            "the name, '-'"
        )
    return label


def release_path(folder: Path, label: str) -> Path:
    """The file of a release below `folder`: that of a recipe, or the home folder. Raises InputError for no label."""
    return folder / FOLDER / f"{checked_label(label)}.json"


def known(home: Home, label: str) -> Path | None:
    """The file of a release in manifests/, else of one that was pulled; None if there is neither."""
    if not _LABEL.fullmatch(label):
        return None
    paths = (release_path(folder, label) for folder in (RECIPES, home.root))
    return next((path for path in paths if path.is_file()), None)


def released(recipe: Path) -> Release | None:
    """The release in a file; None for the file of a plain recipe, which ends in .toml."""
    return read_release(recipe) if recipe.suffix == ".json" else None


def read_release(path: Path) -> Release:
    """Reads a release. Raises InputError if there is none, or if it is damaged or that of another label."""
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} is larger than any release")
        return parse(regular(path).read_bytes(), path.stem, str(path))
    except FileNotFoundError as error:
        raise InputError(f"no release {path}: `make pull RELEASE={path.stem} REMOTE=...` fetches it") from error


def parse(raw: bytes, label: str, place: str) -> Release:
    """The release of that label in these bytes. place: where they are from. Raises InputError if they hold none."""
    try:
        release = Release.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{place} is no release: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if release.label != label:
        raise InputError(f"{place} is not the release {label}: it says that it is {release.label}")
    return release


def dump(release: Release) -> str:
    """The release as JSON, its stages and weights sorted, so that it is easy to review."""
    tables = {name: dict(sorted(getattr(release, name).items())) for name in ("pins", "weights", "stages")}
    return release.model_copy(update=tables).model_dump_json(indent=1) + "\n"


def write_release(path: Path, release: Release) -> bool:
    """Writes a release; False if it is there already, perhaps of another day.

    Raises InputError if another one is there under the same label: a release never changes.
    """
    if not path.exists():
        publish(path, dump(release))
        return True
    if lines := read_release(path).differences(release):
        raise InputError(
            f"{path} is another release, and a release never changes: choose another version\n" + "\n".join(lines)
        )
    return False


def agreed_digests(home: Home) -> set[str]:
    """The digests of the indexes and of the manifests' objects that a lock or a release names.

    These are those in manifests/, those that were pulled, and those beside other recipes that this home worked with.
    """
    return {digest for lock in _locks(home) for digest in (*lock.indexes.values(), lock.manifest_object)}


def _locks(home: Home) -> Iterator[Lock]:
    releases = [*(RECIPES / FOLDER).glob("*.json"), *(home.root / FOLDER).glob("*.json")]
    for path in {*RECIPES.glob("*.lock.json"), *releases, *home.locks()}:
        if path.parent.name == FOLDER:
            yield read_release(path).lock
        elif path.name != WEIGHTS:
            yield read_lock(path)
