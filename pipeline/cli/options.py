"""The options that several commands share, and the session options made from them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from pipeline.cache.home import Home
from pipeline.console import print_line
from pipeline.corpus.open_corpus import Options
from pipeline.corpus.recipe_file import recipe_path
from pipeline.corpus.release_file import known
from pipeline.plugins import names


def _found(dataset: str | None) -> str | None:
    """The dataset as it was given; for the label of a release that is here, such as iemocap-1.0, the path of its file.

    A recipe of that name goes before a release. A name of neither is left to the command to refuse.
    """
    if not dataset or recipe_path(dataset).exists():
        return dataset
    path = known(Home(), dataset)
    return str(path) if path else dataset


def _among(*named: str) -> Callable[[str], list[str]]:
    """What a shell completes: the names of plug-ins in these folders that begin as what was typed."""

    def completed(incomplete: str) -> list[str]:
        return [name for folder in named for name in names(folder) if name.startswith(incomplete)]

    return completed


Dataset = Annotated[
    str,
    typer.Option(
        callback=_found,
        autocompletion=_among("manifests"),
        help="A recipe in manifests/ (demo, iemocap, ...), a release, or the path of a TOML file.",
    ),
]
OrLast = Annotated[
    str,
    typer.Option(
        "--dataset",
        callback=_found,
        autocompletion=_among("manifests"),
        help="A recipe, a release, or a path. Default: what was extracted last.",
    ),
]
OrRelease = Annotated[
    str,
    typer.Option("--dataset", callback=_found, autocompletion=_among("manifests"), help="A recipe, by name or path."),
]
ReleaseLabel = Annotated[
    str, typer.Option("--release", help="Instead of a dataset: a release by name and version, such as iemocap-1.0.")
]
Root = Annotated[
    str, typer.Option(help="The folder of the corpus. Default: the variable IEMOCAP_ROOT or alike, then the recipe's.")
]
Modality = Annotated[str, typer.Option(help="Only this modality: text, audio or visual.")]
Features = Annotated[list[str] | None, typer.Option(help="Only this feature set. May be repeated.")]
Protocol = Annotated[str, typer.Option(help="official, cv, holdout or own. Default: the recipe's.")]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Worker processes; 0 runs in this process. Default: one per core.")
]
Scheduler = Annotated[str, typer.Option(help="The address of a running Dask scheduler, tcp://host:8786.")]
Gpus = Annotated[int, typer.Option(min=0, help="GPU workers in addition to the CPU workers; needs dask-cuda.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Overrides one value of the recipe: table.key=value. May be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result on standard output, as one JSON object.")]
Models = Annotated[
    list[str],
    typer.Option(autocompletion=_among("models"), help="The name of a model in models/. May be repeated."),
]
Seed = Annotated[int, typer.Option(help="The seed of initial weights and of shuffling.")]
RemoteUrl = Annotated[
    str, typer.Option("--remote", help="A remote cache, s3://bucket/prefix. Default: the variable AFFECTORY_REMOTE.")
]
Locked = Annotated[bool, typer.Option("--locked", help="Use exactly what `<dataset>.lock.json` names, or fail.")]
Stage = Annotated[
    str, typer.Option("--stage", autocompletion=_among("stages"), help="Only rows that failed in this stage.")
]
FailedFor = Annotated[str, typer.Option("--reason", help="Only rows that failed for this reason, such as io_error.")]
Part = Annotated[
    str, typer.Option("--part", help="3/40 extracts the third of 40 parts of the shards. Fits wait for a call without.")
]
Relock = Annotated[bool, typer.Option("--relock", help="Write `<dataset>.lock.json` anew, from what this cache holds.")]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Compute failed rows again, whatever their reason is.")
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=0,
        help="Only so many dialogues of each split, the first ones, in the same cache; 0 for all.",
    ),
]
BestTest = Annotated[
    bool,
    typer.Option("--best-test-epoch", help="Also score test after each epoch, for a column of the best."),
]
NoExtract = Annotated[bool, typer.Option("--no-extract", help="Fail if features are missing, instead of extracting.")]


def options(
    dataset: str,
    root: str = "",
    *,
    modality: str = "",
    features: Sequence[str] | None = None,
    protocol: str = "",
    workers: int | None = None,
    scheduler: str = "",
    gpus: int = 0,
    change: Sequence[str] | None = None,
    remote: str = "",
    locked: bool = False,
    part: str = "",
    limit: int | None = None,
) -> Options:
    """The options of a session, from those of a command. limit: a change of the recipe like those in `change`."""
    return Options(
        dataset=dataset,
        root=root,
        modality=modality,
        features=tuple(features or ()),
        protocol=protocol,
        workers=workers,
        scheduler=scheduler,
        gpus=gpus,
        changes=(*(change or ()), *([] if limit is None else [f"dataset.limit={limit}"])),
        remote=remote,
        locked=locked,
        part=part,
    )


def or_last(home: Home, dataset: str, root: str, change: list[str] | None) -> tuple[str, str, list[str]]:
    """Dataset, root and changes as they were given; without a dataset, those of the last extraction.

    Prints each setting that is carried over. Raises InputError if nothing has been extracted yet.
    """
    if dataset:
        return dataset, root, change or []
    dataset, last_root, last_changes = home.last()
    print_line(f"Dataset: {dataset}, the one extracted last.")
    if last_root and not root:
        print_line(f"Root: {last_root}, as in that extraction.")
    for setting in last_changes:
        print_line(f"Set: {setting}, as in that extraction.")
    return dataset, root or last_root, [*last_changes, *(change or [])]


def show_answer(answer: Any, as_json: bool, line: str) -> None:
    """Prints the answer as one JSON object on standard output, or the line on standard error."""
    if as_json:
        sys.stdout.write(json.dumps(answer) + "\n")
    elif line:
        print_line(line)
