"""A recipe is read: all its errors at once, each with its line; overrides; and the root of its corpus."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.corpus.recipe_file import RECIPES, check_train, home_name, read_recipe
from pipeline.errors import InputError
from tests.recipes import DATASET, SOUND, WORDS, line_of, node

# --- errors ----------------------------------------------------------------------------------------------------


def test_all_errors_of_a_recipe_are_reported_at_once_with_line_and_closest_name(errors, monkeypatch):
    monkeypatch.delenv("NOT_SET_ANYWHERE", raising=False)
    text = (
        WORDS.replace('"six"', '"sixx"')
        .replace('"corpus"', '"$NOT_SET_ANYWHERE"')
        .replace('stage = "text_cnn"', 'stage = "text_cnn"\nepohcs = 2\nchannels = "many"')
        .replace("size = 8", "sise = 8")
        .replace('"audio_mfcc"', '"audio_mffc"')
        .replace('level = "lld"', 'level = "ldd"')
    )
    found = errors(text)
    lines = {message.partition(":")[0]: number for number, message in found}
    said = "\n".join(message for _, message in found)
    assert lines["dataset.labels"] == line_of(text, "labels =")
    assert lines["dataset.root"] == line_of(text, "root   =")
    assert lines["features.words.text.epohcs"] == line_of(text, "epohcs =")
    assert lines["features.words.text.channels"] == line_of(text, "channels =")
    assert lines["features.words.text.input.text_word2vec.sise"] == line_of(text, "input.text_word2vec")
    assert lines["features.words.audio.stage"] == lines["features.words.audio.level"] == line_of(text, "audio =")
    for closest in ("six", "epochs", "size", "audio_mfcc"):
        assert re.search(rf"did you mean [^?]*\b{closest}\b", said)


def test_an_error_under_a_table_is_not_blamed_on_a_later_table_above_it(errors):
    text = WORDS.replace('stage = "text_cnn"', 'stage = "text_cnn"\nwidths = 3')
    [(line, _)] = errors(text)
    assert line == line_of(text, "widths")


@pytest.mark.parametrize(
    ("old", "new", "where", "said"),
    [
        ("[features.sound]", "[featurs.sound]", "featurs", "features"),
        ("audio =", "audoi =", "features.sound.audoi", "audio"),
        ("audio =", "text =", "features.sound.text", "stage of audio"),
        ('"iemocap"', '"iemocapp"', "dataset.reader", "iemocap"),
        ('labels = "six"', "", "dataset.labels", "required"),
        ('labels = "six"', 'labels = "six"\nmax_fail = 0.1', "dataset.max_fail", "max_failed"),
        ('labels = "six"', 'labels = "six"\nvideo = "speakr"', "dataset.video", "speaker"),
        ('labels = "six"', 'labels = "six"\nmax_failed = 5', "dataset.max_failed", "less than or equal to 1"),
        ('labels = "six"', 'labels = "six"\ncrossfit = 1', "dataset.crossfit", "no rows to learn from"),
        ('mode = "pad"', 'mode = "padd"', "features.sound.audio.align.mode", "'pad'"),
        ("length = 4", "length = 0", "features.sound.audio.align.length", "at least one step"),
        ("length = 4", "lenght = 4", "features.sound.audio.align.lenght", "not permitted"),
        ('{ mode = "pad", length = 4 }', '"pad"', "features.sound.audio.align", "valid dictionary"),
        ('stage = "audio_mfcc"', "n_mfcc = 5", "features.sound.audio.stage", "known: audio_imported, audio_mfcc"),
        ('stage = "audio_mfcc"', 'stage = "audio_mfcc", n_mfcc = "many"', "features.sound.audio.n_mfcc", "integer"),
        ('stage = "audio_mfcc"', 'stage = "audio_mfcc", n_mfcc = 0', "features.sound.audio", "n_mfcc"),
        ('stage = "audio_mfcc"', 'stage = "audio_mfcc", rate_hz = inf', "features.sound.audio", ""),
        ('stage = "audio_mfcc"', 'stage = "audio_mfcc", input.audoi = {}', "features.sound.audio.input.audoi", "audio"),
        ('stage = "audio_mfcc"', 'stage = "audio_mfcc", input = 3', "features.sound.audio.input", "expected a table"),
        ('stage = "audio_mfcc"', "concat = []", "features.sound.audio.concat", "list of stages"),
        ('stage = "audio_mfcc"', 'concat = "audio_mfcc"', "features.sound.audio.concat", "list of stages"),
        ('stage = "audio_mfcc"', 'concat = ["audio_mfcc"]', "features.sound.audio", "expected a table"),
        (
            'stage = "audio_mfcc"',
            'concat = [{ stage = "audio_mfcc" }], rate_hz = 10.0',
            "features.sound.audio.rate_hz",
            "beside concat",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_place_and_line(errors, old, new, where, said):
    assert old in SOUND
    found = errors(SOUND.replace(old, new))
    assert [message.partition(":")[0] for _, message in found if said in message] == [where]


@pytest.mark.parametrize("text", ["features = 3\n" + DATASET, DATASET + "[features]\nsound = 3\n"])
def test_something_else_in_the_place_of_a_table_is_an_error_and_no_crash(errors, text):
    assert [message for _, message in errors(text)] == [message for _, message in errors(text) if "table" in message]


def test_a_file_that_is_no_toml_is_named_with_the_line(load, tmp_path):
    with pytest.raises(InputError, match=r"corpus\.toml: .*line 2"):
        load("\n[dataset\n")


def test_a_recipe_that_is_not_there_says_which_there_are(tmp_path):
    with pytest.raises(InputError, match="did you mean demo"):
        read_recipe(RECIPES / "demoo.toml", memory=tmp_path / "memory", home=tmp_path)


def test_a_recipe_that_is_no_utf8_is_named(load, tmp_path):
    load(SOUND)
    (tmp_path / "corpus.toml").write_bytes(SOUND.replace("corpus", "caf\xe9").encode("latin-1"))
    with pytest.raises(InputError, match=r"corpus\.toml is not UTF-8"):
        read_recipe(tmp_path / "corpus.toml", memory=tmp_path / "memory", home=tmp_path)


# --- settings of models ----------------------------------------------------------------------------------------


def test_a_section_for_a_model_that_is_not_there_is_an_error_with_its_line(errors):
    (line, message) = errors(SOUND + "[train.hjcga]\nepochs = 1\n")[0]
    assert (line, "hjcag" in message) == (8, True)


@pytest.mark.parametrize("text", ["[train]\nhjcag = 5\n", "[train]\nhjcag = []\n"])
def test_settings_of_a_model_that_are_no_table_are_an_error_with_their_line(text, errors):
    assert errors(SOUND + text) == [(9, f"train.hjcag: expected a table, got {5 if '5' in text else []}")]


def test_what_a_model_or_the_loop_refuses_is_named_by_its_place_and_line(load, tmp_path):
    text = SOUND + "[train.hjcag]\nlerning_rate = 1\nd_model = 'wide'\n[train.mulg]\nepochs = 0\nbatch_size = 4\n"
    with pytest.raises(InputError) as caught:
        check_train(tmp_path / "corpus.toml", load(text).train)
    first, second, third = str(caught.value).splitlines()
    assert "corpus.toml:9: train.hjcag.lerning_rate: no such setting: did you mean learning_rate" in first
    assert "corpus.toml:10: train.hjcag.d_model: " in second and "integer" in second
    assert "corpus.toml:12: train.mulg.epochs: " in third


# --- overrides -------------------------------------------------------------------------------------------------


def test_an_override_has_the_type_that_toml_gives_it_and_else_is_text(load):
    audio = "features.sound.audio"
    changes = ["n_mfcc=7", "rate_hz=25.0", "align.length=auto"]
    read = load(SOUND, *(f"{audio}.{change}" for change in changes), "dataset.labels=four")
    assert dict(node(read, "sound").params) | {"n_mfcc": 7, "rate_hz": 25.0} == node(read, "sound").params
    assert read.features["sound"]["audio"].align.length == "auto"
    assert read.label_protocol == "four" and len(read.labels.classes) == 4


def test_an_override_of_a_stage_below_reaches_it(load):
    [upstream] = node(load(WORDS, "features.words.text.input.text_word2vec.size=16"), "words", "text").upstream
    assert upstream.params["size"] == 16


def test_an_override_with_an_unknown_key_is_an_error_of_the_recipe(errors):
    [(line, message)] = errors(SOUND, "features.sound.audio.n_mffc=7")
    assert line == line_of(SOUND, "audio =") and "did you mean n_mfcc" in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("features.sounds.audio.n_mfcc=7", "no table 'sounds'; did you mean sound?"),
        ("featurs.sound.audio.n_mfcc=7", "no table 'featurs'; did you mean features?"),
        ("features.sound.audio.n_mfcc", "expected table.key=value"),
    ],
)
def test_an_override_of_an_unknown_table_names_the_closest(load, change, said):
    with pytest.raises(InputError, match=re.escape(said)):
        load(SOUND, change)


def test_a_setting_of_a_model_needs_no_table_in_the_recipe_and_that_of_an_unknown_model_does(load):
    assert "train" not in SOUND
    assert load(SOUND, "train.mulg.epochs=3", "train.hjcag.d_model=8").train["mulg"] == {"epochs": 3}
    with pytest.raises(InputError, match="no table 'train'"):
        load(SOUND, "train.mulgg.epochs=3")


# --- the root --------------------------------------------------------------------------------------------------


def test_the_root_is_the_argument_else_the_variable_else_the_recipe_else_the_home(load, monkeypatch, tmp_path):
    written = SOUND.replace('"corpus"', '"/from/the/recipe"')
    unwritten = SOUND.replace('root   = "corpus"', "")
    assert load(unwritten).root == tmp_path / "home" / "raw" / home_name(tmp_path / "corpus.toml")
    assert load(written).root == Path("/from/the/recipe")
    monkeypatch.setenv("CORPUS_ROOT", "/from/the/variable")
    assert load(written).root == load(unwritten).root == Path("/from/the/variable")
    assert load(written, root="/from/the/argument").root == Path("/from/the/argument")


def test_a_relative_root_does_not_depend_on_who_reads_it_later(load, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert load(SOUND).root == tmp_path / "corpus"


def test_a_variable_in_the_root_is_read_and_one_that_is_not_set_is_named(load, errors, monkeypatch):
    text = SOUND.replace('"corpus"', '"$SOMEWHERE/release"')
    monkeypatch.setenv("SOMEWHERE", "/corpora")
    assert load(text).root == Path("/corpora/release")
    monkeypatch.delenv("SOMEWHERE")
    [(line, message)] = errors(text)
    assert line == line_of(text, "root") and "$SOMEWHERE" in message and "ROOT=" in message
