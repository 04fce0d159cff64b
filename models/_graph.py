"""A graph over the turns of a dialogue, whose nodes are the modalities of each utterance, and its convolution.

Shapes: C dialogues of U turns, M modalities, N = M U nodes of a dialogue, n the width of a node, h of the convolution.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

BELOW_ONE = 0.99999  # of a cosine: the arc cosine has no derivative at 1


class GraphLayer(nn.Module):
    """A layer of GCNII (Chen et al., ICML 2020), whose weights see the neighbours and the first layer side by side.

    alpha: the share of the first layer. decay: layer `number`, from 1, is log(decay / number + 1) of its weights.
    """

    def __init__(self, hidden: int, alpha: float, decay: float, number: int) -> None:
        super().__init__()
        self.alpha, self.theta = alpha, math.log(decay / number + 1)
        self.weigh = nn.Linear(2 * hidden, hidden, bias=False)

    def forward(self, x: Tensor, first: Tensor, edges: Tensor) -> Tensor:
        """Maps nodes x [C, N, h], those of the first layer [C, N, h] and edges [C, N, N] to [C, N, h]."""
        near = edges @ x
        kept = (1 - self.alpha) * near + self.alpha * first
        weighed: Tensor = self.weigh(torch.cat([near, first], dim=2))
        return self.theta * weighed + (1 - self.theta) * kept


def adjacency(nodes: Tensor, present: Tensor, weights: Tensor | None = None) -> Tensor:
    """The normalised edges [C, N, N] of nodes [C, M, U, n], of which those of present [C, M, U] have edges.

    Two nodes are neighbours if they are of one modality or of one utterance, at 1 - angle / pi, and every node is its
    own neighbour. weights: of each edge, [C, N, N], from the second node to the first. An edge is divided by the root
    of both nodes' sums of edges.
    """
    modality, turn = (part.flatten() for part in torch.meshgrid(*map(torch.arange, nodes.shape[1:3]), indexing="ij"))
    near = (modality[:, None] == modality) | (turn[:, None] == turn)  # [N, N]
    there = present.flatten(1)
    x = functional.normalize(nodes.flatten(1, 2), dim=2)
    alike = 1 - (x @ x.mT * BELOW_ONE).acos() / math.pi
    edges = alike * (near.to(x.device) & there.unsqueeze(1) & there.unsqueeze(2))
    edges = edges if weights is None else edges * weights
    root = edges.sum(dim=2).clamp(min=torch.finfo(x.dtype).tiny).rsqrt()
    return root.unsqueeze(2) * edges * root.unsqueeze(1)
