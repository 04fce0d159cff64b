"""The command `table`: many models on one corpus, compared."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from pipeline.cache.atomic import publish
from pipeline.cache.home import Home
from pipeline.cli.coverage import covered
from pipeline.cli.extract import extract_shown
from pipeline.cli.options import (
    BestTest,
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
from pipeline.console import console, print_line, table
from pipeline.corpus.open_corpus import Options
from pipeline.corpus.recipe_file import home_name, recipe_path
from pipeline.plan.session import Session
from pipeline.run.extraction import repaired
from pipeline.run.reference_job import open_session

commands = typer.Typer()

Named = Annotated[
    str, typer.Option(help='Names of models in models/: "linear mult hjcag". Default: all that can learn the labels.')
]


@commands.command("table")
def compare(
    models: Named = "",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds each model is trained with, from 0.")] = 3,
    ablations: Annotated[bool, typer.Option("--ablations", help="Also each model without the parts it names.")] = False,
    dataset: OrLast = "",
    root: Root = "",
    protocol: Protocol = "",
    workers: Workers = None,
    scheduler: Scheduler = "",
    gpus: Gpus = 0,
    change: Set = None,
    limit: Limit = None,
    best_test_epoch: BestTest = False,
    no_extract: NoExtract = False,
    as_json: Json = False,
) -> None:
    """Compares models: trains what is missing, and writes scores and costs as Markdown, CSV, LaTeX and a page.

    Every model reads the same rows, is selected on validation and scored on test once. What was trained before is not
    trained again. Example: `affectory table --models "majority linear mult mulg hjcag" --dataset meld --seeds 5`
    """
    home = Home()
    dataset, root, change = or_last(home, dataset, root, change)
    log = home.log_to_file("table", home_name(recipe_path(dataset)))
    given = options(
        dataset, root, protocol=protocol, workers=workers, scheduler=scheduler, gpus=gpus, change=change, limit=limit
    )
    more = {"ablations": ablations, "extract": not no_extract, "best_test_epoch": best_test_epoch}
    answer = _tabled(home, given, models.split(), seeds, **more)
    line = f"Table: {answer['files'][0]}, and beside it as CSV, LaTeX and a page\nLog: {log}"
    show_answer(answer, as_json, line)


def _tabled(home: Home, given: Options, models: Sequence[str], seeds: int, **more: bool) -> dict[str, Any]:
    """Compares these models, or without any all that can learn the labels; shows the table and writes its files."""
    from pipeline.corpus.recipe_training import model_class
    from pipeline.plugins import names

    chosen = models or names("models")
    sets = sorted({model_class(name).features for name in chosen})
    session = open_session(home, replace(given, features=tuple(sets)))
    if not models:
        chosen = [name for name in chosen if model_class(name).learns(session.corpus.target)]
    made = compared(session, chosen, seeds, **more)
    protocol, recipe = session.corpus.protocol, session.corpus.recipe
    caption = f"{recipe.name}, {protocol}, {seeds} seed{'s' if seeds > 1 else ''}, {time.strftime('%Y-%m-%d')}"
    paths = _written(made, caption, home.reports / f"{recipe.home_name}-{protocol}-table")
    _show(made.columns(), caption)
    return {"table": made.columns(), "files": [str(path) for path in paths]}


def _written(made: Any, caption: str, stem: Path) -> list[Path]:
    """The files of a table: Markdown, CSV, LaTeX and a page. stem: their path without an ending."""
    from pipeline.report import model_table

    page = stem.with_name(f"{stem.name}.html")
    publish(page, model_table.page(made, caption))
    return [*model_table.write(made.columns(), caption, stem), page]


def compared(
    session: Session,
    models: Sequence[str],
    seeds: int,
    *,
    ablations: bool,
    extract: bool,
    best_test_epoch: bool = False,
) -> Any:
    """The `ModelTable` of models on a session's corpus. A model that is solved for has one seed, since none changes it.

    Raises InputError for a corpus without labels, and for features that are missing if `extract` is False.
    """
    from pipeline.report.model_table import Entry, ModelTable
    from pipeline.train import train_models
    from pipeline.train.cost import cost

    train_models.check(session, models)
    coverage = extract_shown(session)[1] if extract else covered(session)
    lines = list(_lines(session, models, ablations))
    with session.pinned():
        runs = repaired(session, lambda: [_runs(session, *line[1:], seeds, best_test_epoch) for line in lines])
        train_models.train(session, [run for of_line in runs for run in of_line])
    answers = [[train_models.answer(session, run, coverage.failed) for run in of_line] for of_line in runs]
    with console.status("Timing the models"):
        costs = [cost(of_line[0].jobs[0].request) for of_line in runs]
    kept = zip(lines, answers, costs, strict=True)
    entries = [
        Entry(line[0], of_line, _solved(line[1]), spent, _claimed(session, *line[1:])) for line, of_line, spent in kept
    ]
    return ModelTable(entries, {row.id: row.dialogue for row in session.corpus.manifest.rows})


def _lines(session: Session, models: Sequence[str], ablations: bool) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The label of each line, its model, and the settings of an ablation; models that are solved for come first.

    An ablation that names a modality which the model's feature set lacks has no line.
    """
    from pipeline.corpus.recipe_training import model_class

    for name in sorted(models, key=lambda name: not _solved(name)):
        yield name, name, {}
        known = session.corpus.recipe.features[model_class(name).features].keys()
        for label, changes in (model_class(name).ablations if ablations else {}).items():
            if known >= set(changes.get("modalities", ())):
                yield f"{name}, {label}", name, changes


def _runs(session: Session, name: str, ablation: Mapping[str, Any], seeds: int, best_test_epoch: bool) -> list[Any]:
    from pipeline.train.train_models import prepare

    of_model = range(1 if _solved(name) else seeds)
    return [prepare(session, name, seed, ablation, best_test_epoch=best_test_epoch) for seed in of_model]


def _claimed(session: Session, name: str, ablation: Mapping[str, Any]) -> str:
    """The scores that the paper of a model states for the session's corpus, "" for none and for an ablation."""
    from pipeline.corpus.recipe_training import model_class
    from pipeline.plugins import name_of

    return "" if ablation else model_class(name).claimed.get(name_of(type(session.corpus.recipe.reader)), "")


def _solved(name: str) -> bool:
    from pipeline.corpus.recipe_training import model_class
    from pipeline.model import Solved

    return issubclass(model_class(name), Solved)


def _show(rows: Sequence[Mapping[str, str]], caption: str) -> None:
    """The columns that fit a terminal: validation, the first score on test, the difference from the best solved."""
    scores = [name for name in rows[0] if name.startswith(("valid ", "test "))][:2]
    shown = ["model", *scores, *(name for name in rows[0] if name.endswith(", paired"))]
    lines = table(caption, *shown)
    for row in rows:
        lines.add_row(*(escape(row[name]) for name in shown))
    console.print(lines)
    print_line("Means over seeds with 95 % t-intervals; the difference is paired by row, drawn by dialogue.")
