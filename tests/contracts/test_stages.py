"""Rules that every stage keeps, whatever it extracts. They run over all files of `stages/`; see `cases.py`."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cache import keys
from pipeline.cache.record import FITS
from pipeline.cache.states import save_state
from pipeline.cache.store import Store
from pipeline.corpus.recipe import Node
from pipeline.plugins import find, names
from pipeline.run.reference_job import compared, sampled
from pipeline.stage import ID, RAW, Item, Spec, Stage, Track
from stages._training import Training
from tests.contracts.cases import CASES, build, expected, fit, odd, ordinary, ready

STAGES = names("stages")
ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "gensim", "cv2", "librosa", "opensmile")
EACH = pytest.mark.parametrize("name", STAGES)
_CASES = [(name, index) for name in STAGES for index in range(len(CASES.get(name, ())))]
EACH_CASE = pytest.mark.parametrize(("name", "index"), _CASES)
EACH_FITTED_CASE = pytest.mark.parametrize(("name", "index"), [case for case in _CASES if build(*case).fitted])


@EACH
def test_a_stage_has_a_case_to_be_tested_with(name: str) -> None:
    assert name in CASES, f"stages/{name}.py has no parameters in CASES of tests/contracts/cases.py: add them there"


def test_a_case_is_of_a_stage_that_exists() -> None:
    assert set(CASES) <= set(STAGES)


@EACH
def test_a_stage_says_what_it_is(name: str) -> None:
    stage = find("stages", name, Stage)  # type: ignore[type-abstract]
    assert isinstance(stage.version, int) and stage.version >= 1
    assert name.startswith(f"{stage.modality}_")
    assert stage.inputs and all(source in (*RAW, ID, *STAGES) for source in stage.inputs)
    assert all(RAW.get(source, stage.modality) == stage.modality for source in stage.inputs)
    assert all(version(library) for library in stage.libraries)
    assert stage.batch >= 1
    assert stage.__doc__ and not stage.__doc__.startswith(f"{stage.__name__}(")


@EACH_CASE
def test_a_stage_that_reads_the_dialogue_reads_it_in_place_of_the_text(name: str, index: int) -> None:
    stage = build(name, index)
    if stage.dialogue is None:
        assert stage.reads == stage.inputs and "dialogue" not in stage.inputs
    else:
        assert stage.modality == "text" and stage.dialogue.turns >= 1
        assert stage.reads == tuple("dialogue" if source == "text" else source for source in stage.inputs)
        assert "dialogue" in stage.reads


def test_no_stage_needs_anything_heavy_to_be_imported_built_and_checked() -> None:
    program = "import sys\n"
    for name, index in _CASES:
        stage = find("stages", name, Stage)  # type: ignore[type-abstract]
        program += (
            f"import {stage.__module__} as module\n"
            f"stage = module.{stage.__name__}(**{dict(CASES[name][index])!r})\n"
            f"stage.check(), stage.fitted\n"
            f"assert not (heavy := [each for each in {HEAVY} if each in sys.modules]), (module, heavy)\n"
        )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


@EACH
def test_the_defaults_of_a_stage_do_not_contradict_each_other(name: str) -> None:
    find("stages", name, Stage)().check()  # type: ignore[type-abstract]


@EACH_CASE
def test_parameters_are_frozen_and_can_be_written_as_json(name: str, index: int) -> None:
    stage = build(name, index)
    assert json.dumps(dataclasses.asdict(stage), allow_nan=False)
    for field in dataclasses.fields(stage):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(stage, field.name, None)


@EACH
def test_every_parameter_is_read(name: str) -> None:
    stage = find("stages", name, Stage)  # type: ignore[type-abstract]
    modules = dict.fromkeys(kind.__module__ for kind in stage.__mro__ if kind.__module__.startswith("stages."))
    source = "".join(inspect.getsource(importlib.import_module(module)) for module in modules)
    of_a_fit = {f.name for f in dataclasses.fields(Training)} if "Training.of(" in source else set()
    names = {f.name for f in dataclasses.fields(stage)} - of_a_fit
    unread = [name for name in names if not re.search(rf"\bself\.{name}\b", source)]
    assert unread == []


@EACH
def test_sources_are_those_of_fields_that_name_weights(name: str) -> None:
    stage = find("stages", name, Stage)()  # type: ignore[type-abstract]
    assert stage.sources().keys() <= {f.name for f in dataclasses.fields(stage) if f.metadata.get("source")}


@EACH_CASE
def test_a_case_reads_no_weights_from_elsewhere(name: str, index: int) -> None:
    assert all(Path(source).is_relative_to(ROOT) for source in build(name, index).sources().values())


@EACH_CASE
def test_a_spec_names_each_dimension_once_or_none(name: str, index: int) -> None:
    spec = ready(name, index).stage.spec(ready(name, index).loaded)
    assert spec.dim >= 1 and spec.tolerance > 0
    assert len(spec.names) in (0, spec.dim)
    assert len(set(spec.names)) == len(spec.names)


@EACH_CASE
def test_a_track_is_what_the_spec_promises(name: str, index: int) -> None:
    stage, tracks = ready(name, index), expected(name, index)
    assert len(tracks) == 16
    assert any(track.values is not None for track in tracks)
    for track in tracks:
        honours(track, stage.stage, stage.stage.spec(stage.loaded))


@EACH_CASE
def test_empty_short_silent_black_and_long_input_ends_in_values_or_a_reason(name: str, index: int) -> None:
    stage = ready(name, index)
    items = odd(stage.stage)
    for item in items:
        (track,) = stage([item])
        honours(track, stage.stage, stage.stage.spec(stage.loaded))
    assert len(stage(items)) == len(items)


@EACH_CASE
def test_an_item_spoils_none_beside_it(name: str, index: int) -> None:
    stage = ready(name, index)
    good, bad = ordinary(stage.stage)[:4], odd(stage.stage)
    mixed = stage([*bad, *good, *bad])[len(bad) : len(bad) + len(good)]
    alike(mixed, expected(name, index)[:4], tolerance(name, index))


@EACH_CASE
def test_the_same_input_gives_the_same_values_twice(name: str, index: int) -> None:
    stage = ready(name, index)
    alike(stage(ordinary(stage.stage)), expected(name, index), 0.0)


@EACH_CASE
def test_another_process_would_load_the_same(name: str, index: int) -> None:
    stage = ready(name, index)
    items, again = ordinary(stage.stage)[:4], build(name, index)
    alike(again.transform(again.load("cpu"), stage.state, items), stage(items), 0.0)


@EACH_CASE
@pytest.mark.parametrize("size", [1, 5])
def test_values_do_not_depend_on_the_batch(name: str, index: int, size: int) -> None:
    stage = ready(name, index)
    items = ordinary(stage.stage)
    batches = [stage(items[start : start + size]) for start in range(0, len(items), size)]
    alike([track for batch in batches for track in batch], expected(name, index), tolerance(name, index))


@EACH_CASE
def test_values_do_not_depend_on_the_order(name: str, index: int) -> None:
    stage = ready(name, index)
    items = ordinary(stage.stage)
    alike(stage(items[::-1])[::-1], expected(name, index), tolerance(name, index))


@EACH_CASE
def test_inputs_are_left_as_they_are(name: str, index: int) -> None:
    stage = ready(name, index)
    items = ordinary(stage.stage)[:4]
    before = [arrays(item) for item in items]
    stage(items)
    for old, item in zip(before, items, strict=True):
        assert all(np.array_equal(one, other) for one, other in zip(old, arrays(item), strict=True))


@EACH_FITTED_CASE
def test_a_fit_on_the_same_rows_learns_the_same_bytes(name: str, index: int) -> None:
    stage = build(name, index)
    first, second = ready(name, index).state, fit(stage)
    assert first is not None
    assert first.text == second.text
    assert first.tensors.keys() == second.tensors.keys()
    assert all(first.tensors[key].tobytes() == second.tensors[key].tobytes() for key in first.tensors)


def tolerance(name: str, index: int) -> float:
    """What the stage declares."""
    stage = ready(name, index)
    return stage.stage.spec(stage.loaded).tolerance


def honours(track: Track, stage: Stage, spec: Spec) -> None:
    """Asserts that a track has a reason and nothing else, or values as promised."""
    if track.reason is not None:
        assert (track.values, track.time_s, track.valid) == (None, None, None)
        return
    assert track.values is not None and track.valid is not None
    steps = len(track.values)
    assert steps >= 1 and track.values.shape == (steps, spec.dim)
    assert track.values.dtype == spec.dtype
    assert track.valid.shape == (steps,) and track.valid.dtype == np.bool_
    assert np.isfinite(track.values[track.valid]).all()
    if stage.modality == "text" or ID in stage.inputs:
        assert track.time_s is None
    else:
        assert track.time_s is not None and track.time_s.shape == (steps,)
        assert track.time_s[0] >= 0 and (np.diff(track.time_s) >= 0).all()


def alike(tracks: list[Track], others: list[Track], limit: float) -> None:
    """Asserts the same reasons, masks and times, and values that differ by no more than `limit`, as a Spec has it."""
    for track, other in zip(tracks, others, strict=True):
        assert track.reason == other.reason
        if track.values is None or other.values is None:
            continue
        assert np.array_equal(track.valid, other.valid)  # type: ignore[arg-type]
        assert track.time_s is other.time_s or np.array_equal(track.time_s, other.time_s)  # type: ignore[arg-type]
        scale = np.maximum(1.0, np.abs(other.values[other.valid]))
        assert (np.abs(track.values[track.valid] - other.values[other.valid]) <= limit * scale).all()


def arrays(item: Item) -> list[Any]:
    """Copies of all that an item holds."""
    values = [item[name] for name in item.inputs]
    parts = [v if isinstance(v, str | tuple) else [getattr(v, f.name) for f in dataclasses.fields(v)] for v in values]
    flat = [x for part in parts for x in ([part] if isinstance(part, str) else part)]
    return [x.copy() if isinstance(x, np.ndarray) else x for x in flat]


@EACH_CASE
def test_a_stage_gives_values_on_the_built_in_sample_and_the_same_ones_again(
    name: str, index: int, tmp_path: Path
) -> None:
    node, states = node_of(name, index), {}
    store = Store(tmp_path)
    for each in dict.fromkeys(node.walk()):
        if each.stage.fitted:
            state = ready(each.name, index if each is node else 0).state
            assert state is not None
            states[each.digest] = store.save(
                each.digest + FITS, "a" * 64, partial(save_state, state), suffix=".safetensors"
            ).ref
    first, again = (sampled(node, states, store) for _ in range(2))
    assert compared(first, again).same


def node_of(name: str, index: int = 0) -> Node:
    """The stage of a case, on the first cases of the stages that it reads."""
    stage = build(name, index)
    inputs = tuple(source if source in (*RAW, ID) else node_of(source) for source in stage.reads)
    return Node.of(name, stage, keys.stage_params(stage, str), inputs)
