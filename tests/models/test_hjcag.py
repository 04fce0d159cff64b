"""HJCAG, held against the paper's equations written out in einsum, one line each.

Letters of the einsums: b row, d e f features, i j k l time steps.
"""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from models.hjcag import HJCAG, HJCAGConfig
from pipeline.model import Input

L = 4
DIMS = {"text": 5, "audio": 6, "visual": 7}
VALID = {m: torch.ones(3, L).bool() for m in DIMS}
DIFFERENT = {
    "text": torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]).bool(),
    "audio": torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]).bool(),
    "visual": torch.tensor([[0, 1, 0, 1], [1, 1, 1, 0], [1, 0, 1, 1]]).bool(),
}
Tensors = dict[str, Tensor]


def build(config: HJCAGConfig | None = None, modalities: str = "text audio visual", length: int = L) -> Any:
    torch.manual_seed(0)
    config = config or HJCAGConfig(d_model=4, visual_dim=3)
    model = HJCAG(config, {m: Input(DIMS[m], length) for m in modalities.split()}, outputs=6).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def features(length: int = L, rows: int = 3, seed: int = 1) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(rows, length, d, generator=generator) for m, d in DIMS.items()}


def spoiled(values: Tensors, masks: Tensors, with_: float) -> Tensors:
    return {m: x.masked_fill(~masks[m].unsqueeze(-1), with_) for m, x in values.items()}


# --- the paper in einsum ---------------------------------------------------------------------------------------


class Paper:
    """Equations (1)-(18), X[m] and the joints as [b, d, l], for every ablation-free configuration."""

    def __init__(self, model: Any, values: Tensors, masks: Tensors) -> None:
        self.w: Tensors = dict(model.named_parameters())
        self.config, self.names = model.config, model.modalities
        self.masks = {m: masks[m].float() for m in self.names}
        self.X = {m: self.enter(m, values[m]) for m in self.names}
        self.J2, self.C2, self.H2, self.X2 = self.level(0, self.X, self.pairs())
        self.J3, self.C3, self.H3, self.X3 = self.level(1, self.X2, [self.names])
        self.out = self.X3 if self.config.space == "unified" else {m: self.project(m, x) for m, x in self.X3.items()}
        self.g = self.gate()
        self.logits = self.classify()

    def pairs(self) -> list[tuple[str, ...]]:
        known = [("text", "audio"), ("text", "visual"), ("audio", "visual")]
        return [pair for pair in known if set(pair) <= set(self.names)] or [self.names]

    def enter(self, m: str, values: Tensor) -> Tensor:
        x = torch.einsum("bld->bdl", values)
        if f"reduce.{m}.weight" in self.w:
            x = self.affine(f"reduce.{m}", x)
        return self.project(m, x) if self.config.space == "unified" else self.valid(m, x)

    def affine(self, name: str, x: Tensor) -> Tensor:
        return torch.einsum("ed,bdl->bel", self.w[f"{name}.weight"], x) + self.w[f"{name}.bias"][:, None]

    def project(self, m: str, x: Tensor) -> Tensor:
        return self.valid(m, self.affine(f"project.{m}", x))

    def valid(self, m: str, x: Tensor) -> Tensor:
        return torch.einsum("bdl,bl->bdl", x, self.masks[m])

    def level(self, n: int, X: Tensors, joints: list[tuple[str, ...]]) -> tuple[Tensors, Tensors, Tensors, Tensors]:
        J = {"+".join(j): self.affine(f"levels.{n}.fc.{'+'.join(j)}", torch.cat([X[m] for m in j], 1)) for j in joints}
        J = {name: j.clamp(min=0) for name, j in J.items()}  # (1)-(3), (13)
        terms = {m: [self.correlation(n, m, X[m], "+".join(j), J) for j in joints if m in j] for m in X}
        C = {m: torch.stack(terms[m]).sum(0) for m in X}
        H = {m: torch.einsum("bdi,ij,bjl->bdl", X[m], self.w[f"levels.{n}.w_c.{m}"], C[m]).clamp(min=0) for m in X}
        out = {m: torch.einsum("bdi,il->bdl", H[m], self.w[f"levels.{n}.w_h.{m}"]) + X[m] for m in X}
        out = {m: self.valid(m, x) for m, x in out.items()}
        return J, C, H, {m: self.norm(n, m, x) for m, x in out.items()} if self.config.layer_norm else out

    def correlation(self, n: int, m: str, x: Tensor, joint: str, J: Tensors) -> Tensor:
        w, j = self.w[f"levels.{n}.w_j.{m}|{joint}"], J[joint]
        scores = torch.einsum("bdi,de,bej->bij", x, w, j) / math.sqrt(j.shape[1])
        anyone = torch.stack([self.masks[other] for other in joint.split("+")]).amax(0)
        return torch.einsum("bij,bi,bj->bij", torch.tanh(scores), self.masks[m], anyone)  # one term of (4)-(6), (14)

    def norm(self, n: int, m: str, x: Tensor) -> Tensor:
        weight, bias = self.w[f"levels.{n}.norm.{m}.weight"], self.w[f"levels.{n}.norm.{m}.bias"]
        centred = x - x.mean(1, keepdim=True)
        scaled = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        return self.valid(m, scaled * weight[:, None] + bias[:, None])

    def gate(self) -> Tensors:
        if f"gate.{self.names[0]}.weight" not in self.w:
            scores = dict(self.masks)
            scores = {m: mask[:, None, :] for m, mask in scores.items()}
        else:
            scores = {m: torch.einsum("ed,bdl->bel", self.w[f"gate.{m}.weight"], self.out[m]).exp() for m in self.names}
            scores = {m: self.valid(m, score) for m, score in scores.items()}
        total = torch.stack(list(scores.values())).sum(0)
        return {m: score / total.clamp(min=1e-30) for m, score in scores.items()}  # (17)

    def classify(self) -> Tensor:
        attended = torch.stack([self.out[m] * self.g[m] for m in self.names]).sum(0)  # (18)
        anyone = torch.stack(list(self.masks.values())).amax(0)
        count = anyone.sum(1).clamp(min=1)
        pooled = torch.einsum("bdl,bl,b->bd", attended, anyone, 1 / count)
        pooled = functional.layer_norm(pooled, pooled.shape[1:], self.w["classify.0.weight"], self.w["classify.0.bias"])
        return torch.einsum("bd,od->bo", pooled, self.w["classify.2.weight"]) + self.w["classify.2.bias"]


