"""The parameters of a fit. This module needs no torch, so a recipe can be checked without it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

UNTRAINED = "nothing is trained without fine_tune = true"
"""Why a stage refuses the parameters of a fit that does not run."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """The parameters of `stages._fit.learn`.

    patience: how many epochs may pass without a better validation loss. warmup: None keeps the learning rate constant;
    a number is the share of all steps over which the rate rises linearly, after which it falls linearly to 0. balanced:
    weighs each class by the inverse of its count in the train rows. repeats: how many runs start from the same weights,
    with the row orders and the dropout of `seed`, `seed + 1` and so on; the run with the lowest validation loss is
    kept. fit_precision: "bf16" computes what autocast allows in bfloat16; the weights stay float32.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    patience: int
    seed: int = 0
    weight_decay: float = 0.0
    warmup: float | None = None
    balanced: bool = False
    repeats: int = 1
    fit_precision: Literal["float32", "bf16"] = "float32"

    @classmethod
    def of(cls, stage: object, **others: Any) -> Training:
        """Takes the parameters of a stage that have the same names here; `others` take precedence."""
        named = {f.name: getattr(stage, f.name) for f in fields(cls) if hasattr(stage, f.name)}
        return cls(**(named | others))

    def check(self) -> None:
        """Raises ValueError for a number with which nothing can be trained."""
        for name in ("epochs", "batch_size", "learning_rate", "patience", "repeats"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, is {getattr(self, name)}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be below 0, is {self.weight_decay}")
        if self.warmup is not None and not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is a share of the steps, 0 to 1, is {self.warmup}")
