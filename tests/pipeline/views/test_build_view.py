"""Views: what a model trains on is what the store holds, aligned, and no fit behind it saw a test row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from manifests.iemocap import SIX
from pipeline.cache.record import encode
from pipeline.errors import InputError
from pipeline.reader import Fold
from pipeline.views.align import align, auto_length
from pipeline.views.build_view import build_columns
from pipeline.views.view import Column

FRAMES = '{ stage = "audio_mfcc", n_mfcc = 5, deltas = 0, rate_hz = 12.5 }'
DESCRIPTORS = '{ stage = "audio_opensmile", feature_set = "IS09", level = "lld", rate_hz = 12.5 }'


def view(small, features, fold=0, **options):
    """The paths of a feature set's columns in one fold."""
    session = small.session(features=(features,), **options)
    chosen = session.corpus.folds[fold] if isinstance(fold, int) else fold
    return build_columns(session.corpus, session.catalogue, features, chosen, small.home)


def column(small, features, modality="audio", **more):
    return Column.open(view(small, features, **more)[modality])


def ids(small):
    return [row.id for row in small.session().corpus.manifest.rows]


def fold_of(small, **options):
    return small.session(**options).corpus.folds[0]


def only(small, features, audio):
    """Makes the recipe one audio feature set."""
    small.recipe = small.recipe.partition("[features")[0] + f"[features.{features}]\naudio = {audio}\n"


# --- what stands in a column -----------------------------------------------------------------------------------


def test_a_column_holds_every_row_of_the_manifest_in_its_order_aligned(extracted):
    small = extracted
    found, rows = column(small, "sound"), small.rows()
    for index, name in enumerate(ids(small)):
        track = rows["audio_mfcc", name][1]
        values, mask = align(track.values, track.valid, "pad", 32)
        np.testing.assert_array_equal(found.values[index], values)
        np.testing.assert_array_equal(found.mask[index], mask)
        assert found.steps[index] == len(track.values)
    assert all(name.startswith("audio_mfcc.") for name in found.names)
    assert len(found.names) == found.dim == 5 and len(set(found.names)) == 5


def test_one_vector_an_utterance_is_stored_once_and_stands_for_all_steps(extracted):
    found = column(extracted, "pitch")
    assert found.values.shape[:2] == (60, 1) and found.length == 4


def test_a_row_without_features_is_there_and_invalid(extracted):
    small = extracted
    name = fold_of(small).train[0]
    row = next(row for row in small.session().corpus.manifest.rows if row.id == name)
    (small.root / row.audio[0].path).unlink()
    small.extract(modality="audio")
    found = column(small, "sound")
    assert [ids(small)[i] for i in np.flatnonzero(~found.present)] == [name]
    assert not found.values[ids(small).index(name)].any()


def test_concatenated_stages_stand_side_by_side_step_by_step(small):
    only(small, "both", f'{{ concat = [{DESCRIPTORS}, {FRAMES}], align = {{ mode = "pad", length = 16 }} }}')
    small.extract()
    found, rows = column(small, "both"), small.rows()
    for index, name in enumerate(ids(small)):
        one, two = rows["audio_opensmile", name][1], rows["audio_mfcc", name][1]
        steps = min(len(one.values), len(two.values), 16)
        valid = one.valid[:steps] & two.valid[:steps]
        expected = np.concatenate([one.values[:steps], two.values[:steps]], axis=1)
        np.testing.assert_array_equal(found.mask[index, :steps], valid)
        np.testing.assert_array_equal(found.values[index, :steps][valid], expected[valid])
    owners = [name.partition(".")[0] for name in found.names]
    assert owners == ["audio_opensmile"] * (found.dim - 5) + ["audio_mfcc"] * 5


def test_stages_on_different_grids_are_not_concatenated(small):
    other = FRAMES.replace("12.5", "25.0")
    only(small, "both", f'{{ concat = [{FRAMES}, {other}], align = {{ mode = "pad", length = 16 }} }}')
    small.extract()
    with pytest.raises(InputError, match="same rate_hz"):
        view(small, "both")


