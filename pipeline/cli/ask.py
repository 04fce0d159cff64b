"""Commands that explain: why a row is what it is, what a shard holds, where a corpus's features stand."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cache.home import Home
from pipeline.cli.options import (
    Dataset,
    Features,
    Json,
    Modality,
    Protocol,
    RemoteUrl,
    Root,
    Set,
    options,
    or_last,
    tell,
)
from pipeline.console import console

commands = typer.Typer()

OrLast = Annotated[str, typer.Option("--dataset", help="A recipe; else the one extracted last.")]
Fold = Annotated[str, typer.Option(help="One fold alone, of a stage that is fitted.")]


@commands.command()
def why(
    utterance: Annotated[str, typer.Argument(help="The id of an utterance.")],
    stage: Annotated[str, typer.Argument(help="A stage of the recipe, such as audio_mfcc.")],
    dataset: OrLast = "",
    root: Root = "",
    protocol: Protocol = "",
    fold: Fold = "",
    change: Set = None,
    as_json: Json = False,
) -> None:
    """Says what the key of a row is made of, where the row stands, and what differs from the last extraction.

    Example: `affectory why Ses01F_impro01_F000 audio_opensmile --dataset iemocap`
    """
    from pipeline.report import key_parts as reasons

    home = Home()
    dataset, root, change = or_last(home, dataset, root, change)
    given = options(dataset, root, "", None, protocol, 0, "", 0, change)
    answer = reasons.why(home, given, utterance, stage, fold)
    if not as_json:
        console.print(reasons.told(answer), markup=False, highlight=False, soft_wrap=True)
    tell(answer, as_json, "")


@commands.command()
def explain(
    shard: Annotated[str, typer.Argument(help="A file, or the first six digits or more of an object or a shard key.")],
    as_json: Json = False,
) -> None:
    """Says which stage made a shard, with which parameters and libraries, when and where, and which rows failed.

    Example: `affectory explain data/cache/objects/3f/09d1c2.parquet`
    """
    from pipeline.report import explain_shard as explaining

    answer = explaining.explain(Home(), shard)
    if not as_json:
        console.print(explaining.told(answer), markup=False, highlight=False, soft_wrap=True)
    tell(answer, as_json, "")


@commands.command()
def status(
    dataset: Dataset,
    root: Root = "",
    modality: Modality = "",
    features: Features = None,
    protocol: Protocol = "",
    remote: RemoteUrl = "",
    change: Set = None,
    as_json: Json = False,
) -> None:
    """Counts, for each stage, rows that are cached, to do, behind a fit, provisional or failed; fits, and bytes.

    Example: `affectory status --dataset iemocap --json`
    """
    from dataclasses import replace

    from pipeline.report import status as standing

    given = replace(options(dataset, root, modality, features, protocol, 0, "", 0, change), remote=remote)
    answer = standing.status(Home(), given)
    if not as_json:
        console.print(standing.status_table(answer))
    tell(answer, as_json, "")
