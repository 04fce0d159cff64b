"""The command `rank`: which feature set of a modality is worth most."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

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
from pipeline.console import console, print_line, table
from pipeline.corpus.recipe_file import home_name, recipe_path
from pipeline.errors import InputError
from pipeline.pages.table import size
from pipeline.plan.session import Session
from pipeline.run.extraction import repaired
from pipeline.run.reference_job import compare, open_session
from pipeline.stage import Modality

if TYPE_CHECKING:
    from pipeline.train.rank import Ranked

commands = typer.Typer()


@commands.command()
def rank(
    modality: Annotated[Modality, typer.Option(help="text, audio or visual.")],
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
    """Ranks the feature sets of a modality: extracts each, and scores a linear probe of it on the same folds.

    They are all that the recipe's `[features]` name, and those listed in `[rank]`, such as `[[rank.audio]]` with the
    lines `stage = "audio_opensmile"` and `feature_set = "IS09"`. The order is that of validation; the scores on test
    have 95 % intervals over dialogues. Example: `affectory rank --modality audio --dataset iemocap --protocol cv`
    """
    from pipeline.report import model_table
    from pipeline.score.intervals import score_by_row

    home = Home()
    dataset, root, change = or_last(home, dataset, root, change)
    log = home.log_to_file("rank", home_name(recipe_path(dataset)))
    given = options(
        dataset, root, protocol=protocol, workers=workers, scheduler=scheduler, gpus=gpus, change=change, limit=limit
    )
    session = open_session(home, given)
    ranked = ranking(session, modality, extract=not no_extract)
    corpus = session.corpus
    score = score_by_row(corpus.target)
    rows = [_row(each, score) for each in ranked]
    caption = f"{modality} of {corpus.recipe.name}, {corpus.protocol}, {time.strftime('%Y-%m-%d')}"
    stem = home.reports / f"{corpus.recipe.home_name}-{corpus.protocol}-rank-{modality}"
    paths = model_table.write(rows, caption, stem)
    _show(ranked, score, caption)
    answer = {"rank": rows, "files": [str(path) for path in paths]}
    show_answer(answer, as_json, f"Table: {paths[0]}, and beside it as CSV and LaTeX\nLog: {log}")


def ranking(session: Session, modality: Modality, *, extract: bool) -> list[Ranked]:
    """Every feature set of a modality, the best on validation first.

    Raises InputError for a corpus without labels, and for features that are missing if `extract` is False.
    """
    from pipeline.score.intervals import score_by_row
    from pipeline.train.rank import best_first, candidates
    from pipeline.train.rank import rank as probed

    if not session.corpus.labels:
        raise InputError("this corpus has no labels to probe features with")
    of_modality = candidates(session, modality, compare)
    if extract:
        extract_shown(of_modality, noted=False)
    else:
        covered(of_modality)
    with console.status("Probing each feature set"):
        found = repaired(of_modality, lambda: list(probed(of_modality)))
    return best_first(found, score_by_row(session.corpus.target))


def _row(ranked: Ranked, score: str) -> dict[str, str]:
    row = {
        "features": ranked.name,
        "dimensions": str(ranked.dim),
        "seconds an utterance": "–" if ranked.seconds is None else f"{ranked.seconds:.4f}",
        "bytes an utterance": "–" if ranked.bytes is None else f"{ranked.bytes:.0f}",
        "test rows": str(ranked.rows),
    }
    known = [name for name, value in ranked.test.items() if value is not None and not name.startswith("majority_")]
    row |= {f"valid {name}": _number(ranked.valid.get(name)) for name in known}
    row |= {f"test {name}": _number(ranked.test[name]) for name in known}
    row[f"test {score}, 95 % over dialogues"] = f"[{ranked.interval.low:.4f}, {ranked.interval.high:.4f}]"
    return row | {f"majority {score}": _number(ranked.test.get(f"majority_{score}"))}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _show(ranked: list[Ranked], score: str, caption: str) -> None:
    shown = table(caption, "features", "dim", "s", "size", f"valid {score}", "test", "95 %")
    for each in ranked:
        numbers = (each.valid.get(score), each.test.get(score))
        low, high = (f"{end:.3f}".removeprefix("0") for end in each.interval[1:])
        took = "–" if each.seconds is None else f"{each.seconds:.2f}"
        takes = "–" if each.bytes is None else size(each.bytes).text
        shown.add_row(escape(each.name), str(each.dim), took, takes, *map(_number, numbers), f"{low}–{high}")
    console.print(shown)
    majority = _number(ranked[0].test.get(f"majority_{score}"))
    print_line(f"The majority gives {majority}. Seconds and size are those of one utterance on one core.")
