"""Pinned weights in use: they stand in keys by their digest, and are read from home without a network."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cache.home import Home
from pipeline.cache.weights import local
from pipeline.errors import InputError
from pipeline.transfer.fetch_weights import fetch_weights
from stages.text_roberta import TextRoberta
from stages.text_word2vec import TextWord2vec
from tests.hub import COMMIT, Hub
from tests.small import Small
from tests.weights import WORDS, Place, closed, roberta, values, word2vec


def test_a_key_holds_the_digest_of_pinned_weights_whether_they_are_at_home_or_not(hub: Hub, place: Place) -> None:
    place.write(roberta(), word2vec(f"{hub.url}/words.bin.gz"))
    named = [node.digest for node in place.nodes()]
    place.fetch()
    pinned = [node.digest for node in place.nodes()]
    encoder, words = place.nodes()
    digests = {pin.digest for pin in place.pins().values()}
    assert {encoder.params["model"], words.params["vectors"]} == digests and not set(named) & set(pinned)
    shutil.rmtree(place.home.root)
    hub.seen.clear()
    assert [node.digest for node in place.nodes()] == pinned and hub.seen == []


def test_the_same_word_vectors_by_url_and_by_path_have_one_key(hub: Hub, place: Place) -> None:
    place.write(word2vec(f"{hub.url}/words.bin.gz"))
    place.fetch()
    pinned = place.nodes()[0]
    (place.folder / "mine.bin.gz").write_bytes(WORDS)
    place.write(word2vec(str(place.folder / "mine.bin.gz")))
    assert place.nodes()[0].digest == pinned.digest
    assert np.array_equal(values(place.nodes()[0]), values(pinned))


def test_without_a_pin_the_name_stands_in_the_key(place: Place) -> None:
    place.write(roberta())
    assert place.nodes()[0].params["model"] == "lab/tiny"


def test_a_model_at_a_local_path_needs_no_pin(encoder: Path, place: Place, hub: Hub) -> None:
    place.write(roberta(str(encoder), revision=""))
    assert place.fetch() == {"fetched": [], "there": [], "locks": []}
    assert values(place.nodes()[0]).shape[1] == 16 and hub.seen == [] and not place.lock.exists()


def test_pinned_weights_that_are_not_at_home_are_an_input_error_that_says_what_to_do(hub: Hub, place: Place) -> None:
    place.write(roberta())
    place.fetch()
    shutil.rmtree(place.home.root / "weights")
    with pytest.raises(InputError, match=rf"lab/tiny@{COMMIT} is pinned, but not in .*make weights.*local path"):
        place.nodes()[0].stage.load("cpu")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": {}}', '{"a": {"revision": "", "digest": "../../etc", "files": [], "bytes": 1}}']
)
def test_a_damaged_lock_is_an_input_error_that_names_it(place: Place, text: str) -> None:
    place.write(roberta())
    place.lock.write_text(text)
    with pytest.raises(InputError, match=r"weights\.lock\.json: (.|\n)*make weights"):
        place.nodes()


def test_word_vectors_whose_compression_is_broken_are_an_input_error(place: Place) -> None:
    (place.folder / "broken.bin.gz").write_bytes(WORDS[:12] + b"\xff" * 20 + WORDS[32:])
    with pytest.raises(InputError, match="not in word2vec's format"):
        TextWord2vec(vectors=str(place.folder / "broken.bin.gz")).load("cpu")


def test_a_url_that_is_not_pinned_is_not_read(place: Place) -> None:
    place.write(word2vec("https://nowhere.invalid/words.bin"))
    with pytest.raises(InputError, match=r"https://nowhere\.invalid/words\.bin(.|\n)*make weights"):
        place.nodes()[0].stage.load("cpu")


def test_a_name_that_is_not_pinned_is_loaded_as_it_is() -> None:
    assert [local(name) for name in ("lab/tiny", "/a/path", "pinned:no")] == ["lab/tiny", "/a/path", "pinned:no"]


def test_a_hub_out_of_reach_fails_a_load_at_once_with_one_message(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", closed())
    with pytest.raises(InputError, match=r"roberta-large at .*cannot be reached.*\n.*make weights.*model = "):
        TextRoberta().load("cpu")
    assert "Retrying" not in capfd.readouterr().err


def fetched(small: Small, **changes: Any) -> Small:
    """The small corpus with the hub's encoder, whose weights are at home."""
    align = '{ mode = "pad", length = 4 }'
    dataset = '[dataset]\nreader = "iemocap"\nlabels = "six"\nprotocol = "official"\n'
    small.recipe = f"{dataset}[features.a]\ntext = {{ {roberta(**changes)}, align = {align} }}\n"
    small.path.write_text(small.recipe)
    fetch_weights(Home(), [str(small.path)])
    return small


@pytest.mark.slow
def test_workers_read_pinned_weights_from_home_without_a_hub(
    hub: Hub, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTORY_HOME", str(small.home))
    small.workers = 1
    fetched(small)
    hub.seen.clear()
    assert small.extract() == {"text_roberta": 60}
    assert small.extract() == {} and hub.seen == []


def test_where_a_fit_has_run_a_corrected_transcript_needs_no_published_weights(
    hub: Hub, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTORY_HOME", str(small.home))
    fetched(small, fine_tune=True, epochs=1, repeats=1).extract()
    shutil.rmtree(small.home / "weights")
    monkeypatch.setattr("pipeline.run.stage_calls._loaded", OrderedDict())
    small.edit("Ses05F_impro01_F000", "]: ", "]: well, ")
    assert small.extract() == {"text_roberta": 1}
