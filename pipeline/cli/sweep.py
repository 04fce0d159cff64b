"""The command `sweep`: tries settings of a model and of its features, and chooses on validation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.markup import escape

from pipeline.cache.home import Home
from pipeline.cli.coverage import covered
from pipeline.cli.extract import extract_shown
from pipeline.cli.options import (
    Gpus,
    Json,
    Limit,
    NoExtract,
    OrLast,
    Protocol,
    Root,
    Scheduler,
    Set,
    Workers,
    options,
    or_last,
    show_answer,
)
from pipeline.cli.tables import score_tables
from pipeline.console import console, print_line, table
from pipeline.corpus.changed_recipe import as_changes, write_changed
from pipeline.corpus.open_corpus import Options
from pipeline.corpus.recipe_file import home_name, recipe_path
from pipeline.errors import InputError, closest
from pipeline.plan.session import Session
from pipeline.run.extraction import repaired
from pipeline.run.reference_job import open_session

if TYPE_CHECKING:
    from pipeline.score.intervals import Interval
    from pipeline.train.search_space import Trial
    from pipeline.train.train_models import Run

commands = typer.Typer()

Over = Annotated[
    list[str],
    typer.Option(help="A setting and its values: train.hjcag.dropout=0.2,0.4 or a range, 1e-5..1e-2. Repeat it."),
]

SHOWN = 10
"""How many of the best trials are shown."""


@dataclass(frozen=True)
class Tried:
    """A trial, its session, and its runs, one for each seed. score: on validation, over seeds."""

    trial: Trial
    session: Session
    runs: Sequence[Run]
    score: Interval

    @property
    def text(self) -> str:
        """The settings in one line, without the tables that all trials share."""
        return ", ".join(f"{name.rpartition('.')[2]}={json.dumps(value)}" for name, value in self.trial.items())


@commands.command()
def sweep(
    model: Annotated[str, typer.Option(help="The name of a model in models/.")],
    over: Over,
    trials: Annotated[int, typer.Option(min=0, help="Draw so many trials at random. Default: every combination.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds each trial is trained with, from 0.")] = 1,
    score: Annotated[str, typer.Option(help="The score on validation that chooses. Default: accuracy, or mae.")] = "",
    dataset: OrLast = "",
    root: Root = "",
    protocol: Protocol = "",
    workers: Workers = None,
    scheduler: Scheduler = "",
    gpus: Gpus = 0,
    change: Set = None,
    limit: Limit = None,
    no_extract: NoExtract = False,
    as_json: Json = False,
) -> None:
    """Tries settings of a model and of its features, chooses on validation, and writes the winner as a recipe.

    Every trial is kept as a run, so a sweep that was killed goes on, and a larger one repeats nothing. Test scores are
    shown of the winner alone.
    Example: `affectory sweep --model hjcag --over train.hjcag.learning_rate=1e-5..1e-2 --trials 20 --dataset iemocap`
    """
    from pipeline.corpus.recipe_training import model_class
    from pipeline.train.search_space import parse
    from pipeline.train.search_space import trials as drawn

    home = Home()
    dataset, root, change = or_last(home, dataset, root, change)
    log = home.log_to_file("sweep", home_name(recipe_path(dataset)))
    tried = drawn([parse(text) for text in over], trials, seed=0)
    given = options(
        dataset, root, protocol=protocol, workers=workers, scheduler=scheduler, gpus=gpus, change=change, limit=limit
    )
    opened = partial(_opened, home, replace(given, features=(model_class(model).features,)))
    print_line(f"{len(tried)} trials of {model} on {dataset}, {seeds} seed{'s' if seeds > 1 else ''} each.")
    ranked = swept(opened, model, tried, seeds, score, extract=not no_extract)
    _finish(home, model, ranked, change, as_json, f"Log: {log}")


def _opened(home: Home, given: Options, changes: Sequence[str]) -> Session:
    return open_session(home, replace(given, changes=(*given.changes, *changes)))


def swept(
    opened: Callable[[Sequence[str]], Session],
    model: str,
    trials: Sequence[Trial],
    seeds: int,
    score: str,
    *,
    extract: bool,
) -> list[Tried]:
    """Trains every trial, and returns them, the best on validation first.

    opened: makes a session under changes of the recipe. Trials that differ in settings of the model alone share one.
    Raises InputError for a setting that nothing of this model reads, and for an unknown score.
    """
    from pipeline.score import metrics
    from pipeline.train import train_models

    by_features: dict[str, list[Trial]] = {}
    for trial in trials:
        by_features.setdefault(json.dumps(_of(trial, "features")), []).append(trial)
    found: list[Tried] = []
    for same in by_features.values():
        session = opened(as_changes(_of(same[0], "features")))
        train_models.check(session, [model])
        _check_score(session, score)
        runs = _prepared(session, model, same, seeds, extract=extract)
        with session.pinned(), _noting(trials[len(found) + len(same) :]):
            train_models.train(session, [run for of_trial in runs for run in of_trial])
        found += [_tried(session, *each, score) for each in zip(same, runs, strict=True)]
    sign = 1 if (score or _default(found[0].session)) in metrics.LOWER_IS_BETTER else -1
    return sorted(found, key=lambda each: sign * each.score.mean)


@contextmanager
def _noting(later: Sequence[Trial]) -> Iterator[None]:
    """A context that notes on an interruption the trials that no bar counts yet."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if later:
            stop.add_note(f"{len(later)} more trials")
        raise


