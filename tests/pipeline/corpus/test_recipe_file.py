"""The recipe: all its errors at once, each with its line; overrides; where the corpus lies; what enters a key."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from pipeline import plugins
from pipeline.cache import keys
from pipeline.corpus import recipe
from pipeline.corpus.recipe import Node, Recipe
from pipeline.corpus.recipe_file import RECIPES, check_train, home_name, read_recipe
from pipeline.errors import InputError
from pipeline.stage import Stage

DATASET = """
[dataset]
reader = "iemocap"
labels = "six"
root   = "corpus"
"""
SOUND = DATASET + '[features.sound]\naudio = { stage = "audio_mfcc", align = { mode = "pad", length = 4 } }\n'
WORDS = (
    DATASET
    + """
[features.words.text] # trained on the fold
stage = "text_cnn"
input.text_word2vec = { size = 8 }
align = { mode = "pad", length = 4 }
[features.words]
audio = { concat = [{ stage = "audio_opensmile", feature_set = "eGeMAPSv02", level = "lld", rate_hz = 12.5 },
                    { stage = "audio_mfcc", rate_hz = 12.5 }], align = { mode = "pad", length = 4 } }
"""
)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Reads a text as the recipe `corpus`, with nothing set in the environment."""
    monkeypatch.delenv("CORPUS_ROOT", raising=False)

    def read(text: str, *changes: str, root: str = "") -> Recipe:
        path = tmp_path / "corpus.toml"
        path.write_text(text)
        return read_recipe(path, root=root, changes=changes, memory=tmp_path / "memory", home=tmp_path / "home")

    return read


@pytest.fixture
def errors(load):
    """The errors of a recipe: (line, message)."""

    def read(text: str, *changes: str) -> list[tuple[int, str]]:
        with pytest.raises(InputError) as caught:
            load(text, *changes)
        found = [re.fullmatch(r".*corpus\.toml:(\d+): (.*)", line) for line in str(caught.value).splitlines()]
        return [(int(each[1]), each[2]) for each in found if each]

    return read


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def node(read: Recipe, features: str, modality: Any = "audio", part: int = 0) -> Node:
    return read.features[features][modality].parts[part]


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
        ('stage = "audio_mfcc"', "n_mfcc = 5", "features.sound.audio.stage", "known: audio_mfcc"),
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


# --- keys ------------------------------------------------------------------------------------------------------


def test_local_weights_enter_the_key_by_their_bytes_and_not_by_their_path(load, tmp_path):
    def digest(name: str) -> str:
        text = WORDS.replace("size = 8", f'vectors = "{tmp_path / name}"')
        read = node(load(text), "words", "text")
        assert str(tmp_path) not in str(read.describe())
        return read.digest

    (tmp_path / "a.bin").write_bytes(b"weights")
    (tmp_path / "b.bin").write_bytes(b"weights")
    (tmp_path / "c.bin").write_bytes(b"others")
    assert digest("a.bin") == digest("b.bin") != digest("c.bin")


def test_a_directory_of_weights_enters_the_key_by_all_of_its_files(load, tmp_path):
    def digest() -> str:
        stage = f'stage = "text_roberta"\nmodel = "{tmp_path / "model"}"'
        text = re.sub(r'stage = "text_cnn"\ninput.*\n', f"{stage}\n", WORDS)
        return node(load(text), "words", "text").digest

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    before = digest()
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    assert digest() != before


def test_a_variable_in_a_parameter_is_read(load, monkeypatch, tmp_path):
    (tmp_path / "vectors.bin").write_bytes(b"weights")
    monkeypatch.setenv("VECTORS", str(tmp_path / "vectors.bin"))
    [upstream] = node(load(WORDS.replace("size = 8", 'vectors = "$VECTORS"')), "words", "text").upstream
    assert upstream.stage.vectors == str(tmp_path / "vectors.bin")  # type: ignore[attr-defined]


def test_a_stage_moves_with_the_stage_it_stands_on(load):
    before, after = (node(load(WORDS.replace("size = 8", f"size = {size}")), "words", "text") for size in (8, 9))
    assert before.params == after.params and before.digest != after.digest


def test_equal_parameters_written_otherwise_are_the_same_stage(load):
    rate_hz = fields_of("audio_mfcc")["rate_hz"]
    written = SOUND.replace('"audio_mfcc"', f'"audio_mfcc", rate_hz = {rate_hz:g}')
    assert written != SOUND
    assert node(load(written), "sound") == node(load(SOUND), "sound")


def test_alignment_labels_and_root_are_in_no_key_of_a_stage(load):
    other = SOUND.replace("length = 4", "length = 9").replace('"six"', '"four"').replace('"corpus"', '"elsewhere"')
    assert node(load(other), "sound").digest == node(load(SOUND), "sound").digest


