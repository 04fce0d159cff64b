"""The `affectory` command. Results go to standard output, everything else to standard error."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from dataclasses import replace
from typing import Annotated

import typer
from rich.markup import escape

from pipeline.cache.atomic import is_full
from pipeline.cache.home import Home
from pipeline.cli import ask, keep, prepare, share, weights
from pipeline.cli.options import (
    Dataset,
    Features,
    Gpus,
    Json,
    Locked,
    Modality,
    Models,
    NoExtract,
    Protocol,
    Relock,
    RemoteUrl,
    RetryFailed,
    Root,
    Scheduler,
    Seed,
    Set,
    Workers,
    or_last,
    tell,
)
from pipeline.cli.options import options as options_of
from pipeline.console import console
from pipeline.errors import INTERRUPTED, TOO_MANY_FAILED, AffectoryError, SpaceError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)

for _group in (prepare, weights, share, keep, ask):
    app.add_typer(_group.commands)


@app.callback()
def about() -> None:
    """Raw video, audio and transcripts to feature shards to trained models."""


@app.command()
def extract(
    dataset: Dataset,
    root: Root = "",
    modality: Modality = "",
    features: Features = None,
    protocol: Protocol = "",
    workers: Workers = None,
    scheduler: Scheduler = "",
    gpus: Gpus = 0,
    change: Set = None,
    remote: RemoteUrl = "",
    locked: Locked = False,
    relock: Relock = False,
    retry_failed: RetryFailed = False,
    as_json: Json = False,
) -> None:
    """Computes what is missing of a corpus's features, and nothing else.

    Example: `affectory extract --dataset iemocap --root /corpora/IEMOCAP_full_release --modality audio`
    """
    from pipeline.plan import session

    given = options_of(dataset, root, modality, features, protocol, workers, scheduler, gpus, change)
    options = replace(given, remote=remote, locked=locked, retry_failed=retry_failed)
    home = Home()
    log = home.log_to_file("extract", dataset)
    answer, failed = session.extract(home, options, relock=relock)
    tell(answer, as_json, f"Log: {log}")
    if failed:
        raise typer.Exit(TOO_MANY_FAILED)


@app.command()
def plan(
    dataset: Dataset,
    root: Root = "",
    modality: Modality = "",
    features: Features = None,
    protocol: Protocol = "",
    change: Set = None,
    as_json: Json = False,
) -> None:
    """Says what `extract` would compute, with time and disk, and computes nothing.

    Example: `affectory plan --dataset demo --set features.hjcag.audio.feature_set=ComParE_2016`
    """
    from pipeline.console import plan_table
    from pipeline.plan import session

    answer = session.plan(Home(), options_of(dataset, root, modality, features, protocol, None, "", 0, change))
    if not as_json:
        console.print(plan_table(answer))
    tell(answer, as_json, "")


@app.command()
def train(
    model: Models,
    dataset: Annotated[str, typer.Option(help="A recipe; else the one extracted last.")] = "",
    root: Root = "",
    protocol: Protocol = "",
    seed: Seed = 0,
    workers: Workers = None,
    scheduler: Scheduler = "",
    gpus: Gpus = 0,
    change: Set = None,
    no_extract: NoExtract = False,
    as_json: Json = False,
) -> None:
    """Trains models on the shards, one job for each model and fold, and extracts first what is missing.

    Example: `affectory train --dataset iemocap --model hjcag --protocol cv`
    """
    from pipeline.train import train_models

    home = Home()
    dataset, root, change = or_last(home, dataset, root, change)
    log = home.log_to_file("train", dataset)
    options = options_of(dataset, root, "", None, protocol, workers, scheduler, gpus, change)
    answers, failed = train_models.train(home, options, model, seed, extract=not no_extract)
    tell({"models": answers} if len(model) > 1 else answers[0], as_json, f"Log: {log}")
    if failed:
        raise typer.Exit(TOO_MANY_FAILED)


@app.command()
def report(
    dataset: Annotated[str, typer.Option(help="A recipe; else the one extracted last.")] = "",
    root: Root = "",
    protocol: Protocol = "",
    change: Set = None,
    as_json: Json = False,
) -> None:
    """Writes `reports/<dataset>.html`: the corpus, its features, a linear probe of each, and every trained model.

    Example: `affectory report --dataset demo`
    """
    from pipeline.report import page as reports

    home = Home()
    dataset, root, change = or_last(home, dataset, root, change)
    options = options_of(dataset, root, "", None, protocol, None, "", 0, change)
    answer = reports.write(home, options)
    tell(answer, as_json, f"Report: {answer['report']}")


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Runs the command and ends with the exit code of its error: see pipeline/errors.py."""
    gc.set_threshold(100_000, 20, 100)  # a manifest is a million objects without a cycle
    signal.signal(signal.SIGTERM, _stop)
    logging.raiseExceptions = False  # a full disk is said once, not at every line of the log
    logging.getLogger("distributed").setLevel(logging.ERROR)
    try:
        app()
    except AffectoryError as error:
        console.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        sys.exit(error.exit_code)
    except SystemExit as end:  # Typer makes one of KeyboardInterrupt
        if end.code == INTERRUPTED:
            console.print("Interrupted. What was finished is kept: the same command goes on from there.")
        raise
    except Exception as error:
        if not is_full(error):
            raise
        console.print(f"[red]no space left: {escape(str(error))}[/red]")
        sys.exit(SpaceError.exit_code)


if __name__ == "__main__":
    main()
