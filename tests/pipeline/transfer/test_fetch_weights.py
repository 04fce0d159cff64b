"""Published weights are fetched once, checked, and pinned by digest in the lock."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from pipeline.cache import keys
from pipeline.corpus.recipe_file import RECIPES
from pipeline.errors import InputError
from pipeline.transfer.fetch_weights import fetch_weights
from tests.hub import COMMIT, Hub
from tests.weights import HUB_MODEL, WORDS, Place, closed, roberta, values, word2vec

COMMAND = "import sys; from pipeline.cli.main import main; sys.argv.insert(1, 'weights'); main()"


def test_what_a_recipe_names_is_fetched_pinned_and_then_read_without_a_network(hub: Hub, place: Place) -> None:
    url = f"{hub.url}/words.bin.gz"
    place.write(roberta(), f'stage = "text_cnn", input.text_word2vec = {{ vectors = "{url}" }}')
    answer = place.fetch()
    assert answer == {"fetched": [HUB_MODEL, url], "there": [], "locks": [str(place.lock)]}
    hub.seen.clear()
    encoder, cnn = place.nodes()
    assert values(encoder).shape[1] == 16
    assert cnn.upstream[0].stage.load("cpu").values.tolist() == [[1.0, 2.0], [-0.5, 0.25]]
    assert place.fetch() == {"fetched": [], "there": [HUB_MODEL, url], "locks": [str(place.lock)]}
    assert hub.seen == []


def test_the_lock_says_commit_digest_files_and_size(hub: Hub, place: Place) -> None:
    place.write(roberta(), word2vec(f"{hub.url}/words.bin.gz"))
    place.fetch()
    model, words = place.pins()[HUB_MODEL], place.pins()[f"{hub.url}/words.bin.gz"]
    assert model.revision == COMMIT
    assert words.revision == f"sha256:{hashlib.sha256(WORDS).hexdigest()}" and words.bytes == len(WORDS)
    assert words.files == ("words.bin.gz",)
    folder = place.home.root / "weights" / model.digest
    assert keys.file_digest(folder) == model.digest
    assert sum(path.stat().st_size for path in folder.iterdir()) == model.bytes


def test_neither_pickled_weights_nor_code_are_fetched(hub: Hub, place: Place) -> None:
    place.write(roberta())
    place.fetch()
    assert set(place.pins()[HUB_MODEL].files) == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert not [line for line in hub.seen if line.endswith((".bin", ".py"))]


def test_a_copy_that_is_not_what_was_pinned_is_never_read_and_is_fetched_again(hub: Hub, place: Place) -> None:
    place.write(word2vec(f"{hub.url}/words.bin.gz"))
    place.fetch()
    (pin,) = place.pins().values()
    copy = place.home.root / "weights" / pin.digest / "words.bin.gz"
    copy.write_bytes(WORDS[:-1])
    with pytest.raises(InputError, match=r"words\.bin\.gz is not the http.* that was pinned"):
        place.nodes()[0].stage.load("cpu")
    assert len(place.fetch()["fetched"]) == 1 and copy.read_bytes() == WORDS


def test_what_a_server_has_in_place_of_pinned_weights_is_refused(hub: Hub, place: Place) -> None:
    place.write(word2vec(f"{hub.url}/words.bin.gz"))
    place.fetch()
    before = place.lock.read_text()
    shutil.rmtree(place.home.root / "weights")
    hub.plain["words.bin.gz"] = gzip.compress(b"1 1\nother 1.0\n")
    with pytest.raises(InputError, match=r"no longer what weights\.lock\.json pins"):
        place.fetch()
    assert place.lock.read_text() == before
    assert [path.name for path in (place.home.root / "weights/partial").iterdir()] == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_differs_from_what_the_hub_says_of_it_is_refused(hub: Hub, place: Place, name: str) -> None:
    hub.sent[name] = hub.files[name][:-1] + b"?"
    place.write(roberta())
    with pytest.raises(InputError, match=f"lab/tiny at {COMMIT}: {name} came damaged"):
        place.fetch()
    assert not place.lock.exists()
    hub.sent.clear()
    assert place.fetch()["fetched"] == [HUB_MODEL]


def test_a_model_without_safetensors_is_refused(hub: Hub, place: Place) -> None:
    del hub.files["model.safetensors"]
    place.write(roberta())
    with pytest.raises(InputError, match="pickled weights are not read"):
        place.fetch()


def test_all_that_cannot_be_had_is_said_at_once_and_the_rest_is_pinned(hub: Hub, place: Place) -> None:
    good = f"{hub.url}/words.bin.gz"
    place.write(roberta("lab/gone"), word2vec(f"{hub.url}/gone.bin"), word2vec("$NOT_SET"), word2vec(good))
    with pytest.raises(InputError) as caught:
        place.fetch()
    assert all(
        part in str(caught.value)
        for part in ("lab/gone", "gone.bin: HTTP Error 404", "$NOT_SET is not set", "make weights", "vectors = ")
    )
    assert place.pins().keys() == {good}


@pytest.mark.parametrize("missing", ["gone.bin.gz", "./here/model", "/no/such/model"])
def test_a_local_path_that_is_not_there_is_not_looked_for_on_the_hub(hub: Hub, place: Place, missing: str) -> None:
    place.write(word2vec(missing))
    with pytest.raises(InputError, match=f"no weights at {missing}"):
        place.fetch()
    assert hub.seen == []


def test_a_download_that_breaks_off_goes_on_from_there(hub: Hub, place: Place) -> None:
    hub.cuts.append(10)
    place.write(word2vec(f"{hub.url}/words.bin.gz"))
    place.fetch()
    assert hub.starts == [0, 10] and values(place.nodes()[0]).tolist() == [[1.0, 2.0], [-0.5, 0.25]]


def test_recipes_of_one_folder_share_a_lock_and_all_are_read_where_none_is_named(
    hub: Hub, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.transfer.fetch_weights.RECIPES", place.folder)
    place.write(roberta())
    place.recipe.rename(place.folder / "first.toml")
    place.write(word2vec(f"{hub.url}/words.bin.gz"), roberta())
    assert fetch_weights(place.home, [])["fetched"] == [HUB_MODEL, f"{hub.url}/words.bin.gz"]
    assert place.pins().keys() == {HUB_MODEL, f"{hub.url}/words.bin.gz"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_lock_that_cannot_be_written_is_refused_before_anything_is_fetched(hub: Hub, place: Place) -> None:
    folder = place.folder / "installed"
    place.write(roberta())
    folder.mkdir()
    shutil.copy(place.recipe, folder)
    folder.chmod(0o555)
    with pytest.raises(InputError, match="copy the recipe to a folder of your own"):
        fetch_weights(place.home, [str(folder / "mine.toml")])
    assert hub.seen == []


def test_what_an_earlier_try_left_of_another_commit_is_not_kept(hub: Hub, place: Place) -> None:
    part = place.home.root / "weights/partial" / keys.digest(HUB_MODEL, "")[:16]
    part.mkdir(parents=True)
    (part / "vocab.json").write_text("{}")
    place.write(roberta())
    place.fetch()
    assert "vocab.json" not in place.pins()[HUB_MODEL].files


def run(place: Place, endpoint: str, program: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "no_proxy": "127.0.0.1", "HF_HOME": str(place.folder / "hf")}
    return subprocess.run(
        [sys.executable, "-c", program, "--dataset", str(place.recipe), "--json"],
        env=environment,
        cwd=RECIPES.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_command_asks_the_hub_that_the_environment_names(hub: Hub, place: Place) -> None:
    place.write(roberta())
    done = run(place, hub.url, COMMAND)
    assert json.loads(done.stdout) == {"fetched": [HUB_MODEL], "there": [], "locks": [str(place.lock)]}, done.stderr


def test_a_hub_out_of_reach_is_one_input_error_that_says_what_to_do(place: Place) -> None:
    place.write(roberta())
    done = run(place, closed(), COMMAND)
    message = done.stderr.strip().splitlines()
    assert done.returncode == 2 and message[-3].startswith(
        f"no weights lab/tiny at {COMMIT}: the hub cannot be reached"
    ), done.stderr
    assert "make weights" in message[-2] and 'model = "/path/to/it"' in message[-1]
