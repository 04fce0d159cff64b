"""MulG's options and ablations, and how it learns."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.mulg import MulG, MulGConfig
from pipeline.model import Input
from tests.models.mulg_cases import DIFFERENT, DIMS, EACH_VARIANT, LENGTHS, VALID, build, features

# --- construction and options ----------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["text audio", "text visual", "audio visual"])
def test_two_modalities_attend_to_each_other(names: str) -> None:
    one, two = names.split()
    model = build(names)
    model.maps = True
    maps = model(features(), DIFFERENT).attention
    assert maps is not None and set(maps) == {f"{one}->{two}", f"{two}->{one}"}


@pytest.mark.parametrize("name", DIMS)
def test_a_single_modality_goes_from_its_convolution_into_its_gru(name: str) -> None:
    alike: list[dict[str, Any]] = [{}, {"gru": "per_pair"}, {"pairs": "none"}]
    for options in alike:
        model = build(name, **options)
        prediction = model(features(), DIFFERENT)
        assert prediction.attention is None and prediction.gates is None
        x = model.conv[name](model.refine[name](features()[name]).mT).mT
        state = model.gru[name](x, DIFFERENT[name])
        torch.testing.assert_close(prediction.logits, model.head(model.residual(model.fuse(state), [model.feed])))


def test_without_cross_modal_attention_the_modalities_meet_in_the_fusion_alone() -> None:
    model = build(pairs="none")
    states: list[Tensor] = []
    model.gru["text"].register_forward_hook(lambda _, args, out: states.append(out))
    model(features(), VALID)
    model({**features(), "audio": features(2)["audio"]}, VALID)
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert len(model.attend) == 0


def test_with_cross_modal_attention_what_text_reads_depends_on_audio() -> None:
    for attention in ("multihead", "bilinear"):
        model = build(attention=attention)
        states: list[Tensor] = []
        model.gru["text"].register_forward_hook(lambda _, args, out, states=states: states.append(out))
        model(features(), VALID)
        model({**features(), "audio": features(2)["audio"]}, VALID)
        assert not torch.allclose(states[0], states[1])


def test_self_attention_has_each_modality_attend_to_itself() -> None:
    model = build(pairs="self")
    model.maps = True
    maps = model(features(), DIFFERENT).attention
    assert maps is not None and set(maps) == {"text->text", "audio->audio", "visual->visual"}


def test_the_order_of_steps_matters_to_the_default_attention_and_not_to_the_bilinear_one() -> None:
    values = {**features(), "audio": features()["audio"].flip(1)}
    for attention, same in [("multihead", False), ("bilinear", True)]:
        model = build(attention=attention)
        states: list[Tensor] = []
        model.gru["text"].register_forward_hook(lambda _, args, out, states=states: states.append(out))
        model(features(), VALID)
        model(values, VALID)
        assert torch.allclose(states[0], states[1], atol=1e-6) == same


@pytest.mark.parametrize("field", ["pairs", "attention", "residual", "positions", "gru", "gru_cell"])
def test_a_choice_that_does_not_exist_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        options: dict[str, Any] = {field: "other"}
        MulGConfig(**options)


@pytest.mark.parametrize("hidden", [40, 7])
def test_heads_that_do_not_divide_the_hidden_width_are_refused_where_they_attend(hidden: int) -> None:
    with pytest.raises(ValueError, match=f"3 heads do not divide a hidden width of {hidden}"):
        MulGConfig(heads=3, hidden=hidden)
    assert MulGConfig(heads=3, hidden=hidden, attention="bilinear") and MulGConfig(heads=3, hidden=hidden, pairs="none")


def test_reductions_are_the_first_fc_of_each_modality_and_belong_to_the_model() -> None:
    model = build()
    shapes = {m: r(features()[m]).shape for m, r in model.reductions().items()}
    assert shapes == {m: (3, LENGTHS[m], 6) for m in DIMS}
    before = model(features(), VALID).logits
    for parameter in model.reductions()["audio"].parameters():
        parameter.data.zero_()
    assert not torch.allclose(before, model(features(), VALID).logits)


def test_the_parameter_count_at_the_papers_widths_is_the_one_we_publish() -> None:
    inputs = {"text": Input(300, 50), "audio": Input(120, 375), "visual": Input(512, 20)}
    counts = {
        options: sum(p.numel() for p in MulG(MulGConfig(attention=options), inputs, 1).parameters())
        for options in ("multihead", "bilinear")
    }
    assert counts == {"multihead": 370_311, "bilinear": 144_231}


def test_training_defaults_come_under_the_names_the_training_loop_reads() -> None:
    assert dict(MulG.train_defaults) == {
        "epochs": 50, "batch_size": 16, "learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0,
        "decay_factor": 1.0, "decay_every": 0, "clip_norm": 0.8, "unimodal_pretrain": False,
        "group_lengths": True,
    }  # fmt: skip
    assert MulG.features == "mulg" and MulG.Config is MulGConfig


# --- learning --------------------------------------------------------------------------------------------------


@EACH_VARIANT
@pytest.mark.parametrize("names", ["text audio visual", "text visual", "audio"])
def test_every_parameter_takes_a_gradient_when_all_is_valid(options: dict[str, Any], names: str) -> None:
    model = build(names, **options)
    model(features(), VALID).logits.square().sum().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.ne(0).any()]
    assert dead == []


@EACH_VARIANT
def test_a_state_dict_restores_the_predictions_statistics_included(options: dict[str, Any]) -> None:
    model = build(**options)
    model.standardise.set("audio", torch.full((6,), 0.3), torch.full((6,), 2.0))
    before = model(features(), DIFFERENT).logits
    torch.manual_seed(9)
    copy = MulG(model.config, {m: Input(DIMS[m], LENGTHS[m]) for m in DIMS}, 2).eval()
    assert not torch.allclose(copy(features(), DIFFERENT).logits, before)
    copy.load_state_dict(model.state_dict())
    torch.testing.assert_close(copy(features(), DIFFERENT).logits, before)


@EACH_VARIANT
def test_autocast_to_bfloat16_gives_nearly_the_same_logits(options: dict[str, Any]) -> None:
    model = build(**options)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = model(features(), DIFFERENT).logits
    torch.testing.assert_close(lowered.float(), model(features(), DIFFERENT).logits, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("dropout", "names"),
    [("embed_dropout", "text"), ("attn_dropout", "text audio"), ("relu_dropout", "text audio"),
     ("res_dropout", "text audio"), ("out_dropout", "audio")],
)  # fmt: skip
def test_each_dropout_acts_in_training_alone(dropout: str, names: str) -> None:
    off: dict[str, Any] = dict.fromkeys(
        ["embed_dropout", "attn_dropout", "relu_dropout", "res_dropout", "out_dropout"], 0.0
    )
    for rate, same in [(0.0, True), (0.5, False)]:
        model = build(names, **{**off, dropout: rate}).train()
        first, second = (model(features(), VALID).logits for _ in range(2))
        assert torch.equal(first, second) == same
    model.eval()
    assert torch.equal(model(features(), VALID).logits, model(features(), VALID).logits)


def test_the_embedding_dropout_is_the_texts_alone() -> None:
    off: dict[str, Any] = dict.fromkeys(["attn_dropout", "relu_dropout", "res_dropout", "out_dropout"], 0.0)
    model = build("audio visual", embed_dropout=0.9, **off).train()
    assert torch.equal(model(features(), VALID).logits, model(features(), VALID).logits)
