"""The report and the table of models in a browser: at the width of a telephone and of a screen all can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.report import model_table
from tests.chromium import chromium, faults
from tests.pages import Page, guess, write
from tests.pipeline.cli.test_compare import entry
from tests.small import Small


def test_the_report_and_the_table_of_models_can_be_read(
    known: Small, written: tuple[dict[str, Any], Page], tmp_path: Path
) -> None:
    guess(known, "idle")
    made, _ = write(known, media_bytes=10**6)
    base = entry(tmp_path, "base", [[1, 1, 0, 0]], valid=0.9, solved=True)
    model = entry(tmp_path, "a model with a long name (gated=false, layers=4)", [[1, 1, 1, 0]], valid=0.5)
    table = model_table.ModelTable([base, model], {f"u{i}": f"d{i}" for i in range(4)})
    (tmp_path / "table.html").write_text(model_table.page(table, "Models of a corpus"))
    with chromium() as browser:
        for page in (Path(made["report"]), tmp_path / "table.html"):
            assert faults(browser, page) == []
