"""Parts that models of conversations share.

Shapes: C dialogues of U turns, t of them so far, P speakers, D features of a turn, h the width of one direction.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pipeline.model import Turns

Cell = Literal["lstm", "gru"]


class Context(nn.Module):
    """A recurrence over the turns of each dialogue, in both directions or onward alone; `width` of what comes out."""

    def __init__(self, cell: Cell, dim: int, hidden: int, layers: int, dropout: float, onward: bool = False) -> None:
        super().__init__()
        kind: type[nn.GRU] | type[nn.LSTM] = nn.LSTM if cell == "lstm" else nn.GRU
        between = dropout if layers > 1 else 0.0
        self.cell = kind(dim, hidden, layers, batch_first=True, dropout=between, bidirectional=not onward)
        self.width = hidden if onward else 2 * hidden

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps x [C, U, D], mask [C, U] (True for the first turns) to [C, U, width], 0 after a dialogue's last turn."""
        packed = pack_padded_sequence(x, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.cell(packed)[0], batch_first=True, total_length=x.shape[1])
        return states


def speaker_numbers(turns: Turns, count: int) -> Tensor:
    """The speaker of each turn, int64 [C, U], below `count`: all further ones of a dialogue have the last number."""
    return turns.of_rows(turns.speakers).clamp(max=count - 1)


class StateSizes(NamedTuple):
    """Widths of the states: g of the dialogue, p of a party, e of the emotion."""

    dialogue: int
    party: int
    emotion: int


class Direction(nn.Module):
    """DialogueRNN in one direction (Majumder et al., AAAI 2019): states of the dialogue, of each party, of the emotion.

    listener: each utterance also changes the states of those who listen. matched: the states of the dialogue before a
    turn are weighed by its utterance, and else by what they are.
    """

    def __init__(self, dim: int, sizes: StateSizes, dropout: float, listener: bool, matched: bool) -> None:
        super().__init__()
        self.sizes, (g, p, e) = sizes, sizes
        self.dialogue, self.party, self.emotion = nn.GRUCell(dim + p, g), nn.GRUCell(dim + g, p), nn.GRUCell(p, e)
        self.match = nn.Linear(dim, g, bias=False) if matched else None
        self.weigh = None if matched else nn.Linear(g, 1, bias=False)
        self.listen = nn.GRUCell(dim + p, p) if listener else None
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, speakers: Tensor) -> Tensor:
        """Maps x [C, U, D], speakers [C, U], both with 0 after a dialogue's last turn, to the emotions [C, U, e]."""
        size = len(x)
        parties = x.new_zeros(size, int(speakers.max()) + 1, self.sizes.party)
        emotion, history = x.new_zeros(size, self.sizes.emotion), x.new_zeros(size, 0, self.sizes.dialogue)
        emotions = []
        for u, speaker in zip(x.unbind(1), speakers.unbind(1), strict=True):
            said = parties[torch.arange(size, device=x.device), speaker]  # [C, p]
            context = self._context(u, history)
            last = history[:, -1] if history.shape[1] else x.new_zeros(size, self.sizes.dialogue)
            state = self.drop(self.dialogue(torch.cat([u, said], dim=1), last))  # [C, g]
            said = self.drop(self.party(torch.cat([u, context], dim=1), said))  # [C, p]
            parties = self._updated(parties, u, said, speaker)
            emotion = self.drop(self.emotion(said, emotion))  # [C, e]
            history = torch.cat([history, state.unsqueeze(1)], dim=1)  # [C, t + 1, g]
            emotions.append(emotion)
        return torch.stack(emotions, dim=1)

    def _context(self, u: Tensor, history: Tensor) -> Tensor:
        """The weighed states before a turn: its utterance u [C, D], history [C, t, g] -> [C, g], 0 if t is 0."""
        if self.match is not None:
            scores = torch.einsum("cg,ctg->ct", self.match(u), history)
        else:
            assert self.weigh is not None
            scores = self.weigh(history).squeeze(2)
        return torch.einsum("ct,ctg->cg", scores.softmax(dim=1), history)

    def _updated(self, parties: Tensor, u: Tensor, said: Tensor, speaker: Tensor) -> Tensor:
        """parties [C, P, p] with the state `said` [C, p] of the speaker [C], and those of listeners after it."""
        speaks = nn.functional.one_hot(speaker, parties.shape[1]).bool().unsqueeze(2)  # [C, P, 1]
        if self.listen is not None:
            heard = torch.cat([u, said], dim=1).repeat_interleave(parties.shape[1], dim=0)  # [C P, D + p]
            parties = self.drop(self.listen(heard, parties.flatten(0, 1))).view_as(parties)
        return torch.where(speaks, said.unsqueeze(1), parties)


class SpeakerStates(nn.Module):
    """DialogueRNN from the first turn on and, with `both`, from the last turn back; `width` of what comes out."""

    def __init__(
        self,
        dim: int,
        sizes: StateSizes,
        dropout: float,
        *,
        both: bool = True,
        listener: bool = False,
        matched: bool = True,
    ) -> None:
        super().__init__()
        self.onward = Direction(dim, sizes, dropout, listener, matched)
        self.back = Direction(dim, sizes, dropout, listener, matched) if both else None
        self.width = sizes.emotion * (2 if both else 1)

    def forward(self, x: Tensor, speakers: Tensor, mask: Tensor) -> Tensor:
        """Maps x [C, U, D], speakers [C, U], mask [C, U] to the emotions [C, U, width]."""
        onward: Tensor = self.onward(x, speakers)
        if self.back is None:
            return onward
        turned = backwards(mask)
        back = self.back(_taken(x, turned), speakers.gather(1, turned))
        return torch.cat([onward, _taken(back, turned)], dim=2)


def backwards(mask: Tensor) -> Tensor:
    """The places [C, U] of a dialogue's turns from its last to its first; the places after the last turn stay.

    mask: bool [C, U], True for the first turns.
    """
    places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    return torch.where(mask, mask.sum(dim=1, keepdim=True) - 1 - places, places)


def _taken(x: Tensor, places: Tensor) -> Tensor:
    """x [C, U, d] at places [C, U]."""
    return x.gather(1, places.unsqueeze(2).expand_as(x))
