"""Predictions of clips by a bundle: those of the run itself, with transcripts, subtitles, windows, and without."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from pipeline.bundle.bundle import open_bundle
from pipeline.bundle.clips import (
    Clip,
    Said,
    common_root,
    folder_of_clips,
    in_windows,
    one_clip,
    read_subtitles,
    utterances,
)
from pipeline.bundle.predict import Predicted, predict
from pipeline.bundle.results import result_table, write_results
from pipeline.errors import InputError
from pipeline.pages.prediction_pages import write_pages
from pipeline.python.predict import predict as predict_in_python
from pipeline.score import predictions
from pipeline.utterance import Utterance
from tests.pipeline.bundle.conftest import found_run
from tests.small import Small


def predicted(bundle: Path, clips: list[Clip], memory: Path) -> Predicted:
    root = common_root(clips)
    with open_bundle(bundle, memory / "digests.sqlite") as opened:
        return predict(opened, utterances(clips, root), root)


def rows_of_test(run: Small) -> list[Utterance]:
    session = run.session()
    [fold] = session.corpus.folds
    return [row for row in session.corpus.manifest.rows if row.id in fold.test]


def as_clips(run: Small) -> list[Clip]:
    """Each test utterance as a clip with its transcript."""
    rows = rows_of_test(run)
    assert all(row.audio[0].start_s is None for row in rows), "the sound of each is a file of its own"
    return [clip_of(run, row) for row in rows]


def clip_of(run: Small, row: Utterance) -> Clip:
    return Clip(row.id, None, run.root / row.audio[0].path, (Said(text=row.text),))


def own_logits(run: Small, model: str) -> dict[str, Any]:
    [fold] = found_run(run, model).folds
    kept = predictions.read(Path(fold.predictions), "test")
    return dict(zip(kept.ids, kept.logits, strict=True))


def test_a_bundle_predicts_of_the_media_of_test_utterances_what_the_run_itself_predicted(
    run: Small, bundles: Path, tmp_path: Path
) -> None:
    clips, own = as_clips(run), own_logits(run, "gmu")
    given = predicted(bundles / "gmu", clips, tmp_path)
    assert given.usable.all() and {clip.name for clip in clips} == own.keys()
    np.testing.assert_allclose(given.predictions.logits, [own[clip.name] for clip in clips], rtol=1e-4, atol=1e-5)
    table = result_table(clips, given)
    classes = given.target.classes
    assert table.column_names == ["clip", "start_s", "end_s", "text", "label", *(f"p_{c}" for c in classes), "reason"]
    for row in table.to_pylist():
        shares = {name: row[f"p_{name}"] for name in classes}
        assert sum(shares.values()) == pytest.approx(1) and row["label"] == max(shares, key=shares.__getitem__)


@pytest.mark.slow
def test_worker_processes_predict_the_same_and_python_writes_the_page(
    run: Small, bundles: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for clip in as_clips(run)[:2]:
        assert clip.audio is not None
        shutil.copy(clip.audio, folder)
        (folder / clip.audio.with_suffix(".txt").name).write_text(clip.said[0].text or "")
    first, second = (
        predict_in_python(bundles / "gmu", folder, workers=workers, out=out, home=str(tmp_path / "home"))
        for workers, out in ((0, ""), (1, tmp_path / "out"))
    )
    pd.testing.assert_frame_equal(first, second)
    assert len(second) == 2 and {path.name for path in (tmp_path / "out").iterdir()} == {
        "clips",
        "index.html",
        "predictions.parquet",
    }


def test_a_model_of_dialogues_reads_the_utterances_of_a_clip_as_one_dialogue(
    run: Small, bundles: Path, tmp_path: Path
) -> None:
    rows, own = [replace(row, labels={}) for row in rows_of_test(run)], own_logits(run, "bc_lstm")
    with open_bundle(bundles / "bc_lstm", tmp_path / "digests.sqlite") as opened:
        given = predict(opened, rows, run.root)
    found = dict(zip(given.predictions.ids, given.predictions.logits, strict=True))
    np.testing.assert_allclose([found[name] for name in own], list(own.values()), rtol=1e-4, atol=1e-5)


def test_without_a_transcript_a_model_is_masked_only_if_it_was_trained_so(
    run: Small, bundles: Path, tmp_path: Path
) -> None:
    [clip] = [replace(clip, said=(Said(),)) for clip in as_clips(run)[:1]]
    with pytest.raises(InputError, match=r"1 of 1 utterances have no text.*--text.*--asr MODEL"):
        predicted(bundles / "gmu", [clip], tmp_path)
    given = predicted(bundles / "bc_lstm", [clip], tmp_path)
    assert given.reasons["text"] == {given.rows[0].id: "absent"} and given.usable.all()


def test_a_clip_that_cannot_be_read_has_its_reason_and_one_without_anything_no_prediction(
    run: Small, bundles: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    clips = [Clip("a", None, broken, (Said(text="well"),)), Clip("b", None, broken)]
    with open_bundle(bundles / "bc_lstm", tmp_path / "digests.sqlite") as opened:
        given = predict(opened, utterances(clips, common_root(clips)), common_root(clips))
        written = write_results(tmp_path, clips, given)
        index = write_pages(tmp_path, bundles / "bc_lstm", opened, clips, given, written)
    rows = written.table.to_pylist()
    assert "bc_lstm, class BCLSTM" in index.read_text() and "accuracy 0." in index.read_text()
    assert "audio: not_media (1 of 1 utterances)" in (tmp_path / "clips" / "00000.html").read_text()
    assert [row["reason"] for row in rows] == ["audio: not_media", "audio: not_media; text: absent"]
    assert rows[0]["label"] is not None and rows[1]["label"] is None and rows[1]["p_hap"] is None


# --- what is said when -----------------------------------------------------------------------------------------

SRT = """1
00:00:02,000 --> 00:00:03,500
<i>I can't</i>
believe it