# --- when a column is written ----------------------------------------------------------------------------------


def test_a_column_is_written_once(extracted):
    small = extracted
    first = view(small, "sound")
    times = {path: path.stat().st_mtime_ns for path in first["audio"].iterdir()}
    assert view(small, "sound") == first
    assert {path: path.stat().st_mtime_ns for path in first["audio"].iterdir()} == times


def test_a_label_moves_no_column_of_a_frozen_stage(extracted):
    small = extracted
    before = view(small, "sound")
    row = next(row for row in small.session().corpus.manifest.rows if row.id == fold_of(small).train[0])
    other = "sad" if row.labels["emotion"] != "sad" else "ang"
    small.edit(row.id, f"\t{row.labels['emotion']}\t", f"\t{other}\t", kind="EmoEvaluation")
    assert small.session().corpus.labels[row.id] == SIX.index(other) and view(small, "sound") == before


@pytest.mark.parametrize("new", ["length = 31", 'length = "auto"'])
def test_another_alignment_is_another_column_of_the_same_shards(extracted, new):
    small = extracted
    before = view(small, "sound")
    small.recipe = small.recipe.replace("length = 32", new)
    assert small.extract() == {} and view(small, "sound") != before


def test_another_row_is_another_column(extracted):
    small = extracted
    before = view(small, "sound")
    row = small.session().corpus.manifest.rows[3]
    samples, rate_hz = soundfile.read(small.root / row.audio[0].path)
    soundfile.write(small.root / row.audio[0].path, samples[::-1], rate_hz)
    small.extract(modality="audio")
    assert view(small, "sound") != before


def test_what_is_not_extracted_is_refused_with_the_way_to_get_it(small):
    for features in ("sound", "words"):
        with pytest.raises(InputError, match="run `affectory extract` first"):
            view(small, features)


def test_folds_share_the_columns_of_frozen_stages_and_have_their_own_of_fitted_ones(small):
    small.extract(protocol="cv", features=("words", "sound"))
    frozen = {view(small, "sound", fold=n, protocol="cv")["audio"] for n in range(5)}
    fitted = {view(small, "words", fold=n, protocol="cv")["text"] for n in range(5)}
    assert (len(frozen), len(fitted)) == (1, 5)


# --- automatic length ------------------------------------------------------------------------------------------


def test_the_automatic_length_is_the_99th_percentile_of_the_train_rows_alone(extracted):
    small = extracted
    small.recipe = small.recipe.replace("length = 32", 'length = "auto"')
    fold = fold_of(small)
    before = column(small, "sound")
    steps = dict(zip(ids(small), before.steps.tolist(), strict=True))
    assert before.length == auto_length([steps[name] for name in fold.train])
    for part in (fold.test, fold.valid):
        _lengthen(small, part[0])
        assert column(small, "sound").length == before.length
    _lengthen(small, fold.train[0])
    assert column(small, "sound").length > before.length


def _lengthen(small, name):
    """Makes an utterance's sound four times as long."""
    row = next(row for row in small.session().corpus.manifest.rows if row.id == name)
    samples, rate_hz = soundfile.read(small.root / row.audio[0].path)
    soundfile.write(small.root / row.audio[0].path, np.tile(samples, 4), rate_hz)
    assert small.extract(features=("sound",)) == {"audio_mfcc": 1}


def test_without_train_rows_there_is_no_automatic_length(extracted):
    extracted.recipe = extracted.recipe.replace("length = 32", 'length = "auto"')
    with pytest.raises(InputError, match="needs labelled train rows"):
        view(extracted, "sound", fold=None)
    extracted.recipe = extracted.recipe.replace('length = "auto"', "length = 32")
    assert column(extracted, "sound", fold=None).length == 32


# --- leaks -----------------------------------------------------------------------------------------------------


