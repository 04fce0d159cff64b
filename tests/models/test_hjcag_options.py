"""HJCAG's options and ablations, and how it learns."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.hjcag import HJCAG, HJCAGConfig
from pipeline.model import Input
from tests.models.hjcag_cases import DIFFERENT, DIMS, VALID, L, Tensors, build, close, features

# --- construction and options ----------------------------------------------------------------------------------


def test_modalities_of_different_lengths_are_refused_with_their_lengths() -> None:
    with pytest.raises(ValueError, match="'text': 30.*'audio': 20"):
        HJCAG(HJCAGConfig(), {"text": Input(5, 30), "audio": Input(6, 20)}, 6)


def test_another_number_of_steps_than_the_weights_mix_is_refused() -> None:
    with pytest.raises(ValueError, match="text: 3 steps.*mix 4"):
        build()({m: x[:, :3] for m, x in features().items()}, {m: x[:, :3] for m, x in VALID.items()})


def test_a_choice_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="space"):
        HJCAGConfig(space="latent")  # type: ignore[arg-type]


def test_gates_are_shares_that_sum_to_one_and_a_single_modality_has_all() -> None:
    gates = build()(features(), DIFFERENT).gates
    assert gates is not None and not next(iter(gates.values())).requires_grad
    torch.testing.assert_close(torch.stack(list(gates.values())).sum(0), torch.ones(3))
    torch.testing.assert_close(build(modalities="audio")(features(), VALID).gates, {"audio": torch.ones(3)})


def test_without_the_gate_the_valid_modalities_share_equally() -> None:
    gates = build(HJCAGConfig(d_model=4, gated=False))(features(), {**VALID, "audio": ~VALID["audio"]}).gates
    close(gates or {}, {"text": torch.full((3,), 0.5), "audio": torch.zeros(3), "visual": torch.full((3,), 0.5)})


@pytest.mark.parametrize(("flag", "levels", "gates"), [("bimodal", 1, 3), ("trimodal", 1, 3), ("gated", 2, 0)])
def test_each_ablation_removes_its_part_alone_and_changes_the_logits(flag: str, levels: int, gates: int) -> None:
    full, ablated = build(), build(HJCAGConfig(d_model=4, visual_dim=3, **{flag: False}))  # type: ignore[arg-type]
    assert (len(ablated.levels), len(ablated.gate)) == (levels, gates)
    assert not torch.allclose(full(features(), VALID).logits, ablated(features(), VALID).logits)


def test_without_the_bimodal_level_the_input_goes_straight_into_equation_13() -> None:
    model = build(HJCAGConfig(d_model=4, visual_dim=3, bimodal=False))
    seen: list[tuple[Tensors, Tensors]] = []
    model.levels[0].register_forward_hook(lambda _, args, out: seen.append(args))
    model(features(), VALID)
    x = {m: model.project[m](model.reduce[m](v) if m in model.reduce else v).mT for m, v in features().items()}
    close(seen[0][0], x)
    assert model.levels[0].joints == (("text", "audio", "visual"),)


def test_reductions_are_the_audio_and_visual_fc_where_they_narrow_what_arrives() -> None:
    inputs = {"text": Input(1024, 3), "audio": Input(6373, 3), "visual": Input(2048, 3)}
    reductions = HJCAG(HJCAGConfig(audio_dim=300), inputs, 7).reductions()
    assert {m: r(torch.zeros(2, 3, inputs[m].dim)).shape for m, r in reductions.items()} == {
        "audio": (2, 3, 300),
        "visual": (2, 3, 512),
    }
    iemocap = HJCAG(HJCAGConfig(), {**inputs, "audio": Input(1582, 3)}, 6).reductions()
    assert list(iemocap) == ["visual"]  # IS10 arrives in the width the paper names


def test_training_the_reductions_apart_changes_the_model_itself() -> None:
    model = build()
    before = model(features(), VALID).logits
    for parameter in model.reductions()["visual"].parameters():
        parameter.data.zero_()
    assert not torch.allclose(before, model(features(), VALID).logits)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("dims", "config", "levels", "whole"),
    [  # H6 counts equations (1)-(16) alone: 46.5 M, 16.3 M, 2.8 M and 0.7 M
        ((1024, 1582, 512), HJCAGConfig(space="native"), 46_547_210, 47_544_848),
        ((1024, 300, 512), HJCAGConfig(space="native"), 16_308_676, 16_978_122),
        ((1024, 1582, 512), HJCAGConfig(), 2_768_688, 3_766_326),
        ((1024, 1582, 512), HJCAGConfig(d_model=128), 701_616, 1_151_286),
    ],
    ids=["native IEMOCAP", "native MELD", "unified 256", "unified 128"],
)
def test_the_parameter_counts_are_those_we_publish(
    dims: tuple[int, int, int], config: HJCAGConfig, levels: int, whole: int
) -> None:
    with torch.device("meta"):
        model = HJCAG(config, {m: Input(d, 30) for m, d in zip(DIMS, dims, strict=True)}, outputs=6)
    assert (parameters(model.levels), parameters(model)) == (levels, whole)


def test_the_paper_reports_training_defaults_under_the_names_the_training_loop_reads() -> None:
    assert dict(HJCAG.train_defaults) == {
        "epochs": 200, "batch_size": 64, "learning_rate": 1e-5, "beta1": 0.9, "beta2": 0.99, "weight_decay": 1e-5,
        "decay_factor": 0.95, "decay_every": 10, "clip_norm": 0.0, "unimodal_pretrain": True,
    }  # fmt: skip
    assert HJCAG.features == "hjcag" and HJCAG.Config is HJCAGConfig


def test_embeddings_are_dropped_before_the_levels_in_training_alone() -> None:
    model = HJCAG(HJCAGConfig(d_model=8, embed_dropout=0.5), {m: Input(DIMS[m], L) for m in DIMS}, 6)
    seen: list[Tensor] = []
    model.levels[0].register_forward_hook(lambda _, given, __: seen.append(given[0]["text"]))
    model.train()(features(), VALID)
    model.eval()(features(), VALID)
    dropped, whole = seen
    assert torch.equal(dropped, torch.where(dropped == 0, 0, 2 * whole))
    assert 0.2 < (dropped == 0).float().mean() < 0.8 and whole.ne(0).all()


# --- learning --------------------------------------------------------------------------------------------------

CONFIGS = [
    HJCAGConfig(d_model=8, visual_dim=3, audio_dim=4),
    HJCAGConfig(d_model=8, visual_dim=3, space="native", gate="scalar"),
    HJCAGConfig(d_model=8, layer_norm=False, mask="none"),
    HJCAGConfig(d_model=8, bimodal=False),
    HJCAGConfig(d_model=8, trimodal=False, gated=False),
]


@pytest.mark.parametrize("names", ["text audio visual", "text visual", "audio"])
@pytest.mark.parametrize("config", CONFIGS)
def test_every_parameter_takes_a_gradient_when_all_is_valid(config: HJCAGConfig, names: str) -> None:
    torch.manual_seed(3)
    model = HJCAG(config, {m: Input(DIMS[m], L) for m in names.split()}, 6)
    functional.cross_entropy(model(features(), VALID).logits, torch.tensor([0, 1, 2])).backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.ne(0).any()]
    assert dead == []


@pytest.mark.parametrize("config", CONFIGS)
def test_a_state_dict_restores_the_predictions_statistics_included(config: HJCAGConfig) -> None:
    model, copy = (HJCAG(config, {m: Input(d, L) for m, d in DIMS.items()}, 6).eval() for _ in range(2))
    model.standardise.set("audio", torch.full((6,), 0.3), torch.full((6,), 2.0))
    before = model(features(), DIFFERENT).logits
    assert not torch.allclose(copy(features(), DIFFERENT).logits, before)
    copy.load_state_dict(model.state_dict())
    torch.testing.assert_close(copy(features(), DIFFERENT).logits, before)


def test_features_are_standardised_before_anything_reads_them() -> None:
    model = build()
    plain = model(features(), DIFFERENT).logits
    mean, std = torch.linspace(-900, 6000, 6), torch.linspace(1, 50, 6)
    model.standardise.set("audio", mean, std)
    moved = {**features(), "audio": features()["audio"].clamp(-10, 10) * std + mean}
    torch.testing.assert_close(model(moved, DIFFERENT).logits, plain, rtol=1e-2, atol=1e-2)


def test_autocast_to_bfloat16_gives_nearly_the_same_logits() -> None:
    model = build()
    with torch.autocast("cpu", torch.bfloat16):
        lowered = model(features(), DIFFERENT).logits
    torch.testing.assert_close(lowered.float(), model(features(), DIFFERENT).logits, rtol=0.1, atol=0.15)


def test_dropout_acts_in_training_alone() -> None:
    model = build(HJCAGConfig(d_model=4, dropout=0.5))
    torch.testing.assert_close(model(features(), VALID).logits, model(features(), VALID).logits, rtol=0, atol=0)
    model.train()
    assert not torch.equal(model(features(), VALID).logits, model(features(), VALID).logits)
