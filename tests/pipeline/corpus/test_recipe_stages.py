"""The stages of a recipe: what enters their keys, and which of them a recipe asks for."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields, replace
from typing import Any, get_args, get_type_hints

import pytest

from pipeline import plugins
from pipeline.cache import keys
from pipeline.corpus import recipe
from pipeline.stage import Stage
from tests.recipes import DATASET, SOUND, WORDS, node


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


def test_stages_whose_networks_start_from_random_weights_are_named(load):
    visual = 'visual = { stage = "visual_resnet50", weights = "random", align = { mode = "sample", length = 4 } }'
    read = load(f"{WORDS}\n[features.seen]\n{visual}\n")
    assert recipe.random_weights(recipe.nodes(read)) == ["visual_resnet50"]


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
    family = keys.family(stage, keys.stage_params(stage, str), stage.inputs)
    return keys.stage_digest(family, keys.installed(stage))


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