def _of(trial: Trial, name: str) -> dict[str, Any]:
    return {key: value for key, value in trial.items() if key.startswith(f"{name}.")}


def _prepared(session: Session, model: str, trials: Sequence[Trial], seeds: int, *, extract: bool) -> list[list[Run]]:
    from pipeline.train import train_models

    own = f"train.{model}."
    unread = [name for name in _of(trials[0], "train") if not name.startswith(own)]
    if unread:
        raise InputError(f"--over {unread[0]}: {model} does not read it: {closest(unread[0], [f'{own}...'])}")
    settings = [{name.removeprefix(own): value for name, value in _of(trial, "train").items()} for trial in trials]
    if extract:
        extract_shown(session, noted=False)
    else:
        covered(session)
    return repaired(
        session, lambda: [[train_models.prepare(session, model, seed, of) for seed in range(seeds)] for of in settings]
    )


def _tried(session: Session, trial: Trial, runs: Sequence[Run], score: str) -> Tried:
    from pipeline.score.intervals import over_seeds
    from pipeline.train import train_models

    name = score or _default(session)
    for run in runs:
        train_models.answer(session, run, {}, listed=False)
    by_seed = [[result.valid[name] for result in run.results.values()] for run in runs]
    return Tried(trial, session, runs, over_seeds([float(np.mean(folds)) for folds in by_seed]))


def _check_score(session: Session, score: str) -> None:
    """Raises InputError for a score that this task does not have, before anything is trained."""
    from pipeline.score import metrics

    target, label = session.corpus.target, next(iter(session.corpus.labels.values()))
    known = metrics.scalars(metrics.evaluate(np.zeros((1, target.outputs)), [label], target))
    if score and score not in known:
        raise InputError(f"--score {score}: {closest(score, known)}")


def _default(session: Session) -> str:
    from pipeline.score.intervals import score_by_row

    return score_by_row(session.corpus.target)


def _finish(home: Home, model: str, ranked: Sequence[Tried], changes: Sequence[str], as_json: bool, log: str) -> None:
    """Shows the trials, and writes them as a table and the winner as a recipe."""
    from pipeline.report import model_table
    from pipeline.train import train_models

    best = ranked[0]
    recipe, protocol = best.session.corpus.recipe, best.session.corpus.protocol
    folder = home.root / "sweeps" / f"{home_name(recipe_path(best.session.options.dataset))}-{protocol}-{model}"
    path = recipe_path(best.session.options.dataset)
    written = write_changed(path, recipe, [*changes, *as_changes(best.trial)], folder)
    rows = [_row(each) for each in ranked]
    caption = f"{len(ranked)} trials of {model} on {recipe.name}, {protocol}, the best on validation first"
    paths = model_table.write(rows, caption, folder / "trials")
    _show(ranked, caption)
    answers = [train_models.answer(best.session, run, {}) for run in best.runs]
    for shown in score_tables(answers):
        console.print(shown)
    lines = f"The winner, {best.text}, as a recipe: {written}\nAll trials: {paths[0]}, and beside it as CSV and LaTeX\n"
    kept = [str(run.path) for run in best.runs]
    answer = {"trials": rows, "winner": best.trial, "recipe": str(written), "runs": kept}
    show_answer(answer, as_json, lines + log)


def _row(tried: Tried) -> dict[str, str]:
    valid = f"{tried.score.mean:.4f}" if np.isnan(tried.score.low) else _plus_minus(tried.score)
    settings = {name: json.dumps(value) for name, value in tried.trial.items()}
    return settings | {"valid": valid, "run": Path(tried.runs[0].path).name}


def _plus_minus(score: Interval) -> str:
    return f"{score.mean:.4f} ± {score.high - score.mean:.4f}"


def _show(ranked: Sequence[Tried], caption: str) -> None:
    shown = table(caption, "settings", "valid")
    for tried in ranked[:SHOWN]:
        shown.add_row(escape(tried.text), _row(tried)["valid"])
    console.print(shown)
    if len(ranked) > SHOWN:
        print_line(f"{len(ranked) - SHOWN} more are in the file.")
