"""Convolutions over word vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.reader import Label
from pipeline.reason import Reason
from pipeline.stage import Item, Rows, State, Target, Track
from stages.text_cnn import TextCnn

D = 5
TWO = Target("multiclass", ("a", "b"))
SMALL: dict[str, Any] = {"widths": (1, 2, 3, 4), "channels": 3, "epochs": 3, "batch_size": 4}


def track(length: int, seed: int) -> Track:
    """Random vectors, every fourth step without one."""
    values = np.random.default_rng(seed).normal(2, 3, (length, D)).astype(np.float32)
    return Track.of(values, valid=np.arange(length) % 4 != 3)


def item(value: Track) -> Item:
    return Item("u", {"text_word2vec": value})


def rows(count: int, seed: int = 0) -> Rows:
    """A row's label is whether its first number of any step is large."""
    tracks = [track(2 + index % 7, 100 * seed + index) for index in range(count)]
    return Rows([item(t) for t in tracks], [int(t.values[t.valid, 0].max() > 5) for t in tracks])  # type: ignore[index]


def fitted(train: Rows | None = None, valid: Rows | None = None, target: Target = TWO, **changes: Any) -> State:
    stage = TextCnn(**(SMALL | changes))
    return stage.fit(train or rows(20), rows(8, seed=1) if valid is None else valid, target, "cpu")


def maps(state: State, *tracks: Track) -> list[Track]:
    return TextCnn(**SMALL).transform(None, state, [item(t) for t in tracks])


def reference(state: State, source: Track) -> NDArray[np.float64]:
    """The maps as loops over steps, widths and taps: standardised, zero where there is no vector or no step."""
    assert source.values is not None and source.valid is not None
    inputs = (source.values.astype(float) - state.tensors["filters.mean"]) / state.tensors["filters.deviation"]
    inputs[~source.valid] = 0
    columns = []
    for index, width in enumerate(SMALL["widths"]):
        weight, bias = (state.tensors[f"filters.convolutions.{index}.{part}"] for part in ("weight", "bias"))
        out = np.tile(bias.astype(float), (len(inputs), 1))
        for step in range(len(inputs)):
            for tap in range(width):
                position = step + tap - (width - 1) // 2
                if 0 <= position < len(inputs):
                    out[step] += weight[:, :, tap] @ inputs[position]
        columns.append(np.maximum(out, 0))
    return np.concatenate(columns, axis=1) * source.valid[:, None]


@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_maps_are_the_convolutions_of_each_width_with_as_many_steps_as_tokens(length: int) -> None:
    state, source = fitted(), track(length, 7)
    (found,) = maps(state, source)
    assert found.values is not None and found.valid is not None and source.valid is not None
    assert found.values.shape == (length, 12)
    assert np.allclose(found.values, reference(state, source), atol=1e-5)
    assert found.valid.tolist() == source.valid.tolist()


def test_maps_are_named_by_width_and_channel() -> None:
    assert TextCnn(widths=(3, 5), channels=2).spec(None).names == ("w3_0", "w3_1", "w5_0", "w5_1")


def test_what_stands_at_an_invalid_step_moves_nothing() -> None:
    state, source = fitted(), track(8, 3)
    assert source.values is not None
    changed = source.values.copy()
    changed[[3, 7]] = np.nan
    first, second = maps(state, source, Track.of(changed, valid=source.valid))
    assert first.values is not None and second.values is not None
    assert np.array_equal(first.values, second.values)


def test_padding_moves_no_logit_of_the_fit() -> None:
    import torch

    from stages._text_cnn import Classifier, Filters

    torch.manual_seed(0)
    classifier = Classifier(Filters(D, (2, 3), 4), dropout=0.5, outputs=2).eval()
    values = torch.randn(1, 3, D)
    valid = torch.ones(1, 3, dtype=torch.bool)
    more = torch.cat([values, torch.full((1, 6, D), 50.0)], dim=1)
    masked = torch.cat([valid, torch.zeros(1, 6, dtype=torch.bool)], dim=1)
    assert torch.allclose(classifier(values, valid), classifier(more, masked), atol=1e-6)


def test_neighbours_in_the_batch_move_nothing() -> None:
    state, tracks = fitted(), [track(length, length) for length in (1, 30, 4)]
    together = maps(state, *tracks)
    for found, source in zip(together, tracks, strict=True):
        assert found.values is not None
        assert np.array_equal(found.values, maps(state, source)[0].values)  # type: ignore[arg-type]


