"""The command `train`."""

from __future__ import annotations

from typing import Any

import typer

from pipeline.cache.home import Home
from pipeline.cli.extract import Coverage, covered, extract_shown
from pipeline.cli.options import (
    Gpus,
    Json,
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
    tell,
)
from pipeline.cli.tables import score_table
from pipeline.console import console
from pipeline.corpus.recipe_file import home_name, recipe_path
from pipeline.errors import TOO_MANY_FAILED, InputError
from pipeline.plan.session import Session
from pipeline.run.extraction import repaired

commands = typer.Typer()


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
    no_extract: NoExtract = False,
    as_json: Json = False,
) -> None:
    """Trains models on the shards, one job for each model and fold, and extracts first what is missing.

    Example: `affectory train --dataset iemocap --model hjcag --protocol cv`
    """
    from pipeline.corpus.recipe_training import model_class

    home = Home()
    dataset, root, change = or_last(home, dataset, root, change)
    log = home.log_to_file("train", home_name(recipe_path(dataset)))
    features = [model_class(name).features for name in model]
    given = options(
        dataset,
        root,
        features=features,
        protocol=protocol,
        workers=workers,
        scheduler=scheduler,
        gpus=gpus,
        change=change,
    )
    answers, coverage = trained(Session.open(home, given), model, seed, extract=not no_extract)
    tell({"models": answers} if len(model) > 1 else answers[0], as_json, f"Log: {log}")
    if coverage.too_many:
        raise typer.Exit(TOO_MANY_FAILED)


def trained(session: Session, models: list[str], seed: int, *, extract: bool) -> tuple[list[dict[str, Any]], Coverage]:
    """Trains each model on each fold; one answer for each model, and what `covered` found.

    Extracts first what is missing, unless `extract` is False: then it raises InputError. Too many failures hinder no
    training, as they hinder no extraction. Raises InputError too for a corpus without labels.
    """
    from pipeline.train import train_models

    if not session.corpus.labels:
        raise InputError("this corpus has no labels to train on")
    session.check_train()
    coverage = extract_shown(session)[1] if extract else covered(session)
    with session.pinned():
        runs = repaired(session, lambda: [train_models.prepare(session, name, seed) for name in models])
        train_models.train(session, runs)
    answers = [train_models.answer(session, run, coverage.failed) for run in runs]
    console.print(score_table(answers))
    return answers, coverage