PLAIN = HJCAGConfig(d_model=4, visual_dim=3, layer_norm=False)
CASES = pytest.mark.parametrize("masks", [VALID, DIFFERENT], ids=["all valid", "masks that differ by modality"])


def inner(model: Any, masks: Tensors, level: int) -> tuple[Paper, Tensors, Tensors]:
    """The paper's tensors, and what enters and leaves one level of the model."""
    seen: list[tuple[Tensors, Tensors]] = []
    model.levels[level].register_forward_hook(lambda _, args, out: seen.append((args[0], out)))
    model(features(), masks)
    return Paper(model, features(), masks), *seen[0]


def close(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-4, atol=1e-5)


@CASES
def test_equations_1_to_3_join_each_pair_through_a_rectified_fc_of_the_same_width(masks: Tensors) -> None:
    model = build(PLAIN)
    paper, x, _ = inner(model, masks, level=0)
    close(x, paper.X)
    level = model.levels[0]
    close({"+".join(j): level._joint(j, x) for j in level.joints}, paper.J2)
    assert all(j.shape == (3, 8, L) for j in paper.J2.values())


@CASES
def test_equations_4_to_6_sum_the_correlations_with_both_joints_of_a_modality(masks: Tensors) -> None:
    model = build(PLAIN)
    paper, x, _ = inner(model, masks, level=0)
    level = model.levels[0]
    for m in DIMS:
        terms = [level._correlate(m, x[m], j, paper.J2["+".join(j)], masks) for j in level.joints if m in j]
        assert len(terms) == 2
        close({m: terms[0] + terms[1]}, {m: paper.C2[m]})


@CASES
@pytest.mark.parametrize("layer_norm", [False, True], ids=["without LN", "with LN"])
def test_equations_7_to_12_weigh_time_by_the_correlations_and_add_the_input(masks: Tensors, layer_norm: bool) -> None:
    paper, _, out = inner(build(HJCAGConfig(d_model=4, visual_dim=3, layer_norm=layer_norm)), masks, level=0)
    close(out, paper.X2)
    assert all(h.gt(0).any() for h in paper.H2.values())  # the attention maps take part


