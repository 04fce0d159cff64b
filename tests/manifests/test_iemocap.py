"""The IEMOCAP reader joins evaluations, transcripts and media, finds the speaker, and refuses what is malformed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from manifests.iemocap import Iemocap
from pipeline.errors import InputError
from pipeline.utterance import Audio, Utterance, in_order

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
Turn = tuple[str, float, float, str]


def block(turn: Turn, votes: str = "C-E2:\tNeutral;\t()\nC-F1:\tNeutral; Anger;\t(a comment)\n") -> str:
    name, start, end, emotion = turn
    means = "[2.5000, 3.0000, 3.5000]"
    return f"[{start:.4f} - {end:.4f}]\t{name}\t{emotion}\t{means}\n{votes}A-E3:\tval 3; act 2; dom  2;\t()\n\n"


def write_dialogue(root: Path, dialogue: str, turns: Sequence[Turn], transcript: str = "") -> Path:
    folder = root / f"Session{int(dialogue[3:5])}" / "dialog"
    for name, text in (("EmoEvaluation", HEADER + "".join(map(block, turns))), ("transcriptions", transcript)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{dialogue}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    turns = [
        ("Ses01F_impro01_F000", 6.2901, 8.2357, "neu"),
        ("Ses01F_impro01_F001", 10.01, 11.4, "xxx"),
        ("Ses01F_impro01_M000", 7.5, 9.75, "fru"),
    ]
    transcript = (
        "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\n"
        "M: not in the corpus\n"
        "Ses01F_impro01_MXX0 [009.0000-009.1000]: Nobody rated this.\n"
        "Ses01F_impro01_M000 [007.5000-009.7500]: Do you have your forms? [LAUGHTER]\n"
    )
    write_dialogue(tmp_path, "Ses01F_impro01", turns, transcript)
    return tmp_path


def by_id(rows: list[Utterance]) -> dict[str, Utterance]:
    return {row.id: row for row in rows}


def test_evaluations_decide_which_utterances_there_are(root: Path) -> None:
    rows = Iemocap().scan(root)
    assert [(row.id, row.turn) for row in rows] == [
        ("Ses01F_impro01_F000", 0),
        ("Ses01F_impro01_M000", 1),
        ("Ses01F_impro01_F001", 2),
    ]
    assert [row.text for row in rows] == ["Excuse me.", "Do you have your forms? [LAUGHTER]", None]


def test_annotations_hold_the_code_the_means_and_every_vote(root: Path) -> None:
    row = Iemocap().scan(root)[0]
    assert row.labels == {
        "emotion": "neu",
        "votes": "C-E2=Neutral;C-F1=Neutral,Anger",
        "ratings": "A-E3=3,2,2",
        "valence": 2.5,
        "arousal": 3.0,
        "dominance": 3.5,
    }
    assert (row.session, row.dialogue, row.start_s, row.end_s) == ("Session1", "Ses01F_impro01", 6.2901, 8.2357)


def test_a_raters_votes_end_with_their_line_though_no_tab_follows(root: Path) -> None:
    file = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    votes = "C-E2:\tNeutral;\nC-E3:\t\nC-F1:\tAnger;\t()\n"
    file.write_text(HEADER + block(("Ses01F_impro01_F000", 1.0, 2.0, "neu"), votes))
    assert Iemocap().scan(root)[0].labels["votes"] == "C-E2=Neutral;C-E3=;C-F1=Anger"


def test_media_are_referred_to_even_where_their_files_are_missing(root: Path) -> None:
    row = Iemocap().scan(root)[0]
    assert row.audio and row.video
    assert row.audio[0].path == "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
    assert row.video[0].path == "Session1/dialog/avi/DivX/Ses01F_impro01.avi"
    assert (row.audio[0].start_s, row.video[0].start_s, row.video[0].end_s) == (None, 6.2901, 8.2357)


@pytest.mark.parametrize(
    ("name", "speaker", "left"),
    [
        ("Ses01F_impro01_F000", "Ses01_F", 0.0),
        ("Ses01F_impro01_M000", "Ses01_M", 0.5),
        ("Ses04M_script03_2_M012", "Ses04_M", 0.0),
        ("Ses04M_script03_2_F012", "Ses04_F", 0.5),
        ("Ses03M_impro05a_FXX1", "Ses03_F", 0.5),
    ],
)
def test_the_letter_before_the_digits_speaks_and_the_marked_actor_is_on_the_left(
    tmp_path: Path, name: str, speaker: str, left: float
) -> None:
    write_dialogue(tmp_path, name.rpartition("_")[0], [(name, 1.0, 2.0, "neu")])
    row = Iemocap().scan(tmp_path)[0]
    assert row.speaker == speaker
    assert row.video and row.video[0].crop == (left, 0.25, 0.5, 0.5)


def test_both_halves_are_kept_on_request(root: Path) -> None:
    rows = Iemocap(video="both").scan(root)
    assert {row.video[0].crop for row in rows if row.video} == {(0.0, 0.25, 1.0, 0.5)}


def test_the_speakers_channel_of_the_dialogues_sound_is_cut_out_on_request(root: Path) -> None:
    female, male, _ = Iemocap(audio="speaker").scan(root)
    path = "Session1/dialog/wav/Ses01F_impro01.wav"
    assert female.audio == (Audio(path=path, start_s=6.2901, end_s=8.2357, channel=0),)
    assert male.audio == (Audio(path=path, start_s=7.5, end_s=9.75, channel=1),)


def test_a_rating_without_dominance_is_kept_with_a_gap(tmp_path: Path) -> None:
    folder = write_dialogue(tmp_path, "Ses01F_impro01", [("Ses01F_impro01_F000", 1.0, 2.0, "neu")])
    file = folder / "EmoEvaluation" / "Ses01F_impro01.txt"
    file.write_text(file.read_text().replace("dom  2;", "dom  ;") + "A-F1:\tval 4; act 5; \t()\n")
    assert Iemocap().scan(tmp_path)[0].labels["ratings"] == "A-E3=3,2,;A-F1=4,5,"


@pytest.mark.parametrize("option", ["video", "audio"])
def test_an_unknown_option_is_refused(option: str) -> None:
    with pytest.raises(InputError, match="did you mean speaker"):
        Iemocap(**{option: "speakers"})  # type: ignore[arg-type]


def test_dialogue_names_are_matched_whole(tmp_path: Path) -> None:
    for dialogue, text in (("Ses05M_script01_1", "One."), ("Ses05M_script01_1b", "One b.")):
        name = f"{dialogue}_F000"
        write_dialogue(tmp_path, dialogue, [(name, 1.0, 2.0, "neu")], f"{name} [001.0000-002.0000]: {text}\n")
    rows = by_id(Iemocap().scan(tmp_path))
    assert {name: (row.dialogue, row.text) for name, row in rows.items()} == {
        "Ses05M_script01_1_F000": ("Ses05M_script01_1", "One."),
        "Ses05M_script01_1b_F000": ("Ses05M_script01_1b", "One b."),
    }
    paths = {row.audio[0].path.split("/")[3] for row in rows.values() if row.audio}
    assert paths == {"Ses05M_script01_1", "Ses05M_script01_1b"}


def test_apple_double_files_and_raters_folders_are_skipped(root: Path) -> None:
    folder = root / "Session1/dialog/EmoEvaluation"
    (folder / "._Ses01F_impro01.txt").write_bytes(b"\x00\x05\x16\x07" + bytes(range(256)))
    (folder / "Categorical").mkdir()
    (folder / "Categorical/Ses01F_impro01_e2_cat.txt").write_text("[not a turn]\n")
    assert len(Iemocap().scan(root)) == 3


def test_every_malformed_turn_is_listed_with_its_line(root: Path) -> None:
    file = write_dialogue(root, "Ses02F_impro01", []) / "EmoEvaluation/Ses02F_impro01.txt"
    stranger = block(("Ses02F_impro02_F000", 1.0, 2.0, "neu"))
    file.write_text(f"{HEADER}[1.0 - x]\tSes02F_impro01_F000\tneu\n{stranger}")
    with pytest.raises(InputError) as caught:
        Iemocap().scan(root)
    assert f"{file}:3: " in str(caught.value)
    assert f"{file}:4: " in str(caught.value)


@pytest.mark.parametrize("link", ["file", "folder"])
def test_evaluations_and_transcripts_that_lead_outside_the_root_are_refused_all_at_once(
    root: Path, tmp_path_factory: pytest.TempPathFactory, link: str
) -> None:
    outside = write_dialogue(tmp_path_factory.mktemp("elsewhere"), "Ses02F_impro01", [], "secret")
    names = [f"{folder}/Ses02F_impro01.txt" for folder in ("EmoEvaluation", "transcriptions")]
    inner = root / "Session2" / "dialog"
    inner.parent.mkdir()
    if link == "folder":
        inner.symlink_to(outside)
    for name in names if link == "file" else ():
        (inner / name).parent.mkdir(parents=True)
        (inner / name).symlink_to(outside / name)
    with pytest.raises(InputError) as caught:
        Iemocap().scan(root)
    assert str(caught.value).splitlines() == [f"{inner / name} leads outside {root}" for name in names]


def test_a_link_that_stays_inside_the_root_is_followed(root: Path) -> None:
    file = root / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    file.rename(root / "said.txt")
    file.symlink_to(root / "said.txt")
    assert Iemocap().scan(root)[0].text == "Excuse me."


def test_a_transcript_in_another_encoding_is_refused_and_read_with_the_option(root: Path) -> None:
    file = root / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    file.write_bytes(b"Ses01F_impro01_F000 [006.2901-008.2357]: caf\xe9\n")
    with pytest.raises(InputError, match=r"Ses01F_impro01\.txt:1: not utf-8; it is likely cp1252"):
        Iemocap().scan(root)
    assert Iemocap(encoding="cp1252").scan(root)[0].text == "café"


def test_rows_do_not_depend_on_the_order_of_the_file_system(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for dialogue in ("Ses03M_impro02", "Ses01M_impro01", "Ses02F_impro09"):
        write_dialogue(root, dialogue, [(f"{dialogue}_M000", 1.0, 2.0, "neu")])
    expected = Iemocap().scan(root)
    listed: Callable[[Path, str], object] = Path.glob

    def backwards(self: Path, pattern: str) -> list[Path]:
        return sorted(listed(self, pattern), reverse=True)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(Path, "glob", backwards)
    assert Iemocap().scan(root) == expected == in_order(expected)


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_root_that_is_not_iemocap_says_what_it_should_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"EmoEvaluation[\s\S]*sail\.usc\.edu"):
        Iemocap().scan(tmp_path / name)


def test_the_numbers_of_vad_are_read_in_the_order_of_its_targets(root: Path) -> None:
    protocol, first = Iemocap().protocol("vad"), Iemocap().scan(root)[0]
    assert (protocol.task, protocol.classes) == ("regression", ("valence", "arousal", "dominance"))
    assert protocol.of(first) == (2.5, 3.0, 3.5) == tuple(first.labels[name] for name in protocol.classes)
