"""Published weights are fetched once, pinned by digest, and then read from home without a network."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.cache import keys
from pipeline.cache.home import Home
from pipeline.cache.weights import LOCK, Pin, Weights, local, published_sources
from pipeline.corpus.recipe import Node
from pipeline.corpus.recipe_file import RECIPES, read_recipe
from pipeline.errors import InputError
from pipeline.stage import Item
from pipeline.transfer.fetch_weights import fetch_weights, obtain
from stages.text_roberta import TextRoberta
from stages.text_word2vec import TextWord2vec
from stages.visual_cnn3d import VisualCnn3d
from stages.visual_resnet50 import VisualResnet50
from tests.hub import COMMIT, Hub, serving
from tests.small import Small

WORDS = gzip.compress(
    b"2 2\n" + b"happy " + struct.pack("2f", 1.0, 2.0) + b"\n" + b"day " + struct.pack("2f", -0.5, 0.25) + b"\n"
)
HUB_MODEL = f"lab/tiny@{COMMIT}"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder as `transformers` saves one, with pickled weights beside it."""
    from transformers import RobertaConfig

    from tests.encoders import saved

    folder = saved(tmp_path_factory.mktemp("tiny"), RobertaConfig)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling.py").write_text("raise SystemExit")
    return folder


@pytest.fixture
def hub(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as found:
        found.publish(encoder)
        found.plain["words.bin.gz"] = WORDS
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", found.url)
        template = f"{found.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield found


@dataclass
class Place:
    """A recipe outside the project, and a home."""

    folder: Path
    home: Home

    @property
    def recipe(self) -> Path:
        return self.folder / "mine.toml"

    @property
    def lock(self) -> Path:
        return self.folder / LOCK

    def pins(self) -> Mapping[str, Pin]:
        return Weights.read(self.lock).pins

    def write(self, *stages: str) -> None:
        parts = ", ".join(f"{{ {stage} }}" for stage in stages)
        feature = f'[features.a]\ntext = {{ concat = [{parts}], align = {{ mode = "pad", length = 4 }} }}\n'
        self.recipe.write_text(f'[dataset]\nreader = "iemocap"\nlabels = "six"\nroot = "$NOWHERE_ROOT"\n{feature}')

    def fetch(self) -> dict[str, Any]:
        return fetch_weights(self.home, [str(self.recipe)])

    def nodes(self) -> tuple[Node, ...]:
        read = read_recipe(self.recipe, root=str(self.folder), memory=self.home.memory, home=self.home.root)
        return read.features["a"]["text"].parts


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("AFFECTORY_HOME", str(tmp_path / "home"))
    return Place(tmp_path, Home())


def roberta(model: str = "lab/tiny", **changes: Any) -> str:
    given = {"model": model, "revision": COMMIT, "max_tokens": 16} | changes
    return 'stage = "text_roberta", ' + ", ".join(f"{name} = {json.dumps(value)}" for name, value in given.items())


def word2vec(vectors: str) -> str:
    return f'stage = "text_word2vec", vectors = "{vectors}"'


def values(node: Node, text: str = "happy day") -> Any:
    (track,) = node.stage.transform(node.stage.load("cpu"), None, [Item("a", {"text": text})])
    return track.values


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


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": {}}', '{"a": {"revision": "", "digest": "../../etc", "files": [], "bytes": 1}}']
)
def test_a_damaged_lock_is_an_input_error_that_names_it(place: Place, text: str) -> None:
    place.write(roberta())
    place.lock.write_text(text)
    with pytest.raises(InputError, match=r"weights\.lock\.json: (.|\n)*make weights"):
        place.nodes()


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


def test_word_vectors_whose_compression_is_broken_are_an_input_error(place: Place) -> None:
    (place.folder / "broken.bin.gz").write_bytes(WORDS[:12] + b"\xff" * 20 + WORDS[32:])
    with pytest.raises(InputError, match="not in word2vec's format"):
        TextWord2vec(vectors=str(place.folder / "broken.bin.gz")).load("cpu")


def test_what_an_earlier_try_left_of_another_commit_is_not_kept(hub: Hub, place: Place) -> None:
    part = place.home.root / "weights/partial" / keys.digest(HUB_MODEL, "")[:16]
    part.mkdir(parents=True)
    (part / "vocab.json").write_text("{}")
    place.write(roberta())
    place.fetch()
    assert "vocab.json" not in place.pins()[HUB_MODEL].files


def test_a_url_that_is_not_pinned_is_not_read(place: Place) -> None:
    place.write(word2vec("https://nowhere.invalid/words.bin"))
    with pytest.raises(InputError, match=r"https://nowhere\.invalid/words\.bin(.|\n)*make weights"):
        place.nodes()[0].stage.load("cpu")


def state_dict() -> tuple[dict[str, torch.Tensor], bytes]:
    state = {"conv.weight": torch.arange(6.0).reshape(2, 3).T, "steps": torch.tensor(3)}
    stream = io.BytesIO()
    torch.save(state, stream)
    return state, stream.getvalue()


