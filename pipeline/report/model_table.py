"""`affectory table`: many models on one corpus, by one loop and one rule of selection, each with several seeds.

Scores have intervals: over seeds by Student's t (G16), over dialogues by a bootstrap (X18), paired where two models are
compared on the same rows.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cache.atomic import publish
from pipeline.pages.charts import Chart, Difference, differences
from pipeline.pages.table import Cell, Sheet, render
from pipeline.report.probes_section import score_name
from pipeline.score import metrics, predictions
from pipeline.score.intervals import Interval, Scores, by_row, over_dialogues, over_seeds, score_by_row
from pipeline.stage import Target
from pipeline.train.cost import SIZES

SHOWN = ("accuracy", "f1_weighted", "f1_macro", "uar", "f1", "mae", "corr", "ccc", "acc7", "acc5") + (
    "acc2_non0",
    "f1_non0",
    "acc2_has0",
    "f1_has0",
)
"""The scores that have a column, as far as the task has them."""

CHOSEN_ON_TEST = 2
"""How many of them have a column of the best test epoch too, if test was watched."""
BEST_TEST = "best test epoch's {}, chosen on test as in many papers"

Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """A line of the table: the runs of one model, or of one of its ablations, with a seed each.

    solved: the model is solved for, so that its score is what the others have to beat. cost: see `pipeline.train.cost`.
    claimed: the scores that its paper states for this corpus, "" for none.
    """

    label: str
    answers: Sequence[Answer]
    solved: bool
    cost: Mapping[str, Any]
    claimed: str = ""

    @property
    def target(self) -> Target:
        """What every run predicts."""
        target = self.answers[0]["folds"][0]["target"]
        return Target(target["task"], tuple(target["classes"]))

    def over_seeds(self, part: str, score: str) -> Interval | None:
        """A score on "valid", on "metrics" (test), or of "best_test", the mean over folds of each seed; None if it is
        undefined."""
        by_seed = [[fold.get(part, {}).get(score) for fold in answer["folds"]] for answer in self.answers]
        if any(value is None for values in by_seed for value in values):
            return None
        return over_seeds([float(np.mean(values)) for values in by_seed])

    @cached_property
    def rows(self) -> dict[str, float]:
        """The score of each test utterance of all folds (`by_row`), the mean over seeds."""
        found: dict[str, list[float]] = {}
        for fold in (fold for answer in self.answers for fold in answer["folds"]):
            test = predictions.read(Path(fold["predictions"]), "test")
            for name, score in zip(test.ids, by_row(test.logits, test.labels, self.target), strict=True):
                found.setdefault(name, []).append(float(score))
        return {name: float(np.mean(scores)) for name, scores in found.items()}


@dataclass(frozen=True)
class ModelTable:
    """The entries of a table, and the dialogue of each utterance."""

    entries: Sequence[Entry]
    dialogues: Mapping[str, str]

    @cached_property
    def on_test(self) -> Sequence[str]:
        """The scores that have a column of the best test epoch; none if test was not watched."""
        first = self.entries[0].answers[0]["folds"][0]["metrics"]
        known = [score for score in SHOWN if score in first][:CHOSEN_ON_TEST]
        return [score for score in known if any(entry.over_seeds("best_test", score) for entry in self.entries)]

    @property
    def score(self) -> str:
        """The score that entries are compared by, row by row."""
        return score_by_row(self.entries[0].target)

    @cached_property
    def best_solved(self) -> Entry | None:
        """Of the models that are solved for, the best one on validation."""
        sign = -1 if self.score in metrics.LOWER_IS_BETTER else 1
        solved = [(entry.over_seeds("valid", self.score), entry) for entry in self.entries if entry.solved]
        known = [(sign * valid.mean, entry) for valid, entry in solved if valid is not None]
        return max(known, key=lambda found: found[0])[1] if known else None

    def interval(self, entry: Entry, other: Entry | None = None) -> Interval:
        """The score of an entry over dialogues, or its paired difference from another one on the same rows."""
        names = sorted(entry.rows)
        scores: Scores = np.array([entry.rows[name] - (other.rows[name] if other else 0.0) for name in names])
        return over_dialogues(scores, [self.dialogues[name] for name in names])

    def columns(self) -> list[dict[str, str]]:
        """A row of texts for each entry, by the name of the column."""
        return [self._row(entry) for entry in self.entries]

    def _row(self, entry: Entry) -> dict[str, str]:
        valid = entry.over_seeds("valid", self.score)
        row = {"model": entry.label, "seeds": str(len(entry.answers)), f"valid {self.score}": _plus_minus(valid)}
        first = entry.answers[0]["folds"][0]["metrics"]
        for score in (name for name in SHOWN if name in first):
            row[f"test {score}"] = _plus_minus(entry.over_seeds("metrics", score))
        row[f"{self.score}, 95 % over dialogues"] = _ends(self.interval(entry))
        if self.best_solved is not None:
            less = _between(self.interval(entry, self.best_solved)) if entry is not self.best_solved else "–"
            row[f"less {self.best_solved.label}, paired"] = less
        for score in self.on_test:
            row[BEST_TEST.format(score)] = _plus_minus(entry.over_seeds("best_test", score))
        if any(other.claimed for other in self.entries):
            row["claimed by its paper"] = entry.claimed or "–"
        return row | {f"F1 {name}": text for name, text in _by_class(entry).items()} | _cost(entry.cost)


def page(table: ModelTable, caption: str) -> str:
    """The table as an HTML page: scores with charts, F1 by class, and costs."""
    rows = table.columns()
    groups = {name: [row_of(row, kind) for row in rows] for name, kind in _GROUPS.items()}
    scores = [_chart(table), _sheet("Scores", groups["scores"], _ABOUT), _sheet("F1 by class", groups["classes"])]
    return render(
        __package__,
        "table.html",
        caption=caption,
        when=time.strftime("%Y-%m-%d %H:%M"),
        scores=[part for part in scores if part is not None],
        costs=_sheet("Costs", groups["costs"], "Times are those of one thread or more on a CPU of this machine."),
    )


_ABOUT = (
    "Means over seeds with 95 % t-intervals. Every model reads the same rows, is selected on validation, and is scored "
    "on test once. Differences are paired by row; their intervals draw dialogues."
)
_GROUPS: Mapping[str, Callable[[str], bool]] = {
    "scores": lambda name: not name.startswith("F1 ") and not _is_cost(name),
    "classes": lambda name: name.startswith("F1 "),
    "costs": lambda name: _is_cost(name),
}


def row_of(row: Mapping[str, str], kind: Callable[[str], bool]) -> dict[str, str]:
    """The cells of a row whose columns are of a kind, after the model's name."""
    return {name: text for name, text in row.items() if name == "model" or kind(name)}


