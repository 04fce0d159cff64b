"""Fine-tuning of the encoders of `text_roberta`.

Shapes: B rows, T tokens, H the encoder's width, K logits.
"""

from __future__ import annotations

from collections.abc import Callable

from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.stage import State, Target
from stages._context import Passage, encode
from stages._fit import Examples, learn
from stages._roberta import Encoder, padded
from stages._training import Training


class Classifier(nn.Module):
    """The encoder, dropout on the state of its first token, and one linear layer.

    checkpointing: computes activations again in the backward pass instead of keeping them, which saves memory and costs
    time. fixed: keeps the linear layer as it was drawn, so that encoders which start alike and see different rows learn
    to separate the classes along the same axes (X9).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        outputs: int,
        *,
        fixed: bool = False,
        checkpointing: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        self.model = model
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(model.config.hidden_size, outputs).requires_grad_(not fixed)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids [B, T], mask [B, T], 1 for a token -> logits [B, K]."""
        first = self.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]  # [B, H]
        logits: Tensor = self.head(self.dropout(first))
        return logits


def fit(
    tokenizer: Tokenizer,
    build: Callable[[], Classifier],
    train: Examples[Passage],
    valid: Examples[Passage],
    target: Target,
    training: Training,
) -> State:
    """Trains the classifier that `build` makes on its device, and returns its state.

    tensors: `model.<name>`, the whole encoder; `head.weight` [K, H] and `head.bias`, which features don't need. text:
    `config` and `tokenizer` as JSON, so that a state needs no other file.
    """

    def logits(module: Classifier, rows: list[list[int]]) -> Tensor:
        ids, mask = padded(rows, Encoder(tokenizer, module.model).pad)
        output: Tensor = module(ids.to(module.model.device), mask.to(module.model.device))
        return output

    learned = learn(build, logits, _encoded(tokenizer, train), _encoded(tokenizer, valid), target, training)
    weights = learned.module.state_dict()
    text = {"config": learned.module.model.config.to_json_string(), "tokenizer": tokenizer.to_str()}
    return State({name: value.cpu().numpy() for name, value in weights.items()}, text, learned.log)


def _encoded(tokenizer: Tokenizer, examples: Examples[Passage]) -> Examples[list[int]]:
    return Examples([encode(tokenizer, passage).ids for passage in examples.inputs], examples.labels)
