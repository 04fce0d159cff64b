"""The tables that commands show: extracted rows, failures, a plan, the doctor's findings, scores, a remote, labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.console import table
from pipeline.corpus.published import Count
from pipeline.pages.table import size
from pipeline.reason import Reason
from pipeline.run.outcome import RunCounts


def extraction_table(counts: RunCounts) -> Table:
    """Rows by stage: computed, copied from other shards, cached; seconds."""
    shown = table("Extraction", "stage", "computed", "copied", "cached", "seconds")
    total = counts.total()
    for name in sorted({*total.seconds, *counts.cached}):
        rows = (total.computed[name], total.copied[name], counts.cached.get(name, 0))
        shown.add_row(name, *(f"{count:,}" for count in rows), f"{total.seconds.get(name, 0):,.1f}")
    return shown


def reason_table(failed: Mapping[str, Counter[str]]) -> Table | None:
    """Utterances without features, by modality and reason; None if every utterance has them."""
    if not any(failed.values()):
        return None
    shown = Table("modality", "reason", "utterances", "", title="Without features")
    for modality, reasons in sorted(failed.items()):
        for reason, count in reasons.most_common():
            note = "will be tried again" if Reason(reason).transient else ""
            shown.add_row(modality, reason, f"{count:,}", note)
    return shown


def count_table(differing: Sequence[Count]) -> Table:
    """The counts of this copy that are not as published."""
    shown = table("This copy differs from the published corpus", "", "published", "here", "difference")
    for count in differing:
        shown.add_row(escape(count.name), f"{count.expected:,}", f"{count.found:,}", f"{count.difference:+,}")
    return shown


# --- plan ------------------------------------------------------------------------------------------------------

PLANNED = ("compute", "copy", "waiting", "cached")


def plan_tables(answer: Mapping[str, Any]) -> Iterator[Table | Text]:
    """The answer of `plan` in tables that fit 80 columns, and lines for what has no number.

    The stages with rows, core time and disk; why they have something to compute; the fits that can run now; the views.
    """
    yield _stages(answer)
    if unmeasured := [name for name, cost in answer["estimate"].items() if None in cost.values()]:
        yield Text(f"Not measured here, so not estimated: {', '.join(sorted(unmeasured))}.")
    if answer["because"]:
        yield _reasons(answer["because"])
    if answer["fits"]:
        yield Text(f"Fits that can run now: {', '.join(answer['fits'])}.")
    yield from _views(answer["views"])
    if absent := answer["weights"]["absent"]:
        yield Text(f"Weights that are pinned and not here: {', '.join(absent)}. `make weights` fetches them.")
    if unpinned := answer["weights"]["unpinned"]:
        yield Text(f"Weights that a stage fetches when it loads: {', '.join(unpinned)}. `make weights` pins them.")


def _stages(answer: Mapping[str, Any]) -> Table:
    shown = table("Plan, in rows", "stage", *PLANNED, "core time", "disk")
    for name in sorted({name for kind in PLANNED for name in answer[kind]}):
        cost = answer["estimate"].get(name, {})
        seconds, megabytes = cost.get("core_seconds"), cost.get("megabytes")
        rows = (f"{answer[kind].get(name, 0):,}" for kind in PLANNED)
        disk = "" if megabytes is None else size(megabytes * 1e6).text
        shown.add_row(escape(name), *rows, "" if seconds is None else duration(seconds), disk)
    return shown


def _reasons(because: Mapping[str, Sequence[str]]) -> Table:
    shown = table("Why", "stage")
    shown.add_column("because", overflow="fold")
    for name, lines in sorted(because.items()):
        shown.add_row(escape(name), escape("\n".join(lines)))
    return shown


def _views(sizes: Mapping[str, float | None]) -> Iterator[Table | Text]:
    known = {name: megabytes for name, megabytes in sizes.items() if megabytes is not None}
    shown = table("Views to build", "view", "disk")
    for name, megabytes in known.items():
        shown.add_row(escape(name), size(megabytes * 1e6).text)
    if known:
        yield shown
    if unknown := [name for name in sizes if name not in known]:
        yield Text(f"Views whose size is not known before extraction: {', '.join(unknown)}.")


def duration(seconds: float) -> str:
    """Seconds as people read them, in the largest unit of which there is at least one."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.1f} s"


# --- doctor ----------------------------------------------------------------------------------------------------


def doctor_tables(answer: Mapping[str, Any]) -> list[Table]:
    """The doctor's summary: the media there are, and if anything is wrong, the findings and the worst files."""
    codes = Table("modality", "split", "code", "utterances", title="Findings")
    for modality, splits in answer["reasons"].items():
        for split, counts in splits.items():
            for code, count in counts.items():
                codes.add_row(modality, escape(split), code, f"{count:,}")
    worst = Table("file", "code", "utterances", "detail", title="Worst files")
    for entry in answer["worst"]:
        worst.add_row(escape(entry["path"]), entry["code"], f"{entry['utterances']:,}", escape(entry["detail"]))
    return [_media(answer), *(shown for shown in (codes, worst) if shown.row_count)]


