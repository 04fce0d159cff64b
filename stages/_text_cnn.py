"""The network of `text_cnn` and its fit.

Shapes: B rows, T tokens, D dimensions of a word vector, W widths, N channels, K logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every torch user reads at once
from torch.nn.utils.rnn import pad_sequence

from pipeline.reason import Reason
from pipeline.stage import Rows, State, Target, Track
from stages._fit import Examples, learn
from stages._training import Training

_CONSTANT = 1e-9


class Filters(nn.Module):
    """Standardises word vectors and passes them through parallel convolutions over time, each followed by ReLU.

    Padding keeps the length. The scale of trained vectors grows with their corpus; without standardisation the filters
    would learn nothing from those of a small corpus.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))
        self.size = len(widths) * channels
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, channels, width) for width in widths)
        self.padding = [((width - 1) // 2, width // 2) for width in widths]

    def forward(self, values: Tensor, valid: Tensor) -> Tensor:
        """values [B, T, D], valid [B, T] bool -> [B, T, W x N]. Invalid steps are zeros in the input and the output."""
        standard = (values - self.mean) / self.deviation  # [B, T, D]
        inputs = standard.masked_fill(~valid[..., None], 0).transpose(1, 2)  # [B, D, T]
        convolved = zip(self.convolutions, self.padding, strict=True)
        maps = torch.cat([conv(F.pad(inputs, sides)) for conv, sides in convolved], dim=1)  # [B, W x N, T]
        return maps.relu().transpose(1, 2) * valid[..., None]  # [B, T, W x N]

    def standardise(self, tracks: Sequence[Track]) -> None:
        """Takes mean and deviation by dimension over the valid steps of all tracks; a constant dimension becomes 0."""
        steps = torch.cat([values[valid] for values, valid in map(_tensors, tracks)])  # [all valid steps, D]
        deviation, self.mean = torch.std_mean(steps, dim=0, correction=0)
        self.deviation = torch.where(deviation > _CONSTANT, deviation, 1.0)


class Classifier(nn.Module):
    """Filters, the maximum over valid steps, dropout, one linear layer (X10)."""

    def __init__(self, filters: Filters, dropout: float, outputs: int) -> None:
        super().__init__()
        self.filters = filters
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(filters.size, outputs)

    def forward(self, values: Tensor, valid: Tensor) -> Tensor:
        """values [B, T, D], valid [B, T] -> logits [B, K]. Maps are never negative, so no masked step is a maximum."""
        pooled = self.filters(values, valid).amax(dim=1)  # [B, W x N]
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


def fit(
    build: Callable[[int], Classifier], train: Rows, valid: Rows, target: Target, training: Training, device: str
) -> State:
    """Trains the classifier that `build` makes for D, on the rows that have a valid step."""
    learned_from, validated_on = _examples(train), _examples(valid)

    def logits(module: Classifier, tracks: list[Track]) -> Tensor:
        values, valid = _padded(tracks)
        output: Tensor = module(values.to(device), valid.to(device))
        return output

    def standardised() -> Classifier:
        module = build(_width(learned_from))
        module.filters.standardise(learned_from.inputs)
        return module.to(device)

    learned = learn(standardised, logits, learned_from, validated_on, target, training)
    weights = learned.module.state_dict()
    return State({name: value.cpu().numpy() for name, value in weights.items()}, log=learned.log)


def transform(filters: Filters, state: State, tracks: Sequence[Track]) -> list[Track]:
    """The maps [T, W x N] of each track. Each is a batch of its own, so that its values don't depend on the others."""
    prefix = "filters."
    weights = {name: value for name, value in state.tensors.items() if name.startswith(prefix)}
    filters.load_state_dict({name.removeprefix(prefix): torch.tensor(value) for name, value in weights.items()})
    return [_maps(filters, track) for track in tracks]


@torch.inference_mode()
def _maps(filters: Filters, track: Track) -> Track:
    if track.values is None:
        return Track.failed(track.reason or Reason.NO_TEXT)
    maps = filters(*_padded([track]))[0]  # [T, W x N]
    return Track.of(maps.numpy(), valid=track.valid)


def _examples(rows: Rows) -> Examples[Track]:
    pairs = [(item["text_word2vec"], label) for item, label in zip(rows.items, rows.labels, strict=True)]
    usable = [(track, label) for track, label in pairs if track.valid is not None and track.valid.any()]
    return Examples([track for track, _ in usable], [label for _, label in usable])


def _width(examples: Examples[Track]) -> int:
    values = examples.inputs[0].values
    return 0 if values is None else values.shape[1]


def _padded(tracks: Sequence[Track]) -> tuple[Tensor, Tensor]:
    """Values [B, T, D] and valid [B, T], with the T of the longest track; padding is zero and invalid."""
    pairs = [_tensors(track) for track in tracks]
    values, valid = ([pair[part] for pair in pairs] for part in (0, 1))
    return pad_sequence(values, batch_first=True), pad_sequence(valid, batch_first=True)


def _tensors(track: Track) -> tuple[Tensor, Tensor]:
    return torch.tensor(track.values, dtype=torch.float32), torch.tensor(track.valid)  # tracks may be read-only
