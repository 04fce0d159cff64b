"""The training loop of models: it resumes at the last epoch, and selects and stops on the validation loss alone."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import StepLR

from pipeline.cache import keys
from pipeline.cache.atomic import publish, replacing
from pipeline.corpus.recipe_training import TrainConfig
from pipeline.errors import InputError
from pipeline.model import Batch, Prediction, Solved, Trainable
from pipeline.objective import Objective
from pipeline.stage import Target
from pipeline.train.model_file import load_weights, save_weights
from pipeline.train.predict import predicted
from pipeline.views.dataset import Dataset
from pipeline.views.view import Rows

log = logging.getLogger(__name__)

LAST, BEST, EPOCHS = "last.ckpt", "best.safetensors", "epochs.csv"

History = list[dict[str, float]]
"""A row for each epoch: its number from 0, train_loss, valid_loss, learning_rate, seconds, and the watched scores."""


@dataclass(frozen=True)
class Job:
    """One run of the loop: rows to learn from and to select on, and a directory for the files it leaves.

    watch: scores of the model after each epoch, which are kept beside its losses and decide nothing.
    """

    dataset: Dataset
    train: Rows
    valid: Rows
    objective: Objective
    settings: TrainConfig
    seed: int
    device: str
    directory: Path
    watch: Callable[[Trainable], dict[str, float]] = lambda model: {}


def pick_device(device: str) -> str:
    """`cpu` or `cuda` for "auto", "cpu" or "cuda". Raises InputError if a GPU is asked for and there is none."""
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be auto, cpu or cuda, got {device!r}")
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise InputError("device = cuda, but torch finds no GPU here")
    return "cuda" if available and device != "cpu" else "cpu"


def fit(model: Trainable, job: Job) -> History:
    """Trains `model` in place, gives it the weights of its best epoch by validation loss, and returns all epochs.

    A run that was killed resumes after the last epoch that it finished, with the same result. The model is on the CPU
    afterwards. Raises InputError if no epoch had a finite validation loss.
    """
    job.directory.mkdir(parents=True, exist_ok=True)
    with _only_deterministic(job.settings.deterministic):
        training = _Training(model, job)
        training.resume()
        while not training.ended():
            training.epoch()
    if best_epoch(training.history) is None:
        raise InputError("no epoch had a finite validation loss: lower learning_rate, or set normalize = train")
    load_weights(model.cpu(), job.directory / BEST)
    return training.history


@contextmanager
def _only_deterministic(wanted: bool) -> Iterator[None]:
    """A context in which torch raises RuntimeError rather than use an algorithm that differs from run to run."""
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, cuBLAS gives no such guarantee
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def solve(model: Solved, job: Job, target: Target) -> History:
    """Solves for the weights of `model` in place, and returns its losses as those of a single epoch."""
    began, size = time.perf_counter(), job.settings.batch_size
    parts = {"train_loss": job.train, "valid_loss": job.valid}
    model.solve(job.dataset.batches(job.train, size), job.dataset.batches(job.valid, size), target)
    losses = {name: _mean(_losses(model, job, rows)) for name, rows in parts.items()}
    return [{"epoch": 0, **losses, "learning_rate": 0.0, "seconds": time.perf_counter() - began, **job.watch(model)}]


def _losses(model: Trainable, job: Job, rows: Rows) -> Iterator[tuple[Tensor, int]]:
    with torch.inference_mode():
        for batch in job.dataset.batches(rows, job.settings.batch_size):
            yield job.objective(predicted(model, batch, "cpu").logits, batch.labels), len(batch.rows)


def best_epoch(history: History) -> int | None:
    """The first epoch, from 0, with the lowest validation loss; None if no loss is finite."""
    finite = [epoch for epoch, row in enumerate(history) if math.isfinite(row["valid_loss"])]
    return min(finite, key=lambda epoch: history[epoch]["valid_loss"], default=None)


def as_csv(history: History) -> str:
    """The epochs as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def hide_some(masks: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Hides each modality of each row with this probability, but none of a row that would have nothing left.

    masks: modality -> [B, T] -> the same. torch's random numbers decide.
    """
    present = torch.stack([mask.any(dim=1) for mask in masks.values()])  # [M, B]
    kept = torch.rand(present.shape) >= share
    kept |= ~(kept & present).any(dim=0)
    return {modality: mask & keep.unsqueeze(1) for (modality, mask), keep in zip(masks.items(), kept, strict=True)}


class _Training:
    """A model in training: its optimiser, the decay of its learning rate, and the losses of each epoch."""

    def __init__(self, model: Trainable, job: Job) -> None:
        settings = job.settings
        self.job, self.model, self.objective = job, model.to(job.device), job.objective.to(job.device)
        self.optimiser = torch.optim.Adam(
            model.parameters(),
            settings.learning_rate,
            (settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
        )
        every = settings.decay_every or settings.epochs  # the end of the last epoch: never
        self.decay = StepLR(self.optimiser, every, settings.decay_factor)
        self.history: History = []

    def resume(self) -> None:
        """Continues from the checkpoint of a killed run, if there is one that is not damaged."""
        kept = _checkpoint(self.job)
        if kept is None:
            return
        self.model.load_state_dict(kept["model"])
        for name, content in kept["buffers"].items():
            self.model.get_buffer(name).copy_(content)
        self.optimiser.load_state_dict(kept["optimiser"])
        self.decay.load_state_dict(kept["decay"])
        self.history = kept["history"]

    def ended(self) -> bool:
        """True after the last epoch, or if patience has ended."""
        settings, epochs, best = self.job.settings, len(self.history), best_epoch(self.history)
        waited = epochs - (0 if best is None else best + 1)
        return epochs >= settings.epochs or (0 < settings.patience <= waited and epochs >= settings.min_epochs)

    def epoch(self) -> None:
        """Trains on each train row once, validates, and writes what a resumed run needs."""
        number, rate, began = len(self.history), self.optimiser.param_groups[0]["lr"], time.perf_counter()
        seed = self.job.seed + (number << 32)  # depends on the epoch alone, so that a resumed run has the same
        torch.manual_seed(seed)  # for dropout
        row = {"epoch": number, "train_loss": self._train(seed), "valid_loss": self._validate()}
        self.decay.step()
        seconds = time.perf_counter() - began
        self.history.append({**row, "learning_rate": rate, "seconds": seconds, **self.job.watch(self.model)})
        self._keep()

    def _train(self, seed: int) -> float:
        self.model.train()
        job, grouped = self.job, self.job.settings.group_lengths
        return _mean(map(self._step, job.dataset.batches(job.train, job.settings.batch_size, seed, grouped=grouped)))

    def _step(self, batch: Batch) -> tuple[Tensor, int]:
        if share := self.job.settings.modality_dropout:
            batch = batch._replace(masks=hide_some(batch.masks, share))
        self.optimiser.zero_grad()
        with torch.autocast(self.job.device, torch.bfloat16, self.job.settings.precision == "bfloat16"):
            prediction, labels = self._predicted(batch)
            loss = self.model.loss(prediction, labels, batch.rows.to(labels.device), self.objective)
        torch.autograd.backward(loss)
        if self.job.settings.clip_norm:
            clip_grad_norm_(self.model.parameters(), self.job.settings.clip_norm)
        self.optimiser.step()
        return loss.detach(), len(batch.rows)

    @torch.inference_mode()
    def _validate(self) -> float:
        self.model.eval()
        return _mean(map(self._loss, self.job.dataset.batches(self.job.valid, self.job.settings.batch_size)))

    def _loss(self, batch: Batch) -> tuple[Tensor, int]:
        """The mean of the task's objective over a batch, and its number of rows."""
        prediction, labels = self._predicted(batch)
        return self.objective(prediction.logits, labels), len(batch.rows)

    def _predicted(self, batch: Batch) -> tuple[Prediction, Tensor]:
        prediction = predicted(self.model, batch, self.job.device)
        return prediction, batch.labels.to(self.job.device, non_blocking=True)

    def _keep(self) -> None:
        """Writes the weights if they are the best so far, then the checkpoint, with their digest and its own."""
        directory, state = self.job.directory, self.model.state_dict()
        if best_epoch(self.history) == len(self.history) - 1:
            save_weights(self.model, directory / BEST)
        checkpoint = {
            "model": state,
            "buffers": {name: kept for name, kept in self.model.named_buffers() if name not in state},
            "optimiser": self.optimiser.state_dict(),
            "decay": self.decay.state_dict(),
            "history": self.history,
            "best": _best(directory),
        }
        buffer = io.BytesIO()  # torch's own writer of files hides that a disk is full
        torch.save(checkpoint, buffer)
        content = buffer.getvalue()
        with replacing(directory / LAST) as partial:
            partial.write_bytes(blake3(content).digest() + content)
        publish(directory / EPOCHS, as_csv(self.history))


def _checkpoint(job: Job) -> dict[str, Any] | None:
    """The checkpoint of a killed run. None if there is none or, with a warning, if a file is damaged."""
    path = job.directory / LAST
    if not path.exists():
        return None
    raw = path.read_bytes()
    own, content = raw[: blake3.digest_size], raw[blake3.digest_size :]
    if blake3(content).digest() == own:
        kept: dict[str, Any] = torch.load(io.BytesIO(content), job.device, weights_only=True)
        if kept["best"] == _best(job.directory):
            return kept
    log.warning("%s or the %s beside it is damaged, so training begins anew", path, BEST)
    return None


def _best(directory: Path) -> str | None:
    """The digest of the best weights, None if there are none yet."""
    path = directory / BEST
    return keys.file_digest(path) if path.exists() else None


def _mean(losses: Iterable[tuple[Tensor, int]]) -> float:
    """The mean loss over the rows of all batches, added up on the device, so that no step waits for a GPU."""
    total: Tensor | float = 0.0
    count = 0
    for loss, rows in losses:
        total, count = total + loss * rows, count + rows
    return float(total / count)
