"""Every field of a recipe moves keys or stands on a list of those that must not: a new field has to be thought about.

Whatever is compared here are the keys of shards and states that a plan names: nothing is computed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import pytest

from pipeline import plugins
from pipeline.cache import keys
from pipeline.corpus.open_corpus import Options
from pipeline.corpus.recipe import Alignment, Dataset
from pipeline.corpus.recipe_training import OF_SOLVED, TrainConfig, model_class
from pipeline.model import Solved
from pipeline.plan.jobs import ExtractJob, FitJob
from pipeline.stage import Stage
from tests.small import Small

STAGES = [plugins.find("stages", name, Stage) for name in plugins.names("stages")]  # type: ignore[type-abstract]
FIELDS = [pytest.param(s, f, id=f"{plugins.name_of(s)}-{f.name}") for s in STAGES for f in dataclasses.fields(s)]
SOURCES = [pytest.param(*p.values, id=p.id) for p in FIELDS if p.values[1].metadata.get("source")]


def digest(stage: Stage, source: Callable[[str], str] = str) -> str:
    return founded(stage, keys.stage_params(stage, source))


def founded(stage: Stage, params: Mapping[str, Any], *upstream: str) -> str:
    """The digest of a stage as the installed versions of its libraries found it."""
    return keys.stage_digest(keys.family(stage, params, upstream), keys.installed(stage))


def another(kind: Any, value: Any) -> Any:
    """A value of a field's type that is not `value`; fails for a type it does not know."""
    choices = [choice for choice in get_args(kind) if choice is not type(None)]
    if get_origin(kind) is Literal:
        return next(choice for choice in choices if choice != value)
    if get_origin(kind) is tuple:
        return (*value, another(choices[0], None))
    if choices:
        return another(choices[0], value)
    if kind is bool:
        return not value
    return {int: lambda: (value or 0) + 1, float: lambda: (value or 0.0) + 0.5, str: lambda: f"{value}-other"}[kind]()


# --- stages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_every_field_of_a_stage_moves_its_key(kind, field):
    other = another(get_type_hints(kind)[field.name], field.default)
    assert other != field.default
    assert digest(replace(kind(), **{field.name: other})) != digest(kind())


@pytest.mark.parametrize(("kind", "field"), SOURCES)
def test_a_field_that_names_weights_moves_the_key_by_their_bytes_and_not_by_their_path(kind, field):
    one, two = (replace(kind(), **{field.name: path}) for path in ("/one/place", "/another/place"))
    assert digest(one, lambda path: "bytes") == digest(two, lambda path: "bytes")
    assert digest(one, lambda path: "bytes") != digest(one, lambda path: "others")


def test_what_a_stage_declares_beside_its_fields_moves_its_key_or_is_known_not_to():
    declared = {name for name, kind in get_type_hints(Stage).items() if get_origin(kind) is ClassVar}
    by_what_they_are = {"version", "libraries"}  # below
    by_the_stages_they_name = {"inputs"}  # below
    of_no_matter_to_values = {"modality", "batch", "gpu", "imports"}
    assert declared == by_what_they_are | by_the_stages_they_name | of_no_matter_to_values


@pytest.mark.parametrize("kind", STAGES)
def test_version_and_inputs_move_the_key_and_how_it_is_run_does_not(kind, monkeypatch):
    before = digest(kind())
    assert founded(kind(), keys.stage_params(kind(), str), "upstream") != before
    monkeypatch.setattr(kind, "batch", kind.batch + 1)
    monkeypatch.setattr(kind, "gpu", not kind.gpu)
    assert digest(kind()) == before
    monkeypatch.setattr(kind, "version", kind.version + 1)
    assert digest(kind()) != before


@pytest.mark.parametrize("library", sorted({library for kind in STAGES for library in kind.libraries}))
def test_another_version_of_a_library_moves_exactly_the_stages_that_declare_it(library, monkeypatch):
    before = {plugins.name_of(kind): digest(kind()) for kind in STAGES}
    real = keys.library_version
    monkeypatch.setattr(keys, "library_version", lambda name: "another" if name == library else real(name))
    moved = {plugins.name_of(kind) for kind in STAGES if digest(kind()) != before[plugins.name_of(kind)]}
    assert moved == {plugins.name_of(kind) for kind in STAGES if library in kind.libraries}


def test_the_version_of_keys_moves_every_stage_and_every_state(monkeypatch):
    before = [digest(kind()) for kind in STAGES], keys.state_key("s", (), [], []), keys.view_key([], "pad", 1)
    monkeypatch.setattr(keys, "KEY_VERSION", keys.KEY_VERSION + 1)
    after = [digest(kind()) for kind in STAGES], keys.state_key("s", (), [], []), keys.view_key([], "pad", 1)
    assert not set(before[0]) & set(after[0]) and before[1] != after[1] and before[2] != after[2]


# --- the rest of a recipe --------------------------------------------------------------------------------------


def asked(small: Small, **options: Any) -> tuple[set[str], set[str]]:
    """The keys of the shards and of the states that a plan in an empty cache names."""
    jobs = small.session(**options).plan().jobs
    rows = {run.shard for job in jobs if isinstance(job, ExtractJob) for run in job.runs}
    return rows, {job.state for job in jobs if isinstance(job, FitJob)}