@CASES
def test_equation_13_joins_all_three(masks: Tensors) -> None:
    model = build(PLAIN)
    paper, x, _ = inner(model, masks, level=1)
    close({"text+audio+visual": model.levels[1]._joint(("text", "audio", "visual"), x)}, paper.J3)


@CASES
def test_equation_14_correlates_each_modality_with_the_joint_of_three(masks: Tensors) -> None:
    model = build(PLAIN)
    paper, x, _ = inner(model, masks, level=1)
    j = paper.J3["text+audio+visual"]
    close({m: model.levels[1]._correlate(m, x[m], tuple(DIMS), j, masks) for m in DIMS}, paper.C3)


@CASES
@pytest.mark.parametrize("layer_norm", [False, True], ids=["without LN", "with LN"])
def test_equations_15_and_16_repeat_7_to_12_on_the_joint_of_three(masks: Tensors, layer_norm: bool) -> None:
    paper, _, out = inner(build(HJCAGConfig(d_model=4, visual_dim=3, layer_norm=layer_norm)), masks, level=1)
    close(out, paper.X3)
    assert all(h.gt(0).any() for h in paper.H3.values())


@CASES
@pytest.mark.parametrize("gate", ["channel", "scalar"])
def test_equation_17_is_a_softmax_over_modalities_and_none_for_what_is_invalid(masks: Tensors, gate: str) -> None:
    model = build(HJCAGConfig(d_model=4, visual_dim=3, layer_norm=False, gate=gate))  # type: ignore[arg-type]
    paper = Paper(model, features(), masks)
    g = model._weigh(paper.out, torch.stack([masks[m] for m in DIMS], 1))
    close(dict(zip(DIMS, g.unbind(1), strict=True)), paper.g)
    assert g.shape == (3, 3, 4 if gate == "channel" else 1, L)


