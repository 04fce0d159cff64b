"""MulG, held against the paper's equations written out in einsum, and its options against small models by hand.

Letters of the einsums: b row, d e features, t s time steps of target and source.
"""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from models._layers import sinusoids
from models.mulg import MulG, MulGConfig, _Bilinear, _CrossModal, _PaperGRU, _TorchGRU
from pipeline.model import Input

DIMS = {"text": 5, "audio": 6, "visual": 7}
LENGTHS = {"text": 3, "audio": 5, "visual": 4}
VALID = {m: torch.ones(3, n).bool() for m, n in LENGTHS.items()}
DIFFERENT = {
    "text": torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool(),
    "audio": torch.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 1, 0, 1, 0]]).bool(),
    "visual": torch.tensor([[0, 1, 0, 1], [1, 1, 1, 0], [1, 0, 1, 1]]).bool(),
}
SMALL: dict[str, Any] = {"width": 6, "hidden": 8, "heads": 2}
Tensors = dict[str, Tensor]


def build(modalities: str = "text audio visual", outputs: int = 2, longer: int = 0, **options: Any) -> Any:
    torch.manual_seed(0)
    inputs = {m: Input(DIMS[m], LENGTHS[m] + longer) for m in modalities.split()}
    return MulG(MulGConfig(**{**SMALL, **options}), inputs, outputs).eval()


def features(seed: int = 1) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(3, LENGTHS[m], d, generator=generator) for m, d in DIMS.items()}


def spoiled(values: Tensors, masks: Tensors, with_: float) -> Tensors:
    return {m: x.masked_fill(~masks[m].unsqueeze(-1), with_) for m, x in values.items()}


VARIANTS: list[dict[str, Any]] = [
    {},
    {"residual": "post_ln", "gru": "per_pair"},
    {"residual": "residual", "gru_cell": "paper"},
    {"attention": "bilinear"},
    {"attention": "bilinear", "gru": "per_pair", "gru_cell": "paper"},
    {"pairs": "self"},
    {"pairs": "none", "gru_layers": 1},
]
EACH_VARIANT = pytest.mark.parametrize("options", VARIANTS, ids=lambda o: " ".join(map(str, o.values())) or "default")


# --- equations 1 to 4: the GRU ---------------------------------------------------------------------------------


def paper_step(x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, w_hs: Tensor) -> Tensor:
    """Equations (1)-(4) for one step: x [b, d], h [b, e]."""
    w_xr, w_xz, w_xs = w_x.chunk(3)
    w_hr, w_hz = w_h.chunk(2)

    def mapped(w: Tensor, v: Tensor) -> Tensor:
        return torch.einsum("ed,bd->be", w, v)

    r = 1 / (1 + torch.exp(-(mapped(w_xr, x) + mapped(w_hr, h))))  # (1)
    z = 1 / (1 + torch.exp(-(mapped(w_xz, x) + mapped(w_hz, h))))  # (2)
    candidate = torch.tanh(mapped(w_xs, x) + mapped(w_hs, r * h))  # (3)
    return (1 - z) * h + z * candidate  # (4)


def test_equations_1_to_4_are_the_paper_cell() -> None:
    torch.manual_seed(0)
    cell: Any = _PaperGRU(3, 4, layers=2)
    x = torch.randn(2, 5, 3)
    sequence = list(x.unbind(1))
    for k in range(2):
        h, states = torch.zeros(2, 4), []
        for x_t in sequence:
            h = paper_step(x_t, h, cell.w_x[k].weight, cell.w_h[k].weight, cell.w_hs[k].weight)
            states.append(h)
        sequence = states
    torch.testing.assert_close(cell(x, torch.ones(2, 5).bool()), sequence[-1])


@pytest.mark.parametrize(("update", "expected"), [(50.0, math.tanh(3.0)), (-50.0, 0.0)])
def test_equation_4_takes_the_candidate_where_z_is_one_and_the_old_state_where_it_is_zero(
    update: float, expected: float
) -> None:
    cell: Any = _PaperGRU(1, 1, layers=1)
    cell.w_x[0].weight.data = torch.tensor([[0.0], [update], [3.0]])
    torch.testing.assert_close(cell(torch.ones(1, 1, 1), torch.ones(1, 1).bool()), torch.tensor([[expected]]))


