"""What the tensor-fusion family reads each modality with (Zadeh et al. 2017): one vector for each modality.

Shapes: B rows of the batch, T steps, D features of a modality as they arrive, h width of its vector.
"""

from __future__ import annotations

from torch import Tensor, nn

from models._layers import LastState
from pipeline.model import masked_mean


class MeanNet(nn.Module):
    """Sound and pictures: the mean over valid steps, then three rectified layers. [B, T, D] -> [B, h]."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        layers = [nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden)]
        self.layers = nn.Sequential(nn.Dropout(dropout), *layers, nn.ReLU())

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps x [B, T, D], mask [B, T] to [B, h]."""
        out: Tensor = self.layers(masked_mean(x, mask))
        return out


class TextNet(nn.Module):
    """Text: the last valid state of an LSTM, then one linear layer. [B, T, D] -> [B, h]."""

    def __init__(self, dim: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__()
        self.read = LastState(nn.LSTM, dim, hidden, layers=1)
        self.layer = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, out))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps x [B, T, D], mask [B, T] to [B, h]."""
        vector: Tensor = self.layer(self.read(x, mask))
        return vector


def subnets(dims: dict[str, int], hidden: dict[str, int], text_hidden: int, dropout: float) -> nn.ModuleDict:
    """The network of each modality: dims are what comes in, hidden is h, by modality."""
    return nn.ModuleDict(
        {
            m: TextNet(dim, text_hidden, hidden[m], dropout) if m == "text" else MeanNet(dim, hidden[m], dropout)
            for m, dim in dims.items()
        }
    )
