"""A task's loss, its labels as tensors, and the weights of its classes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.errors import InputError
from pipeline.objective import Objective, class_weights, targets
from pipeline.reader import Label
from pipeline.stage import Target

THREE = Target("multiclass", ("a", "b", "c"))
PAIRS = Target("multilabel", ("a", "b"))
NUMBER = Target("regression", ())
NUMBERS = Target("regression", ("x", "y", "z"))


def test_multiclass_loss_is_the_mean_negative_log_likelihood() -> None:
    values = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    likelihood = values.softmax(1)
    expected = -(likelihood[0, 0].log() + likelihood[1, 2].log()) / 2
    assert Objective(THREE)(values, targets([0, 2], THREE)).item() == pytest.approx(expected.item())


def test_multilabel_loss_is_the_mean_over_heads_of_two_logits_each() -> None:
    values = torch.tensor([[1.0, -1.0, 0.5, 2.0]])  # head a: 1, -1; head b: 0.5, 2
    off, on = torch.tensor([1.0, -1.0]).softmax(0)[0].log(), torch.tensor([0.5, 2.0]).softmax(0)[1].log()
    assert Objective(PAIRS)(values, targets([(0, 1)], PAIRS)).item() == pytest.approx((-(off + on) / 2).item())


def test_regression_loss_is_the_mean_absolute_error() -> None:
    values = torch.tensor([[1.0], [-2.0]])
    assert Objective(NUMBER)(values, targets([0.5, 1], NUMBER)).item() == pytest.approx((0.5 + 3) / 2)


def test_regression_loss_of_several_numbers_is_the_mean_over_rows_and_numbers() -> None:
    values, labels = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]), targets([(1.0, 4.0, 2.5), (1, 2, 3)], NUMBERS)
    assert labels.shape == (2, 3) and labels.dtype == torch.float32
    assert Objective(NUMBERS)(values, labels).item() == pytest.approx((0 + 2 + 0.5 + 1 + 2 + 3) / 6)
    with pytest.raises(RuntimeError):  # nothing is broadcast
        Objective(NUMBERS)(values[:, :1], labels)


@pytest.mark.parametrize(("names", "outputs"), [((), 1), (("x",), 1), (("x", "y"), 2)])
def test_a_regression_has_a_logit_for_each_named_number_and_one_where_none_is_named(
    names: tuple[str, ...], outputs: int
) -> None:
    target = Target("regression", names)
    assert (target.outputs, target.several) == (outputs, outputs > 1)


@pytest.mark.parametrize(
    ("target", "labels", "expected"),
    [
        (THREE, [0, 0, 0, 1], [[4 / 9, 4 / 3, 4 / 3]]),
        (PAIRS, [(1, 0), (0, 0), (0, 0), (0, 0)], [[4 / 6, 4 / 2], [4 / 8, 4 / 2]]),
    ],
)
def test_balanced_weights_are_inverse_to_the_counts_and_a_class_without_rows_counts_as_one(
    target: Target, labels: list[Label], expected: list[float]
) -> None:
    assert torch.allclose(class_weights(targets(labels, target), target), torch.tensor(expected))


def test_weighted_losses_weigh_each_row_by_its_class() -> None:
    values = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    single = [Objective(THREE)(values[[row]], targets([row], THREE)).item() for row in (0, 1)]
    weighted = Objective(THREE, torch.tensor([[1.0, 3.0, 1.0]]))(values, targets([0, 1], THREE))
    assert weighted.item() == pytest.approx((single[0] + 3 * single[1]) / 4)


def test_weighted_multilabel_loss_weighs_each_head_by_its_own_class() -> None:
    values = torch.tensor([[1.0, -1.0, 0.5, 2.0]])
    heads = [-pair.softmax(0)[y].log().item() for pair, y in zip(values.reshape(2, 2), (0, 1), strict=True)]
    weighted = Objective(PAIRS, torch.tensor([[2.0, 9.0], [9.0, 1.0]]))(values, targets([(0, 1)], PAIRS))
    assert weighted.item() == pytest.approx((2 * heads[0] + heads[1]) / 3)


@pytest.mark.parametrize(("target", "label"), [(NUMBER, 0.5), (NUMBERS, (1.0, 2.0, 3.0))])
def test_balanced_weights_of_a_regression_are_an_input_error(target: Target, label: Label) -> None:
    with pytest.raises(InputError, match="regression"):
        class_weights(targets([label], target), target)


def test_class_weights_make_each_class_count_alike() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    found = class_weights(labels, Target("multiclass", ("a", "b")))
    assert torch.allclose(found, torch.tensor([[4 / 6, 4 / 2]]))
    batch, logits = torch.tensor([1, 0, 1, 1]), torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    loss = Objective(Target("multiclass", ("a", "b")), found)(logits, batch)  # the weights of this batch are not 1
    assert torch.allclose(loss, nn.functional.cross_entropy(logits, batch, weight=found[0]))


def test_class_weights_of_a_multilabel_target_are_of_each_head() -> None:
    labels, heads = torch.tensor([[0, 1], [0, 0], [1, 1], [0, 1]]), Target("multilabel", ("x", "y"))
    found = class_weights(labels, heads)
    assert torch.allclose(found, torch.tensor([[4 / 6, 2.0], [2.0, 4 / 6]]))
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    each = nn.functional.cross_entropy(logits.view(-1, 2), labels.view(-1), reduction="none").view(4, 2)
    weight = torch.stack([found[h][labels[:, h]] for h in range(2)], dim=1)
    assert torch.allclose(Objective(heads, found)(logits, labels), (each * weight).sum() / weight.sum())


def test_the_loss_is_l1_for_numbers_and_cross_entropy_over_all_heads_for_multilabel() -> None:
    number = Objective(Target("regression", ()))
    assert number(torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0])).item() == 1.5
    logits, labels = torch.randn(3, 8), torch.randint(0, 2, (3, 4))
    expected = nn.functional.cross_entropy(logits.view(12, 2), labels.view(12))
    assert torch.allclose(Objective(Target("multilabel", tuple("abcd")))(logits, labels), expected)
