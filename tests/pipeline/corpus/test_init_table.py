"""The table begun for a folder of clips: one row a clip, safe unique ids, transcripts, and what is left out."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from manifests.table import Table
from pipeline.corpus.init_table import write
from pipeline.errors import InputError
from pipeline.utterance import Audio, Utterance, Video


def clips(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"a clip")
    return root


def scan(root: Path) -> dict[str, Utterance]:
    write(root)
    return {row.id: row for row in Table().scan(root)}


def header(root: Path) -> list[str]:
    with (root / "utterances.csv").open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file))


def test_the_table_is_one_that_the_table_reader_reads(tmp_path: Path) -> None:
    clips(tmp_path, "b.wav", "a/one.mp4", "a/one.wav", "a/two.MP4")
    (tmp_path / "a/one.txt").write_text("Well, “hello”\n there", encoding="utf-8")
    answer = write(tmp_path)
    assert answer == {
        "table": str(tmp_path / "utterances.csv"),
        "rows": 3,
        "with": {"text": 1, "audio": 3, "video": 2},
        "left_out": {},
    }
    first, second, third = Table().scan(tmp_path)
    video, sound = Video(path="a/one.mp4"), Audio(path="a/one.wav")
    assert first == Utterance(
        id="a_one", dialogue="a_one", turn=0, text="Well, “hello” there", audio=(sound,), video=(video,)
    )
    assert (second.id, second.audio, second.video) == ("a_two", (Audio(path="a/two.MP4"),), (Video(path="a/two.MP4"),))
    assert (third.id, third.audio, third.video, third.text) == ("b", (Audio(path="b.wav"),), (), None)


def test_cells_to_fill_in_are_there_and_empty(tmp_path: Path) -> None:
    write(clips(tmp_path, "a.mp4"))
    assert header(tmp_path) == ["utterance", "dialogue", "speaker", "split", "text", "video", "label"]
    assert (tmp_path / "utterances.csv").read_text(encoding="utf-8").splitlines()[1] == "a,,,,,a.mp4,"


def test_the_sound_of_a_video_is_its_own_where_the_table_has_no_audio_column(tmp_path: Path) -> None:
    assert scan(clips(tmp_path, "a.mp4"))["a"].audio == (Audio(path="a.mp4"),)


def test_a_folder_of_sound_alone_has_no_video_column(tmp_path: Path) -> None:
    write(clips(tmp_path, "a.flac", "b.ogg"))
    assert "video" not in header(tmp_path) and "audio" in header(tmp_path)


def test_ids_hold_no_separators_and_stay_unique(tmp_path: Path) -> None:
    names = ["a/b c.wav", "a/b_c.wav", "a_b/c.wav", "x/=1+1.wav", "ünï 🙂.wav", "plain.v2.wav"]
    rows = scan(clips(tmp_path, *names))
    assert len(rows) == len(names)
    assert {path for row in rows.values() for path in row.files("audio")} == set(names)
    assert {"x_1_1", "ünï_", "plain.v2"} < set(rows)
    assert all(set(name).isdisjoint("/\\ =+,;\"'\n") for name in rows)


def test_ids_are_the_same_again_and_do_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    names = ["a/b c.wav", "a/b_c.wav", "z.mp4"]
    first, second = (clips(tmp_path / name, *names) for name in ("one", "two"))
    for root in (first, second):
        write(root)
    assert (first / "utterances.csv").read_bytes() == (second / "utterances.csv").read_bytes()


def test_hidden_and_apple_double_files_are_no_clips(tmp_path: Path) -> None:
    rows = scan(clips(tmp_path, "a.mp4", "._a.mp4", ".hidden/b.mp4", "sub/._c.wav", "__MACOSX/._a.mp4"))
    assert set(rows) == {"a"}


def test_other_files_and_transcripts_without_a_clip_are_no_rows(tmp_path: Path) -> None:
    assert set(scan(clips(tmp_path, "a.wav", "README.txt", "notes.pdf", "labels.csv", "noextension"))) == {"a"}


def test_links_to_outside_and_odd_names_are_left_out_and_named(tmp_path: Path) -> None:
    clips(tmp_path, "secret.wav", "secret.txt")
    root = clips(tmp_path / "root", "a.wav", "new\nline.wav", "new\rline.wav")
    (root / "out.wav").symlink_to(tmp_path / "secret.wav")
    (root / "a.txt").symlink_to(tmp_path / "secret.txt")
    (root / "loop.wav").symlink_to(root / "loop.wav")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff.wav")).write_bytes(b"a clip")
    answer = write(root)
    assert answer["rows"] == 1 and answer["with"]["text"] == 0
    assert answer["left_out"] == {
        "a link that leads out of the folder": ["a.txt", "out.wav"],
        "a link that leads nowhere": ["loop.wav"],
        "a name that is not Unicode, or that has control characters": ["new\nline.wav", "new\rline.wav", "?.wav"],
    }
    assert [row.id for row in Table().scan(root)] == ["a"]


def test_every_file_that_is_left_out_is_told_with_the_reason(tmp_path: Path) -> None:
    root = clips(tmp_path / "root", "a.wav", "b.sph", "c.SPH", "alone.txt", "notes")
    clips(tmp_path / "elsewhere", "d.wav")
    (root / "more").symlink_to(tmp_path / "elsewhere")
    assert write(root)["left_out"] == {
        ".sph is no ending of clips that is known": ["b.sph", "c.SPH"],
        "a linked folder, which is not searched": ["more"],
        "no ending": ["notes"],
        "a transcript without a clip": ["alone.txt"],
    }


def test_a_transcript_in_another_encoding_is_refused_and_read_with_the_option(tmp_path: Path) -> None:
    root = clips(tmp_path, "a.wav")
    (root / "a.txt").write_text("café", encoding="utf-16")
    with pytest.raises(InputError, match=r"a\.txt:1: not utf-8; it is likely utf-16"):
        write(root)
    write(root, encoding="utf-16")
    assert [row.text for row in Table().scan(root)] == ["café"]


def test_an_existing_table_is_never_overwritten(tmp_path: Path) -> None:
    clips(tmp_path, "a.wav")
    (tmp_path / "utterances.csv").write_text("mine")
    with pytest.raises(InputError, match="not overwritten"):
        write(tmp_path)
    assert (tmp_path / "utterances.csv").read_text() == "mine"
    assert Table(file="other.csv").scan(Path(write(tmp_path, "other.csv")["table"]).parent)[0].id == "a"


def test_every_stem_with_two_files_of_a_kind_is_listed(tmp_path: Path) -> None:
    clips(tmp_path, "a.mp4", "a.avi", "b.wav", "sub/c.wav", "sub/c.flac")
    with pytest.raises(InputError) as caught:
        write(tmp_path)
    wrong = ["a.avi and a.mp4: keep one of them", "sub/c.flac and sub/c.wav: keep one of them"]
    assert str(caught.value).splitlines() == wrong
    assert not (tmp_path / "utterances.csv").exists()


def test_a_text_longer_than_the_table_reader_takes_is_refused(tmp_path: Path) -> None:
    clips(tmp_path, "a.wav", "b.wav")
    (tmp_path / "a.txt").write_text("x" * 100_000)
    assert scan(tmp_path)["a"].text == "x" * 100_000
    (tmp_path / "utterances.csv").unlink()
    (tmp_path / "b.txt").write_text("x" * 100_001)
    with pytest.raises(InputError, match=r"^b\.txt: too long"):
        write(tmp_path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xef\xbb\xbfHi", "Hi"),
        (b'a\r\nb,\t"c"\n', 'a b, "c"'),
        (b" \n", None),
    ],
)
def test_a_transcript_is_one_line_of_unicode(tmp_path: Path, content: bytes, text: str | None) -> None:
    clips(tmp_path, "a.wav")
    (tmp_path / "a.txt").write_bytes(content)
    assert scan(tmp_path)["a"].text == text


@pytest.mark.parametrize("out", ["../t.csv", "/tmp/t.csv", "t.parquet", "t"])
def test_the_table_lies_inside_the_folder_and_is_csv(tmp_path: Path, out: str) -> None:
    with pytest.raises(InputError, match=r"is not a \.csv inside"):
        write(clips(tmp_path / "root", "a.wav"), out)


def test_a_folder_without_clips_or_none_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no clips in .*\.mp4"):
        write(clips(tmp_path, "a.txt"))
    with pytest.raises(InputError, match="is not a folder"):
        write(tmp_path / "absent")


def test_every_suffix_of_the_real_media_is_known(kit: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted((kit / "media").iterdir())):
        (tmp_path / f"{number:02d}{path.suffix}").write_bytes(path.read_bytes())
    found = [row.video or row.audio for row in scan(tmp_path).values()]
    assert len(found) == len(list((kit / "media").iterdir())) and all(found)