def torchvision_pin(hub: Hub, body: bytes, digest: str) -> Pin:
    name = f"resnet18-{digest[:8]}.pth"
    hub.plain[name] = body
    return Pin(revision=f"{hub.url}/{name}", digest="0" * 64, files=(), bytes=0)


def test_torchvisions_file_is_checked_by_the_digest_in_its_name_and_kept_as_safetensors(
    hub: Hub, tmp_path: Path
) -> None:
    state, body = state_dict()
    source, pin = "torchvision/resnet18/IMAGENET1K_V1", torchvision_pin(hub, body, hashlib.sha256(body).hexdigest())
    with pytest.raises(InputError, match="its digest is ([0-9a-f]{64})") as caught:
        obtain(tmp_path, source, pin)
    digest = str(caught.value).partition("its digest is ")[2][:64]
    found, new = obtain(tmp_path, source, pin.model_copy(update={"digest": digest}))
    assert new and found.revision == pin.revision and found.files == ("resnet18.safetensors",)
    kept = load_file(tmp_path / digest / "resnet18.safetensors")
    assert kept.keys() == state.keys() and all(torch.equal(kept[name], state[name]) for name in state)
    assert [path.name for path in (tmp_path / digest).iterdir()] == ["resnet18.safetensors"]


def test_a_torchvision_file_of_another_digest_than_its_name_says_is_refused(hub: Hub, tmp_path: Path) -> None:
    _, body = state_dict()
    with pytest.raises(InputError, match="is not the expected file"):
        obtain(tmp_path, "torchvision/resnet18/IMAGENET1K_V1", torchvision_pin(hub, body, "0" * 64))


def test_a_pickle_that_holds_more_than_tensors_is_not_run(hub: Hub, tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"a": Path("x")}, stream)
    body = stream.getvalue()
    pin = torchvision_pin(hub, body, hashlib.sha256(body).hexdigest())
    with pytest.raises(InputError, match="holds no weights"):
        obtain(tmp_path, "torchvision/resnet18/IMAGENET1K_V1", pin)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("torchvision/resnet81/IMAGENET1K_V1", "did you mean resnet18"),
        ("torchvision/resnet18/IMAGENET1K_V9", "did you mean IMAGENET1K_V1"),
    ],
)
def test_a_network_or_set_that_torchvision_lacks_names_the_closest(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        obtain(tmp_path, source, None)


def test_a_network_reads_its_pinned_weights_from_home(place: Place) -> None:
    from safetensors.torch import save_file
    from torchvision.models import get_model

    drawn = get_model("r3d_18", weights=None).state_dict()
    save_file(drawn, place.folder / "r3d_18.safetensors")
    digest = keys.file_digest(place.folder / "r3d_18.safetensors")
    home = place.home.root / "weights" / digest
    home.mkdir(parents=True)
    (place.folder / "r3d_18.safetensors").rename(home / "r3d_18.safetensors")
    pin = Pin(revision="", digest=digest, files=("r3d_18.safetensors",), bytes=1)
    stage = Weights({"torchvision/r3d_18/KINETICS400_V1": pin}).applied(VisualCnn3d())
    read = stage.load("cpu").model.state_dict()
    assert all(torch.equal(read[name], value) for name, value in drawn.items() if not name.startswith("fc."))


def test_random_weights_and_a_stage_without_weights_want_nothing() -> None:
    assert published_sources(VisualCnn3d(weights="random")) == {} and published_sources(TextWord2vec()) == {}
    assert published_sources(VisualCnn3d()) == {"weights": "torchvision/r3d_18/KINETICS400_V1"}


def test_a_name_that_is_not_pinned_is_loaded_as_it_is() -> None:
    assert [local(name) for name in ("lab/tiny", "/a/path", "pinned:no")] == ["lab/tiny", "/a/path", "pinned:no"]


def closed() -> str:
    """An address that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{found.getsockname()[1]}"


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


COMMAND = """
import sys
from pipeline.cli.prepare import commands
from pipeline.errors import AffectoryError
try:
    commands(["weights", *sys.argv[1:]])
except AffectoryError as error:
    sys.exit(f"{error.exit_code} {error}")
"""


def test_the_command_asks_the_hub_that_the_environment_names(hub: Hub, place: Place) -> None:
    place.write(roberta())
    done = run(place, hub.url, COMMAND)
    assert json.loads(done.stdout) == {"fetched": [HUB_MODEL], "there": [], "locks": [str(place.lock)]}, done.stderr


def test_a_hub_out_of_reach_is_one_input_error_that_says_what_to_do(place: Place) -> None:
    place.write(roberta())
    done = run(place, closed(), COMMAND)
    message = done.stderr.strip().splitlines()
    assert message[-3].startswith(f"2 no weights lab/tiny at {COMMIT}: the hub cannot be reached"), done.stderr
    assert "make weights" in message[-2] and 'model = "/path/to/it"' in message[-1]


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


def test_weights_of_timm_are_not_passed_over_in_silence(place: Place) -> None:
    source = published_sources(VisualResnet50(backbone="timm/resnet18", weights="a1_in1k"))["weights"]
    with pytest.raises(InputError, match="timm/resnet18/a1_in1k: .*not fetched here.*name its path in the recipe"):
        obtain(place.folder, source, None)