def test_the_torch_cell_has_z_the_other_way_round_and_resets_after_the_map() -> None:
    torch.manual_seed(0)
    cell, x = _TorchGRU(3, 4, layers=1), torch.randn(2, 5, 3)
    w_x, w_h, b_x, b_h = cell.parameters()
    h = torch.zeros(2, 4)
    for x_t in x.unbind(1):
        x_r, x_z, x_n = (torch.einsum("ed,bd->be", w_x, x_t) + b_x).chunk(3, -1)
        h_r, h_z, h_n = (torch.einsum("ed,bd->be", w_h, h) + b_h).chunk(3, -1)
        r, z = 1 / (1 + torch.exp(-x_r - h_r)), 1 / (1 + torch.exp(-x_z - h_z))
        h = (1 - z) * torch.tanh(x_n + r * h_n) + z * h
    torch.testing.assert_close(cell(x, torch.ones(2, 5).bool()), h)


@pytest.mark.parametrize("cell", [_TorchGRU, _PaperGRU])
@given(mask=st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=2, max_size=2))
@settings(max_examples=25, deadline=None)
def test_a_gru_reads_the_valid_steps_alone_and_nothing_gives_zero(cell: type[nn.Module], mask: Any) -> None:
    torch.manual_seed(0)
    gru, x = cell(3, 4, 2), torch.randn(2, 5, 3)
    states = gru(x, torch.tensor(mask))
    for row, valid, state in zip(x, torch.tensor(mask), states, strict=True):
        kept = row[valid].unsqueeze(0)
        alone = gru(kept, torch.ones(1, kept.shape[1]).bool())[0] if valid.any() else torch.zeros(4)
        torch.testing.assert_close(state, alone)


# --- equations 5 to 7: attention -------------------------------------------------------------------------------


def test_equations_5_to_7_are_the_bilinear_attention() -> None:
    torch.manual_seed(0)
    pair = _Bilinear(MulGConfig(hidden=4, attn_dropout=0.0))
    x1, x2, valid = torch.randn(3, 5, 4), torch.randn(3, 4, 4), DIFFERENT["visual"]
    e = torch.einsum("btd,de,bse->bts", x1, pair.w, x2)  # (5)
    weights = e.exp() * valid[:, None, :]
    alpha = weights / weights.sum(-1, keepdim=True)  # (6)
    attended, map_ = pair(x1, x2, valid)
    torch.testing.assert_close(map_, alpha)
    torch.testing.assert_close(attended, torch.einsum("bts,bsd->btd", alpha, x2))  # (7)


def norm(x: Tensor, layer: Any) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], layer.weight, layer.bias)


def positioned(x: Tensor) -> Tensor:
    return x * math.sqrt(x.shape[-1]) + sinusoids(x.shape[1], x.shape[2], like=x)


@pytest.mark.parametrize("variant", ["pre_ln", "post_ln", "residual"])
def test_a_cross_modal_block_is_attention_and_feed_forward_under_its_residual_variant(variant: Any) -> None:
    torch.manual_seed(0)
    block: Any = _CrossModal(MulGConfig(hidden=4, heads=2, layers=1, residual=variant)).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x1, x2, valid = torch.randn(3, 5, 4), torch.randn(3, 4, 4), DIFFERENT["visual"]
    x, source, (n1, n2) = positioned(x1), norm(positioned(x2), block.normalise), block.residual.norms

    def attention(y: Tensor) -> Tensor:
        attended: Tensor = block.attend[0](y, source, valid)[0]
        return attended

    if variant == "pre_ln":
        x = x + attention(norm(x, n1))
        expected = norm(x + block.feed[0](norm(x, n2)), block.residual.last)
    else:
        first = norm(x + attention(x), n1)
        expected = norm(first + block.feed[0](first), n2)
    if variant == "residual":
        expected = expected + norm(x + attention(x) + block.feed[0](first), block.residual.last)
    torch.testing.assert_close(block(x1, x2, valid)[0], expected)