def _media(answer: Mapping[str, Any]) -> Table:
    title = f"{escape(answer['dataset'])}: {answer['files']:,} files, {answer['probed']:,} streams examined now"
    shown = Table("", "hours", "codecs", "decoders", "rates (Hz)", "sizes", title=title)
    for kind, hours in answer["hours"].items():
        decoders, sizes = (answer[name] if kind == "video" else {} for name in ("decoders", "sizes"))
        counts = (answer["codecs"][kind], decoders, answer["rates_hz"][kind], sizes)
        shown.add_row(kind, f"{hours:.2f}", *map(_lines, counts))
    return shown


def _lines(counts: Mapping[str, int]) -> str:
    return "\n".join(f"{name}: {count:,}" for name, count in counts.items())


# --- list ------------------------------------------------------------------------------------------------------


def remote_tables(answer: Mapping[str, Any]) -> Iterator[Table]:
    """The answer of `list`: releases, datasets with their manifests, and stages with their fits."""
    releases = table("Releases", "release", "dataset", "date", "rows", "stages", "size")
    for entry in answer["releases"]:
        rows, stages = f"{entry['rows']:,}", f"{entry['stages']:,}"
        releases.add_row(entry["release"], entry["dataset"], entry["date"], rows, stages, size(entry["bytes"]).text)
    datasets = table("Datasets", "dataset", "rows", "manifests", "size")
    for entry in answer["datasets"]:
        rows, manifests = f"{entry['rows']:,}", f"{entry['manifests']:,}"
        datasets.add_row(escape(entry["dataset"]), rows, manifests, size(entry["bytes"]).text)
    kept = table("Stages", "stage", "rows", "objects", "size")
    for entry in answer["stages"]:
        name = f"{entry['stage']} {entry['digest'][:6]}{' (fits)' if entry['fits'] else ''}"
        rows = "" if entry["fits"] else f"{entry['rows']:,}"
        kept.add_row(escape(name), rows, f"{entry['objects']:,}", size(entry["bytes"]).text)
    yield from (filled for filled in (releases, datasets, kept) if filled.row_count)


# --- train -----------------------------------------------------------------------------------------------------

SCORES = ("accuracy", "f1_weighted", "f1_macro", "uar", "f1", "mae", "corr", "ccc", "acc2_non0", "acc7")


def score_tables(answers: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The scores of trained models on validation, then on test, with those of the majority once.

    Scores are means over folds; rows are counted over all of them.
    """
    return [_part_table(answers, "Validation", "valid", "valid"), _part_table(answers, "Test", "metrics", "test")]


def _part_table(answers: Sequence[Mapping[str, Any]], title: str, scores: str, part: str) -> Table:
    folds = [[fold[scores] for fold in answer["folds"]] for answer in answers]
    names = [name for name in SCORES if isinstance(folds[0][0].get(name), float)]
    rows = sum(fold["counts"][part] for fold in answers[0]["folds"])
    several = f", means over {len(folds[0])} folds" if len(folds[0]) > 1 else ""
    shown = table(f"{title}, {rows:,} rows{several}", "model", *names)
    for answer, of_model in zip(answers, folds, strict=True):
        shown.add_row(escape(answer["name"]), *(_score(_mean(of_model, name)) for name in names))
    if all(answer["model"] != "majority" for answer in answers):
        shown.add_row("majority", *(_score(_mean(folds[0], f"majority_{name}")) for name in names))
    return shown


def _mean(folds: Sequence[Mapping[str, Any]], name: str) -> float | None:
    known = [fold[name] for fold in folds if fold.get(name) is not None]
    return sum(known) / len(known) if known else None


def _score(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "-"


# --- predict ---------------------------------------------------------------------------------------------------

MOST_PREDICTIONS = 40
"""How many utterances a terminal shows; the file has all."""


def prediction_table(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> Table:
    """The first predictions: clip and stretch, the label with its probability or the numbers, text, reason.

    names: class or number -> its column in `rows`.
    """
    left = f", the first {MOST_PREDICTIONS} of {len(rows):,}" if len(rows) > MOST_PREDICTIONS else ""
    shown = Table("utterance", "prediction", "text", title=f"Predictions{left}", box=SIMPLE)
    for row in rows[:MOST_PREDICTIONS]:
        text = " ".join(filter(None, (row["text"], f"({row['reason']})" if row["reason"] else "")))
        shown.add_row(escape(f"{row['clip']} {_stretch(row)}"), escape(_prediction(row, names)), escape(text))
    return shown


def _stretch(row: Mapping[str, Any]) -> str:
    return "" if row["start_s"] is None else f"{row['start_s']:.1f}-{row['end_s']:.1f} s"


def _prediction(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    known = {name: row[column] for name, column in names.items() if row[column] is not None}
    if not known:
        return "none"
    if row.get("label") in known:
        return f"{row['label']} {known[row['label']]:.2f}"
    return ", ".join(f"{name} {value:.2f}" for name, value in known.items())