def tamper(small, stage, part, name):
    """Writes into the record of a stage's state that it learned from a row too."""
    [(node, scope)] = [place for place in small.session().catalogue.wanted if place[0].name == stage]
    record = small.session().catalogue.of(node, scope).state
    path = small.home / "cache" / "actions" / f"{node.digest}.fit" / f"{record.key}.json"
    path.chmod(0o644)
    path.write_bytes(encode(replace(record, about={**record.about, part: [*record.about[part], name]})))


@pytest.mark.parametrize("part", ["train", "valid"])
@pytest.mark.parametrize("stage", ["text_cnn", "text_word2vec"])
def test_features_whose_fit_saw_a_test_row_are_refused_also_from_further_up(extracted, stage, part):
    small = extracted
    assert view(small, "words")
    name = fold_of(small).test[2]
    tamper(small, stage, part, name)
    with pytest.raises(InputError, match=f"the state of {stage} saw test rows of official: {name}"):
        view(small, "words")


def test_a_fold_that_tests_what_another_fold_learned_from_gets_none_of_its_features(extracted):
    small = extracted
    session = small.session(features=("words",))
    fold = fold_of(small)
    swapped = Fold(fold.name, fold.test, fold.valid, fold.train)
    with pytest.raises(InputError, match="saw test rows"):
        build_columns(session.corpus, session.catalogue, "words", swapped, small.home)


def test_the_record_of_a_fit_names_the_rows_it_learned_from(extracted):
    session, fold = extracted.session(), fold_of(extracted)
    fits = [(node, scope) for node, scope in session.catalogue.wanted if node.stage.fitted]
    assert {node.name for node, _ in fits} == {"text_word2vec", "text_cnn"}
    for node, scope in fits:
        about = session.catalogue.of(node, scope).state.about
        assert (tuple(about["train"]), tuple(about["valid"])) == (fold.train, fold.valid)


VECTORS = """
[features.vectors.text]
stage = "text_word2vec"
size = 8
epochs = 1
min_count = 1
align = { mode = "pad", length = 12 }
"""


def test_with_crossfit_a_train_row_has_no_vectors_of_a_fit_that_saw_it_though_another_stage_stands_on_those(small):
    small.recipe = small.recipe.replace('protocol = "official"', 'protocol = "official"\ncrossfit = 2')
    small.recipe = small.recipe.partition("[features.sound]")[0] + VECTORS
    small.extract()
    session = small.session()
    found = Column.open(
        build_columns(session.corpus, session.catalogue, "vectors", session.corpus.folds[0], small.home)["text"]
    )
    rows = small.rows()
    for index, name in enumerate(ids(small)):
        [scope] = [scope for scope in session.corpus.scopes["official"] if name in scope.apply]
        track = rows[f"text_word2vec@{scope.name}", name][1]
        values, _ = align(track.values, track.valid, "pad", 12)
        np.testing.assert_array_equal(found.values[index], values)


def test_with_crossfit_a_train_row_has_the_features_of_a_fit_that_did_not_see_it(small):
    small.recipe = small.recipe.replace('protocol = "official"', 'protocol = "official"\ncrossfit = 2')
    small.extract(features=("words",))
    found, session = column(small, "words", modality="text"), small.session(features=("words",))
    fold = session.corpus.folds[0]
    scopes = {scope.name: scope for scope in session.corpus.scopes["official"]}
    assert len(scopes) == 3
    small.recipe = small.recipe.partition("[features.sound]")[0]
    rows = small.rows()
    for index, name in enumerate(ids(small)):
        [scope] = [scope for scope in scopes.values() if name in scope.apply]
        assert (scope.name == "official") == (name not in fold.train) and name not in scope.train
        track = rows[f"text_cnn@{scope.name}", name][1]
        values, mask = align(track.values, track.valid, "pad", 12)
        np.testing.assert_array_equal(found.values[index], values)
    seen = [
        name
        for node, scope in session.catalogue.wanted
        for name in session.catalogue.of(node, scope).state.about["train"]
    ]
    assert set(seen) == set(fold.train)
