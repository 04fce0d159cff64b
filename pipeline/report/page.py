"""`affectory report`: one HTML file about a corpus, its features and its models, and a short table of scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from pipeline.ask.failures import failures as list_failures
from pipeline.cache.atomic import publish
from pipeline.console import console, table
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.recipe import nodes, random_weights
from pipeline.corpus.same_media import same_media
from pipeline.pages.charts import Chart, Mark, ranking
from pipeline.pages.excerpt import COLUMNS
from pipeline.pages.table import Cell, Sheet, render
from pipeline.plan.remarked import by_stage
from pipeline.plan.session import Session
from pipeline.plan.shortfall import over_limit
from pipeline.report import corpus_section, distributions, model_details, models_section, probes_section
from pipeline.report.ablation_chart import ablation_chart
from pipeline.report.attention_pictures import read_pictures
from pipeline.report.features_section import (
    Extracted,
    costs,
    covered,
    failures,
    fit_curves,
    fits,
    library_versions,
    times,
)
from pipeline.report.guesses import best_models
from pipeline.report.home_index import write_index
from pipeline.report.media_folder import MediaFolder
from pipeline.report.models_section import Trained
from pipeline.report.probes_section import Line, Probe, headline, score_name
from pipeline.report.remarks_section import Remarks
from pipeline.report.robustness import robustness
from pipeline.report.utterances_section import Cards, about
from pipeline.score import metrics
from pipeline.stage import Target

TEMPLATE = "report.html"


def write(session: Session, media_bytes: int | None = None) -> dict[str, Any]:
    """Writes `reports/<dataset>.html` from the stored features and the finished runs, and the index of all reports.

    media_bytes: the most bytes of clips beside the page; None for a page without pictures and clips. Extracts and
    trains nothing. Prints the scores on standard error, and returns the answer as JSON-able data.
    """
    with console.status("Reading the store"):
        extracted = Extracted(session)
        remarks = Remarks(extracted)
    probes = list(_watched(probes_section.probes(session)))
    runs = models_section.trained(session)
    path = session.home.reports / f"{session.corpus.recipe.home_name}.html"
    folder = MediaFolder(path, session.corpus.manifest.root, media_bytes)
    _publish(path, _render(session, extracted, remarks, probes, runs, folder))
    folder.clean()
    write_index(session.home)
    lines = [*(probe.line for probe in probes if probe.folds), *(run.line for run in runs if not run.stale)]
    if lines:
        console.print(_score_table(lines, session.corpus.target))
    return {
        "dataset": session.corpus.recipe.name,
        "report": str(path),
        "incomplete": extracted.incomplete(),
        "warnings": _notices(session, extracted, remarks, probes, runs),
        "remarks": by_stage(remarks.counts),
        "probes": {f"{probe.features}/{probe.modality}": probe.answer() for probe in probes if probe.folds},
        "models": {run.stem: _model(run) for run in runs},
        "bounds": dict(probes_section.bounds(session.corpus, [i for fold in session.corpus.folds for i in fold.test])),
    }


def _watched(probes: Iterator[Probe]) -> Iterator[Probe]:
    with console.status("Probing each modality") as status:
        for probe in probes:
            status.update(f"Probed {escape(probe.name)}")
            yield probe


def _model(run: Trained) -> dict[str, Any]:
    pooled, mean = metrics.scalars(run.pooled), dict(run.line.scores)
    return {"metrics": pooled, "mean": mean, "bound": run.bound, "missed": run.missed, "run": str(run.folder)}


# --- the page --------------------------------------------------------------------------------------------------


def _render(
    session: Session,
    extracted: Extracted,
    remarks: Remarks,
    probes: Sequence[Probe],
    runs: Sequence[Trained],
    folder: MediaFolder,
) -> str:
    corpus = session.corpus
    lines = [*(probe.line for probe in probes if probe.folds), *(run.line for run in runs if not run.stale)]
    return render(
        __package__,
        TEMPLATE,
        dataset=corpus.recipe.name,
        when=time.strftime("%Y-%m-%d %H:%M"),
        root=str(corpus.manifest.root),
        logs=str(session.home.runs / "logs"),
        random=random_weights(nodes(corpus.recipe)),
        incomplete=extracted.incomplete(),
        notices=_notices(session, extracted, remarks, probes, runs),
        facts=corpus_section.facts(corpus, corpus.protocol),
        summary=_summary(lines, corpus.target) if lines else None,
        ranking=_ranking(lines, corpus.target),
        stages=corpus_section.stages(corpus.recipe),
        fine_print=[corpus_section.every_parameter(corpus.recipe), corpus_section.versions(corpus.recipe)],
        features=_features(extracted, remarks, runs),
        fits=fits(extracted),
        fit_curves=fit_curves(extracted),
        probes=probes_section.sheet(probes, corpus.target),
        models=_sections(session, probes, runs),
        moments=COLUMNS,
        **_corpus(corpus),
        **_utterances(session, runs, folder),
    )


def _corpus(corpus: Corpus) -> dict[str, Any]:
    """What the page shows of the rows: their folds, labels and lengths."""
    labels, label_chart = corpus_section.labels(corpus)
    lengths, length_charts = corpus_section.lengths(corpus)
    notes = corpus_section.notes_sheet(corpus.manifest.rows)
    sheets = (corpus_section.folds(corpus), label_chart, labels, corpus_section.expected(corpus), lengths, notes)
    return {"corpus": _present(*sheets), "length_charts": length_charts}


def _utterances(session: Session, runs: Sequence[Trained], folder: MediaFolder) -> dict[str, Any]:
    """What the page shows of single utterances, and of what is unusual among them."""
    spread, failed = list(distributions.distributions(session)), list_failures(session)
    models = best_models(runs, session.corpus.protocol)
    return {
        "distributions": _present(distributions.sheet(spread), *distributions.charts(spread, session.corpus)),
        "failures": failures(failed),
        "shelves": Cards(session, models, spread, failed).shelves(folder),
        "about_media": about(folder, models, session.corpus.recipe.reader.licence),
    }


def _sections(session: Session, probes: Sequence[Probe], runs: Sequence[Trained]) -> list[dict[str, Any]]:
    dialogues = {row.id: row.dialogue for row in session.corpus.manifest.rows}
    return [
        _section(run, runs, _comparable(session, run, probes), dialogues)
        | {"pictures": read_pictures(run.folder, session.home.reports)}
        for run in runs
    ]


def _features(extracted: Extracted, remarks: Remarks, runs: Sequence[Trained]) -> list[Sheet | Chart]:
    sheets = (model_details.cropped(runs), costs(extracted), times(extracted), library_versions(extracted))
    return _present(covered(extracted), *remarks.sheets(), *sheets)


def _present(*parts: Sheet | Chart | None) -> list[Sheet | Chart]:
    return [part for part in parts if part is not None]


def _comparable(session: Session, run: Trained, probes: Sequence[Probe]) -> Sequence[Probe]:
    """The probes if the run has their protocol, folds and features, else none: protocols are never compared (H2)."""
    return probes if run.answer["protocol"] == session.corpus.protocol and not run.stale else ()


def _section(
    run: Trained, runs: Sequence[Trained], probes: Sequence[Probe], dialogues: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "name": run.name,
        "pooled": len(run.folds) > 1,
        "folds": len(run.folds),
        "bound": run.bound,
        "missed": run.missed,
        "facts": models_section.facts(run),
        "scores": models_section.scores(run, probes),
        "details": model_details.details(run),
        "charts": _present(
            model_details.loss_curves(run),
            model_details.calibration_curve(run),
            ablation_chart(run, runs, dialogues),
        ),
        "robustness": list(robustness(run)),
    }


def _notices(
    session: Session, extracted: Extracted, remarks: Remarks, probes: Sequence[Probe], runs: Sequence[Trained]
) -> list[str]:
    recipe = session.corpus.recipe
    shares = over_limit(session.corpus, extracted.reasons)
    failed = [
        f"{share:.1%} of {name} failed, more than max_failed = {recipe.max_failed:.0%}."
        for name, share in shares.items()
    ]
    same = [f"{found.line}." for found in same_media(session.corpus)]
    doubts = [*same, *remarks.notices()]
    models = [notice for run in runs for notice in models_section.notices(run, _comparable(session, run, probes))]
    return [*failed, *doubts, *probes_section.warnings(probes, recipe.crossfit), *models]


def _publish(path: Path, page: str) -> None:
    """Writes the page. Bytes of file names that are not text are shown with backslashes."""
    publish(path, page, errors="backslashreplace")


# --- the summary of scores -------------------------------------------------------------------------------------


def _columns(lines: Sequence[Line], target: Target) -> dict[str, Callable[[Line], float | None]]:
    first, second = headline(target, lines)
    return {
        score_name(first): lambda line: line.scores.get(first),
        score_name(second): lambda line: line.scores.get(second),
        "Majority": lambda line: line.majority.get(f"majority_{first}"),
        "Known bound": lambda line: line.bound,
        "Missed by": lambda line: line.missed,
    }


def _summary(lines: Sequence[Line], target: Target) -> Sheet:
    columns = _columns(lines, target)
    rows = [(Cell(line.name), *(get(line) for get in columns.values())) for line in lines]
    note = (
        "On the test rows, means over folds. A probe is a linear model on one modality, scored on the rows that have "
        "it. The majority always gives the most frequent train label, or the train median."
    )
    return Sheet.of("Summary of scores", ("", *columns), rows, note)


def _ranking(lines: Sequence[Line], target: Target) -> Chart | None:
    first, _ = headline(target, lines)
    marks = [
        Mark(line.name, score, line.majority.get(f"majority_{first}"), line.bound)
        for line in lines
        if (score := line.scores.get(first)) is not None
    ]
    name = score_name(first)
    return ranking(f"{name} on test: first the probes, then the models", marks, name) if marks else None


def _score_table(lines: Sequence[Line], target: Target) -> Table:
    columns = _columns(lines, target)
    shown = table("Test, means over folds", "modality or model", *columns)
    for line in lines:
        values = [get(line) for get in columns.values()]
        shown.add_row(escape(line.name), *("-" if value is None else f"{value:.4f}" for value in values))
    return shown
