"""HJCAG, held against the paper's equations written out in einsum, one line each.

Letters of the einsums: b row, d e f features, i j k l time steps.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.hjcag import HJCAGConfig
from tests.models.hjcag_cases import DIFFERENT, DIMS, VALID, L, Tensors, build, close, features


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
        if self.config.pool == "own":
            self.pool()
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

    def pool(self) -> None:
        """X23: each modality becomes the mean over its own valid steps, a single step from here on."""
        count = {m: mask.sum(1).clamp(min=1) for m, mask in self.masks.items()}
        self.out = {
            m: torch.einsum("bdl,bl,b->bd", self.out[m], self.masks[m], 1 / count[m])[..., None] for m in self.out
        }
        self.masks = {m: mask.amax(1, keepdim=True) for m, mask in self.masks.items()}

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
    config = HJCAGConfig(d_model=4, visual_dim=3, layer_norm=False, gate=gate, pool="union")  # type: ignore[arg-type]
    model = build(config)
    paper = Paper(model, features(), masks)
    g = model._weigh(paper.out, torch.stack([masks[m] for m in DIMS], 1))
    close(dict(zip(DIMS, g.unbind(1), strict=True)), paper.g)
    assert g.shape == (3, 3, 4 if gate == "channel" else 1, L)


@CASES
@pytest.mark.parametrize("space", ["unified", "native"])
@pytest.mark.parametrize("gate", ["channel", "scalar"])
@pytest.mark.parametrize("pool", ["own", "union"])
@pytest.mark.parametrize("layer_norm", [False, True], ids=["without LN", "with LN"])
def test_equation_18_and_all_before_it_give_the_logits(
    masks: Tensors, space: str, gate: str, layer_norm: bool, pool: str
) -> None:
    options: dict[str, Any] = {"space": space, "gate": gate, "pool": pool}
    model = build(HJCAGConfig(d_model=4, visual_dim=3, layer_norm=layer_norm, **options))
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


@CASES
def test_a_map_of_a_pair_shares_out_the_correlation_of_each_step_over_the_valid_steps_of_the_source(
    masks: Tensors,
) -> None:
    model = build(PLAIN)
    model.maps = True
    paper, maps = Paper(model, features(), masks), model(features(), masks).attention
    assert len(maps) == 6
    for pair, weights in maps.items():
        source, target = pair.split("->")
        joint = "+".join(m for m in DIMS if m in (source, target))
        term = paper.correlation(0, target, paper.X[target], joint, paper.J2).abs()
        term = torch.einsum("bij,bj->bij", term, masks[source].float())
        total = term.sum(dim=2, keepdim=True)
        torch.testing.assert_close(weights, torch.where(total > 0, term / total, 0.0))
        both = masks[target].unsqueeze(2) & masks[source].any(dim=1)[:, None, None]
        torch.testing.assert_close(weights.sum(dim=2, keepdim=True), both.float())


@pytest.mark.parametrize("config", [HJCAGConfig(d_model=4, bimodal=False), None])
def test_without_pairs_there_are_no_maps(config: HJCAGConfig | None) -> None:
    model = build(config, "text audio visual" if config else "text")
    model.maps = True
    chosen = {m: features()[m] for m in model.modalities}
    assert model(chosen, {m: VALID[m] for m in chosen}).attention is None
