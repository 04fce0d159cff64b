"""Ctrl-C, sent to a group of processes as a terminal does: one line of ours, exit code 130, and no process is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from pipeline.cache.home import Home
from pipeline.console import Bars
from pipeline.corpus.open_corpus import Options
from pipeline.interruption import INTERRUPTED, Interrupted
from pipeline.run.extraction import extract
from pipeline.run.reference_job import open_session
from tests.pipeline.cli.test_commands import MODEL, said

AUDIO = ("--set", "features.hjcag.audio.deltas=1")
"""A change after which there is something to extract."""
LONG = ("--set", "train.hjcag.epochs=1000000", "--set", "train.hjcag.patience=0")
"""Settings under which a training does not end by itself."""
EXTRACT = ("extract", *AUDIO)
TRAIN = ("train", "--model", "hjcag", *LONG)
TABLE = ("table", "--models", "majority hjcag", "--seeds", "2", *LONG)
SWEEP = ("sweep", "--model", "hjcag", "--over", "train.hjcag.dropout=0.1,0.2", *LONG)


class Run:
    """A command in a session of its own, which hears Ctrl-C even if these tests run in a shell's background."""

    def __init__(self, home: Path, line: list[str]) -> None:
        heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {**os.environ, "AFFECTORY_HOME": str(home)}
        self.process = subprocess.Popen(
            line, env=environment, text=True, start_new_session=True, preexec_fn=heard, **pipes
        )

    def stop_when(self, under_way: Callable[[], object], number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Exit code, output and errors of a command that is interrupted once it is under way."""
        while not under_way():
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.01)
        os.killpg(self.process.pid, number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def left_running(self) -> list[psutil.Process]:
        """Processes of its session that still run two seconds later."""
        end_s = time.monotonic() + 2
        while (left := list(self._members())) and time.monotonic() < end_s:
            time.sleep(0.05)
        return left

    def _members(self):
        for process in psutil.process_iter(["pid", "status"]):
            try:
                if os.getsid(process.pid) == self.process.pid and process.info["status"] != psutil.STATUS_ZOMBIE:
                    yield process
            except ProcessLookupError:
                continue


@pytest.fixture(scope="module")
def made(demo_root, tmp_path_factory):
    """A recipe of one modality, and a home in which it was extracted."""
    folder = tmp_path_factory.mktemp("interrupted")
    recipe = folder / "small.toml"
    recipe.write_text(MODEL.format(root=demo_root))
    extract(open_session(Home(folder / "home"), Options(str(recipe), workers=0)))
    return recipe, folder / "home"


def started(made, tmp_path, command: tuple[str, ...], workers: int) -> tuple[Run, Path]:
    recipe, home = made
    own = tmp_path / "home"
    shutil.copytree(home, own)
    line = [sys.executable, "-m", "pipeline.cli.start", *command, "--dataset", str(recipe), "--workers", str(workers)]
    return Run(own, line), own


def under_way(home: Path) -> Callable[[], object]:
    """Whether a row was computed, or an epoch, that was not there before."""
    before = set(home.rglob("*.json")) | set(home.rglob("*.ckpt"))
    return lambda: any(path not in before for kind in ("actions/*/*.json", "*.ckpt") for path in home.rglob(kind))


def check(run: Run, command: tuple[str, ...], code: int, out: str, err: str) -> None:
    assert (code, out) == (INTERRUPTED, ""), err
    assert "Interrupted. What is finished is kept" in said(err) and "goes on from there." in said(err)
    assert f"affectory {' '.join(command[:2])}" in err.splitlines()[-1]
    for word in ("Traceback", "Error", "asyncio", "nanny", "distributed"):
        assert word not in err, err
    assert not run.left_running()


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT])
def test_a_stopped_extraction_ends_with_130_and_says_what_is_left(made, tmp_path, number):
    run, home = started(made, tmp_path, EXTRACT, 0)
    code, out, err = run.stop_when(under_way(home), number)
    check(run, EXTRACT, code, out, err)
    assert "rows of audio" in said(err).partition("left: ")[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "workers", "left"),
    [
        (EXTRACT, 2, ""),
        (TRAIN, 0, "epochs of hjcag"),
        (TRAIN, 2, "epochs of hjcag"),
        (TABLE, 0, "of 2,000,000 epochs of hjcag"),
        (TABLE, 2, "of 2,000,000 epochs of hjcag"),
        (SWEEP, 0, "epochs of hjcag"),
        (SWEEP, 2, "epochs of hjcag"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else str(value),
)
def test_ctrl_c_ends_every_long_command_with_one_line_and_leaves_no_process(made, tmp_path, command, workers, left):
    run, home = started(made, tmp_path, command, workers)
    code, out, err = run.stop_when(under_way(home))
    check(run, command, code, out, err)
    assert left in said(err).partition("left: ")[2]


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.3, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
def test_ctrl_c_before_and_while_workers_start_prints_no_traceback(made, tmp_path, after_s):
    run, _ = started(made, tmp_path, EXTRACT, 2)
    end_s = time.monotonic() + after_s
    check(run, EXTRACT, *run.stop_when(lambda: time.monotonic() > end_s))


BUSY = """
import sys, time
from pipeline import interruption
from pipeline.media.child import Child

interruption.listen()
with Child() as child:
    child.call(len, "", deadline_s=10)
    try:
        print("ready", file=open(sys.argv[1], "w"), flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("ending", file=open(sys.argv[2], "w"), flush=True)
        time.sleep(60)
"""


def test_a_second_ctrl_c_ends_a_command_that_is_still_ending_with_its_decoders(tmp_path):
    ready, ending = tmp_path / "ready", tmp_path / "ending"
    run = Run(tmp_path, [sys.executable, "-c", BUSY, str(ready), str(ending)])
    assert run.process.poll() is None
    while not ready.exists():
        time.sleep(0.01)
    os.killpg(run.process.pid, signal.SIGINT)
    code, out, err = run.stop_when(ending.exists)
    assert (code, out, err) == (INTERRUPTED, "", "")
    assert not run.left_running()


def test_an_interruption_carries_what_its_bars_had_left():
    with pytest.raises(Interrupted) as stop, Bars() as bars:
        bars.grow("audio", "rows", 60)
        bars.grow("fits", "fits", 1)
        bars.grow("text", "rows", 5)
        bars.advance("audio", 20)
        bars.advance("text", 5)
        raise Interrupted
    assert stop.value.__notes__ == ["40 of 60 rows of audio", "1 of 1 fits"]
