"""The commands that answer questions: `why`, `explain`, `status` and `report`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pipeline.cache.home import Home
from pipeline.cli.options import (
    Dataset,
    FailedFor,
    Features,
    Json,
    Modality,
    OrLast,
    Protocol,
    RemoteUrl,
    Root,
    Set,
    Stage,
    options,
    or_last,
    show_answer,
)
from pipeline.console import console, print_line

commands = typer.Typer()

Fold = Annotated[str, typer.Option(help="Only this fold, of a stage that is fitted.")]


@commands.command()
def why(
    utterance: Annotated[str, typer.Argument(help="The id of an utterance.")],
    stage: Annotated[str, typer.Argument(help="The name of a stage of the recipe, such as audio_mfcc.")],
    dataset: OrLast = "",
    root: Root = "",
    protocol: Protocol = "",
    fold: Fold = "",
    change: Set = None,
    as_json: Json = False,
) -> None:
    """Explains a row: the parts of its key, its status, and what has changed since the last extraction.

    Example: `affectory why Ses01F_impro01_F000 audio_opensmile --dataset iemocap`
    """
    from pipeline.ask import explain_row
    from pipeline.run.reference_job import open_session

    home = Home(asks=True)
    dataset, root, change = or_last(home, dataset, root, change)
    session = open_session(home, options(dataset, root, protocol=protocol, change=change))
    answer = explain_row.why(session, utterance, stage, fold)
    if not as_json:
        print_line(explain_row.as_text(answer))
    show_answer(answer, as_json, "")


@commands.command()
def explain(
    shard: Annotated[
        str, typer.Argument(help="A file, or at least six digits of an object's digest or a shard's key.")
    ],
    as_json: Json = False,
) -> None:
    """Explains a shard: its stage, parameters and libraries, when and where it was made, and which rows failed.

    Example: `affectory explain data/cache/objects/3f/09d1c2.parquet`
    """
    from pipeline.ask import explain_shard

    answer = explain_shard.explain(Home(asks=True), shard)
    if not as_json:
        print_line(explain_shard.as_text(answer))
    show_answer(answer, as_json, "")


@commands.command()
def errors(
    dataset: OrLast = "",
    root: Root = "",
    modality: Modality = "",
    features: Features = None,
    protocol: Protocol = "",
    stage: Stage = "",
    reason: FailedFor = "",
    remarks: Annotated[
        bool, typer.Option("--remarks", help="List remarks on rows instead; --reason then names one, such as text_cut.")
    ] = False,
    change: Set = None,
    as_json: Json = False,
) -> None:
    """Lists the utterances without features: the stage, the reason, a message, and the file. Or lists remarks on rows.

    Example: `affectory errors --dataset meld --stage visual_resnet50 --reason decode_error`
    """
    from pipeline.ask import failures
    from pipeline.run.reference_job import open_session

    home = Home(asks=True)
    dataset, root, change = or_last(home, dataset, root, change)
    given = options(dataset, root, modality=modality, features=features, protocol=protocol, change=change)
    session = open_session(home, given)
    listed = (failures.remarks if remarks else failures.failures)(session, stage, reason)
    if not as_json and listed:
        console.print(failures.failure_table(listed, "remark" if remarks else "reason"))
    answer = {"dataset": session.corpus.recipe.name, "remarks" if remarks else "errors": listed}
    utterances = len({entry["utterance"] for entry in listed})
    some, none = ("with remarks", "No row has a remark.") if remarks else ("without features", "No utterance failed.")
    show_answer(answer, as_json, f"{utterances:,} utterances {some}." if listed else none)


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
    """Counts the rows of each stage: cached, to do, waiting for a fit, provisional, failed; its fits and bytes.

    Example: `affectory status --dataset iemocap --json`
    """
    from pipeline.ask import status as stages
    from pipeline.run.reference_job import open_session

    given = options(
        dataset, root, modality=modality, features=features, protocol=protocol, change=change, remote=remote
    )
    answer = stages.status(open_session(Home(asks=True), given))
    if not as_json:
        console.print(stages.status_table(answer))
    show_answer(answer, as_json, "")


@commands.command()
def rows(
    dataset: OrLast = "",
    root: Root = "",
    labels: Annotated[str, typer.Option(help="A label protocol, such as six_7433. Default: the recipe's.")] = "",
    protocol: Protocol = "",
    change: Set = None,
    as_json: Json = False,
) -> None:
    """Counts the rows of a label protocol by class and part, beside the published counts, and says why others are out.

    `--json` lists the ids of each part. Example: `affectory rows --dataset iemocap --labels six_7433`
    """
    from pipeline.ask import rows as counted
    from pipeline.corpus.open_corpus import open_corpus

    home = Home(asks=True)
    dataset, root, change = or_last(home, dataset, root, change)
    change = [*change, *([f"dataset.labels={json.dumps(labels)}"] if labels else [])]
    answer = counted.rows(open_corpus(home, options(dataset, root, protocol=protocol, change=change)).corpus)
    for shown in () if as_json else counted.row_tables(answer):
        console.print(shown, markup=False, highlight=False)
    show_answer(answer, as_json, "")


@commands.command()
def report(
    dataset: OrLast = "",
    root: Root = "",
    protocol: Protocol = "",
    media: Annotated[
        bool, typer.Option(help="Show frames and short clips of some utterances, from the files of the corpus.")
    ] = True,
    media_mb: Annotated[
        float, typer.Option(min=0, help="The most megabytes of clips beside the page; 0 for frames alone.")
    ] = 8.0,
    change: Set = None,
    as_json: Json = False,
) -> None:
    """Writes a report to `reports/<dataset>.html`: corpus, features, probes, trained models and single utterances.

    Its frames and clips are in a folder beside it. Example: `affectory report --dataset demo`
    """
    from pipeline.report import page
    from pipeline.run.reference_job import open_session

    home = Home()
    dataset, root, change = or_last(home, dataset, root, change)
    session = open_session(home, options(dataset, root, protocol=protocol, change=change))
    answer = page.write(session, round(media_mb * 1e6) if media else None)
    show_answer(answer, as_json, f"Report: {answer['report']}")
