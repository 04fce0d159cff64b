"""Exit code 1 is for bugs: no command has it, and none shows a traceback, whatever it is given."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline import interruption
from pipeline.cli import main
from tests.small import RECIPE
from tests.stranger import Ended, affectory

COMMANDS = typer.main.get_command(main.app).commands  # type: ignore[attr-defined]
TABLE = """
[dataset]
reader = "table"
labels = "label"
[features.pitch]
audio = { stage = "audio_opensmile", align = { mode = "broadcast", length = 2 } }
"""
LINES = {
    "rubbish": "utterance,audio,label\na,rubbish.wav,1\n-d,empty.wav,2\n[/x],folder,1\n\x1b[31me,pipe,2\nf,nowhere,1\n",
    "no-table": "\0\0\0",
}
RECIPES = {
    "empty.toml": "",
    "zeros.toml": "\0",
    "deep.toml": f"a = {'[' * 5000}",
    "mixed.toml": "[dataset]\nreader = 3\n[features]\na = 1\n[features.b]\ntext = 2\n[train.hjcag]\nepochs = []\n",
    "root.toml": RECIPE.replace("[dataset]", '[dataset]\nroot = "a\\u0000b"'),
    "user.toml": RECIPE.replace("[dataset]", '[dataset]\nroot = "~nobody/corpus"'),
    "[b]/x.toml": RECIPE,
    f"{'long' * 60}.toml": RECIPE,
    "\udcff.toml": RECIPE,
    "broken.json": '{"a":',
    "-d.toml": RECIPE,
}
TEXTS = [
    "",
    "../../x",
    "[/x]",
    "a\nb",
    "\x1b[31m",
    "x" * 300,
    "\udcff",
    "~nobody/x.toml",
    "/dev/zero",
    "nobody",
    "http://[",
]
NUMBERS = ["nan", "-1", "inf", "1e400", "", "x", "99999999999999999999"]
WORDS = {"why": ["u", "audio_mfcc"], "explain": ["abcdef"], "init-table": ["x"], "release": ["a", "1"]}
QUICK = {"plan", "explain", "locks"}
RESULTS = "runs/logs cache/partial cache/actions cache/objects cache/pins views doctor history reports releases locks"


class Odd:
    """A folder of odd files, and a home; `bugs` are the command lines that ended as bugs do."""

    def __init__(self, place: Path, corpus: Path) -> None:
        self.place, self.corpus, self.bugs = place, corpus, list[str]()
        for name, text in RECIPES.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(text)
        (place / "good.toml").write_text(RECIPE)
        (place / "table.toml").write_text(TABLE)
        (place / "folder.toml").mkdir()
        (place / "ring.toml").symlink_to("ring.toml")
        os.mkfifo(place / "pipe.toml")
        os.mkfifo(place / "pipe.json")
        for name, table in LINES.items():
            (place / name).mkdir()
            (place / name / "utterances.csv").write_text(table)
        (place / "rubbish" / "rubbish.wav").write_bytes(b"RIFFrubbish")
        (place / "rubbish" / "empty.wav").write_bytes(b"")
        (place / "rubbish" / "folder").mkdir()
        (place / "rubbish" / "nowhere").symlink_to("/nowhere")
        os.mkfifo(place / "rubbish" / "pipe")

    def names(self) -> list[str]:
        """What may be given in place of a dataset, a file or a folder."""
        made = [*RECIPES, "folder.toml", "ring.toml", "pipe.toml", "pipe.json", "missing.toml", "rubbish", "no-table"]
        return [*TEXTS, *(str(self.place / name) for name in made)]

    def run(self, *line: str) -> Ended:
        ended = affectory(line)
        if ended.code == 1 or "Traceback" in ended.err:
            self.bugs.append(f"{line}: {ended.err[-500:]}")
        return ended

    def about(self, command: str, dataset: str, root: str) -> None:
        """Runs a command on a dataset; quickly, as far as it can be told so."""
        given = {
            "why": ["u", "audio_mfcc"],
            "explain": [dataset],
            "init-table": [dataset],
            "release": ["a", "1.0"],
            "train": ["--model", "hjcag", "--workers", "0"],
            "extract": ["--workers", "0"],
            "doctor": ["--workers", "1"],
            "push": ["--remote", f"file://{self.place}/remote"],
            "pull": ["--remote", f"file://{self.place}/remote"],
            "list": ["--remote", dataset],
            "verify": ["--remote", dataset],
            "gc": ["--remote", dataset],
        }
        known = {parameter.name for parameter in COMMANDS[command].params}
        line = [command, *given.get(command, [])]
        line += ["--dataset", dataset] if "dataset" in known else []
        self.run(*line, *(["--root", root] if "root" in known else []))


@pytest.fixture
def odd(tmp_path, demo_root, monkeypatch) -> Iterator[Odd]:
    monkeypatch.setenv("AFFECTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(interruption, "listen", lambda: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd").mkdir()
    made = Odd(tmp_path / "odd", demo_root)
    yield made
    assert made.bugs == []


def some(every: Collection[str]) -> list[Any]:
    """All of them; but for a few that are quick, only in the slow tests."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in sorted(every)]


