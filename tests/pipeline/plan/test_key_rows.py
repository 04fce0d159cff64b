"""Every field of a row is in its digests or on a list of those that must not be; a reader's options act through rows.

A new field of a row, or a new option of a reader, has to be thought about: it is added to one of the lists.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline import plugins
from pipeline.cache import keys
from pipeline.corpus import manifest
from pipeline.dialogue import Context
from pipeline.reader import Reader
from pipeline.utterance import Audio, Utterance, Video
from tests.contracts.reader_cases import CASES as READERS

AUDIO = Audio(path="a.wav", start_s=0.5, end_s=2.0, channel=None, digest="d" * 64)
VIDEO = Video(path="a.avi", start_s=0.5, end_s=2.0, crop=None, digest="d" * 64)
ROW = Utterance(id="u", dialogue="d", turn=0, text="Hi.", audio=(AUDIO,), video=(VIDEO,))
OTHER = {"path": "b", "start_s": 0.6, "end_s": None, "channel": 1, "crop": (0.0, 0.0, 0.5, 0.5), "digest": "e" * 64}
IN_ROW = {"text": "Ho.", "audio": (), "video": ()}
IN_DIALOGUE = {"text": "Ho.", "speaker": "s"}
IN_SHARD = {"id"}
IN_NO_KEY = {"start_s": 1.0, "end_s": 2.0, "split": "test", "session": "x", "labels": {"a": 1}}
OF_WHICH_TURNS_ARE_READ = {"dialogue": "e", "turn": 1}  # the tests of contexts
IN_PLACE_OF_THE_TEXT = {"text_digest"}


def raw(row: Utterance) -> dict[str, str | None]:
    return {
        "text": keys.text_digest(row),
        "dialogue": keys.turn_digest(row, Context(turns=1, speakers=True)),
        "audio": keys.audio_digest(row.audio, 1),
        "video": keys.video_digest(row.video, 1),
    }


def test_every_field_of_an_utterance_is_known_to_be_in_a_key_or_in_none():
    known = IN_ROW.keys() | IN_DIALOGUE.keys() | IN_SHARD | OF_WHICH_TURNS_ARE_READ.keys() | IN_NO_KEY.keys()
    known |= IN_PLACE_OF_THE_TEXT
    assert known == {field.name for field in dataclasses.fields(Utterance)}


OTHERS = IN_ROW | IN_DIALOGUE | OF_WHICH_TURNS_ARE_READ | IN_NO_KEY


@pytest.mark.parametrize("field", OTHERS)
def test_a_field_of_an_utterance_moves_its_own_digest_that_of_its_turn_or_none(field):
    found = raw(replace(ROW, **{field: OTHERS[field]}))
    moved = {kind for kind, value in found.items() if value != raw(ROW)[kind]}
    assert moved == ({field} & IN_ROW.keys()) | ({"dialogue"} if field in IN_DIALOGUE else set())


@pytest.mark.parametrize("media", [AUDIO, VIDEO])
def test_every_field_of_media_moves_its_digest_but_the_path(media):
    make = keys.audio_digest if isinstance(media, Audio) else keys.video_digest
    fields = {field.name for field in dataclasses.fields(media)}
    moved = {name for name in fields if make([replace(media, **{name: OTHER[name]})], 1) != make([media], 1)}
    assert moved == fields - {"path"}


# --- readers ---------------------------------------------------------------------------------------------------

ENCODING: tuple[Any, set[str]] = ("cp1252", {"text", "dialogue"})
BY_ROWS: dict[str, dict[str, tuple[Any, set[str]]]] = {
    "iemocap": {
        "audio": ("speaker", {"audio"}),
        "valid": ("session", set()),
        "video": ("both", {"video"}),
        "encoding": ENCODING,
    },
    "demo": {
        "audio": ("speaker", {"audio"}),
        "valid": ("session", set()),
        "video": ("both", {"video"}),
        "encoding": ENCODING,
    },
    "meld": {
        "realign": ("none", {"audio", "video"}),
        "crop": ("none", {"video"}),
        "final_videos_test": ("prefer", {"audio", "video"}),
        "max_duration_s": (0.01, {"audio", "video"}),
        "group": ("episode", set()),
    },
    "ch_sims": {"encoding": ("gb18030", {"text", "dialogue"})},
    "ch_sims_v2": {"encoding": ("gb18030", {"text", "dialogue"})},
    "imported": {"label": ("tone", set()), "classes": (("Positive", "Negative"), set())},
    "mosei": {"encoding": ENCODING},
    "mosi": {"encoding": ENCODING},
    "table": {
        "file": ("other.csv", {"text", "dialogue"}),
        "label": ("tone", set()),
        "classes": (("high", "low"), set()),
        "encoding": ENCODING,
    },
}
"""Another value of each option of a reader, and the raw input of the rows that it may change: keys see nothing else."""
ANOTHER_CORPUS = {"demo": {"seed", "per_cell"}}
"""Options that write another corpus."""


@pytest.mark.parametrize("name", plugins.names("manifests"))
def test_every_option_of_a_reader_is_known_to_act_through_the_rows(name):
    kind = plugins.find("manifests", name, Reader)  # type: ignore[type-abstract]
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    assert BY_ROWS.get(name, {}).keys() | ANOTHER_CORPUS.get(name, set()) == fields


@pytest.mark.parametrize(("name", "option"), [(name, option) for name, found in BY_ROWS.items() for option in found])
def test_an_option_of_a_reader_changes_the_raw_input_it_is_known_to(name, option, demo_root, tmp_path):
    given, write = READERS[name]
    kind = cast("type[Any]", plugins.find("manifests", name, Reader))  # type: ignore[type-abstract]
    root = write(tmp_path / "corpus", shutil.copytree(demo_root, tmp_path / "demo"))
    value, expected = BY_ROWS[name][option]
    _prepared(root, name)
    one, two = (
        {row.id: raw(row) for row in manifest.build(kind(**options), root, tmp_path / "memory").rows}
        for options in (given, {**given, option: value})
    )
    assert one.keys() == two.keys()
    assert {kind for i in one for kind in one[i] if one[i][kind] != two[i][kind]} == expected


def _prepared(root: Path, name: str) -> None:
    """What the other values of `BY_ROWS` find: a second test clip, another column of labels, another table, and
    transcripts with a letter that is written otherwise in another encoding."""
    for path in (*root.rglob("*.annotprocessed"), *root.rglob("*.txt")):
        if "ranscript" in str(path.relative_to(root)):
            path.write_text("\n".join(f"{line} é" for line in path.read_text().splitlines()), encoding="utf-8")
    if name == "meld":
        folder = root / "output_repeated_splits_test"
        (folder / "final_videos_testdia0_utt0.mp4").write_bytes(b"another")
    if name == "table":
        header, *lines = (root / "utterances.csv").read_text().splitlines()
        text = "\n".join([f"{header},tone", *(f"{line},low" for line in lines)]).replace("words", "words é")
        (root / "utterances.csv").write_text(text)
        (root / "other.csv").write_text(text.replace("words", "other words"))
