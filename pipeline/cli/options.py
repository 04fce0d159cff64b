"""The options that several commands share, and what is made of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from pipeline.cache.home import Home
from pipeline.console import console
from pipeline.corpus.open_corpus import Options

Dataset = Annotated[str, typer.Option(help="A recipe in manifests/ (demo, iemocap, ...) or the path of a TOML file.")]
OrLast = Annotated[str, typer.Option("--dataset", help="A recipe; else the one extracted last.")]
Root = Annotated[str, typer.Option(help="Where the corpus lies; else IEMOCAP_ROOT or alike, else as the recipe says.")]
Modality = Annotated[str, typer.Option(help="One modality alone: text, audio or visual.")]
Features = Annotated[list[str] | None, typer.Option(help="These feature sets alone; may be repeated.")]
Protocol = Annotated[str, typer.Option(help="official, cv, holdout or own; else what the recipe says.")]
Workers = Annotated[int | None, typer.Option(min=0, help="Worker processes; else one a core; 0 runs in this one.")]
Scheduler = Annotated[str, typer.Option(help="A running Dask scheduler, tcp://host:8786.")]
Gpus = Annotated[int, typer.Option(min=0, help="GPU workers beside the CPU ones; needs dask-cuda.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Overrides the recipe: table.key=value; may be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Models = Annotated[list[str], typer.Option(help="A model in models/; may be repeated.")]
Seed = Annotated[int, typer.Option(help="Of weights and of shuffling.")]
RemoteUrl = Annotated[str, typer.Option("--remote", help="A remote cache, s3://bucket/prefix; else AFFECTORY_REMOTE.")]
Locked = Annotated[bool, typer.Option("--locked", help="Use exactly what <dataset>.lock.json names, or refuse.")]
Part = Annotated[
    str, typer.Option("--part", help="3/40 does the third fortieth of the shards; fits wait for a call without it.")
]
Relock = Annotated[bool, typer.Option("--relock", help="Replace <dataset>.lock.json by what is here.")]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Try the rows that failed again, whatever the reason.")
]
NoExtract = Annotated[bool, typer.Option("--no-extract", help="Refuse instead of extracting what is missing.")]


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
) -> Options:
    """The options of a session, from those of a command."""
    return Options(
        dataset=dataset,
        root=root,
        modality=modality,
        features=tuple(features or ()),
        protocol=protocol,
        workers=workers,
        scheduler=scheduler,
        gpus=gpus,
        changes=tuple(change or ()),
        remote=remote,
        locked=locked,
        part=part,
    )


def or_last(home: Home, dataset: str, root: str, change: list[str] | None) -> tuple[str, str, list[str]]:
    """What was asked for, or what was extracted last, with its root and changes."""
    if dataset:
        return dataset, root, change or []
    dataset, last_root, last_changes = home.last()
    console.print(f"Dataset: {dataset}, the one extracted last.")
    return dataset, root or last_root, [*last_changes, *(change or [])]


def tell(answer: Any, as_json: bool, line: str) -> None:
    """The answer as one JSON object on standard output, or a line on standard error."""
    if as_json:
        sys.stdout.write(json.dumps(answer) + "\n")
    elif line:
        console.print(line)
