"""What `affectory export` writes: the rows, labels, split and aligned features that a model is given."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.formats.content import Content
from pipeline.formats.writers import FORMATS, named, write
from pipeline.views import exported
from pipeline.views.build_view import build_columns
from pipeline.views.view import open_view
from tests.pipeline.cli.test_commands import affectory, options  # noqa: F401 - a fixture
from tests.small import Small


def of(small: Small, features: str = "sound", **more: Any) -> Content:
    session = small.session()
    return exported.content(session, features, session.corpus.folds[0], **more)


def test_the_rows_are_those_of_the_folds_parts_with_their_labels(extracted: Small) -> None:
    corpus = extracted.session().corpus
    rows = {row.id: row for row in of(extracted).rows}
    [fold] = corpus.folds
    assert {i: row.split for i, row in rows.items()} == {
        i: part for part in ("train", "valid", "test") for i in getattr(fold, part)
    }
    for name, row in rows.items():
        assert row.labels == {"label": corpus.labels[name], "class": corpus.target.classes[int(corpus.labels[name])]}  # type: ignore[arg-type]


def test_the_steps_are_those_of_the_view_without_the_padding_at_the_end(extracted: Small) -> None:
    session = extracted.session()
    fold = session.corpus.folds[0]
    columns = build_columns(session.corpus, session.catalogue, "sound", fold, session.home.root)
    view = open_view([row.id for row in session.corpus.manifest.rows], {"audio": columns["audio"]})
    content = of(extracted)
    for number, row in enumerate(content.rows):
        [place] = view.rows([row.id])
        mask, steps = view.columns["audio"].mask[place], content.tracks["audio"].read(number)
        assert steps is not None and len(steps.values) == np.flatnonzero(mask)[-1] + 1
        assert np.array_equal(steps.values, view.columns["audio"].values[place][: len(steps.values)])


def test_a_vector_that_stands_for_all_steps_is_repeated_where_a_format_wants_aligned_steps(extracted: Small) -> None:
    content = of(extracted, "pitch", aligned=True)
    steps = content.tracks["audio"].read(0)
    assert steps is not None and len(steps.values) == 4 and (steps.values == steps.values[0]).all()


def test_modalities_of_other_lengths_are_no_aligned_file(extracted: Small) -> None:
    extracted.recipe += """
[features.both.text]
stage = "text_cnn"
epochs = 2
channels = 4
input.text_word2vec = { size = 8, epochs = 1, min_count = 1 }
align = { mode = "pad", length = 12 }
[features.both]
audio = { stage = "audio_mfcc", n_mfcc = 5, deltas = 0, rate_hz = 12.5, align = { mode = "pad", length = 32 } }
"""
    with pytest.raises(InputError, match="both has 12 text, 32 audio steps"):
        of(extracted, "both", aligned=True)


@pytest.mark.parametrize("form", sorted(FORMATS.keys() - {"erc"}))  # which needs three modalities: test_erc
def test_a_format_is_written_with_a_description_and_never_over_something(form: str, extracted: Small) -> None:
    session = extracted.session()
    content, place = of(extracted, aligned=FORMATS[form].aligned), extracted.home / "out" / "x"
    about = exported.about(session, "sound", session.corpus.folds[0], content)
    beside = write(content, about, FORMATS[form], place)
    said = json.loads(beside.read_text())
    assert said["rows"] == {part: sum(row.split == part for row in content.rows) for part in said["rows"]}
    assert said["features"]["audio"]["stages"][0]["stage"] == "audio_mfcc"
    assert said["features"]["audio"]["dimensions"] == 5 and sum(said["left_out"].values()) + len(content.rows) == 60
    with pytest.raises(InputError, match="is there already"):
        write(content, about, FORMATS[form], place)


def test_an_unknown_format_names_the_closest() -> None:
    with pytest.raises(InputError, match="no format 'msa': did you mean mmsa"):
        named("msa")


def test_a_reader_like_mmsas_finds_all_that_it_reads(extracted: Small, affectory: Any, tmp_path: Path) -> None:  # noqa: F811
    place = tmp_path / "sound.pkl"
    code, out, err = affectory("export", "mmsa", "--features", "sound", "-o", str(place), *options(extracted), "--json")
    assert code == 0, err
    data = pickle.loads(place.read_bytes())
    assert place.read_bytes()[:2] == b"\x80\x02" and json.loads(out)["rows"] == {p: len(data[p]["id"]) for p in data}
    for part in data.values():
        values = part["audio"].astype(np.float32)
        assert values.shape[::2] == (len(part["id"]), 5) and part["regression_labels"].shape == (len(values),)
        assert len(part["raw_text"]) == len(part["annotations"]) == len(part["audio_lengths"]) == len(values)
        for row, length in zip(values, part["audio_lengths"], strict=True):
            assert row[length - 1].any() and not row[length:].any()


def test_a_feature_set_or_fold_that_is_not_there_names_the_closest(extracted: Small, affectory: Any) -> None:  # noqa: F811
    for more, message in (
        (("--features", "sounds"), "no feature set 'sounds': did you mean sound"),
        (("--features", "sound", "--fold", "officil"), "no fold 'officil': did you mean official"),
        (("--features", "sound", "--protocol", "cv"), "has several folds, name one of them"),
    ):
        code, _, err = affectory("export", "npz", "-o", "x.npz", *options(extracted), *more)
        assert code == 2 and message in " ".join(err.split())
