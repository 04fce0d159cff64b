"""Commands that answer questions: why a row has its key, what a shard holds, how far a corpus is, how models scored."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cache.home import Home
from pipeline.cli.options import (
    Dataset,
    Features,
    Json,
    Modality,
    OrLast,
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
    from pipeline.plan.session import Session
    from pipeline.report import explain_row

    home = Home()
    dataset, root, change = or_last(home, dataset, root, change)
    session = Session.open(home, options(dataset, root, protocol=protocol, change=change))
    answer = explain_row.why(session, utterance, stage, fold)
    if not as_json:
        console.print(explain_row.as_text(answer), markup=False, highlight=False, soft_wrap=True)
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
    """Counts, for each stage, rows that are cached, to do, waiting for a fit, provisional or failed; fits, and bytes.

    Example: `affectory status --dataset iemocap --json`
    """
    from pipeline.plan.session import Session
    from pipeline.report.status import status as counted
    from pipeline.report.status import status_table

    given = options(
        dataset, root, modality=modality, features=features, protocol=protocol, change=change, remote=remote
    )
    answer = counted(Session.open(Home(), given))
    if not as_json:
        console.print(status_table(answer))
    tell(answer, as_json, "")


@commands.command()
def report(
    dataset: OrLast = "",
    root: Root = "",
    protocol: Protocol = "",
    change: Set = None,
    as_json: Json = False,
) -> None:
    """Writes `reports/<dataset>.html`: the corpus, its features, a linear probe of each, and every trained model.

    Example: `affectory report --dataset demo`
    """
    from pipeline.plan.session import Session
    from pipeline.report import page as reports

    home = Home()
    dataset, root, change = or_last(home, dataset, root, change)
    answer = reports.write(Session.open(home, options(dataset, root, protocol=protocol, change=change)))
    tell(answer, as_json, f"Report: {answer['report']}")
