"""`affectory table`: what is missing is trained, what is there is not, and each number stands where it belongs."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.report import model_table
from pipeline.report.model_table import Entry, ModelTable
from pipeline.score import predictions
from pipeline.train import cost, train_models
from tests.pipeline.cli.test_commands import affectory, options  # noqa: F401 - a fixture
from tests.small import RECIPE, Small

RENAMED = RECIPE.replace("[features.sound]", "[features.mulg]").replace("[features.pitch]", "[features.hjcag]")
SETTINGS = "[train.gmu]\nepochs = 1\nhidden = 4\n[train.mulg]\nepochs = 1\nwidth = 4\nhidden = 4\n"
PARTS = ("--models", "majority late_fusion gmu", "--seeds", "2")


@pytest.fixture
def small_table(extracted: Small) -> Small:
    extracted.recipe = RENAMED + SETTINGS
    extracted.path.write_text(extracted.recipe)
    return extracted


def trained_when(small: Small) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (small.home / "runs").rglob("result.json")}


def test_it_trains_each_model_with_each_seed_once_and_writes_three_files(small_table, affectory):  # noqa: F811
    code, out, err = affectory("table", *options(small_table, *PARTS, "--workers", "0", "--json"))
    assert code == 0, err
    answer = json.loads(out)
    assert [(row["model"], row["seeds"]) for row in answer["table"]] == [
        ("majority", "1"),
        ("late_fusion", "1"),
        ("gmu", "2"),
    ]
    assert [Path(path).suffix for path in answer["files"]] == [".md", ".csv", ".tex", ".html"]
    assert "gmu" in Path(answer["files"][3]).read_text()
    with Path(answer["files"][1]).open(newline="") as file:
        assert [row["model"] for row in csv.DictReader(file)] == ["majority", "late_fusion", "gmu"]
    before = trained_when(small_table)
    assert len(before) == 4
    again = affectory("table", *options(small_table, *PARTS, "--workers", "0", "--json"))
    scores = [[row["test accuracy"] for row in rows] for rows in (answer["table"], json.loads(again[1])["table"])]
    assert scores[0] == scores[1] and trained_when(small_table) == before


def test_an_ablation_has_a_line_of_its_own_and_does_not_pass_for_its_model(small_table, affectory):  # noqa: F811
    given = ("--models", "mulg", "--seeds", "1", "--ablations", "--workers", "0", "--json")
    code, out, err = affectory("table", *options(small_table, *given))
    assert code == 0, err
    labels = [row["model"] for row in json.loads(out)["table"]]
    assert labels[:3] == ["mulg", "mulg, w/o cross-modal attention", "mulg, self-attention"]
    kept = [
        json.loads(path.read_text())["name"] for path in (small_table.home / "runs" / small_table.name).glob("*.json")
    ]
    assert {"mulg", 'mulg (pairs="none")', 'mulg (pairs="self")'} <= set(kept)


def test_an_unknown_model_is_refused_before_anything_is_extracted(small_table, affectory):  # noqa: F811
    code, _, err = affectory("table", *options(small_table, "--models", "gmuu"))
    assert code == 2 and "no 'gmuu' in models/: did you mean gmu" in err


def test_a_model_that_cannot_learn_the_labels_is_refused_before_extraction_and_is_not_among_all(
    small_table: Small,
) -> None:
    session = small_table.session()
    with pytest.raises(InputError, match="self_mm can't learn the labels of this corpus, a multiclass of 6"):
        train_models.check(session, ["gmu", "self_mm"])
    train_models.check(session, ["gmu"])


# --- numbers ---------------------------------------------------------------------------------------------------

TWO = {"task": "multiclass", "classes": ["a", "b"]}
COST = {"parameters": 10, "mflops": 1.0, "ms": {1: 0.5, 64: 0.1}, "peak_mb": 2.5}


def entry(folder: Path, label: str, right: list[list[int]], valid: float, solved: bool = False) -> Entry:
    """Runs of a seed each, that are right in these test rows."""
    answers = []
    for seed, rows in enumerate(right):
        path = folder / f"{label}-{seed}.parquet"
        logits = np.eye(2)[[int(hit) for hit in rows]]
        test = predictions.Predictions([f"u{i}" for i in range(len(rows))], logits, [1] * len(rows), {})
        predictions.write(path, "one", model_table.Target("multiclass", ("a", "b")), {"test": test})
        scores = {"accuracy": float(np.mean(rows)), "classes": {"a": {"f1": None}, "b": {"f1": 0.5}}}
        fold = {"target": TWO, "metrics": scores, "valid": {"accuracy": valid}, "predictions": str(path)}
        answers.append({"folds": [fold]})
    return Entry(label, answers, solved, COST)


def test_models_are_compared_row_by_row_with_the_solved_one_that_is_best_on_validation(tmp_path: Path) -> None:
    base = entry(tmp_path, "base", [[1, 1, 0, 0]], valid=0.9, solved=True)
    lucky = entry(tmp_path, "lucky", [[1, 1, 1, 1]], valid=0.1, solved=True)  # on test alone
    model = entry(tmp_path, "model", [[1, 1, 1, 0], [1, 1, 0, 0]], valid=0.5)
    table = ModelTable([base, lucky, model], {f"u{i}": f"d{i}" for i in range(4)})
    assert table.best_solved is base
    assert table.interval(model, base).mean == pytest.approx(0.125)  # of one row in one of two seeds
    row = table.columns()[2]
    assert (
        row["test accuracy"].startswith("0.6250 ± ") and row["seeds"] == "2" and row["valid accuracy"][:6] == "0.5000"
    )
    assert row["less base, paired"].startswith("+0.1250 [") and table.columns()[0]["less base, paired"] == "–"
    assert (row["F1 a"], row["F1 b"], row["parameters"]) == ("–", "0.5000", "10")


def test_what_a_paper_claims_has_a_column_of_its_own_and_only_if_some_model_of_the_table_has_a_claim(
    tmp_path: Path,
) -> None:
    plain, other = (entry(tmp_path, label, [[1, 0]], valid=0.5) for label in ("plain", "other"))
    bold = replace(other, claimed="accuracy .99")
    dialogues = {"u0": "d", "u1": "e"}
    assert [row["claimed by its paper"] for row in ModelTable([plain, bold], dialogues).columns()] == [
        "–",
        "accuracy .99",
    ]
    assert "claimed by its paper" not in ModelTable([plain, other], dialogues).columns()[0]


def test_the_best_test_epoch_has_columns_that_say_so_and_only_if_test_was_watched(tmp_path: Path) -> None:
    plain, other = (entry(tmp_path, label, [[1, 0]], valid=0.5) for label in ("plain", "other"))
    other.answers[0]["folds"][0]["best_test"] = {"accuracy": 1.0}
    column = "best test epoch's accuracy, chosen on test as in many papers"
    table = ModelTable([plain, other], {"u0": "d", "u1": "e"})
    assert [row[column] for row in table.columns()] == ["–", "1.0000"]
    assert [row["test accuracy"] for row in table.columns()] == ["0.5000", "0.5000"]
    assert not any("best test" in name for name in ModelTable([plain], {"u0": "d", "u1": "e"}).columns()[0])


def test_the_page_draws_differences_and_keeps_costs_apart_and_no_name_runs_as_code(tmp_path: Path) -> None:
    base = entry(tmp_path, "base", [[1, 1, 0, 0]], valid=0.9, solved=True)
    model = entry(tmp_path, "<b>model", [[1, 1, 1, 0]], valid=0.5)
    html = model_table.page(ModelTable([base, model], {f"u{i}": f"d{i}" for i in range(4)}), "on <i>")
    scores, costs = html.split('<section id="costs">')
    assert "+0.2500 [" in scores and "2.50" not in scores and "2.50" in costs and "<svg" in scores
    assert "<b>" not in html and "<i>" not in html and "&lt;b&gt;model" in html


def test_the_peak_of_memory_is_that_of_the_tensors_that_live_at_once() -> None:
    class Wide(torch.nn.Module):
        def predict(self, batch: torch.Tensor) -> torch.Tensor:
            for _ in range(3):
                batch = (batch.repeat(1, 10) + 1)[:, :100].clone()  # 4 kB, then 40 kB twice, and 4 kB again
            return batch

    assert cost._peak_bytes(Wide(), torch.zeros(10, 100)) == 80_000 + 4_000  # type: ignore[arg-type]


def test_marks_that_latex_or_markdown_read_are_escaped(tmp_path: Path) -> None:
    table = ModelTable([entry(tmp_path, "a_b & c|d", [[1, 0]], valid=0.5)], {"u0": "d", "u1": "e"})
    markdown, _, latex = (path.read_text() for path in model_table.write(table.columns(), "caption", tmp_path / "t"))
    assert r"a_b & c\|d" in markdown and r"a\_b \& c|d" in latex and r"95 \% over dialogues" in latex