2
00:00:00,250 --> 00:00:01,000
Hello.

3
00:00:04,000 --> 00:00:04,000
no time
"""
VTT = "WEBVTT\n\n00:00.250 --> 00:01.000\n<v.loud Ann &amp; Bo>Hello.\n\n00:02.000 --> 00:03.500\nI can't\nbelieve it\n"


@pytest.mark.parametrize(("suffix", "text"), [(".srt", SRT), (".vtt", VTT), (".srt", SRT.replace("\n", "\r\n"))])
def test_each_line_of_subtitles_is_an_utterance_in_the_order_of_time(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    voice = "Ann & Bo" if suffix == ".vtt" else None
    assert read_subtitles(path) == (Said(0.25, 1.0, "Hello.", voice), Said(2.0, 3.5, "I can't believe it"))
    [row, _] = utterances([Clip("clip", None, path, read_subtitles(path))], tmp_path)
    assert row.speaker == voice


@pytest.mark.parametrize("text", ["", "no subtitles", "1\n00:00:01,000 --> 00:00:00,500\nbackwards\n"])
def test_subtitles_without_a_line_are_refused_by_the_name_of_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "clip.srt"
    path.write_text(text)
    with pytest.raises(InputError, match=r"clip\.srt holds"):
        read_subtitles(path)


@pytest.mark.parametrize(
    ("window_s", "hop_s", "expected"),
    [
        (2.0, 2.0, [(0, 2), (2, 4), (4, 5)]),
        (2.0, 1.5, [(0, 2), (1.5, 3.5), (3, 5)]),
        (9.0, 1.0, [(0, 5)]),
        (2.5, 2.5, [(0, 2.5), (2.5, 5)]),
    ],
)
def test_windows_cover_a_long_clip_and_the_last_one_ends_with_it(
    tmp_path: Path, window_s: float, hop_s: float, expected: list[tuple[float, float]]
) -> None:
    sf.write(tmp_path / "long.wav", np.zeros(5 * 8000), 8000)
    clip = in_windows(one_clip("", str(tmp_path / "long.wav"), "", ""), window_s, hop_s)
    assert [(line.start_s, line.end_s) for line in clip.said] == expected


def test_windows_of_a_known_text_and_of_no_length_are_refused(tmp_path: Path) -> None:
    sf.write(tmp_path / "long.wav", np.zeros(8000), 8000)
    clip = one_clip("", str(tmp_path / "long.wav"), "hello", "")
    with pytest.raises(InputError, match="not in which window"):
        in_windows(clip, 1.0, 1.0)
    with pytest.raises(InputError, match="positive seconds"):
        in_windows(replace(clip, said=(Said(),)), 0.0, 1.0)


def test_a_folder_gives_its_clips_with_the_text_or_the_subtitles_beside_each(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.wav", "b.wav", "c.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "a.txt").write_text("what a\nsays\n")
    (tmp_path / "b.vtt").write_text(VTT)
    a, b, c = folder_of_clips(tmp_path)
    assert (a.video, a.audio, a.said) == (tmp_path / "a.mp4", tmp_path / "a.wav", (Said(text="what a says"),))
    assert (b.video, len(b.said)) == (None, 2) and c.said == (Said(),)
    rows = utterances([a, b, c], common_root([a, b, c]))
    assert [row.dialogue for row in rows] == ["00000", "00001", "00001", "00002"]
    assert rows[3].audio[0].path == "c.mp4" and rows[1].video == () and rows[2].audio[0].start_s == 2.0
