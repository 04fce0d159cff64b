"""Every model of utterances that trains learns a label that the means of the modalities decide, at its own settings."""

from __future__ import annotations

import pytest
import torch

from pipeline.corpus.recipe_training import model_class, resolve
from pipeline.model import MODALITIES, Batch
from pipeline.objective import Objective
from pipeline.stage import Target
from pipeline.train.model_file import build as build_model
from tests.contracts.model_cases import (
    DIALOGUE_MODELS,
    DIMS,
    NUMBER,
    TRAINED,
    L,
    inputs,
)

ROWS = 32
TWO = Target("multiclass", ("low", "high"))
OF_UTTERANCES = [name for name in TRAINED if name not in DIALOGUE_MODELS]
CLEARLY = 0.85
"""Of held-out rows, half of which are of each class."""


def target_of(name: str) -> Target:
    """Two classes; a number, where a model learns numbers alone, whose sign is the class."""
    return TWO if model_class(name).learns(TWO) else NUMBER


def planted(target: Target, seed: int, high: float) -> Batch:
    """Rows whose class moves the mean of every modality; all else is noise, and rows have one to four steps.

    high: 1 or -1, the sign of the move that is called high.
    """
    generator = torch.Generator().manual_seed(seed)
    sign = torch.tensor([-1.0, 1.0]).repeat(ROWS // 2)
    values, masks = {}, {}
    for m in MODALITIES:
        moved = 1.5 * sign[:, None, None] * torch.linspace(-1, 1, DIMS[m])
        values[m] = torch.randn(ROWS, L, DIMS[m], generator=generator) + moved
        masks[m] = torch.arange(L) < torch.randint(1, L + 1, (ROWS, 1), generator=generator)
    labels = sign * high if target == NUMBER else (sign * high > 0).long()
    return Batch(torch.arange(ROWS), values, masks, labels)


class Learner:
    """A model and its optimiser, with the settings that it states itself.

    A strong signal also moves the logits of weights that nobody trained. So the classes are named such that the model
    begins with at most half of the held-out rows right.
    """

    def __init__(self, name: str) -> None:
        config, self.settings = resolve(model_class(name), {}, {})
        self.target = target_of(name)
        torch.manual_seed(0)
        self.model = build_model(name, config, inputs(MODALITIES), self.target.outputs)
        self.held_out = planted(self.target, 2, high=1)
        high = 1 if self.accuracy() <= 0.5 else -1
        self.train, self.held_out = (planted(self.target, seed, high) for seed in (1, 2))
        self.model.begin(ROWS, self.train.rows, self.train.labels, self.target)
        betas = (self.settings.beta1, self.settings.beta2)
        self.optimiser = torch.optim.Adam(
            self.model.parameters(), self.settings.learning_rate, betas, weight_decay=self.settings.weight_decay
        )

    def step(self) -> None:
        self.optimiser.zero_grad()
        prediction = self.model.train().predict(self.train)
        self.model.loss(prediction, self.train.labels, self.train.rows, Objective(self.target)).backward()
        if self.settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimiser.step()

    @torch.no_grad()
    def accuracy(self) -> float:
        logits = self.model.eval().predict(self.held_out).logits
        high = logits[:, 0] > 0 if self.target == NUMBER else logits.argmax(dim=1) == 1
        return float((high == (self.held_out.labels > 0)).float().mean())

    def learn(self, steps: int) -> float:
        """The accuracy once it is clear, or after so many steps. It must not be above chance before."""
        assert self.accuracy() <= 0.5
        for _ in range(0, steps, 5):
            for _ in range(5):
                self.step()
            if (accuracy := self.accuracy()) >= CLEARLY:
                break
        return accuracy


@pytest.mark.parametrize("name", OF_UTTERANCES)
def test_a_model_of_utterances_learns_what_the_means_of_all_modalities_say(name: str) -> None:
    assert Learner(name).learn(steps=60) >= CLEARLY