def _is_cost(name: str) -> bool:
    return name.startswith(("parameters", "MFLOP", "ms an utterance", "peak MB"))


def _sheet(caption: str, rows: Sequence[Mapping[str, str]], note: str = "") -> Sheet | None:
    if len(rows[0]) < 2:
        return None
    cells = [[Cell(text, number=place > 0) for place, text in enumerate(row.values())] for row in rows]
    return Sheet(caption, list(rows[0]), cells, note)


def _chart(table: ModelTable) -> Chart | None:
    best = table.best_solved
    others = [entry for entry in table.entries if entry is not best]
    if best is None or not others:
        return None
    shown = [Difference(entry.label, *table.interval(entry, best)) for entry in others]
    unit = f"{score_name(table.score)} less that of {best.label}"
    return differences(f"{unit}, on test, with 95 % intervals over dialogues", shown, unit)


def write(rows: Sequence[Mapping[str, str]], caption: str, stem: Path) -> list[Path]:
    """Writes a table, a text for each column of each row, as Markdown, CSV and LaTeX beside each other.

    stem: their path without an ending.
    """
    texts = {"md": _markdown(rows, caption), "csv": _csv(rows), "tex": _latex(rows, caption)}
    paths = {stem.with_name(f"{stem.name}.{ending}"): text for ending, text in texts.items()}
    for path, text in paths.items():
        publish(path, text)
    return list(paths)


# --- cells -----------------------------------------------------------------------------------------------------


def _plus_minus(found: Interval | None) -> str:
    if found is None:
        return "–"
    return f"{found.mean:.4f}" if np.isnan(found.low) else f"{found.mean:.4f} ± {found.high - found.mean:.4f}"


def _ends(found: Interval) -> str:
    return f"[{found.low:.4f}, {found.high:.4f}]"


def _between(found: Interval) -> str:
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def _by_class(entry: Entry) -> dict[str, str]:
    """The F1 of each class or head: the mean over folds and seeds in which it is defined."""
    tests = [fold["metrics"] for answer in entry.answers for fold in answer["folds"]]
    classes = [test.get("classes") or (test.get("heads") if "f1" in test else None) or {} for test in tests]
    found = {}
    for name in classes[0]:
        known = [of[name]["f1"] for of in classes if of[name]["f1"] is not None]
        found[name] = f"{np.mean(known):.4f}" if known else "–"
    return found


def _cost(cost: Mapping[str, Any]) -> dict[str, str]:
    times = {f"ms an utterance, batch {size}": f"{ms:.3f}" for size, ms in cost["ms"].items()}
    memory = {f"peak MB, batch {SIZES[-1]}": f"{cost['peak_mb']:,.2f}"}
    return {"parameters": f"{cost['parameters']:,}", "MFLOP": f"{cost['mflops']:,.2f}"} | times | memory


# --- files -----------------------------------------------------------------------------------------------------


def _markdown(rows: Sequence[Mapping[str, str]], caption: str) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    shown = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "\n".join([caption, "", *(f"| {line} |" for line in shown), ""])


def _csv(rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


_LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "–": "--"} | {mark: f"\\{mark}" for mark in "&%$#_{}"}


def _latex(rows: Sequence[Mapping[str, str]], caption: str) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(_LATEX.get(mark, mark) for mark in cell) for cell in cells) + r" \\"

    body = [line(list(row.values())) for row in rows]
    columns = f"l{'r' * (len(rows[0]) - 1)}"
    head = [f"% {caption}", rf"\begin{{tabular}}{{{columns}}}", r"\hline", line(list(rows[0])), r"\hline"]
    return "\n".join([*head, *body, r"\hline", r"\end{tabular}", ""])