def test_each_directed_pair_shows_how_the_target_attends_to_the_source() -> None:
    maps = build()(features(), DIFFERENT).attention
    assert maps is not None and len(maps) == 6
    for pair, weights in maps.items():
        source, target = pair.split("->")
        assert weights.shape == (3, LENGTHS[target], LENGTHS[source]) and not weights.requires_grad
        anything = DIFFERENT[source].any(1).float()
        torch.testing.assert_close(weights.sum(-1), anything[:, None].expand(-1, LENGTHS[target]))
        assert weights.masked_select(~DIFFERENT[source][:, None, :]).eq(0).all()


def test_the_map_of_a_pair_is_that_of_its_last_layer() -> None:
    torch.manual_seed(0)
    block: Any = _CrossModal(MulGConfig(hidden=4, heads=2, layers=2)).eval()
    maps: list[Tensor] = []
    for attend in block.attend:
        attend.register_forward_hook(lambda _, args, out: maps.append(out[1]))
    _, shown = block(torch.randn(3, 5, 4), torch.randn(3, 4, 4), DIFFERENT["visual"])
    assert torch.equal(shown, maps[1]) and not torch.equal(shown, maps[0])


# --- equations 8 and 9: fusion ---------------------------------------------------------------------------------


@EACH_VARIANT
def test_equations_8_and_9_cascade_the_last_states_and_reduce_them(options: dict[str, Any]) -> None:
    model = build(**options)
    states: list[Tensor] = []
    reduced: list[Tensor] = []
    for gru in model.gru.values():
        gru.register_forward_hook(lambda _, args, out: states.append(out))
    model.fuse.register_forward_hook(lambda _, args, out: reduced.append(out))
    logits = model(features(), DIFFERENT).logits
    concat = torch.cat(states, -1)  # (8)
    assert len(states) == (6 if options.get("gru") == "per_pair" else 3)
    expected = torch.einsum("de,be->bd", model.fuse.weight, concat) + model.fuse.bias  # (9)
    torch.testing.assert_close(reduced[0], expected)
    refined = model.residual(expected, [model.feed])  # the fourth block of Fig. 1
    torch.testing.assert_close(logits, torch.einsum("od,bd->bo", model.head.weight, refined) + model.head.bias)


def test_the_whole_bilinear_model_equals_the_paper_in_einsum() -> None:
    model = build(attention="bilinear", gru_cell="paper", gru_layers=1, residual="post_ln")
    x: Tensors = {}
    for m, v in features().items():
        fc, conv = model.refine[m][0], model.conv[m]
        v = (torch.einsum("ed,btd->bte", fc.weight, v) + fc.bias).clamp(min=0)
        x[m] = torch.einsum("edk,btd->bte", conv.weight, v) + conv.bias
    states = []
    for target, others in [("text", "audio visual"), ("audio", "text visual"), ("visual", "text audio")]:
        found = []
        for source in others.split():
            e = torch.einsum("btd,de,bse->bts", x[target], model.attend[f"{source}->{target}"].w, x[source])
            e = e.exp() * DIFFERENT[source][:, None, :]
            found.append(torch.einsum("bts,bsd->btd", e / e.sum(-1, keepdim=True).clamp(min=1e-30), x[source]))
        sequence, gru, h = torch.cat(found, -1), model.gru[target], torch.zeros(3, 8)
        for t in range(LENGTHS[target]):
            step = paper_step(sequence[:, t], h, gru.w_x[0].weight, gru.w_h[0].weight, gru.w_hs[0].weight)
            h = torch.where(DIFFERENT[target][:, t, None], step, h)
        states.append(h)
    h = torch.einsum("de,be->bd", model.fuse.weight, torch.cat(states, -1)) + model.fuse.bias
    h = norm(h + model.feed(h), model.residual.norms[0])
    expected = torch.einsum("od,bd->bo", model.head.weight, h) + model.head.bias
    torch.testing.assert_close(model(features(), DIFFERENT).logits, expected)


# --- masks -----------------------------------------------------------------------------------------------------

BOOLEANS = st.lists(st.booleans(), min_size=36, max_size=36)


def masks_from(flat: list[bool]) -> Tensors:
    parts = torch.split(torch.tensor(flat).view(3, 12), list(LENGTHS.values()), dim=1)
    return dict(zip(LENGTHS, parts, strict=True))


