"""The tables that commands show: what was extracted, what failed, what a plan would do, what the doctor found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from pipeline.corpus.published import Count
from pipeline.reason import Reason
from pipeline.run.outcome import RunCounts

NOT_MEASURED = "not measured here"


def extraction_table(counts: RunCounts) -> Table:
    """Rows by stage: computed, copied from other shards, cached; seconds."""
    table = Table("stage", "computed", "copied", "cached", "seconds", title="Extraction")
    total = counts.total()
    for name in sorted({*total.seconds, *counts.cached}):
        rows = (total.computed[name], total.copied[name], counts.cached.get(name, 0))
        table.add_row(name, *map(str, rows), f"{total.seconds.get(name, 0):.1f}")
    return table


def reason_table(failed: Mapping[str, Counter[str]]) -> Table | None:
    """Utterances without features, by modality and reason; None if every one has them."""
    if not any(failed.values()):
        return None
    table = Table("modality", "reason", "utterances", "", title="Without features")
    for modality, reasons in sorted(failed.items()):
        for reason, count in reasons.most_common():
            note = "will be tried again" if Reason(reason).transient else ""
            table.add_row(modality, reason, str(count), note)
    return table


def count_table(differing: Sequence[Count]) -> Table:
    """Counts that are not as published."""
    table = Table("", "published", "here", "difference", title="This copy differs from the published corpus")
    for count in differing:
        table.add_row(count.name, f"{count.expected:,}", f"{count.found:,}", f"{count.difference:+,}")
    return table


def plan_table(answer: Mapping[str, Any]) -> Table:
    """What a plan would compute, by stage, and why."""
    table = Table("stage", "compute", "copy", "waiting", "cached", "core time", "disk", "because", title="Plan")
    kinds = ("compute", "copy", "waiting", "cached")
    for name in sorted({name for kind in kinds for name in answer[kind]}):
        cost = answer["estimate"].get(name, {})
        seconds, size = cost.get("core_seconds"), cost.get("megabytes")
        figures = [NOT_MEASURED if v is None else f"{v} {unit}" for v, unit in ((seconds, "s"), (size, "MB"))]
        why = escape("\n".join(answer["because"].get(name, [])))
        table.add_row(name, *(str(answer[kind].get(name, 0)) for kind in kinds), *(figures if cost else ["", ""]), why)
    for fit in answer["fits"]:
        table.add_row(fit, "fit", "", "", "", "", "", "")
    for name, size in answer["views"].items():
        table.add_row(f"view {name}", "", "", "", "", "", NOT_MEASURED if size is None else f"{size:.2f} MB", "")
    return table


def doctor_tables(answer: Mapping[str, Any]) -> list[Table]:
    """What the doctor found: what there is, what is wrong, and the worst files if anything is."""
    shown = [_holdings(answer)]
    codes = Table("modality", "split", "code", "utterances", title="Findings")
    for modality, splits in answer["reasons"].items():
        for split, found in splits.items():
            for code, count in found.items():
                codes.add_row(modality, escape(split), code, f"{count:,}")
    worst = Table("file", "code", "utterances", "detail", title="Worst files")
    for entry in answer["worst"]:
        worst.add_row(escape(entry["path"]), entry["code"], f"{entry['utterances']:,}", escape(entry["detail"]))
    return [*shown, *(table for table in (codes, worst) if table.row_count)]


def _holdings(answer: Mapping[str, Any]) -> Table:
    title = f"{escape(answer['dataset'])}: {answer['files']:,} files, {answer['probed']:,} streams examined now"
    table = Table("", "hours", "codecs", "rates (Hz)", "sizes", title=title)
    for kind, hours in answer["hours"].items():
        sizes = answer["sizes"] if kind == "video" else {}
        counts = [_listed(found) for found in (answer["codecs"][kind], answer["rates_hz"][kind], sizes)]
        table.add_row(kind, f"{hours:.2f}", *counts)
    return table


def _listed(counts: Mapping[str, int]) -> str:
    return "\n".join(f"{name}: {count:,}" for name, count in counts.items())


SHOWN = ("accuracy", "f1_weighted", "f1_macro", "uar", "f1", "mae", "corr", "ccc", "acc2_non0", "acc7")


def score_table(answers: Sequence[Mapping[str, Any]]) -> Table:
    """The test scores of trained models over all folds, with the majority's below."""
    pooled = [answer["metrics"]["pooled"] for answer in answers]
    names = [name for name in SHOWN if isinstance(pooled[0].get(name), float)]
    table = Table("model", *names, title="Test")
    for answer, scores in zip(answers, pooled, strict=True):
        table.add_row(answer["model"], *(_figure(scores.get(name)) for name in names))
    table.add_row("majority", *(_figure(pooled[0].get(f"majority_{name}")) for name in names))
    return table


def _figure(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "-"