def own_folds(small: Small) -> str:
    rows = small.session().corpus.manifest.rows
    parts = {"Session1": "test", "Session2": "valid"}
    lines = [f"{row.id},{parts.get(row.session, 'train')}" for row in rows]
    (small.path.parent / "mine.csv").write_text("\n".join(["utterance,split", *lines]) + "\n")
    return 'protocol = "own"\nfolds = "mine.csv"'


NO_KEY = {
    "root": lambda small: 'root = "/nowhere"',
    "max_failed": lambda small: "max_failed = 0.5",
    "reader": lambda small: 'reader = "demo"\nper_cell = 2',  # it acts through the rows, which are the same here
}
STATES_ALONE = {
    "labels": lambda small: 'labels = "valence"',
    "protocol": lambda small: 'protocol = "cv"',
    "folds": own_folds,
    "crossfit": lambda small: "crossfit = 2",
}
"""Which rows a fit learns from, and what: in no key of a row of a stage that stands on no fit."""

FEWER_ROWS = {"limit"}
"""It asks for fewer rows, which keep their keys: see tests/pipeline/corpus/test_limit.py."""


def test_every_field_of_a_dataset_is_known_to_move_no_key_or_those_of_states_alone():
    assert NO_KEY.keys() | STATES_ALONE.keys() | FEWER_ROWS == Dataset.model_fields.keys()


@pytest.mark.parametrize("field", sorted(NO_KEY | STATES_ALONE))
def test_a_field_of_a_dataset_moves_what_it_is_known_to(small, field):
    rows, states = asked(small)
    change = (NO_KEY | STATES_ALONE)[field](small)
    names = [line.partition("=")[0].strip() for line in change.splitlines()]
    kept = [line for line in small.recipe.splitlines() if line.partition("=")[0].strip() not in names]
    small.recipe = "\n".join(kept).replace("[dataset]", f"[dataset]\n{change}")
    changed_rows, changed_states = asked(small)
    assert rows and states and changed_rows == rows
    assert (changed_states == states) == (field in NO_KEY)


@pytest.mark.parametrize("field", Alignment.model_fields)
def test_no_field_of_an_alignment_moves_a_key(small, field):
    other = {"mode": ('mode = "pad", length = 32', 'mode = "sample", length = 32'), "length": ("= 32", '= "auto"')}
    before, (old, new) = asked(small), other[field]
    assert old in small.recipe
    small.recipe = small.recipe.replace(old, new)
    assert asked(small) == before


def settings(name: str) -> Iterator[tuple[str, Any]]:
    """Each setting of a model, and each of the training loop that it reads, with another value."""
    kind = model_class(name)
    hints = get_type_hints(kind.Config)
    for field in dataclasses.fields(kind.Config):
        yield field.name, another(hints[field.name], field.default)
    for key, info in TrainConfig.model_fields.items():
        if issubclass(kind, Solved) and key not in OF_SOLVED:
            continue
        given = kind.train_defaults.get(key, info.default)
        yield key, another(info.annotation, given)


def test_no_setting_of_any_model_or_of_its_training_moves_a_key(small):
    changes = ["train={}"]
    for model in plugins.names("models"):
        values = ", ".join(f"{key} = {json.dumps(value)}" for key, value in settings(model))  # TOML too, of such values
        changes.append(f"train.{model}={{ {values} }}")
    assert asked(small, changes=tuple(changes)) == asked(small)


ASKS_FOR_LESS = {"modality": "audio", "features": ("sound",)}
ANOTHER_RECIPE = {"protocol": "cv", "changes": ("features.sound.audio.n_mfcc=6",)}
WHERE_AND_BY_WHOM = {"workers": 3, "scheduler": "tcp://elsewhere:1", "gpus": 1}
WHERE_IT_LIES = {"dataset", "root"}  # the tests of moved corpora and renamed recipes
WHAT_IS_DONE_NOW = {"part"}  # the tests of parts
WHAT_MAY_ANSWER = {"remote", "locked"}  # the tests of sharing and of locks


def test_every_option_of_a_call_is_known_to_move_keys_or_not():
    known = ASKS_FOR_LESS.keys() | ANOTHER_RECIPE.keys() | WHERE_AND_BY_WHOM.keys()
    known |= WHERE_IT_LIES | WHAT_IS_DONE_NOW | WHAT_MAY_ANSWER
    assert known == {field.name for field in dataclasses.fields(Options)}


@pytest.mark.parametrize("option", ASKS_FOR_LESS)
def test_an_option_that_asks_for_less_gives_the_same_keys_to_what_it_asks_for(small, option):
    (rows, states), (fewer, learned) = asked(small), asked(small, **{option: ASKS_FOR_LESS[option]})
    assert set() < fewer <= rows and learned < states


@pytest.mark.parametrize("option", ANOTHER_RECIPE)
def test_an_option_that_overrides_the_recipe_moves_what_the_recipe_would(small, option):
    assert asked(small, **{option: ANOTHER_RECIPE[option]}) != asked(small)


@pytest.mark.parametrize("option", WHERE_AND_BY_WHOM)
def test_an_option_that_says_how_to_compute_moves_no_key(small, option):
    assert asked(small, **{option: WHERE_AND_BY_WHOM[option]}) == asked(small)


def test_where_recipe_corpus_and_home_lie_moves_no_key(small, tmp_path):
    before = asked(small)
    small.path, small.home = small.path.with_name("renamed.toml"), tmp_path / "another-home"
    small.root = small.root.rename(tmp_path / "moved")
    assert asked(small) == before
