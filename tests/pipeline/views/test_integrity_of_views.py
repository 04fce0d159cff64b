"""A model trains on the bytes that were written: a damaged column is set aside and built again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.cli import keep
from pipeline.errors import InputError
from pipeline.views import integrity
from pipeline.views.view import Column
from tests.pipeline.views.test_build_view import view


def noise(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.fixture
def column(extracted) -> Path:
    """The folder of a column that was built; whatever happens to it next, happens to a process that has not read it."""
    path = view(extracted, "sound")["audio"]
    integrity._sound.clear()
    return path


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize("name", ["values.npy", "mask.npy", "steps.npy", "column.json", "digests.json"])
@pytest.mark.parametrize("harm", [noise, cut, Path.unlink])
def test_a_damaged_column_is_set_aside_and_built_again_and_no_model_trains_on_it(extracted, column, name, harm, caplog):
    whole = contents(column)
    harm(column / name)
    if name != "digests.json":
        with pytest.raises(InputError):
            Column.open(column)
    assert view(extracted, "sound")["audio"] == column and contents(column) == whole
    lost_note_alone = (name, harm) == ("digests.json", Path.unlink)
    assert ("it is set aside and built again" in caplog.text) != lost_note_alone
    assert len(list(column.parent.glob(f".damaged-{column.name}-*"))) == (not lost_note_alone)


def test_a_column_of_a_version_without_digests_is_used_as_it_is_and_gets_them(extracted, column):
    (column / integrity.DIGESTS).unlink()
    before = {file.name: file.stat().st_ino for file in column.iterdir()}
    assert view(extracted, "sound")["audio"] == column
    after = {file.name: file.stat().st_ino for file in column.iterdir()}
    assert after.pop(integrity.DIGESTS) and after == before
    integrity._sound.clear()
    noise(column / "values.npy")
    assert "values.npy has other bytes" in integrity.damage(column)


def test_a_column_is_read_for_its_digests_once_in_a_process(column, monkeypatch):
    assert integrity.damage(column) == ""
    monkeypatch.setattr(integrity, "_digests", None)
    assert integrity.damage(column) == ""


def test_verify_reads_columns_too_and_ends_with_2(extracted, column, monkeypatch, capsys):
    noise(column / "values.npy")
    monkeypatch.setenv("AFFECTORY_HOME", str(extracted.home))
    with pytest.raises(keep.typer.Exit) as end:
        keep.verify(as_json=True)
    [damaged] = json.loads(capsys.readouterr().out)["views"]["damaged"]
    assert end.value.exit_code == 2 and damaged["place"] == f"views/{column.name}"
    assert not column.exists()
    keep.verify(as_json=True)
