"""A device that refuses memory gets smaller batches: every row is computed once, in order, with the same values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.backends.fitting import Fitting
from stages._backbone import IMAGENET, Extractor


class Card:
    """A device that takes `room` rows at once and refuses more, as CUDA does. tried: the sizes of all batches."""

    def __init__(self, room: int) -> None:
        self.room, self.tried = room, list[int]()

    def __call__(self, rows: Sequence[int]) -> list[int]:
        self.tried.append(len(rows))
        if len(rows) > self.room:
            raise torch.OutOfMemoryError(f"CUDA out of memory with {len(rows)} rows")
        return [row * row for row in rows]


@given(rows=st.integers(0, 60), size=st.integers(1, 40), room=st.integers(1, 40))
def test_each_row_is_computed_once_and_in_order_whatever_fits(rows: int, size: int, room: int) -> None:
    card = Card(room)
    results = [result for batch in Fitting(size)(card, range(rows)) for result in batch]
    assert results == [row * row for row in range(rows)]
    assert sum(n for n in card.tried if n <= room) == rows


def test_what_fitted_is_remembered_for_the_next_rows() -> None:
    card, fitting = Card(5), Fitting(32)
    list(fitting(card, range(40)))
    assert card.tried[:4] == [32, 16, 8, 4] and set(card.tried[4:]) == {4}
    card.tried.clear()
    list(fitting(card, range(8)))
    assert card.tried == [4, 4]


def test_a_row_that_does_not_fit_alone_is_refused_and_another_error_is_not_retried() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        list(Fitting(8)(Card(0), range(3)))
    card = Card(9)
    with pytest.raises(TypeError):
        list(Fitting(8)(card, ["no number"] * 3))
    assert card.tried == [3]


def test_rows_are_read_as_they_are_needed() -> None:
    read = []

    def rows() -> Iterator[int]:
        for row in range(100):
            read.append(row)
            yield row

    next(Fitting(4)(Card(9), rows()))
    assert read == [0, 1, 2, 3]


class Narrow(nn.Module):
    """A network on a card with room for three images."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.register_buffer("room", torch.tensor(3))

    def forward(self, pixels: Tensor) -> Tensor:
        if len(pixels) > int(self.room):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.layer(pixels).mean((2, 3))


def test_an_extractor_gives_the_same_features_on_a_card_with_less_room() -> None:
    torch.manual_seed(0)
    network = Narrow()
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)
    whole = Extractor(network, 4, "cpu", "float32", IMAGENET, torch.channels_last, size=3).features(iter(images))
    tight = Extractor(network, 4, "cpu", "float32", IMAGENET, torch.channels_last, size=8)
    assert np.allclose(tight.features(iter(images)), whole, atol=1e-6) and tight.features(iter(images)).shape == (10, 4)
