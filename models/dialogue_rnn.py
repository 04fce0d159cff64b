"""DialogueRNN: the state of the dialogue, of each speaker and of the emotion are recurrences over the turns.

N. Majumder et al., "DialogueRNN: An Attentive RNN for Emotion Detection in Conversations", AAAI 2019. It
is BiDialogueRNN+Att, the paper's best, with the settings of the authors' public code for IEMOCAP
(declare-lab/conv-emotion), which leaves the states of listeners as they are and adds a bias to the last attention.
All modalities side by side are the vector of an utterance.

Shapes: B rows of the batch, C dialogues of U turns, D features of an utterance, e width of the emotion of a direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models._dialogue import SpeakerStates, StateSizes
from models._layers import PLAIN_ADAM, check_settings, masked_softmax
from pipeline.model import DialogueModel, Input, Prediction, Turns


@dataclass(frozen=True, kw_only=True)
class DialogueRNNConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    global_hidden: int = 500  # for MELD the code has 150, 150, 100 and 100 for these four
    party_hidden: int = 500
    emotion_hidden: int = 300
    hidden: int = 600  # before the logits
    rec_dropout: float = 0.1  # of every state
    emotion_dropout: float = 0.25  # of the emotions of a direction
    dropout: float = 0.1
    listener: bool = False  # whether each utterance also changes the states of those who listen
    bidirectional: bool = True
    attend: bool = True  # whether the emotion of a turn attends to those of all turns

    def __post_init__(self) -> None:
        check_settings(self)


class DialogueRNN(DialogueModel):
    """Recurrences from the first turn on and from the last turn back, attention to the emotions of all turns."""

    config: DialogueRNNConfig
    Config = DialogueRNNConfig
    features: ClassVar[str] = "hjcag"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType(
        {
            **PLAIN_ADAM,
            "epochs": 60,
            "batch_size": 30,
            "learning_rate": 1e-4,
            "weight_decay": 1e-5,
        }
    )
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "DialogueRNN": {"bidirectional": False, "attend": False},
            "DialogueRNN_l": {"bidirectional": False, "attend": False, "listener": True},
            "BiDialogueRNN": {"attend": False},
            "DialogueRNN+Att": {"bidirectional": False},
        }
    )

    def __init__(self, config: DialogueRNNConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        dim = sum(given.dim for given in self.inputs.values())
        sizes = StateSizes(config.global_hidden, config.party_hidden, config.emotion_hidden)
        both, listener = config.bidirectional, config.listener
        self.states = SpeakerStates(dim, sizes, config.rec_dropout, both=both, listener=listener)
        width = self.states.width
        self.match = nn.Linear(width, width) if config.attend else None
        self.emotion_drop = nn.Dropout(config.emotion_dropout)
        self.dense = nn.Linear(width, config.hidden)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, outputs)

    def forward(  # type: ignore[override]
        self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor], turns: Turns
    ) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs]."""
        x = torch.cat(list(self.vectors(values, masks, turns).values()), dim=2)  # [C, U, D]
        emotions = self.emotion_drop(self.states(x, turns.of_rows(turns.speakers), turns.mask))  # [C, U, e or 2 e]
        if self.match is not None:
            scores = torch.einsum("cue,cve->cuv", self.match(emotions), emotions)
            emotions = masked_softmax(scores, turns.mask.unsqueeze(1)) @ emotions
        dense = self.dense(turns.to_rows(emotions)).relu()  # [B, hidden]
        return Prediction(self.head(self.drop(dense)))
