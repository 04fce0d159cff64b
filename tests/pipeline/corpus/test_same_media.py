"""Media that are on both sides of a fold are told by their bytes, whatever their files are called."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest

from pipeline.cache.keys import text_digest
from pipeline.cli.train import trained
from pipeline.corpus.same_media import SHOWN, of_fold
from pipeline.reader import Fold
from pipeline.utterance import MISSING, Audio, Utterance, Video
from tests.pages import write
from tests.pipeline.cli.test_commands import MODEL, affectory, options  # noqa: F401 - a fixture
from tests.small import Small

FOLD = Fold("one", ("a",), ("b",), ("c", "d"))


def row(name: str, **media) -> Utterance:
    return Utterance(id=name, dialogue=name, turn=0, text="Yeah.", **media)


SOUND = Audio(path="a.wav", digest="1", start_s=0.5, end_s=2.0)
FACE = Video(path="a.mp4", digest="2")


def test_the_same_bytes_under_another_name_are_the_same_media():
    rows = [
        row("a", audio=(SOUND,), video=(FACE,)),
        row("b", audio=(SOUND,)),
        row("c", audio=(Audio(path="other.wav", digest="1", start_s=0.5, end_s=2.0),)),
        row("d", video=(Video(path="copy.mp4", digest="2"),)),
    ]
    found = of_fold(FOLD, rows)
    assert (found.pairs, found.both) == ((("c", "a"), ("d", "a")), 2)
    assert "2 test utterances have the very sound or pictures of train utterances (c = a, d = a), 2 of" in found.line


def test_the_first_pairs_are_named_and_all_are_counted() -> None:
    test = tuple(f"t{number}" for number in range(SHOWN + 2))
    rows = [row("a", audio=(SOUND,)), *(replace(row(name, audio=(SOUND,)), text=name) for name in test)]
    found = of_fold(Fold("one", ("a",), (), test), rows)
    first = [[name, "a"] for name in test[:SHOWN]]
    assert found.answer() == {"utterances": SHOWN + 2, "with_text": 0, "first": first}
    assert ", t4 = a, ...)" in found.line and "t5" not in found.line


def test_a_text_that_was_left_out_is_compared_by_its_digest() -> None:
    here = row("a", audio=(SOUND,))
    away = replace(row("c", audio=(SOUND,)), text=None, text_digest=text_digest(here))
    assert of_fold(FOLD, [here, row("b"), away, row("d")]).both == 1


@pytest.mark.parametrize(
    "audio",
    [
        (Audio(path="a.wav", digest="1", start_s=2.0, end_s=4.0),),
        (Audio(path="a.wav", digest="1", start_s=0.5, end_s=2.0, channel=1),),
        (SOUND, SOUND),
        (Audio(path="a.wav", digest=MISSING),),
        (),
    ],
    ids=["another stretch", "another channel", "joined twice", "missing", "none"],
)
def test_other_stretches_of_one_file_missing_files_and_equal_transcripts_are_not(audio):
    missing = Audio(path="b.wav", digest=MISSING)
    for train in ((SOUND,), (missing,)):
        rows = [row("a", audio=train), row("b"), row("c", audio=audio), row("d")]
        assert of_fold(FOLD, rows).pairs == ()


# --- what the commands say -------------------------------------------------------------------------------------


@pytest.fixture
def doubled(small: Small) -> tuple[Small, str, str]:
    """The small corpus in which a test utterance has the sound of a train utterance; their ids."""
    corpus = small.session().corpus
    rows = {row.id: row for row in corpus.manifest.rows}
    test, train = corpus.folds[0].test[0], corpus.folds[0].train[0]
    shutil.copy(small.root / rows[train].audio[0].path, small.root / rows[test].audio[0].path)
    return small, test, train


def test_the_doctor_names_the_same_media_in_test_and_train(
    doubled: tuple[Small, str, str],
    affectory: Callable[..., tuple[int, str, str]],  # noqa: F811
) -> None:
    small, test, train = doubled
    code, out, err = affectory("doctor", *options(small, "--modality", "audio", "--workers", "1", "--json"))
    assert code == 0 and f"({test} = {train})" in err
    assert json.loads(out)["same_media"] == {
        "official": {"utterances": 1, "with_text": 0, "first": [[test, train]]},
    }


def test_the_first_lines_of_the_report_name_the_same_media(doubled: tuple[Small, str, str]) -> None:
    small, test, train = doubled
    answer, page = write(small)
    [line] = [line for line in answer["warnings"] if f"({test} = {train})" in line]
    assert line in page.words.partition("Utterances")[0]


def test_training_names_the_same_media(doubled: tuple[Small, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    small, test, train = doubled
    small.recipe = MODEL.format(root=small.root)
    [answer], _ = trained(small.session(features=("hjcag",)), ["hjcag"], 0, extract=True)
    assert answer["same_media"]["official"]["first"] == [[test, train]]
    assert f"({test} = {train})" in capsys.readouterr().err
