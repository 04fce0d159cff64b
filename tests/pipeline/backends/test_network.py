"""A network changes its backend only if that pays and changes no value by more than the tolerance."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.backends import measured, network
from pipeline.backends.compiled import compiled
from pipeline.backends.measured import Measured, key_of, remember, remembered
from pipeline.backends.network import SETTING, Network
from pipeline.backends.spent import Spent, counted_in
from pipeline.errors import InputError

pytest.importorskip("openvino")


class Shapely(nn.Module):
    """What it computes depends on the batch by its own code, so a trace of one batch is wrong for another."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * (2 if len(x) > 2 else 1)


class Untraceable(nn.Module):
    """Its code runs on torch alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_tracing():
            raise NotImplementedError("no trace")
        return self.layer(x)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, in which any speed-up pays and no work is too little for a trial."""
    monkeypatch.setenv("AFFECTORY_HOME", str(tmp_path))
    (tmp_path / "cache").mkdir()
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setattr(measured, "FASTER", 0.0)
    monkeypatch.setattr(network, "TRIAL_S", 0.0)
    return tmp_path


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


def backends(run: Network, batches: tuple[int, ...] = (1, 3, 1)) -> list[str]:
    """The backends that computed these batches; each has to give what torch gives."""
    spent = Spent()
    for size in batches:
        batch = torch.linspace(-1, 1, size * 12).reshape(size, 3, 2, 2)
        with torch.inference_mode(), counted_in(spent):
            torch.testing.assert_close(run(batch), run.module(batch), rtol=1e-4, atol=1e-4)
    assert sum(spent.inputs.values()) == sum(batches)
    return sorted(name.split()[0] for name in spent.inputs)


def test_a_network_that_worked_long_enough_changes_to_openvino_with_equal_values_for_any_batch() -> None:
    run = Network(small())
    assert backends(run, (2,)) == ["torch"]
    assert backends(run, (1, 5, 2)) == ["openvino"]


def test_a_short_run_pays_for_no_compiler(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "TRIAL_S", 60.0)
    assert backends(Network(small())) == ["torch"]
    assert remembered(key_of(small())) is None


@pytest.mark.parametrize("make", [Shapely, Untraceable])
def test_a_network_that_openvino_takes_wrongly_or_not_at_all_stays_with_torch(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "TRIAL_S", 1e-9 if make is Untraceable else 0.02)
    run = Network(make().eval())
    for _ in range(5000):
        if run._settled:
            break
        assert backends(run, (1, 3)) == ["torch"]
    assert run._settled and backends(run) == ["torch"]
    note = remembered(key_of(run.module))
    assert note is not None and (note.why or note.difference > run.tolerance)


def test_a_network_that_is_known_not_to_gain_is_not_tried_again() -> None:
    remember(key_of(small()), Measured(torch_s=1.0, openvino_s=2.0, why="slower"))
    run = Network(small())
    assert backends(run) == ["torch"]
    assert remembered(key_of(small())) == Measured(torch_s=1.0, openvino_s=2.0, why="slower")


def test_a_network_that_is_known_to_gain_is_compiled_after_as_much_work_as_compiling_takes() -> None:
    remember(key_of(small()), Measured(torch_s=2.0, openvino_s=1.0, load_s=3600.0))
    assert backends(Network(small())) == ["torch"]
    remember(key_of(small()), Measured(torch_s=2.0, openvino_s=1.0, load_s=0.0))
    assert backends(Network(small())) == ["openvino", "torch"]


def test_values_that_differ_or_a_failure_never_pay() -> None:
    assert Measured(2.0, 1.0, difference=1e-5).pays
    assert not Measured(2.0, 1.0, difference=1e-3).pays
    assert not Measured(2.0, 1.0, difference=float("nan")).pays
    assert not Measured(2.0, 1.0, why="no trace").pays


def test_a_gain_that_is_within_what_timing_errs_does_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert Measured(1.1, 1.0).pays
    assert not Measured(1.04, 1.0).pays


@pytest.mark.parametrize(("torch_s", "backend"), [(2.0, "openvino"), (1e-9, "torch")])
def test_a_worker_that_timed_a_network_goes_by_the_seconds_of_the_one_that_was_first(
    torch_s: float, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "FASTER", 1.0)
    runs = [Network(small()), Network(small())]
    first = Measured(torch_s, 1.0)

    def slow(module: nn.Module, samples: object, known: Measured | None) -> object:
        assert known is None
        remember(key_of(module), first)  # another worker is done while this one still measures
        return module, Measured(*((1.0, 2.0) if backend == "openvino" else (2.0, 1.0)))

    monkeypatch.setattr(network, "tried", slow)
    assert backends(runs[0], (1, 1)) == sorted({"torch", backend})
    assert remembered(key_of(small())) == first


def test_a_network_whose_values_differ_on_one_worker_stays_with_torch_on_those_that_come_later() -> None:
    remember(key_of(small()), Measured(torch_s=2.0, openvino_s=1.0))
    wrong = Network(small(), tolerance=-1.0)
    wrong._wait_s = 0.0
    assert backends(wrong, (1, 1)) == ["torch"]
    note = remembered(key_of(small()))
    assert note is not None and not note.agrees and (note.network, note.torch_s) == ("Sequential", 2.0)


def test_a_setting_names_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "torch")
    assert backends(Network(small())) == ["torch"]
    monkeypatch.setenv(SETTING, "openvino")
    assert backends(Network(small()), (1, 1)) == ["openvino", "torch"]
    with pytest.raises(InputError, match="can't take Untraceable"):
        backends(Network(Untraceable().eval()))
    monkeypatch.setenv(SETTING, "tensorrt")
    with pytest.raises(InputError, match="expected one of auto, torch, openvino"):
        Network(small())


def test_bfloat16_stays_with_torch() -> None:
    run = Network(small().to(torch.bfloat16))
    with torch.inference_mode():
        for _ in range(3):
            spent = Spent()
            with counted_in(spent):
                run(torch.ones(1, 3, 2, 2, dtype=torch.bfloat16))
            assert list(spent.inputs) == ["torch"]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="only Linux tells on which cores a thread may run")
def test_no_thread_of_openvino_is_bound_to_a_core_that_the_other_worker_would_be_bound_to_as_well() -> None:
    every, seen, done = os.sched_getaffinity(0), set(), threading.Event()

    def look() -> None:
        while not done.is_set():
            for thread in os.listdir("/proc/self/task"):
                with suppress(ProcessLookupError):
                    seen.add(frozenset(os.sched_getaffinity(int(thread))))

    batch = torch.zeros(8, 64, 64, 64)
    forward = compiled(nn.Conv2d(64, 64, 3), [batch])
    watch = threading.Thread(target=look)
    watch.start()
    for _ in range(20):
        forward(batch)
    done.set()
    watch.join()
    assert seen == {frozenset(every)}
