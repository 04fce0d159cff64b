"""The probe of a bundle: what its model gives for made features, by which a changed model or library shows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import InputError
from pipeline.model import Batch, DialogueModel, Model, Turns
from pipeline.train.predict import predicted

ROWS = 2
"""The rows of the probe, which are the turns of one dialogue for a model of dialogues."""
STEPS = 8
"""Its steps, for a model that takes fewer than it learned from."""
TOLERANCE = 1e-3
"""The largest difference of a logit, relative to the larger of 1 and the value."""


def probed(model: Model) -> list[list[float]]:
    """The model's logits for made features, [ROWS][outputs]."""
    values, masks = {}, {}
    for modality, given in model.inputs.items():
        steps = 1 if isinstance(model, DialogueModel) else given.length
        steps = steps if model.fixed_length else min(steps, STEPS)
        values[modality] = torch.sin(torch.arange(ROWS * steps * given.dim).float()).view(ROWS, steps, given.dim)
        masks[modality] = torch.ones(ROWS, steps, dtype=torch.bool)
    turns = Turns(torch.arange(ROWS)[None], torch.zeros(ROWS, dtype=torch.int64))
    rows, labels = torch.arange(ROWS), torch.zeros(ROWS)
    batch = Batch(rows, values, masks, labels, turns if isinstance(model, DialogueModel) else None)
    with torch.inference_mode():
        logits: Tensor = predicted(model.eval(), batch, "cpu").logits
    return [[float(value) for value in row] for row in logits.reshape(ROWS, -1)]


def check_probe(model: Model, was: tuple[tuple[float, ...], ...]) -> None:
    """Raises InputError if the model gives other logits here than where it was bundled."""
    then, now = np.asarray(was), np.asarray(probed(model))
    if then.shape != now.shape or not np.allclose(now, then, rtol=TOLERANCE, atol=TOLERANCE):
        raise InputError(
            f"the code of the model {type(model).__name__}, or torch {torch.__version__}, gives other predictions here "
            "than where the bundle was made: use the version of Affectory that made it, or bundle the run again"
        )
