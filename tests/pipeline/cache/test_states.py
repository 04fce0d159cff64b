"""Fitted states on disk: the same state is the same bytes, and comes back as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.cache.states import load_state, save_state
from pipeline.errors import InputError
from pipeline.stage import State

ROOT = Path(__file__).parents[3]


def state(order: int = 1) -> State:
    tensors = {
        "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "ids": np.array([3, 1], np.int64),
        "empty": np.zeros((0, 4), np.float16),
        "scalar": np.array(2.5),
        "flag": np.array([True, False]),
    }
    text = {"tokenizer": '{"é": "\N{GRINNING FACE}"}', "words": "a\nb\n", "nothing": ""}
    return State(dict(list(tensors.items())[::order]), dict(list(text.items())[::order]), {"loss": order})


def saved(path, given) -> bytes:
    save_state(given, path)
    return path.read_bytes()


def test_a_state_comes_back_as_it_was(tmp_path):
    save_state(state(), tmp_path / "state")
    found = load_state(tmp_path / "state")
    assert found.text == state().text
    assert found.tensors.keys() == state().tensors.keys()
    for name, value in state().tensors.items():
        np.testing.assert_array_equal(found.tensors[name], value)
        assert (found.tensors[name].dtype, found.tensors[name].shape) == (value.dtype, value.shape)


def test_the_same_state_is_the_same_bytes_whatever_the_order_or_the_log(tmp_path):
    assert saved(tmp_path / "a", state()) == saved(tmp_path / "b", state(-1))


def test_the_same_state_is_the_same_bytes_in_every_process(tmp_path):
    program = "import sys; from pathlib import Path; from tests.pipeline.cache.test_states import saved, state; "
    program += "saved(Path(sys.argv[1]), state())"
    found = {saved(tmp_path / "here", state())}
    for seed in ("1", "2"):
        path = tmp_path / seed
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", program, str(path)], check=True, env=environment, cwd=ROOT)
        found.add(path.read_bytes())
    assert len(found) == 1


def test_a_view_of_an_array_is_saved_as_it_looks(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    for name, view in {"transposed": array.T, "strided": array[:, ::2], "backwards": array[::-1]}.items():
        save_state(State({"x": view}), tmp_path / name)
        np.testing.assert_array_equal(load_state(tmp_path / name).tensors["x"], view)


@pytest.mark.parametrize("change", [{"weight": np.zeros((2, 3), np.float32)}, {"other": np.zeros(1)}])
def test_another_state_is_other_bytes(tmp_path, change):
    other = State({**state().tensors, **change}, state().text)
    assert saved(tmp_path / "a", state()) != saved(tmp_path / "b", other)


def test_a_pickle_is_not_read_as_a_state(tmp_path):
    import pickle

    class Boom:
        def __reduce__(self):
            return (os._exit, (7,))

    (tmp_path / "state").write_bytes(pickle.dumps(Boom()))
    with pytest.raises(InputError, match="no fitted state"):
        load_state(tmp_path / "state")
