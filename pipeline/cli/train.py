"""The command `train`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline.cache.home import Home
from pipeline.cli.coverage import Coverage, covered
from pipeline.cli.extract import extract_shown
from pipeline.cli.options import (
    BestTest,
    Gpus,
    Json,
    Limit,
    Models,
    NoExtract,
    OrLast,
    Protocol,
    Root,
    Scheduler,
    Seed,
    Set,
    Workers,
    options,
    or_last,
    show_answer,
)
from pipeline.cli.tables import score_tables
from pipeline.console import console, print_line
from pipeline.corpus.open_corpus import Options
from pipeline.corpus.recipe_file import home_name, recipe_path
from pipeline.corpus.same_media import answers as same_media_answers
from pipeline.corpus.same_media import same_media
from pipeline.errors import TOO_MANY_FAILED
from pipeline.plan.session import Session
from pipeline.run.extraction import repaired
from pipeline.run.reference_job import open_session

if TYPE_CHECKING:
    from pipeline.train.tensorboard import TensorBoard

commands = typer.Typer()

Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="Where models are trained; auto takes a GPU if there is one.")
]


@commands.command()
def train(
    model: Models,
    dataset: OrLast = "",
    root: Root = "",
    protocol: Protocol = "",
    seed: Seed = 0,
    workers: Workers = None,
    scheduler: Scheduler = "",
    gpus: Gpus = 0,
    change: Set = None,
    limit: Limit = None,
    device: Device = "auto",
    board: Annotated[
        Literal["", "tensorboard"], typer.Option("--log", help="tensorboard: write losses for it too.")
    ] = "",
    best_test_epoch: BestTest = False,
    no_extract: NoExtract = False,
    as_json: Json = False,
) -> None:
    """Trains models on the features of a corpus, one job per model and fold, and first extracts missing features.

    Example: `affectory train --dataset iemocap --model hjcag --protocol cv`
    """
    home = Home()
    dataset, root, change = or_last(home, dataset, root, change)
    log = home.log_to_file("train", home_name(recipe_path(dataset)))
    print_line(f"Training {', '.join(model)} on {dataset}: first the corpus is read and its features are checked.")
    given = options(
        dataset, root, protocol=protocol, workers=workers, scheduler=scheduler, gpus=gpus, change=change, limit=limit
    )
    more = {"extract": not no_extract, "best_test_epoch": best_test_epoch}
    answers, coverage = _opened_and_trained(home, given, list(dict.fromkeys(model)), seed, device, board, **more)
    show_answer({"models": answers} if len(answers) > 1 else answers[0], as_json, f"Log: {log}")
    if coverage.too_many:
        raise typer.Exit(TOO_MANY_FAILED)


def _opened_and_trained(
    home: Home, given: Options, models: list[str], seed: int, device: Device, board: str, **more: bool
) -> tuple[list[dict[str, Any]], Coverage]:
    """`trained` on the feature sets of these models. board: whether losses are written for TensorBoard too."""
    from pipeline.corpus.recipe_training import model_class
    from pipeline.train.tensorboard import TensorBoard

    sets = tuple(model_class(name).features for name in models)
    events = TensorBoard(home.runs / "tensorboard" / home_name(recipe_path(given.dataset))) if board else None
    found = trained(open_session(home, replace(given, features=sets)), models, seed, device, events, **more)
    if events:
        print_line(f"Losses: tensorboard --logdir {events.folder}")
    return found


def trained(
    session: Session,
    models: list[str],
    seed: int,
    device: Device = "auto",
    board: TensorBoard | None = None,
    *,
    extract: bool,
    best_test_epoch: bool = False,
) -> tuple[list[dict[str, Any]], Coverage]:
    """Trains each model on each fold, and gives one answer per model, and the coverage.

    First extracts missing features, or raises InputError for them if `extract` is False. As in an extraction, rows that
    failed do not stop the run, however many they are. Raises InputError for a corpus without labels.
    """
    from pipeline.train import train_models

    train_models.check(session, models)
    coverage = extract_shown(session)[1] if extract else covered(session)
    with session.pinned():
        more: dict[str, Any] = {"device": device, "best_test_epoch": best_test_epoch}
        runs = repaired(session, lambda: [train_models.prepare(session, name, seed, **more) for name in models])
        train_models.train(session, runs, board)
    same = same_media(session.corpus)
    also = {"same_media": same_media_answers(same)}
    answers = [train_models.answer(session, run, coverage.failed) | also for run in runs]
    for shown in score_tables(answers):
        console.print(shown)
    for found in same:
        print_line(found.line, "red")
    return answers, coverage