@EACH_VARIANT
@given(flat=BOOLEANS, junk=st.sampled_from([float("nan"), float("inf"), -1e30, 7.0]))
@settings(max_examples=8, deadline=None)
def test_what_stands_at_invalid_steps_never_matters(options: dict[str, Any], flat: list[bool], junk: float) -> None:
    model, masks = build(**options), masks_from(flat)
    clean = model(features(), masks).logits
    assert clean.isfinite().all()
    torch.testing.assert_close(model(spoiled(features(), masks, junk), masks).logits, clean, rtol=0, atol=0)


@EACH_VARIANT
@given(flat=BOOLEANS, padding=st.integers(1, 4))
@settings(max_examples=8, deadline=None)
def test_more_padding_at_the_end_changes_no_logit(options: dict[str, Any], flat: list[bool], padding: int) -> None:
    model, longer, masks = build(**options), build(longer=padding, **options), masks_from(flat)
    values = {m: functional.pad(x, (0, 0, 0, padding), value=3.0) for m, x in features().items()}
    padded = {m: functional.pad(mask, (0, padding), value=False) for m, mask in masks.items()}
    torch.testing.assert_close(longer(values, padded).logits, model(features(), masks).logits, rtol=1e-4, atol=1e-5)


@EACH_VARIANT
@pytest.mark.parametrize("missing", DIMS)
def test_a_missing_modality_gives_a_finite_loss_and_no_gradient_to_its_features(
    options: dict[str, Any], missing: str
) -> None:
    model = build(**options)
    masks = {m: mask & (m != missing) for m, mask in VALID.items()}
    values = {m: x.requires_grad_() for m, x in spoiled(features(), masks, float("nan")).items()}
    model(values, masks).logits.abs().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    for m, x in values.items():
        assert x.grad is not None and x.grad.isfinite().all()
        assert x.grad.eq(0).all() == (m == missing)


def test_the_state_of_a_missing_modality_is_zero() -> None:
    model = build()
    states: list[Tensor] = []
    model.gru["audio"].register_forward_hook(lambda _, args, out: states.append(out))
    model(features(), DIFFERENT)  # the second row has no audio
    assert states[0][1].eq(0).all() and states[0][0].ne(0).any()


@EACH_VARIANT
def test_a_row_with_nothing_valid_has_finite_logits_and_leaves_the_others_alone(options: dict[str, Any]) -> None:
    model = build(**options)
    masks = {m: mask & torch.tensor([[True], [False], [True]]) for m, mask in VALID.items()}
    logits = model(features(), masks).logits
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[[0, 2]], model(features(), VALID).logits[[0, 2]])


@EACH_VARIANT
def test_a_row_is_scored_alike_alone_and_in_a_batch(options: dict[str, Any]) -> None:
    model = build(**options)
    together = model(features(), DIFFERENT).logits
    for row in range(3):
        one = slice(row, row + 1)
        alone = model({m: x[one] for m, x in features().items()}, {m: x[one] for m, x in DIFFERENT.items()}).logits
        torch.testing.assert_close(alone, together[one])


@pytest.mark.parametrize("mask_steps", [1, LENGTHS["audio"]])
def test_a_broadcast_modality_equals_the_same_vector_repeated(mask_steps: int) -> None:
    model, values, steps = build(), features(), LENGTHS["audio"]
    once = {**values, "audio": values["audio"][:, :1]}
    repeated = {**values, "audio": values["audio"][:, :1].repeat(1, steps, 1)}
    full = {**DIFFERENT, "audio": torch.tensor([[True], [True], [False]]).repeat(1, steps)}
    given_masks = {**full, "audio": full["audio"][:, :mask_steps]}
    torch.testing.assert_close(model(once, given_masks).logits, model(repeated, full).logits)


# --- construction and options ----------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["text audio", "text visual", "audio visual"])
def test_two_modalities_attend_to_each_other(names: str) -> None:
    one, two = names.split()
    maps = build(names)(features(), DIFFERENT).attention
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
    maps = build(pairs="self")(features(), DIFFERENT).attention
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


@pytest.mark.parametrize("field", ["pairs", "attention", "residual", "gru", "gru_cell"])
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
