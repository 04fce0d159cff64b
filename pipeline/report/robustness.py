"""How a trained model does under the conditions that `affectory evaluate` tried: tables, and curves of its score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.pages.charts import Chart, Points, trends
from pipeline.pages.table import Cell, Sheet
from pipeline.report.models_section import Trained
from pipeline.report.probes_section import HEADLINE, score_name
from pipeline.train.evaluate import FOLDER, read_kept

Entry = Mapping[str, Any]


def robustness(run: Trained) -> Iterator[Sheet | Chart]:
    """For each corpus and part that the run was evaluated on: a table of conditions, then curves if there are any."""
    for path in sorted((run.folder / FOLDER).glob("*.json")):
        kept = read_kept(path)
        entries: Sequence[Entry] = kept.get("conditions", [])
        if len(entries) < 2 and kept.get("own", True):
            continue  # the scores with everything kept are in the tables above
        where = f"{kept['part']} of {kept['dataset']}, {kept['protocol']}"
        yield _sheet(run, entries, where)
        yield from _curves(run, entries, where)


def _sheet(run: Trained, entries: Sequence[Entry], where: str) -> Sheet:
    names = [name for name in HEADLINE[run.target.task] if name in entries[0]["metrics"]["pooled"]]
    (score,) = entries[0]["less"]
    rows = [
        (
            Cell(entry["condition"]),
            entry["rows"],
            *(entry["metrics"]["pooled"][name] for name in names),
            Cell("{:+.3f} [{:+.3f}, {:+.3f}]".format(*entry["less"][score]), number=True),
        )
        for entry in entries
    ]
    header = ("condition", "rows", *map(score_name, names), f"{score_name(score)}, difference from everything kept")
    note = "The 95 % interval of the difference is over dialogues. The model was not trained for these conditions."
    return Sheet.of(f"Under conditions: {where}", header, rows, note)


def _curves(run: Trained, entries: Sequence[Entry], where: str) -> Iterator[Chart]:
    name = HEADLINE[run.target.task][0]
    pooled = entries[0]["metrics"]["pooled"]
    majority, unit = pooled.get(f"majority_{name}"), score_name(name)
    hidden, noisy = _by_share(entries, name), _by_ratio(entries, name)
    if any(len(points) > 2 for points in hidden.values()):
        caption = f"{unit} of {run.name} if a share of the rows lacks a modality: {where}"
        yield trends(caption, hidden, "share of rows without it", unit, majority)
    if any(len(points) > 1 for points in noisy.values()):
        caption = f"{unit} of {run.name} with noise in the sound: {where}"
        yield trends(caption, noisy, "signal-to-noise ratio, dB", unit, majority)


def _by_share(entries: Sequence[Entry], name: str) -> dict[str, Points]:
    """modality -> share of rows without it, and score, from everything kept on."""
    start = [(0.0, _score(entry, name)) for entry in entries if _kept(entry)]
    single = [entry for entry in entries if len(entry["hidden"]) == 1]
    found: dict[str, list[tuple[float, float]]] = {}
    for entry in single:
        [(modality, share)] = entry["hidden"].items()
        found.setdefault(modality, list(start)).append((share, _score(entry, name)))
    return {modality: sorted(points) for modality, points in found.items()}


def _by_ratio(entries: Sequence[Entry], name: str) -> dict[str, Points]:
    """kind of noise -> ratio in dB, and score."""
    found: dict[str, list[tuple[float, float]]] = {}
    for entry in entries:
        if entry["noise_db"] is not None:
            kind = entry["condition"].rpartition(" at ")[0]
            found.setdefault(kind, []).append((entry["noise_db"], _score(entry, name)))
    return {kind: sorted(points) for kind, points in found.items()}


def _kept(entry: Entry) -> bool:
    return not entry["hidden"] and entry["noise_db"] is None


def _score(entry: Entry, name: str) -> float:
    return float(entry["metrics"]["pooled"][name])
