"""The commands about the cache that teams share: `push`, `pull`, `release` and `list`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cache.home import Home
from pipeline.cli.options import (
    Features,
    Json,
    Locked,
    Modality,
    OrRelease,
    Protocol,
    ReleaseLabel,
    Relock,
    RemoteUrl,
    Root,
    Set,
    options,
    show_answer,
)
from pipeline.console import console
from pipeline.errors import InputError

commands = typer.Typer()

Split = Annotated[str, typer.Option(help="Only shards that have rows of this part: train, valid or test.")]
NoText = Annotated[
    bool, typer.Option("--no-text", help="Leave transcripts out of the manifest. Their digests stay in it.")
]
SendTo = Annotated[str, typer.Option("--remote", help="Push it too, to s3://bucket/prefix. Default: only write it.")]
Repair = Annotated[
    bool,
    typer.Option("--repair", help="Check that every object the remote names is there, and send those that are not."),
]


@commands.command()
def push(
    dataset: OrRelease = "",
    release: ReleaseLabel = "",
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
    """Sends the cached features of a corpus, or those of a release, to a remote cache that lacks them.

    Example: `affectory push --dataset iemocap --remote s3://team/affectory`
    """
    from pipeline.transfer import push_pull, releases

    _one(dataset, release)
    given = options(
        dataset, root, modality=modality, features=features, protocol=protocol, change=change, remote=remote
    )
    if release:
        answer = releases.push_release(Home(), given, release)
    else:
        answer = push_pull.push(Home(), given, text=not no_text, relock=relock, repair=repair)
    show_answer(answer, as_json, f"Sent {answer['objects']} objects, {answer['bytes']:,} bytes, to {answer['remote']}")


@commands.command()
def pull(
    dataset: OrRelease = "",
    release: ReleaseLabel = "",
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

    A release needs no recipe either, and is used as it is: nothing of it is computed here.

    Example: `affectory pull --release iemocap-1.0 --remote s3://team/affectory`
    """
    from pipeline.transfer import push_pull, releases

    _one(dataset, release)
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
    if release:
        answer = releases.pull_release(Home(), given, release, split=split)
    else:
        answer = push_pull.pull(Home(), given, split=split)
    show_answer(
        answer, as_json, f"Fetched {answer['objects']} objects, {answer['bytes']:,} bytes, from {answer['remote']}"
    )


def _one(dataset: str, release: str) -> None:
    """Raises InputError unless either a dataset or a release is given."""
    if bool(dataset) == bool(release):
        raise InputError("either a dataset (DATASET=iemocap) or a release (RELEASE=iemocap-1.0)")


@commands.command()
def release(
    name: Annotated[str, typer.Argument(help="The name of the release; without --dataset, also that of the recipe.")],
    version: Annotated[str, typer.Argument(help="Its version, such as 1.0: letters, digits, '_' and '.'.")],
    dataset: OrRelease = "",
    root: Root = "",
    protocol: Protocol = "",
    change: Set = None,
    no_text: NoText = False,
    remote: SendTo = "",
    as_json: Json = False,
) -> None:
    """Writes `releases/<name>-<version>.json` beside the recipe: what it takes to train on these very features.

    It never changes. Commit it to git; `push --release`, or --remote here, makes it known to others.

    Example: `affectory release iemocap 1.0 --remote s3://team/affectory`
    """
    from pipeline.transfer import releases

    home, given = Home(), options(dataset or name, root, protocol=protocol, change=change, remote=remote)
    answer = releases.release(home, given, name, version, text=not no_text)
    if remote:
        answer |= releases.push_release(home, given, answer["path"])
    sent = f"Sent {answer['objects']} objects, {answer['bytes']:,} bytes, to {remote}" if remote else ""
    show_answer(answer, as_json, sent)


@commands.command("list")
def list_remote(remote: RemoteUrl = "", as_json: Json = False) -> None:
    """Lists the datasets, releases and stages that a remote cache has, with their rows and bytes. Needs no recipe.

    Example: `affectory list --remote s3://team/affectory`
    """
    from pipeline.cli.tables import remote_tables
    from pipeline.transfer.remote_contents import remote_contents

    answer = remote_contents(Home(), options("", remote=remote))
    if not as_json:
        for shown in remote_tables(answer):
            console.print(shown)
    show_answer(answer, as_json, "")
