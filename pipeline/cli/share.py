"""Commands about the cache that teams share."""

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
    tell,
)

commands = typer.Typer()

Split = Annotated[str, typer.Option(help="Shards with rows of one part alone: train, valid or test.")]
NoText = Annotated[bool, typer.Option("--no-text", help="Leave transcripts out of the manifest; their digests stay.")]

Repair = Annotated[bool, typer.Option("--repair", help="Look whether what is named there is there, send it if not.")]


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
    """Sends what is cached of a corpus's features, and not there yet, to a remote cache.

    Example: `affectory push --dataset iemocap --remote s3://team/affectory`
    """
    from pipeline.transfer import push_pull

    given = options(
        dataset, root, modality=modality, features=features, protocol=protocol, change=change, remote=remote
    )
    answer = push_pull.push(Home(), given, text=not no_text, relock=relock, repair=repair)
    tell(answer, as_json, f"Sent {answer['objects']} objects, {answer['bytes']:,} bytes, to {answer['remote']}")


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
    """Brings the manifest and the features of a corpus from a remote cache; neither media nor weights are needed.

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
    tell(answer, as_json, f"Brought {answer['objects']} objects, {answer['bytes']:,} bytes, from {answer['remote']}")
