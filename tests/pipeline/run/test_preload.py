"""The process from which local workers are forked: what they find there, and that none outlives its driver."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from pipeline import plugins
from pipeline.run import preload
from pipeline.run.dask_workers import Workers
from pipeline.stage import Stage


@dataclass(frozen=True)
class Look:
    """A job that looks around in its worker."""

    id: str = "look"
    gpu: bool = False


def seen(job: Look) -> dict[str, str]:
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "AFFECTORY_HOME")
    return {name: os.environ[name] for name in names}


def imported(job: Look) -> bool:
    return "wave" in sys.modules


def once(job: Look):
    given = iter([[job]])
    return lambda: next(given, [])


def test_workers_share_the_cores_see_no_gpu_and_have_the_environment_of_now(monkeypatch, tmp_path):
    monkeypatch.setattr(preload, "cores", lambda: 6)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    for home in ("one", "two"):
        monkeypatch.setenv("AFFECTORY_HOME", str(tmp_path / home))
        with Workers(count=2) as workers:
            [(_, found)] = workers.run(seen, once(Look()))
        assert (found["CUDA_VISIBLE_DEVICES"], found["OMP_NUM_THREADS"], found["OMP_WAIT_POLICY"]) == (
            "",
            "3",
            "PASSIVE",
        )
        assert found["AFFECTORY_HOME"] == str(tmp_path / home)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_a_users_own_way_of_waiting_is_kept(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert preload.variables(1)["OMP_WAIT_POLICY"] == "ACTIVE"


PROGRAM = """
from tests.pipeline.run.test_preload import Look, Workers, imported, once
if __name__ == "__main__":
    with Workers(count=2, modules=["wave", "no_such_module"]) as workers:
        print(*(found for _, found in workers.run(imported, once(Look()))), flush=True)
        input()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are not forked here")
def test_workers_have_the_modules_imported_and_none_outlives_a_driver_that_is_killed(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": environment}
    with subprocess.Popen([sys.executable, str(tmp_path / "program.py")], **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == b"True\n"
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert len(family) >= 2 and alive == []


def test_the_modules_that_stages_want_imported_in_workers_exist():
    named = {module for name in plugins.names("stages") for module in plugins.find("stages", name, Stage).imports}
    assert {"librosa.core.spectrum", "opensmile", "stages._roberta"} <= named
    assert [module for module in named if find_spec(module) is None] == []