@CASES
@pytest.mark.parametrize("space", ["unified", "native"])
@pytest.mark.parametrize("gate", ["channel", "scalar"])
@pytest.mark.parametrize("layer_norm", [False, True], ids=["without LN", "with LN"])
def test_equation_18_and_all_before_it_give_the_logits(masks: Tensors, space: str, gate: str, layer_norm: bool) -> None:
    config = HJCAGConfig(d_model=4, visual_dim=3, space=space, gate=gate, layer_norm=layer_norm)  # type: ignore[arg-type]
    model = build(config)
    torch.testing.assert_close(
        model(features(), masks).logits, Paper(model, features(), masks).logits, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("names", ["text audio", "text visual", "audio visual", "text", "audio", "visual"])
@CASES
def test_one_and_two_modalities_follow_the_same_equations(masks: Tensors, names: str) -> None:
    model = build(modalities=names)
    paper = Paper(model, features(), masks)
    assert list(paper.J2) == ["+".join(names.split())]  # one term in (4)-(6), or a modality with itself (X17)
    torch.testing.assert_close(model(features(), masks).logits, paper.logits, rtol=1e-4, atol=1e-5)


def test_a_correlation_is_divided_by_the_root_of_its_joints_width() -> None:
    model = build(HJCAGConfig(d_model=4, visual_dim=3, space="native"))
    level, x = model.levels[0], torch.full((1, 5, L), 0.1)
    for other, width in [("audio", 5 + 6), ("visual", 5 + 3)]:
        model.levels[0].w_j[f"text|text+{other}"].data.fill_(0.01)
        mask = {m: torch.ones(1, L).bool() for m in DIMS}
        c = level._correlate("text", x, ("text", other), torch.ones(1, width, L), mask)
        torch.testing.assert_close(c[0, 0, 0], torch.tensor(math.tanh(5 * 0.1 * 0.01 * width / math.sqrt(width))))


# --- masks -----------------------------------------------------------------------------------------------------

BOOLEANS = st.lists(st.lists(st.booleans(), min_size=L, max_size=L), min_size=9, max_size=9)


def masks_from(rows: list[list[bool]]) -> Tensors:
    return dict(zip(DIMS, torch.tensor(rows).view(3, 3, L), strict=True))


@given(BOOLEANS, st.sampled_from([float("nan"), float("inf"), -1e30, 7.0]), st.sampled_from(["unified", "native"]))
@settings(max_examples=40, deadline=None)
def test_what_stands_at_invalid_steps_never_matters(rows: list[list[bool]], junk: float, space: str) -> None:
    model, masks = build(HJCAGConfig(d_model=4, visual_dim=3, space=space)), masks_from(rows)  # type: ignore[arg-type]
    clean = model(features(), masks).logits
    assert clean.isfinite().all()
    torch.testing.assert_close(model(spoiled(features(), masks, junk), masks).logits, clean, rtol=0, atol=0)


@given(BOOLEANS, st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_padding_equals_a_model_of_the_shorter_length_with_the_corner_of_the_same_weights(
    rows: list[list[bool]], padding: int
) -> None:
    short, masks = build(), masks_from(rows)
    long = build(length=L + padding)
    corner = dict(short.state_dict())
    for name, weights in long.state_dict().items():
        if ".w_c." in name or ".w_h." in name:
            weights = weights.clone()
            weights[:L, :L] = corner[name]
            corner[name] = weights
    long.load_state_dict(corner)
    values = {m: functional.pad(x, (0, 0, 0, padding), value=3.0) for m, x in features().items()}
    padded = {m: functional.pad(mask, (0, padding), value=False) for m, mask in masks.items()}
    expected, actual = short(features(), masks), long(values, padded)
    torch.testing.assert_close(actual.logits, expected.logits, rtol=1e-4, atol=1e-5)
    close(actual.gates or {}, expected.gates or {})


def test_without_masks_padding_counts_as_content_but_garbage_still_does_not() -> None:
    model = build(HJCAGConfig(d_model=4, visual_dim=3, mask="none"))
    plain, masked = model(features(), VALID).logits, model(features(), DIFFERENT).logits
    assert not torch.allclose(plain, masked)
    zeros = spoiled(features(), DIFFERENT, 0.0)
    torch.testing.assert_close(masked, model(zeros, VALID).logits)
    torch.testing.assert_close(masked, model(spoiled(features(), DIFFERENT, float("nan")), DIFFERENT).logits)


@pytest.mark.parametrize("missing", DIMS)
def test_a_missing_modality_gives_a_finite_loss_no_gate_and_no_gradient_to_its_features(missing: str) -> None:
    model = build()
    masks = {m: mask & (m != missing) for m, mask in VALID.items()}
    values = {m: x.requires_grad_() for m, x in spoiled(features(), masks, float("nan")).items()}
    prediction = model(values, masks)
    functional.cross_entropy(prediction.logits, torch.tensor([0, 1, 2])).backward()
    assert prediction.gates is not None and prediction.gates[missing].eq(0).all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    for m, x in values.items():
        assert x.grad is not None and x.grad.isfinite().all()
        assert x.grad.eq(0).all() == (m == missing)


def test_a_row_with_nothing_valid_has_finite_logits_and_leaves_the_others_alone() -> None:
    model = build()
    masks = {m: mask & torch.tensor([[True], [False], [True]]) for m, mask in VALID.items()}
    logits = model(features(), masks).logits
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[[0, 2]], model(features(), VALID).logits[[0, 2]])


def test_a_row_is_scored_alike_alone_and_in_a_batch() -> None:
    model = build()
    together = model(features(), DIFFERENT).logits
    for row in range(3):
        one = slice(row, row + 1)
        alone = model({m: x[one] for m, x in features().items()}, {m: x[one] for m, x in DIFFERENT.items()}).logits
        torch.testing.assert_close(alone, together[one])


@pytest.mark.parametrize("mask_steps", [1, L])
def test_a_broadcast_modality_equals_the_same_vector_repeated(mask_steps: int) -> None:
    model, values = build(), features()
    once = {**values, "audio": values["audio"][:, :1]}
    repeated = {**values, "audio": values["audio"][:, :1].repeat(1, L, 1)}
    masks = {**DIFFERENT, "audio": torch.tensor([[True], [True], [False]])}
    full = {**masks, "audio": masks["audio"].repeat(1, L)}
    given_masks = {**masks, "audio": full["audio"][:, :mask_steps]}
    torch.testing.assert_close(model(once, given_masks).logits, model(repeated, full).logits)


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
