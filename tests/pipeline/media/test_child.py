"""Crashes and hangs in a child cost one call each, and no process outlives its parent."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from pipeline.errors import AffectoryError, MachineError, SpaceError
from pipeline.media.child import Bound, Child
from pipeline.reason import Reason, Unreadable

REPOSITORY = Path(__file__).parents[3]


def number() -> int:
    return os.getpid()


def segfault() -> None:
    ctypes.string_at(0)


def hold_the_lock(seconds: int) -> None:
    ctypes.PyDLL(None).sleep(seconds)


def fail(error: Exception) -> None:
    raise error


def zeros(size: int) -> NDArray[np.uint8]:
    return np.zeros(size, np.uint8)


def lambda_of_nothing() -> object:
    return lambda: None


def slow_import() -> None:
    time.sleep(1.0)


def never_ready() -> None:
    time.sleep(3600)


def broken_import() -> None:
    raise ImportError("no cv2")


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    """A child for all tests, whatever the last one did to its process."""
    with Child() as opened:
        yield opened


def reason_of(child: Child, *call: object, deadline_s: float = 30.0) -> Reason:
    with pytest.raises(Unreadable) as caught:
        child.call(*call, deadline_s=deadline_s)  # type: ignore[arg-type]
    return caught.value.reason


def test_calls_share_one_child_process(child: Child) -> None:
    first = child.call(number, deadline_s=30)
    assert first == child.call(number, deadline_s=30) != os.getpid()


@pytest.mark.parametrize("crash", [(os.abort,), (segfault,), (os._exit, 0)])
def test_a_crash_costs_only_that_call(child: Child, crash: tuple[object, ...]) -> None:
    before = child.call(number, deadline_s=30)
    assert reason_of(child, *crash) is Reason.DECODER_CRASHED
    assert child.call(number, deadline_s=30) != before
    assert not psutil.pid_exists(before), "the dead child stays as a zombie"


def test_a_child_that_the_system_kills_ran_out_of_memory_and_is_tried_again(child: Child) -> None:
    before = child.call(number, deadline_s=30)
    reason = reason_of(child, os.kill, before, signal.SIGKILL)
    assert reason is Reason.OUT_OF_MEMORY and reason.transient


@pytest.mark.parametrize("hang", [time.sleep, hold_the_lock])
def test_a_hang_costs_only_that_call(child: Child, hang: object) -> None:
    before = child.call(number, deadline_s=30)
    assert reason_of(child, hang, 60, deadline_s=0.3) is Reason.DECODER_HUNG
    assert child.call(number, deadline_s=30) != before
    assert not psutil.pid_exists(before)


def test_a_child_killed_between_calls_costs_no_call(child: Child) -> None:
    before = child.call(number, deadline_s=30)
    os.kill(before, signal.SIGKILL)
    time.sleep(0.2)
    assert child.call(number, deadline_s=30) != before


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unreadable(Reason.TOO_SHORT, "one sample"), Reason.TOO_SHORT),
        (MemoryError(), Reason.OUT_OF_MEMORY),
        (OSError("disk"), Reason.IO_ERROR),
        (ValueError("odd"), Reason.STAGE_ERROR),
    ],
)
def test_an_exception_becomes_a_reason_and_leaves_the_child_alive(
    child: Child, error: Exception, reason: Reason
) -> None:
    before = child.call(number, deadline_s=30)
    assert reason_of(child, fail, error) is reason
    assert child.call(number, deadline_s=30) == before


def test_the_detail_of_an_exception_arrives(child: Child) -> None:
    with pytest.raises(Unreadable, match="ValueError: odd"):
        child.call(fail, ValueError("odd"), deadline_s=30)


def test_a_result_that_cannot_travel_is_a_reason_and_not_a_hang(child: Child) -> None:
    assert reason_of(child, lambda_of_nothing) is Reason.STAGE_ERROR
    assert child.call(number, deadline_s=30)


def test_an_argument_that_cannot_travel_is_the_callers_error_and_the_next_call_works(child: Child) -> None:
    with pytest.raises((AttributeError, TypeError, Exception)) as caught:
        child.call(print, threading.Lock(), deadline_s=30)
    assert not isinstance(caught.value, Unreadable)
    assert child.call(number, deadline_s=30)


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_arrays_arrive_whole(child: Child, size: int) -> None:
    assert np.array_equal(child.call(zeros, size, deadline_s=30), np.zeros(size, np.uint8))


def test_starting_is_not_charged_to_the_call() -> None:
    with Child(prepare=slow_import) as child:
        assert child.call(number, deadline_s=0.9)


def test_a_child_that_does_not_start_in_time_is_the_machines_fault_and_no_clips() -> None:
    with Child(start_deadline_s=0.01) as child, pytest.raises(MachineError, match="no clip is at fault"):
        child.call(number, deadline_s=30)


def test_arguments_of_any_size_do_not_wait_for_a_child_that_never_starts() -> None:
    errors: list[MachineError] = []

    def call() -> None:
        with Child(start_deadline_s=0.5, prepare=never_ready) as child, pytest.raises(MachineError) as caught:
            child.call(len, bytes(10_000_000), deadline_s=30)
        errors.append(caught.value)

    calling = threading.Thread(target=call, daemon=True)
    calling.start()
    calling.join(60)
    assert len(errors) == 1


def test_arguments_of_any_size_arrive(child: Child) -> None:
    assert child.call(len, bytes(10_000_000), deadline_s=30) == 10_000_000


def test_closing_ends_a_call_that_another_thread_has_begun() -> None:
    child = Child()
    reasons: list[Reason] = []
    child.call(number, deadline_s=30)
    calling = threading.Thread(target=lambda: reasons.append(reason_of(child, time.sleep, 60)))
    calling.start()
    while not child._turn.locked():
        time.sleep(0.01)
    child.close()
    calling.join()
    assert reasons == [Reason.OUT_OF_MEMORY], "the call went on to its deadline"


@pytest.mark.parametrize("prepare", [broken_import, segfault])
def test_a_preparation_that_fails_is_the_machines_fault_and_no_clips(prepare: Callable[[], object]) -> None:
    with Child(prepare=prepare) as child, pytest.raises(MachineError, match="no clip is at fault"):
        child.call(number, deadline_s=30)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ImportError("libsoxr.so.0: cannot open shared object file"), MachineError),
        (OSError(errno.ENOSPC, "No space left on device"), SpaceError),
        (OSError(errno.EROFS, "Read-only file system"), MachineError),
        (OSError(errno.EMFILE, "Too many open files"), MachineError),
    ],
)
def test_an_error_of_the_machine_is_no_reason_of_a_clip(
    child: Child, error: Exception, kind: type[AffectoryError]
) -> None:
    before = child.call(number, deadline_s=30)
    with pytest.raises(kind, match=re.escape(str(error))):
        child.call(fail, error, deadline_s=30)
    assert child.call(number, deadline_s=30) == before


# --- memory ----------------------------------------------------------------------------------------------------

MIB = 2**20
BOUND = Bound(300 * MIB, Reason.TOO_LARGE, "ask for less")


def hold(size: int) -> int:
    """Holds so many bytes for a while."""
    held = np.ones(size, np.uint8)
    time.sleep(0.3)
    return len(held)


def keep(size: int) -> int:
    """Holds so many bytes for ever."""
    _kept.append(np.ones(size, np.uint8))
    time.sleep(0.3)
    return os.getpid()


_kept: list[NDArray[np.uint8]] = []


def grow_without_end(for_ever: bool) -> None:
    while for_ever:
        _kept.append(np.ones(MIB, np.uint8))
        time.sleep(0.001)


def test_a_call_that_outgrows_the_bound_costs_itself_and_is_told_what_to_do() -> None:
    with Child(bound=BOUND) as child:
        before = child.call(number, deadline_s=30)
        with pytest.raises(Unreadable, match=r"needs more than 0\.29 GiB of memory: ask for less") as caught:
            child.call(grow_without_end, True, deadline_s=60)
        assert caught.value.reason is Reason.TOO_LARGE
        assert child.call(number, deadline_s=30) != before


def test_a_call_within_the_bound_is_left_alone() -> None:
    with Child(bound=BOUND) as child:
        assert child.call(hold, 100 * MIB, deadline_s=30) == 100 * MIB


def test_what_a_call_leaves_behind_is_not_charged_to_the_next_one() -> None:
    with Child(bound=BOUND) as child:
        before = child.call(keep, 180 * MIB, deadline_s=30)
        assert child.call(hold, 180 * MIB, deadline_s=30) == 180 * MIB
        assert child.call(number, deadline_s=30) != before


def test_a_hang_within_the_bound_ends_with_the_deadline() -> None:
    with Child(bound=BOUND) as child:
        assert reason_of(child, time.sleep, 60, deadline_s=0.3) is Reason.DECODER_HUNG


def test_two_children_are_independent(child: Child) -> None:
    with Child() as other:
        kept = other.call(number, deadline_s=30)
        assert reason_of(child, os.abort) is Reason.DECODER_CRASHED
        assert other.call(number, deadline_s=30) == kept


def test_threads_take_turns(child: Child) -> None:
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(child.call(abs, -7, deadline_s=30))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [7] * 8


def test_a_closed_child_is_gone_and_may_be_used_again(child: Child) -> None:
    before = child.call(number, deadline_s=30)
    child.close()
    assert not psutil.pid_exists(before)
    child.close()
    assert child.call(number, deadline_s=30) != before


def test_ctrl_c_does_not_reach_the_child(child: Child) -> None:
    before = child.call(number, deadline_s=30)
    os.kill(before, signal.SIGINT)
    assert child.call(number, deadline_s=30) == before


PARENT = """
import ctypes, os, threading, time
from pipeline.media.child import Child
from tests.pipeline.media.test_child import hold_the_lock
if __name__ == "__main__":
    child = Child()
    print(child.call(os.getpid, deadline_s=30), flush=True)
    {last}
"""


@pytest.mark.parametrize(
    "last",
    ["time.sleep(60)", "child.call(time.sleep, 60, deadline_s=60)", "child.call(hold_the_lock, 60, deadline_s=0.5)"],
    ids=["idle", "hung", "hung with the interpreter's lock"],
)
def test_no_child_outlives_a_killed_parent(tmp_path: Path, last: str) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(last=last))
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.2)
        parent.kill()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(child)
