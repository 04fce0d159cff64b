"""The one training loop, on Lightning: resumes at the last epoch, selects and stops on the validation loss alone."""

from __future__ import annotations

import csv
import io
import logging
import math
import time
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.cache.atomic import publish, replacing
from pipeline.corpus.recipe_training import TrainConfig
from pipeline.errors import InputError
from pipeline.objective import Objective
from pipeline.train.model_file import load_weights, save_weights
from pipeline.views.dataset import Batch, Batches, Dataset
from pipeline.views.view import Rows

LAST, BEST, EPOCHS = "last.ckpt", "best.safetensors", "epochs.csv"

History = list[dict[str, float]]


def pick(device: str) -> str:
    """`cpu` or `cuda` for "auto", "cpu" or "cuda". Raises InputError where a GPU is asked for and there is none."""
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be auto, cpu or cuda, got {device!r}")
    found = torch.cuda.is_available()
    if device == "cuda" and not found:
        raise InputError("device = cuda, but torch finds no GPU here")
    return "cuda" if found and device != "cpu" else "cpu"


@dataclass(frozen=True)
class Job:
    """What one run of the loop needs: rows to learn from and to select on, and a directory for what it leaves."""

    dataset: Dataset
    train: Rows
    valid: Rows
    objective: Objective
    settings: TrainConfig
    seed: int
    device: str
    directory: Path


def fit(model: nn.Module, job: Job) -> History:
    """Trains `model` in place up to its best epoch by validation loss, and returns what each epoch gave.

    What a killed run left in the directory is taken up at its last whole epoch, with the same result. Raises
    InputError where no epoch had a finite validation loss.
    """
    job.directory.mkdir(parents=True, exist_ok=True)
    keeper = _Keeper(model, job)
    last = job.directory / LAST
    with _quiet():
        trainer = _trainer(job, keeper)
        try:
            trainer.fit(_Training(model, job), ckpt_path=last if zipfile.is_zipfile(last) else None, weights_only=True)
        except SystemExit as stop:  # Lightning makes one of Ctrl-C
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
    if best_epoch(keeper.history) is None:
        raise InputError("no epoch had a finite validation loss: lower learning_rate, or set normalize = train")
    load_weights(model, job.directory / BEST)
    return keeper.history


def best_epoch(history: History) -> int | None:
    """The first epoch, from 0, with the lowest validation loss; None where none is finite."""
    finite = [epoch for epoch, row in enumerate(history) if math.isfinite(row["valid_loss"])]
    return min(finite, key=lambda epoch: history[epoch]["valid_loss"], default=None)


def predict(
    model: nn.Module, dataset: Dataset, rows: Rows, size: int, device: str
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """logits [rows, outputs], and for a model with gates modality -> [rows], the mean share of each."""
    model = model.to(device).eval()
    logits: list[Tensor] = []
    gates: dict[str, list[Tensor]] = {}
    with torch.inference_mode():
        for batch in dataset.batches(rows, size):
            made = model(*(_moved(part, device) for part in (batch.values, batch.masks)))
            logits.append(made.logits.float().cpu())
            for modality, share in (made.gates or {}).items():
                gates.setdefault(modality, []).append(share.float().cpu())
    return torch.cat(logits).numpy(), {modality: torch.cat(parts).numpy() for modality, parts in gates.items()}


def _moved(tensors: dict[str, Tensor], device: str) -> dict[str, Tensor]:
    return {modality: tensor.to(device, non_blocking=True) for modality, tensor in tensors.items()}


class _Training(lightning.LightningModule):  # type: ignore[misc]
    def __init__(self, model: nn.Module, job: Job) -> None:
        super().__init__()
        self.model, self.objective, self.job = model, job.objective, job

    def train_dataloader(self) -> Batches:
        seed = self.job.seed + (self.current_epoch << 32)  # of the epoch alone: the same after a resume
        return self.job.dataset.batches(self.job.train, self.job.settings.batch_size, seed)

    def val_dataloader(self) -> Batches:
        return self.job.dataset.batches(self.job.valid, self.job.settings.batch_size)

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(self.job.seed + (self.current_epoch << 32))  # dropout too

    def training_step(self, batch: Batch, _: int) -> Tensor:
        return self._step(batch, "train_loss")

    def validation_step(self, batch: Batch, _: int) -> None:
        self._step(batch, "valid_loss")

    def _step(self, batch: Batch, name: str) -> Tensor:
        loss: Tensor = self.objective(self.model(batch.values, batch.masks).logits, batch.labels)
        self.log(name, loss, on_step=False, on_epoch=True, batch_size=len(batch.rows))
        return loss

    def configure_optimizers(self) -> Any:
        s = self.job.settings
        betas = (s.beta1, s.beta2)
        adam = torch.optim.Adam(self.model.parameters(), s.learning_rate, betas, weight_decay=s.weight_decay)
        if not s.decay_every:
            return adam
        return [adam], [torch.optim.lr_scheduler.StepLR(adam, s.decay_every, s.decay_factor)]


class _Keeper(lightning.Callback):  # type: ignore[misc]
    """Writes down every epoch, keeps the best weights and the last checkpoint, and stops when patience ends."""

    def __init__(self, model: nn.Module, job: Job) -> None:
        self.model, self.job = model, job
        self.history: History = []
        self.began = self.rate = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = list(state_dict["history"])

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        trainer.should_stop = self._exhausted()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.began = time.perf_counter()
        self.rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        losses = {name: float(trainer.callback_metrics[name]) for name in ("train_loss", "valid_loss")}
        seconds = time.perf_counter() - self.began
        self.history.append({"epoch": len(self.history), **losses, "learning_rate": self.rate, "seconds": seconds})
        self._keep(trainer)
        trainer.should_stop = self._exhausted()

    def _keep(self, trainer: lightning.Trainer) -> None:
        directory = self.job.directory
        if best_epoch(self.history) == len(self.history) - 1:
            save_weights(self.model, directory / BEST)  # before the checkpoint, which says that it is there
        with replacing(directory / LAST) as partial:
            trainer.save_checkpoint(partial)
        publish(directory / EPOCHS, table(self.history))

    def _exhausted(self) -> bool:
        best, patience = best_epoch(self.history), self.job.settings.patience
        waited = len(self.history) - 1 - (-1 if best is None else best)
        return 0 < patience <= waited and len(self.history) >= self.job.settings.min_epochs


def table(history: History) -> str:
    """The epochs as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def _trainer(job: Job, keeper: _Keeper) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="gpu" if job.device == "cuda" else "cpu",
        devices=1,
        plugins=[LightningEnvironment()],  # one process, whatever cluster it runs on
        max_epochs=job.settings.epochs,
        gradient_clip_val=job.settings.clip_norm or None,
        callbacks=[keeper],
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,  # each epoch's order is a function of its number
        default_root_dir=job.directory,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        log.setLevel(level)
