"""DialogueRNN: the state of the dialogue, of each speaker and of the emotion are recurrences over the turns.

N. Majumder et al., "DialogueRNN: An Attentive RNN for Emotion Detection in Conversations", AAAI 2019. It
is BiDialogueRNN+Att, the paper's best, with the settings of the authors' public code for IEMOCAP
(declare-lab/conv-emotion), which leaves the states of listeners as they are and adds a bias to the last attention.
All modalities side by side are the vector of an utterance.

Shapes: B rows of the batch, C dialogues of U turns, P speakers, t turns so far, D features of an utterance; g, p, e
widths of the global, party and emotion states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models._layers import PLAIN_ADAM, check_settings, masked_softmax
from pipeline.model import DialogueModel, Input, Prediction, Turns


@dataclass(frozen=True, kw_only=True)
class DialogueRNNConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    global_hidden: int = 500
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


class Direction(nn.Module):
    """The recurrences in one direction: x [C, U, D], speakers [C, U] -> emotions [C, U, e]."""

    def __init__(self, config: DialogueRNNConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.dialogue = nn.GRUCell(dim + config.party_hidden, config.global_hidden)
        self.party = nn.GRUCell(dim + config.global_hidden, config.party_hidden)
        self.emotion = nn.GRUCell(config.party_hidden, config.emotion_hidden)
        self.recall = nn.Linear(dim, config.global_hidden, bias=False)
        self.listen = nn.GRUCell(dim + config.party_hidden, config.party_hidden) if config.listener else None
        self.drop = nn.Dropout(config.rec_dropout)

    def forward(self, x: Tensor, speakers: Tensor) -> Tensor:
        """Maps x [C, U, D], speakers [C, U], both with 0 after a dialogue's last turn, to the emotions [C, U, e]."""
        size, config = len(x), self.config
        parties = x.new_zeros(size, int(speakers.max()) + 1, config.party_hidden)
        emotion, history = x.new_zeros(size, config.emotion_hidden), x.new_zeros(size, 0, config.global_hidden)
        emotions = []
        for u, speaker in zip(x.unbind(1), speakers.unbind(1), strict=True):
            said = parties[torch.arange(size, device=x.device), speaker]  # [C, p]
            context = self._context(u, history)
            last = history[:, -1] if history.shape[1] else x.new_zeros(size, config.global_hidden)
            state = self.drop(self.dialogue(torch.cat([u, said], dim=1), last))  # [C, g]
            said = self.drop(self.party(torch.cat([u, context], dim=1), said))  # [C, p]
            parties = self._updated(parties, u, said, speaker)
            emotion = self.drop(self.emotion(said, emotion))  # [C, e]
            history = torch.cat([history, state.unsqueeze(1)], dim=1)  # [C, t + 1, g]
            emotions.append(emotion)
        return torch.stack(emotions, dim=1)

    def _context(self, u: Tensor, history: Tensor) -> Tensor:
        """The states before a turn, weighed by its utterance: u [C, D], history [C, t, g] -> [C, g], 0 if t is 0."""
        weights = torch.einsum("cg,ctg->ct", self.recall(u), history).softmax(dim=1)
        return torch.einsum("ct,ctg->cg", weights, history)

    def _updated(self, parties: Tensor, u: Tensor, said: Tensor, speaker: Tensor) -> Tensor:
        """parties [C, P, p] with the state `said` [C, p] of the speaker [C], and those of listeners after it."""
        speaks = nn.functional.one_hot(speaker, parties.shape[1]).bool().unsqueeze(2)  # [C, P, 1]
        if self.listen is not None:
            heard = torch.cat([u, said], dim=1).repeat_interleave(parties.shape[1], dim=0)  # [C P, D + p]
            parties = self.drop(self.listen(heard, parties.flatten(0, 1))).view_as(parties)
        return torch.where(speaks, said.unsqueeze(1), parties)


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
        self.onward = Direction(config, dim)
        self.back = Direction(config, dim) if config.bidirectional else None
        width = config.emotion_hidden * (2 if config.bidirectional else 1)
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
        emotions = self._emotions(x, turns.of_rows(turns.speakers), turns.mask)  # [C, U, e or 2 e]
        if self.match is not None:
            scores = torch.einsum("cue,cve->cuv", self.match(emotions), emotions)
            emotions = masked_softmax(scores, turns.mask.unsqueeze(1)) @ emotions
        dense = self.dense(turns.to_rows(emotions)).relu()  # [B, hidden]
        return Prediction(self.head(self.drop(dense)))

    def _emotions(self, x: Tensor, speakers: Tensor, mask: Tensor) -> Tensor:
        onward: Tensor = self.emotion_drop(self.onward(x, speakers))
        if self.back is None:
            return onward
        turned = backwards(mask)
        back = self.back(_taken(x, turned), speakers.gather(1, turned))
        return torch.cat([onward, self.emotion_drop(_taken(back, turned))], dim=2)


def backwards(mask: Tensor) -> Tensor:
    """The places [C, U] of a dialogue's turns from its last to its first; the places after the last turn stay.

    mask: bool [C, U], True for the first turns.
    """
    places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    return torch.where(mask, mask.sum(dim=1, keepdim=True) - 1 - places, places)


def _taken(x: Tensor, places: Tensor) -> Tensor:
    """x [C, U, d] at places [C, U]."""
    return x.gather(1, places.unsqueeze(2).expand_as(x))