def test_the_reason_of_a_track_without_values_is_passed_on() -> None:
    good, failed = maps(fitted(), track(3, 0), Track.failed(Reason.NO_TEXT))
    assert good.reason is None
    assert failed.reason is Reason.NO_TEXT


def test_equal_rows_give_equal_bytes_and_another_seed_gives_others() -> None:
    first, second, other = fitted(), fitted(), fitted(seed=1)
    assert {n: v.tobytes() for n, v in first.tensors.items()} == {n: v.tobytes() for n, v in second.tensors.items()}
    assert first.tensors["head.weight"].tobytes() != other.tensors["head.weight"].tobytes()


def test_vectors_are_standardised_by_the_valid_steps_of_train_rows_alone() -> None:
    train = rows(20)
    tracks = [i["text_word2vec"] for i in train.items]
    steps = np.concatenate([t.values[t.valid] for t in tracks])
    state = fitted(train)
    assert np.allclose(state.tensors["filters.mean"], steps.mean(0), atol=1e-5)
    assert np.allclose(state.tensors["filters.deviation"], steps.std(0), atol=1e-5)


def test_the_scale_of_the_vectors_does_not_change_what_is_learned() -> None:
    def scaled(part: Rows) -> Rows:
        tracks = [i["text_word2vec"] for i in part.items]
        return Rows([item(Track.of(t.values * np.float32(2**-10), valid=t.valid)) for t in tracks], part.labels)

    large, small = fitted(), fitted(scaled(rows(20)), scaled(rows(8, seed=1)))
    assert small.log["valid_loss"] == pytest.approx(large.log["valid_loss"], rel=1e-4)


def test_rows_without_a_vector_take_no_part_in_the_fit() -> None:
    clean = rows(20)
    empty = [item(Track.failed(Reason.NO_TEXT)), item(Track.of(np.ones((2, D), np.float32), valid=np.zeros(2)))]
    state = fitted(Rows([*empty, *clean.items], [1, 1, *clean.labels]))
    assert state.tensors["head.weight"].tobytes() == fitted(clean).tensors["head.weight"].tobytes()


def test_a_fit_without_usable_rows_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no train row"):
        fitted(Rows([item(Track.failed(Reason.NO_TEXT))], [0]))


def test_a_fit_learns_which_step_decides_the_label() -> None:
    held = rows(60, seed=2)
    training: dict[str, Any] = {"epochs": 30, "batch_size": 32, "learning_rate": 0.03, "patience": 10, "dropout": 0.0}
    state = fitted(rows(200), rows(40, seed=3), **training)
    tracks = maps(state, *(i["text_word2vec"] for i in held.items))
    pooled = np.stack([t.values.max(0) for t in tracks if t.values is not None])
    logits = pooled @ state.tensors["head.weight"].T + state.tensors["head.bias"]
    assert (logits.argmax(1) == held.labels).mean() > 0.8


@pytest.mark.parametrize(
    ("target", "labels", "outputs"),
    [
        (Target("regression", ()), [0.5, -1.0, 2.0], 1),
        (Target("regression", ("x", "y")), [(1.0, 2.5), (3.0, 4.0), (5.0, 1.0)], 2),
        (Target("multilabel", ("a", "b", "c")), [(0, 1, 0), (1, 1, 0), (0, 0, 1)], 6),
        (Target("multiclass", ("a", "b", "c")), [0, 2, 1], 3),
    ],
)
def test_every_task_can_train_the_filters(target: Target, labels: list[Label], outputs: int) -> None:
    train = Rows(rows(3).items, labels)
    state = fitted(train, Rows([], []), target)
    assert state.tensors["head.weight"].shape == (outputs, 12)
    assert state.log["best_epoch"] == 2


def test_balanced_training_gives_a_rare_class_more_weight() -> None:
    train = Rows(rows(20).items, [1] + [0] * 19)
    plain, balanced = (fitted(train, Rows([], []), balanced=b).tensors["head.bias"] for b in (False, True))
    assert balanced[1] - balanced[0] > plain[1] - plain[0]


@pytest.mark.parametrize(
    "changes",
    [{"widths": ()}, {"widths": (0,)}, {"widths": (3, 3)}, {"channels": 0}, {"dropout": 1.0}, {"epochs": 0}],
)
def test_sizes_that_make_no_network_or_no_training_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        TextCnn(**changes).check()


def test_transforming_without_the_state_of_the_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="state"):
        TextCnn(**SMALL).transform(None, None, [item(track(2, 0))])
