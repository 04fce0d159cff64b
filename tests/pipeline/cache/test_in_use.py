"""Pins: they last as long as the run that set them, whatever ends it."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from pipeline.cache import in_use
from pipeline.errors import InputError
from pipeline.run import extraction

STAGE, OTHER = "5" * 64, "6" * 64
HOLD = """
import sys, time
from pathlib import Path
from pipeline.cache.in_use import pinned
with pinned(Path(sys.argv[1]), [sys.argv[2]]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has pinned STAGE."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path), STAGE], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_pin_is_seen_by_others_and_gone_with_its_block(tmp_path):
    with in_use.pinned(tmp_path, [STAGE]), in_use.pinned(tmp_path, [OTHER]):
        assert in_use.live(tmp_path) == {STAGE, OTHER}
    assert in_use.live(tmp_path) == set()
    assert not list((tmp_path / "pins").glob("*.json")) and not list((tmp_path / "partial").iterdir())


def test_a_pin_of_another_process_holds_until_it_is_killed(tmp_path, holder):
    assert in_use.live(tmp_path) == {STAGE}
    holder.kill()
    holder.wait()
    assert list((tmp_path / "pins").glob("*.json"))
    assert in_use.live(tmp_path) == set()
    assert not list((tmp_path / "pins").glob("*.json"))


def test_a_run_that_starts_while_gc_deletes_waits_for_it(tmp_path):
    set_ = threading.Event()

    def run():
        with in_use.pinned(tmp_path, [STAGE]):
            set_.set()

    thread = threading.Thread(target=run)
    with in_use.gate(tmp_path, exclusive=True):
        thread.start()
        assert not set_.wait(0.3) and in_use.live(tmp_path) == set()
    thread.join(10)
    assert set_.is_set()


def test_a_live_pin_that_says_nothing_is_refused_and_not_overlooked(tmp_path, holder):
    [pin] = (tmp_path / "pins").glob("*.json")
    pin.write_text("{")
    with pytest.raises(InputError, match="does not say what a live run uses"):
        in_use.live(tmp_path)


def used(opened):
    """The stages of a session, and the families that their references are kept under."""
    return {name for node, _ in opened.catalogue.wanted for name in (node.digest, node.family)}


def test_an_extraction_pins_every_stage_it_uses_while_it_runs(small, monkeypatch):
    seen, drive = [], extraction.drive

    def watched(catalogue, *rest):
        seen.append(in_use.live(catalogue.store.root))
        return drive(catalogue, *rest)

    monkeypatch.setattr(extraction, "drive", watched)
    opened = small.session(modality="text")
    extraction.extract(opened)
    assert seen == [used(opened)] and len(seen[0]) == 4


def test_views_are_built_under_a_pin(extracted):
    opened = extracted.session()
    cache = opened.home.cache
    assert extraction.repaired(opened, lambda: in_use.live(cache)) == used(opened)
    assert in_use.live(cache) == set()
