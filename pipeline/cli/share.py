"""The commands about the cache that teams share: `push` and `pull`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cache.home import Home
from pipeline.cli.options import (
    Dataset,
    Features,
    Json,
    Locked,
    Modality,
    Protocol,
    Relock,
    RemoteUrl,
    Root,
    Set,
    options,
    show_answer,
)

commands = typer.Typer()

Split = Annotated[str, typer.Option(help="Only shards that have rows of this part: train, valid or test.")]
NoText = Annotated[
    bool, typer.Option("--no-text", help="Leave transcripts out of the manifest. Their digests stay in it.")
]
Repair = Annotated[
    bool,
    typer.Option("--repair", help="Check that every object the remote names is there, and send those that are not."),
]


@commands.command()
def push(
    dataset: Dataset,
    remote: RemoteUrl = "",
    root: Root = "",
    modality: Modality = "",
    features: Features = None,
    protocol: Protocol = "",
    change: Set = None,
    no_text: NoText = False,
    relock: Relock = False,
    repair: Repair = False,
    as_json: Json = False,
) -> None:
    """Sends the cached features of a corpus to a remote cache, except those that are there already.

    Example: `affectory push --dataset iemocap --remote s3://team/affectory`
    """
    from pipeline.transfer import push_pull

    given = options(
        dataset, root, modality=modality, features=features, protocol=protocol, change=change, remote=remote
    )
    answer = push_pull.push(Home(), given, text=not no_text, relock=relock, repair=repair)
    show_answer(answer, as_json, f"Sent {answer['objects']} objects, {answer['bytes']:,} bytes, to {answer['remote']}")


@commands.command()
def pull(
    dataset: Dataset,
    remote: RemoteUrl = "",
    root: Root = "",
    modality: Modality = "",
    features: Features = None,
    protocol: Protocol = "",
    split: Split = "",
    change: Set = None,
    locked: Locked = False,
    as_json: Json = False,
) -> None:
    """Fetches the manifest and the features of a corpus from a remote cache. Needs neither media nor weights.

    Example: `affectory pull --dataset iemocap --remote s3://team/affectory --modality audio`
    """
    from pipeline.transfer import push_pull

    given = options(
        dataset,
        root,
        modality=modality,
        features=features,
        protocol=protocol,
        change=change,
        remote=remote,
        locked=locked,
    )
    answer = push_pull.pull(Home(), given, split=split)
    show_answer(
        answer, as_json, f"Fetched {answer['objects']} objects, {answer['bytes']:,} bytes, from {answer['remote']}"
    )
