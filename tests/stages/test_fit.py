"""The training loop of stages that fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.objective import Objective, targets
from pipeline.stage import Target
from stages._fit import Examples, Learned, learn, rate_factor, reproducible
from stages._training import Training

THREE = Target("multiclass", ("a", "b", "c"))
PAIRS = Target("multilabel", ("a", "b"))
NUMBER = Target("regression", ())
NUMBERS = Target("regression", ("x", "y", "z"))


def training(**changes: object) -> Training:
    settings: dict[str, object] = {"epochs": 3, "batch_size": 4, "learning_rate": 0.05, "patience": 2}
    return Training(**(settings | changes))  # type: ignore[arg-type]


def rows(count: int, seed: int = 0) -> Examples[Tensor]:
    """Three numbers, whose label is the place of the largest."""
    values = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return Examples(list(values), values.argmax(1).tolist())


def logits(module: nn.Linear, inputs: list[Tensor]) -> Tensor:
    output: Tensor = module(torch.stack(inputs))
    return output


def fitted(valid: Examples[Tensor] | None = None, **changes: object) -> Learned[nn.Linear]:
    held = rows(8, seed=1) if valid is None else valid
    return learn(lambda: nn.Linear(3, 3), logits, rows(16), held, THREE, training(**changes))


def test_equal_rows_and_seed_give_equal_weights_and_another_seed_gives_others() -> None:
    first, second, other = fitted(), fitted(), fitted(seed=1)
    assert torch.equal(first.module.weight, second.module.weight)
    assert not torch.equal(first.module.weight, other.module.weight)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_random_state_threads_precision_and_determinism_are_as_before_after_a_fit() -> None:
    random, precision = torch.get_rng_state(), torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), reproducible(0):
        assert torch.get_num_threads() == 1
        assert torch.are_deterministic_algorithms_enabled()
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), random)
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (2, precision)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.usefixtures("two_threads")
def test_a_fit_does_not_depend_on_the_callers_random_state() -> None:
    torch.manual_seed(1)
    first = fitted()
    torch.manual_seed(2)
    assert torch.equal(first.module.weight, fitted().module.weight)


def test_training_lowers_the_validation_loss_and_ends_in_evaluation_mode() -> None:
    learned = fitted(epochs=30)
    assert learned.log["valid_loss"][-1] < 0.7 * learned.log["valid_loss"][0]
    assert not learned.module.training


def test_the_weights_of_the_best_epoch_are_kept_and_patience_ends_the_training() -> None:
    train = rows(16)
    largest = torch.stack(list(train.inputs)).argmax(1)
    wrong = Examples(train.inputs, ((largest + 1) % 3).tolist())  # what is learned makes these worse
    learned = learn(lambda: nn.Linear(3, 3), logits, train, wrong, THREE, training(epochs=20))
    assert learned.log["best_epoch"] == 0
    assert len(learned.log["valid_loss"]) == 3
    with torch.no_grad():
        again = Objective(THREE)(logits(learned.module, list(wrong.inputs)), targets(wrong.labels, THREE))
    assert again.item() == pytest.approx(learned.valid_loss)


def test_without_validation_rows_all_epochs_run_once_and_the_last_weights_are_kept() -> None:
    learned = fitted(valid=Examples([], []), epochs=5, repeats=3)
    assert (learned.valid_loss, learned.log["best_epoch"], learned.log["seed"]) == (None, 4, 0)
    assert len(learned.log["train_loss"]) == 5


def test_of_several_repeats_the_one_with_the_lowest_validation_loss_is_kept() -> None:
    losses = [fitted(repeats=repeats).valid_loss or 0.0 for repeats in range(1, 6)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    assert fitted(repeats=5).log["seed"] == losses.index(losses[-1])


def test_repeats_start_from_the_same_weights_and_end_elsewhere() -> None:
    starts: list[Tensor] = []

    def build() -> nn.Linear:
        module = nn.Linear(3, 3)
        starts.append(module.weight.detach().clone())
        return module

    learn(build, logits, rows(16), rows(8, seed=1), THREE, training(repeats=2))
    assert torch.equal(*starts)
    assert not torch.equal(fitted().module.weight, fitted(repeats=5).module.weight)


class Recorded(Sequence[Tensor]):
    """Inputs that note which were read."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        self.inputs, self.read = inputs, list[int]()

    def __len__(self) -> int:
        return len(self.inputs)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | Sequence[Tensor]:
        assert isinstance(index, int)
        self.read.append(index)
        return self.inputs[index]


def test_inputs_are_read_one_by_one_once_an_epoch_in_a_new_order_each_time() -> None:
    train = rows(6)
    lazy = Recorded(train.inputs)
    learn(lambda: nn.Linear(3, 3), logits, Examples(lazy, train.labels), Examples([], []), THREE, training(epochs=2))
    first, second = lazy.read[:6], lazy.read[6:]
    assert sorted(first) == sorted(second) == list(range(6))
    assert first != second


def test_several_numbers_are_learned_at_once() -> None:
    values = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    labels = [(1 + x, 2 - y, 3.0) for x, y, _ in values.tolist()]
    train, valid = (Examples(list(values[part]), labels[part]) for part in (slice(48), slice(48, 64)))
    learned = learn(lambda: nn.Linear(3, 3), logits, train, valid, NUMBERS, training(epochs=60, patience=60))
    with torch.no_grad():
        errors = (logits(learned.module, list(valid.inputs)) - targets(valid.labels, NUMBERS)).abs()
    assert errors.mean(dim=0).max() < 0.2
    assert errors.mean().item() == pytest.approx(learned.valid_loss)


def test_no_train_row_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no train row"):
        learn(lambda: nn.Linear(3, 3), logits, Examples([], []), rows(2), THREE, training())


def test_a_loss_that_is_not_finite_is_an_input_error_that_names_the_learning_rate() -> None:
    broken = Examples([torch.full((3,), torch.inf)], [0])
    with pytest.raises(InputError, match="learning_rate 0.05"):
        learn(lambda: nn.Linear(3, 3), logits, broken, rows(2), THREE, training())


def test_the_rate_rises_over_the_warm_up_and_falls_to_a_last_small_step() -> None:
    factor = rate_factor(0.2, 10)
    assert [factor(step) for step in (0, 1, 2, 6, 9)] == pytest.approx([0.5, 1, 1, 0.5, 1 / 8])
    assert rate_factor(None, 10)(9) == 1


@pytest.mark.parametrize("change", ["epochs", "batch_size", "learning_rate", "patience", "repeats"])
def test_a_training_of_nothing_is_refused(change: str) -> None:
    with pytest.raises(ValueError, match=change):
        training(**{change: 0}).check()


@pytest.mark.parametrize("change", [{"warmup": 1.5}, {"weight_decay": -1.0}])
def test_a_warm_up_or_weight_decay_out_of_range_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        training(**change).check()