@pytest.mark.parametrize("command", some(COMMANDS))
def test_an_odd_name_in_place_of_a_dataset_is_no_bug(odd, command):
    for name in odd.names():
        if not (command in ("extract", "train", "report") and name.endswith((f"{'long' * 60}.toml", "x.toml"))):
            odd.about(command, name, str(odd.place / "rubbish"))


@pytest.mark.parametrize("command", some({"plan", "status", "errors", "why", "doctor", "report", "extract", "push"}))
def test_a_corpus_of_rubbish_is_no_bug(odd, command):
    for root in ("rubbish", "no-table", "nowhere", "rubbish/pipe", "rubbish/empty.wav"):
        odd.about(command, str(odd.place / "table.toml"), str(odd.place / root))
    for text in TEXTS:
        odd.run("plan", "--dataset", str(odd.place / "table.toml"), "--root", text)


@pytest.mark.parametrize("name", some(RESULTS.split()))
def test_a_home_with_a_file_a_pipe_or_a_ring_in_place_of_a_folder_is_no_bug(odd, name):
    place = odd.place.parent / "home" / name
    place.parent.mkdir(parents=True)
    makes = (lambda: place.write_text("x"), lambda: os.mkfifo(place), lambda: place.symlink_to(place.name))
    for make in makes:
        make()
        for command in sorted({*COMMANDS} - {"fetch", "weights", "init-table", "list"}):
            odd.about(command, str(odd.place / "table.toml"), str(odd.place / "rubbish"))
        place.unlink()


@pytest.mark.slow
def test_a_home_that_is_no_folder_is_no_bug(odd, monkeypatch):
    for name in ("ring.toml", "pipe.toml", "good.toml", "[/x]/[b]", "x" * 300, "\udcff"):
        monkeypatch.setenv("AFFECTORY_HOME", str(odd.place / name))
        for command in sorted({*COMMANDS} - {"fetch", "weights", "init-table"}):
            odd.about(command, str(odd.place / "table.toml"), str(odd.place / "rubbish"))


@pytest.mark.slow
def test_damaged_files_of_the_home_are_no_bug(odd):
    given = ("--dataset", str(odd.place / "good.toml"), "--root", str(odd.corpus), "--features", "pitch")
    assert odd.run("extract", *given, "--workers", "0").code == 0
    home = odd.place.parent / "home"
    found = (
        path for path in sorted(home.rglob("*")) if path.suffix in (".json", ".sqlite", ".txt", "") and path.is_file()
    )
    kept = {(path.suffix, path.relative_to(home).parts[:2]): path for path in found}
    assert len(kept) >= 4
    for path in kept.values():
        whole = path.read_bytes()
        for damaged in (b"", b"\0" * 40, b"[1]", b'{"a": 1}', whole[: len(whole) // 2]):
            path.unlink(missing_ok=True)
            path.write_bytes(damaged)
            odd.run("status", *given)
            for command in ("plan", "gc", "verify"):
                odd.run(command)
        path.unlink(missing_ok=True)
        path.write_bytes(whole)


@pytest.mark.parametrize("command", some(COMMANDS))
def test_an_odd_value_of_any_option_is_no_bug(odd, command):
    dataset = ["--dataset", str(odd.place / "table.toml"), "--root", str(odd.place / "rubbish")]
    for parameter in COMMANDS[command].params:
        flag = next((name for name in getattr(parameter, "opts", []) if name.startswith("--")), "")
        if not flag or getattr(parameter, "is_flag", False) or flag in ("--dataset", "--root", "--help"):
            continue
        for value in [*NUMBERS, *TEXTS]:
            known = {other.name for other in COMMANDS[command].params}
            given = dataset if "root" in known else dataset[:2] if "dataset" in known else []
            odd.run(
                command,
                *WORDS.get(command, []),
                *given,
                f"{flag}={value}",
                *(["--workers=0"] if "workers" in known else []),
            )
