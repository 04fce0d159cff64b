"""The command `evaluate`: a trained run on other rows, or under conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from pipeline.cache.home import Home
from pipeline.cli.extract import extract_shown
from pipeline.cli.options import (
    Gpus,
    Json,
    NoExtract,
    Protocol,
    Root,
    Scheduler,
    Workers,
    options,
    show_answer,
)
from pipeline.cli.tables import SCORES
from pipeline.console import console, print_line, table
from pipeline.errors import InputError
from pipeline.plan.session import Session
from pipeline.run.extraction import repaired
from pipeline.run.reference_job import open_session

if TYPE_CHECKING:
    from pipeline.train.evaluate import Evaluation
    from pipeline.train.trained_run import TrainedRun

commands = typer.Typer()

Without = Annotated[
    list[str] | None,
    typer.Option(help="Hide a modality: audio, or audio=0.3 from this share of rows; `each` for all in turn."),
]


@commands.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="A run: its name, such as hjcag, which means the newest, or its folder.")],
    without: Without = None,
    modalities: Annotated[str, typer.Option(help='Keep only these: "text audio".')] = "",
    noise_db: Annotated[
        list[float] | None, typer.Option(help="Mix noise into the sound at this signal-to-noise ratio.")
    ] = None,
    noise: Annotated[str, typer.Option(help="A folder of sounds that are the noise. Default: white noise.")] = "",
    part: Annotated[Literal["train", "valid", "test"], typer.Option("--split", help="The part of each fold.")] = "test",
    dataset: Annotated[str, typer.Option(help="Another corpus, with the same labels. Default: the run's own.")] = "",
    root: Root = "",
    protocol: Protocol = "",
    workers: Workers = None,
    scheduler: Scheduler = "",
    gpus: Gpus = 0,
    no_extract: NoExtract = False,
    as_json: Json = False,
) -> None:
    """Scores a trained run on other rows or under conditions, with what that costs against everything kept.

    Several options are several conditions. Features that are missing are extracted first; with noise they are other
    features, with keys of their own. The report shows what is kept of it. Nothing is trained or selected here.
    Example: `affectory evaluate hjcag --without each --without audio=0.3 --noise-db 20 --noise-db 10`
    """
    from pipeline.train import conditions
    from pipeline.train.trained_run import find

    home = Home()
    found = find(home.runs, run)
    log = home.log_to_file("evaluate", found.folder.parent.name)
    print_line(f"Evaluating {found.name} ({found.folder.name}): first the corpus is read.")
    knobs = {"workers": workers, "scheduler": scheduler, "gpus": gpus}
    evaluation = opened(home, found, part, (dataset, root, protocol), knobs, extract=not no_extract)
    kept_alone = modalities.replace(",", " ").split()
    asked = conditions.asked(evaluation.modalities, without or (), kept_alone, noise_db or (), noise)
    answers, path = _evaluated(evaluation, asked)
    _show(answers, f"{found.name} on {part} of {evaluation.session.corpus.recipe.name}")
    answer = {"run": str(found.folder), "part": part, "conditions": answers, "file": str(path)}
    show_answer(answer, as_json, f"Kept in {path}\nLog: {log}")


def opened(
    home: Home,
    run: TrainedRun,
    part: Literal["train", "valid", "test"],
    other: tuple[str, str, str],
    knobs: Mapping[str, Any],
    *,
    extract: bool,
) -> Evaluation:
    """The rows to evaluate on, with their features. other: dataset, root and protocol, "" for those of the run."""
    from pipeline.corpus.recipe_training import model_class
    from pipeline.train.evaluate import Evaluation

    opened, (dataset, root, protocol) = run.answer["opened"], other
    features = [model_class(run.answer["model"]).features]
    given = options(
        opened["dataset"],
        opened["root"] if dataset else root or opened["root"],
        features=features,
        protocol=run.answer["protocol"],
        change=opened["changes"],
        **knobs,
    )
    if protocol and not dataset:
        raise InputError("--protocol is for another dataset: a run is evaluated on the folds that it was trained on")
    trained = open_session(home, given)
    elsewhere = open_session(home, options(dataset, root, protocol=protocol, **knobs)) if dataset else None
    evaluation = Evaluation.of(run, trained, elsewhere, part, _extract if extract else _refuse_missing)
    if dataset:
        evaluation.extract(evaluation.session)
    return evaluation


def _extract(session: Session) -> None:
    extract_shown(session, noted=False)


def _refuse_missing(session: Session) -> None:
    if session.plan().jobs:
        raise InputError("features are missing: leave out --no-extract, and they are extracted first")


def _evaluated(evaluation: Evaluation, asked: Sequence[Any]) -> tuple[list[dict[str, Any]], Any]:
    from pipeline.train.evaluate import keep

    def work() -> list[dict[str, Any]]:
        return [evaluation.answer(condition) for condition in asked]

    answers = repaired(evaluation.session, work)
    return answers, keep(evaluation, answers)


def _show(answers: Sequence[Mapping[str, Any]], title: str) -> None:
    """A row for each condition: the score of all folds' rows as one set, and the difference from everything kept.

    The ends of the difference are those of its 95 % interval over dialogues.
    """
    first = answers[0]["metrics"]["pooled"]
    names = [name for name in SCORES if isinstance(first.get(name), float)][:3]
    (score,) = answers[0]["less"]
    shown = table(f"{title}, {answers[0]['rows']:,} rows", "condition", *names, f"{score}, difference")
    for answer in answers:
        values = (f"{answer['metrics']['pooled'][name]:.4f}" for name in names)
        changed = answer["hidden"] or answer["noise_db"] is not None
        shown.add_row(escape(answer["condition"]), *values, _less(answer["less"][score]) if changed else "")
    shown.add_row("majority", *(f"{first[f'majority_{name}']:.4f}" for name in names), "")
    console.print(shown)


def _less(ends: Sequence[float]) -> str:
    mean, low, high = ends
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
