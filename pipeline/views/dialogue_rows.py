"""Which rows of a view are the turns of one dialogue, and who speaks them.

Shapes: N utterances of a view, B rows of a batch, C dialogues of U turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.model import Turns
from pipeline.views.view import Rows

Numbers = NDArray[np.int64]


class DialogueRows(NamedTuple):
    """dialogue, speaker: [N], the number of each row's dialogue, and of its speaker within the dialogue, both from 0.

    Rows are in the order of a manifest, so those of a dialogue are in the order of its turns.
    """

    dialogue: Numbers
    speaker: Numbers

    @classmethod
    def of(cls, dialogues: Sequence[str], speakers: Sequence[str]) -> DialogueRows:
        """dialogues, speakers: [N], the names of each row's; a speaker is "" if unknown. Both are numbered in the order
        of appearance."""
        seen: dict[str, dict[str, int]] = {}
        numbers = []
        for dialogue, speaker in zip(dialogues, speakers, strict=True):
            known = seen.setdefault(dialogue, {})
            numbers.append(known.setdefault(speaker, len(known)))
        order = {dialogue: number for number, dialogue in enumerate(seen)}
        return cls(np.array([order[dialogue] for dialogue in dialogues], np.int64), np.array(numbers, np.int64))

    def turns(self, rows: Tensor) -> Turns:
        """The dialogues of a batch of these rows, int64 [B], in any order."""
        given = rows.numpy()
        inside = np.lexsort((given, self.dialogue[given]))  # by dialogue, then in the order of its turns
        _, counts = np.unique(self.dialogue[given], return_counts=True)
        parts = torch.split(torch.from_numpy(inside), counts.tolist())
        return Turns(
            pad_sequence(list(parts), batch_first=True, padding_value=-1), torch.from_numpy(self.speaker[given])
        )

    def batches(self, rows: Rows, size: int, rng: np.random.Generator | None) -> Iterator[Tensor]:
        """The rows of `size` dialogues each: in the order of the view, or shuffled by `rng`."""
        rows = np.sort(rows)
        order = np.argsort(self.dialogue[rows], kind="stable")
        _, firsts = np.unique(self.dialogue[rows][order], return_index=True)
        whole = np.split(rows[order], firsts[1:])
        shuffled = range(len(whole)) if rng is None else rng.permutation(len(whole))
        chosen = [whole[number] for number in shuffled]
        for start in range(0, len(chosen), size):
            yield torch.from_numpy(np.concatenate(chosen[start : start + size]))