def fields_of(name: str) -> dict[str, Any]:
    return vars(plugins.find("stages", name, Stage)())  # type: ignore[type-abstract]


def changed(name: str, value: Any, hint: Any) -> Any:
    """Another value for a field of a stage."""
    choices = [choice for choice in get_args(hint) if isinstance(choice, str)]
    if choices:
        return next(choice for choice in choices if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, tuple):
        return (*value, 7)
    return 7 if value is None else value + 1


@pytest.mark.parametrize("name", plugins.names("stages"))
def test_every_parameter_of_a_stage_moves_its_key(name):
    kind: Any = plugins.find("stages", name, Stage)  # type: ignore[type-abstract]
    hints, stage = get_type_hints(kind), kind()
    digests = {"": digest(stage)}
    for field in fields(kind):
        assert field.default is not MISSING or field.default_factory is not MISSING
        value = getattr(stage, field.name)
        digests[field.name] = digest(replace(stage, **{field.name: changed(field.name, value, hints[field.name])}))
    assert len(set(digests.values())) == 1 + len(fields(kind))


@pytest.mark.parametrize("name", plugins.names("stages"))
def test_device_batch_and_workers_are_no_parameters(name):
    kind: Any = plugins.find("stages", name, Stage)  # type: ignore[type-abstract]
    assert not {"device", "batch", "workers", "threads", "num_workers"} & {field.name for field in fields(kind)}


@pytest.mark.parametrize("name", plugins.names("stages"))
def test_the_version_and_the_libraries_of_a_stage_move_its_key(name, monkeypatch):
    kind: Any = plugins.find("stages", name, Stage)  # type: ignore[type-abstract]
    before = digest(kind())
    with monkeypatch.context() as patch:
        patch.setattr(kind, "version", kind.version + 1)
        assert digest(kind()) != before
    for library in kind.libraries:
        with monkeypatch.context() as patch:
            real = keys.library_version
            patch.setattr(keys, "library_version", lambda n, this=library: "0.0" if n == this else real(n))  # noqa: B023
            assert digest(kind()) != before


def digest(stage: Any) -> str:
    return keys.stage_digest(stage, keys.stage_params(stage, str), stage.inputs)


# --- the recipes that come with it -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_sound(path, tmp_path, monkeypatch):
    monkeypatch.setenv("WORD2VEC", str(tmp_path / "vectors.bin"))
    read = read_recipe(path, root=str(tmp_path), memory=tmp_path / "memory", home=tmp_path / "home")
    check_train(path, read.train)
    assert read.features and all(read.features.values())


@pytest.mark.parametrize("name", ["demo", "iemocap", "meld", "mosei", "mosi", "table"])
def test_the_recipes_of_corpora_with_films_feed_both_papers_models(name, tmp_path, monkeypatch):
    monkeypatch.setenv("WORD2VEC", str(tmp_path / "vectors.bin"))
    path = RECIPES / f"{name}.toml"
    read = read_recipe(path, root=str(tmp_path), memory=tmp_path / "memory", home=tmp_path / "home")
    assert {"hjcag", "mulg"} <= read.features.keys()
    assert all(read.features[model].keys() == {"text", "audio", "visual"} for model in ("hjcag", "mulg"))


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


def test_a_recipe_that_is_no_utf8_is_named(load, tmp_path):
    load(SOUND)
    (tmp_path / "corpus.toml").write_bytes(SOUND.replace("corpus", "caf\xe9").encode("latin-1"))
    with pytest.raises(InputError, match=r"corpus\.toml is not UTF-8"):
        read_recipe(tmp_path / "corpus.toml", memory=tmp_path / "memory", home=tmp_path)


@pytest.mark.parametrize("stage", ['stage = "visual_resnet50", frames = 8', 'stage = "visual_cnn3d", clips = 8'])
def test_no_view_may_ask_for_more_steps_than_a_stage_takes_of_a_video(stage, load, errors):
    def seen(length: int) -> str:
        align = f'{{ mode = "sample", length = {length} }}'
        return f"{DATASET}[features.seen]\nvisual = {{ {stage}, align = {align} }}\n"

    assert load(seen(8)).features["seen"]["visual"].align.length == 8
    assert "gives 8" in errors(seen(9))[0][1]


def test_each_stage_is_asked_for_once_however_many_sets_want_it(load):
    text = SOUND + SOUND.partition("[features.sound]")[2].replace("audio", "[features.again]\naudio", 1)
    read = load(text)
    assert len(read.features) == 2
    assert [each.name for each in recipe.nodes(read)] == ["audio_mfcc"]
    assert list(recipe.nodes(read, "text")) == []
    assert [each.name for each in recipe.nodes(read, only=("again",))] == ["audio_mfcc"]
