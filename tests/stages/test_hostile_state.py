"""A fitted state of another machine: its configuration makes a known encoder of the size of its tensors, or nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModel

from pipeline.errors import InputError
from stages import _roberta
from stages._roberta import config_of, from_state
from tests.encoders import difference, fitted, items, made, states


@pytest.fixture(scope="module")
def state():
    return fitted(made())


def with_config(state, **changes):
    config = json.loads(state.text["config"]) | changes
    return replace(state, text={**state.text, "config": json.dumps(config)})


STEERING = {
    "code of somebody": {
        "auto_map": {"AutoConfig": "someone/model--code.Config", "AutoModel": "someone/model--code.M"}
    },
    "a kernel of somebody": {"attn_implementation": "someone/kernel", "_attn_implementation": "someone/kernel"},
    "a quantisation": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    "a field of nobody": {"anything": [1, 2]},
}


@pytest.mark.parametrize("kind", STEERING)
def test_what_would_have_other_code_run_is_not_read(state, kind):
    config = config_of(with_config(state, **STEERING[kind]))
    assert config.to_dict() == config_of(state).to_dict()
    assert config._attn_implementation == config_of(state)._attn_implementation
    texts = ["I am so happy today"]
    assert difference(states(made(), with_config(state, **STEERING[kind]), *texts), states(made(), state, *texts)) == 0


WRONG = {
    "a model that is no encoder of texts": {"model_type": "timm_wrapper"},
    "a model that is unknown": {"model_type": "../../evil"},
    "a type that is a list": {"model_type": ["roberta"]},
    "more layers than tensors": {"num_hidden_layers": 10**6},
    "layers that are a text": {"num_hidden_layers": "1"},
    "a width of a million": {"hidden_size": 10**6},
    "another width": {"hidden_size": 32},
    "more tokens than it has": {"vocab_size": 10**9},
    "heads that do not divide": {"num_attention_heads": 3},
    "an activation that is unknown": {"hidden_act": "eval"},
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_configuration_that_is_not_of_its_tensors_is_refused_before_a_model_of_it_is_made(state, kind, monkeypatch):
    real = AutoModel.from_config

    def none_but_sketches(config):
        assert torch.get_default_device().type == "meta"
        return real(config)

    monkeypatch.setattr(_roberta.AutoModel, "from_config", none_but_sketches)
    with pytest.raises(InputError):
        from_state(with_config(state, **WRONG[kind]))


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 10**5, "null"])
def test_a_configuration_that_is_none_is_an_input_error(state, text):
    with pytest.raises(InputError):
        config_of(replace(state, text={**state.text, "config": text}))


def test_tensors_that_are_missing_or_of_another_shape_are_refused(state):
    name = next(name for name in state.tensors if name.startswith("model."))
    for tensors in ({name: np.zeros(3, np.float32)}, {f"{name}.more": np.zeros(3, np.float32)}):
        with pytest.raises(InputError, match="not that of its weights"):
            from_state(replace(state, tensors={**state.tensors, **tensors}))
    with pytest.raises(InputError, match="not that of its weights"):
        from_state(replace(state, tensors={n: value for n, value in state.tensors.items() if n != name}))
    assert made().transform(made().load("cpu"), state, items("a"))[0].values is not None
