"""A recipe that names published weights, and a home that they are fetched to."""

from __future__ import annotations

import gzip
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cache.home import Home
from pipeline.cache.weights import LOCK, Pin, Weights
from pipeline.corpus.recipe import Node
from pipeline.corpus.recipe_file import read_recipe
from pipeline.stage import Item
from pipeline.transfer.fetch_weights import fetch_weights
from tests.hub import COMMIT

WORDS = gzip.compress(
    b"2 2\n" + b"happy " + struct.pack("2f", 1.0, 2.0) + b"\n" + b"day " + struct.pack("2f", -0.5, 0.25) + b"\n"
)
HUB_MODEL = f"lab/tiny@{COMMIT}"


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


def roberta(model: str = "lab/tiny", **changes: Any) -> str:
    given = {"model": model, "revision": COMMIT, "max_tokens": 16} | changes
    return 'stage = "text_roberta", ' + ", ".join(f"{name} = {json.dumps(value)}" for name, value in given.items())


def word2vec(vectors: str) -> str:
    return f'stage = "text_word2vec", vectors = "{vectors}"'


def values(node: Node, text: str = "happy day") -> Any:
    (track,) = node.stage.transform(node.stage.load("cpu"), None, [Item("a", {"text": text})])
    return track.values


def closed() -> str:
    """An address that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{found.getsockname()[1]}"
