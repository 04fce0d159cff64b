"""The training loop of every stage that fits: seeded, deterministic, and stopped early by the validation loss.

Shapes: B rows of a minibatch, K = `Target.outputs` logits of each row.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.fit_progress import FitLines
from pipeline.objective import Objective, class_weights, targets
from pipeline.reader import Label
from pipeline.stage import Target
from stages._training import Training

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Examples(Generic[T]):
    """Inputs and their labels in the same order. Inputs are read one by one, so they may be lazy."""

    inputs: Sequence[T]
    labels: Sequence[Label]


@dataclass(frozen=True)
class Learned(Generic[M]):
    """A trained module in evaluation mode.

    valid_loss: its lowest validation loss, None without validation rows. log: its losses by epoch, and more.
    """

    module: M
    valid_loss: float | None
    log: dict[str, Any] = field(default_factory=dict)


def learn(
    build: Callable[[], M],
    logits: Callable[[M, list[T]], Tensor],
    train: Examples[T],
    valid: Examples[T],
    target: Target,
    training: Training,
) -> Learned[M]:
    """Builds a module, trains it with AdamW on the task's `Objective`, and keeps the weights of the best epoch.

    build: makes the module on its device, under the seed. Repeats differ only in the order of the rows and in dropout,
    so that fits on different rows keep the axes they start from (X9). logits: maps the module and B inputs to [B, K];
    the module is in training mode for train rows, and in evaluation mode without gradients for validation rows.

    Without validation rows there is one run of all epochs, and its last weights are kept. The random state, the threads
    and the determinism of the caller stay as they are. Each run says its epochs, see `pipeline.fit_progress`. Raises
    InputError if there is no train row or the loss diverges.
    """
    if not train.labels:
        raise InputError("nothing to fit on: no train row has usable input")
    repeats = training.repeats if valid.labels else 1
    runs = (_run(build, logits, train, valid, target, training, repeat) for repeat in range(repeats))
    return min(runs, key=lambda run: run.valid_loss or 0.0)


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """A context in which torch is seeded, deterministic, and on one thread; all settings are restored at the end.

    A CUDA operation without a deterministic form warns instead of failing. Keys hold the digest of the fitted state, so
    a fit on a GPU need not repeat to the bit.
    """
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS refuses to be deterministic
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            torch.manual_seed(seed)
            torch.set_num_threads(1)
            torch.set_float32_matmul_precision("highest")
            torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.set_float32_matmul_precision(precision)
            torch.set_num_threads(threads)


def rate_factor(warmup: float | None, steps: int) -> Callable[[int], float]:
    """The factor on the learning rate at each step from 0 to steps - 1, see `Training.warmup`."""
    if warmup is None:
        return lambda step: 1.0
    rise = max(1, round(warmup * steps))
    return lambda step: min((step + 1) / rise, (steps - step) / max(1, steps - rise))


def _run(
    build: Callable[[], M],
    logits: Callable[[M, list[T]], Tensor],
    train: Examples[T],
    valid: Examples[T],
    target: Target,
    training: Training,
    repeat: int,
) -> Learned[M]:
    """The run of this number, from 0."""
    started, seed = time.monotonic(), training.seed + repeat
    lines = FitLines(training.epochs, len(train.labels), f"run {repeat + 1}, " if training.repeats > 1 else "")
    with reproducible(training.seed):
        module = build()
        torch.manual_seed(seed)
        device = next(module.parameters()).device
        weights = class_weights(targets(train.labels, target), target) if training.balanced else None
        loss = Objective(target, weights).to(device)
        epochs = _Epochs(module, logits, loss, target, replace(training, seed=seed), lines)
        train_losses, valid_losses = epochs.run(train, valid)
    best = valid_losses.index(min(valid_losses)) if valid_losses else len(train_losses) - 1
    log = {
        "train_loss": train_losses,
        "valid_loss": valid_losses,
        "best_epoch": best,
        "seed": seed,
        "seconds": time.monotonic() - started,
    }
    return Learned(module.eval(), valid_losses[best] if valid_losses else None, log)


class _Epochs(Generic[M, T]):
    """The epochs of one run, after which the module has its best weights."""

    def __init__(
        self,
        module: M,
        logits: Callable[[M, list[T]], Tensor],
        loss: Objective,
        target: Target,
        training: Training,
        lines: FitLines,
    ) -> None:
        self.module, self.logits, self.loss, self.lines = module, logits, loss, lines
        self.target, self.training = target, training
        self.device = next(module.parameters()).device
        rate, decay = training.learning_rate, training.weight_decay
        self.optimiser = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=decay)
        self.generator = torch.Generator().manual_seed(training.seed)

    def run(self, train: Examples[T], valid: Examples[T]) -> tuple[list[float], list[float]]:
        """Trains to the last epoch, or until patience ends; returns the train and the validation losses by epoch."""
        steps = self.training.epochs * math.ceil(len(train.labels) / self.training.batch_size)
        scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimiser, rate_factor(self.training.warmup, steps))
        train_losses: list[float] = []
        valid_losses: list[float] = []
        best: dict[str, Tensor] = {}
        for epoch in range(1, self.training.epochs + 1):
            train_losses.append(self._train(train, scheduler))
            if valid.labels:
                valid_losses.append(self._evaluate(valid))
            since = len(valid_losses) - 1 - valid_losses.index(min(valid_losses)) if valid_losses else None
            if since == 0:
                best = {name: value.clone() for name, value in self.module.state_dict().items()}
            last = epoch == self.training.epochs or (since or 0) >= self.training.patience
            self.lines.ended(train_losses[-1], valid_losses[-1] if valid_losses else None, last=last)
            if last:
                break
        if best:
            self.module.load_state_dict(best)
        return train_losses, valid_losses

    def _train(self, train: Examples[T], scheduler: torch.optim.lr_scheduler.LambdaLR) -> float:
        self.module.train()
        total = 0.0
        order = torch.randperm(len(train.labels), generator=self.generator).tolist()
        for number, rows in enumerate(_chunks(order, self.training.batch_size)):
            self.lines.reached(number * self.training.batch_size)
            self.optimiser.zero_grad()
            loss = self.loss(self._logits(train, rows), self._labels(train, rows))
            torch.autograd.backward(loss)
            self.optimiser.step()
            scheduler.step()
            total += loss.item() * len(rows)
        return self._finite(total / len(order))

    @torch.no_grad()
    def _evaluate(self, valid: Examples[T]) -> float:
        self.module.eval()
        rows = list(range(len(valid.labels)))
        parts = [self._logits(valid, part) for part in _chunks(rows, self.training.batch_size)]
        return self._finite(self.loss(torch.cat(parts), self._labels(valid, rows)).item())

    def _finite(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise InputError(f"the fit diverged at learning_rate {self.training.learning_rate}: try a lower one")
        return loss

    def _logits(self, examples: Examples[T], rows: list[int]) -> Tensor:
        half = self.training.fit_precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            output = self.logits(self.module, [examples.inputs[row] for row in rows])
        return output.float()

    def _labels(self, examples: Examples[T], rows: list[int]) -> Tensor:
        return targets([examples.labels[row] for row in rows], self.target).to(self.device)


def _chunks(rows: list[int], size: int) -> Iterator[list[int]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
