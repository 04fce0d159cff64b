"""A file that changes between the scan and its decoding: nothing of it is kept under the key of other bytes."""

from __future__ import annotations

import pytest

from pipeline.cache.home import Home
from pipeline.media import decode
from pipeline.reason import Reason, Unreadable
from pipeline.run.extraction import extract
from tests.clips import sounds

STAGE = "audio_mfcc"


@pytest.fixture
def heard(tmp_path):
    return sounds(tmp_path)


def values(made, name):
    return made.rows()[STAGE, name][1].values.tolist()


def test_a_file_overwritten_after_the_scan_fails_with_a_transient_reason_and_is_computed_once_it_is_back(
    heard, tmp_path
):
    other = tmp_path / "other"
    other.mkdir()
    undisturbed = sounds(other)
    undisturbed.extract()
    opened, path = heard.session(), heard.root / "00.wav"
    before = path.read_bytes()
    path.write_bytes((heard.root / "01.wav").read_bytes())
    report = extract(opened)
    assert report.total().reasons[STAGE] == {"u00": "io_error"}
    path.write_bytes(before)
    assert heard.extract() == {STAGE: 1} and heard.failed() == {"audio": {}}
    assert values(heard, "u00") == values(undisturbed, "u00") != values(heard, "u01")


@pytest.mark.parametrize("late", [b"", b"no media", None])
def test_a_file_that_is_half_written_or_gone_when_it_is_decoded_fails_with_a_transient_reason(heard, late):
    opened, path = heard.session(), heard.root / "00.wav"
    path.unlink() if late is None else path.write_bytes(late)
    assert extract(opened).total().reasons[STAGE] == {"u00": "io_error"}


def test_a_file_that_was_touched_and_has_the_same_bytes_is_used(heard):
    opened, path = heard.session(), heard.root / "00.wav"
    path.write_bytes(path.read_bytes())
    assert extract(opened).total().reasons[STAGE] == {}


def test_a_file_that_changes_while_it_is_decoded_fails_with_a_transient_reason(heard, monkeypatch):
    rows = heard.session().corpus.manifest.rows[:2]
    monkeypatch.setattr(decode, "read", Overwriting(heard.root / "00.wav"))
    results = list(decode.decoded("audio", rows, heard.root, [[("mine", None)]] * 2, Home(heard.home).memory))
    [failed] = [inputs for _, inputs in results if isinstance(inputs, Unreadable)]
    assert failed.reason is Reason.IO_ERROR and "00.wav" in failed.detail


def test_each_file_is_looked_at_once_for_a_shard_and_once_for_each_stretch_of_it(heard, monkeypatch):
    rows = [row for row in heard.session().corpus.manifest.rows if row.audio[0].path == "long.wav"]
    looked, real = [], decode.stamp
    monkeypatch.setattr(decode, "stamp", lambda path: looked.append(path) or real(path))
    list(decode.decoded("audio", rows, heard.root, [[("mine", None)]] * 8, Home(heard.home).memory))
    assert len(rows) == 8 and looked == [str(heard.root / "long.wav")] * 9


class Overwriting:
    """Stands in for `pipeline.media.decode.read` in the child process: writes over one file once it has read it."""

    def __init__(self, path):
        self.path = path

    def __call__(self, kind, stretches, root, stages):
        found = _read(kind, stretches, root, stages)
        if self.path in [root / stretch.path for stretch in stretches]:
            self.path.write_bytes(self.path.read_bytes() + b"more")
        return found


_read = decode.read
