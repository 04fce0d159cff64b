"""One word vector per token: read from a word2vec file, or trained on the transcripts of the fold's train rows.

After MulG, "Text": tokenise -> word2vec; `text_cnn` stands on it. Skip-gram with negative sampling (Mikolov et al.
2013) by gensim. Decisions G12 (sequences are cached), H13 (a fold fits on its own rows), X14 (normalisation).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.weights import local
from pipeline.errors import InputError
from pipeline.reason import Reason
from pipeline.stage import SOURCE, Item, Modality, Rows, Spec, Stage, State, Target, Track
from stages._text import Case, Tags, normalise, tokens


@dataclass(frozen=True)
class _Vectors:
    """Vectors [V, D] and the row of each word."""

    values: NDArray[np.float32]
    rows: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class TextWord2vec(Stage):
    """[T, D], one step per token of the utterance; a word without a vector is a step of zeros with `valid` False.

    vectors: a file in word2vec's own format, binary (`.bin`) or text, plain or `.gz`: GoogleNews-vectors-negative300
    for MulG; or its URL, once `affectory weights` fetched it; empty trains on the fold's train transcripts instead.
    limit: the file's first words only (they are sorted by frequency; all three million of GoogleNews take 3.6 GB of
    memory). size (D), window (words to each side), min_count (rarer words get no vector), epochs and seed are those of
    the training, and refused beside a file.
    case, tags: see `stages._text.normalise`; the case must be that of the file's words.
    """

    version: ClassVar[int] = 1
    modality: ClassVar[Modality] = "text"
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    libraries: ClassVar[tuple[str, ...]] = ("gensim",)
    batch: ClassVar[int] = 256

    vectors: str = field(default="", metadata=SOURCE)
    limit: int | None = None
    size: int = 100
    window: int = 5
    min_count: int = 2
    epochs: int = 20
    seed: int = 0
    case: Case = "lower"
    tags: Tags = "drop"

    @property
    def fitted(self) -> bool:
        """True without a file of vectors."""
        return not self.vectors

    def check(self) -> None:
        """Raises ValueError for numbers that make no training, a limit without a file, and a training beside one."""
        if not self.fitted:
            self.refuse(("size", "window", "min_count", "epochs", "seed"), "nothing is trained beside `vectors`")
        for name in ("size", "window", "min_count", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, is {getattr(self, name)}")
        if self.limit is not None and (self.fitted or self.limit < 1):
            raise ValueError(f"limit is a count of words to read from `vectors`, is {self.limit}")

    def load(self, device: str) -> _Vectors | None:
        """The file's vectors. Raises InputError where it is absent or not in word2vec's format."""
        return None if self.fitted else _read(os.path.expandvars(local(self.vectors)), self.limit)

    def fit(self, train: Rows, valid: Rows, target: Target, device: str) -> State:
        """Trains on the transcripts of `train`; validation rows, labels and device play no part.

        tensors: `vectors` [V, D], most frequent word first. text: `words`, one a line. Raises InputError where no word
        occurs `min_count` times.
        """
        from gensim.models import Word2Vec

        model = Word2Vec(
            vector_size=self.size,
            window=self.window,
            min_count=self.min_count,
            sg=1,
            seed=self.seed,
            workers=1,  # more would make the result depend on their timing
            hashfxn=_hash,
        )
        sentences = [self._words(item) for item in train.items]
        model.build_vocab(sentences)
        if not model.wv.index_to_key:
            raise InputError(f"no word occurs {self.min_count} times in {len(sentences)} train transcripts")
        model.train(sentences, total_examples=len(sentences), epochs=self.epochs)
        return State({"vectors": model.wv.vectors}, {"words": "\n".join(model.wv.index_to_key)})

    def spec(self, loaded: _Vectors | None) -> Spec:
        """D is the file's width, or `size`."""
        return Spec(dim=self.size if loaded is None else loaded.values.shape[1])

    def transform(self, loaded: _Vectors | None, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """Looks each token up; a text without a token has the reason `no_text`."""
        vectors = loaded if state is None else _of(state)
        if vectors is None:
            raise ValueError("text_word2vec without `vectors` needs the state of its fit")
        return [_look_up(vectors, self._words(item)) for item in batch]

    def _words(self, item: Item) -> list[str]:
        return tokens(normalise(item["text"], self.case, self.tags))


def _hash(word: str) -> int:
    """A hash that is the same in every process, as Python's own is not."""
    return zlib.crc32(word.encode())


def _of(state: State) -> _Vectors:
    words = state.text["words"].split("\n")
    return _Vectors(state.tensors["vectors"], {word: row for row, word in enumerate(words)})


def _look_up(vectors: _Vectors, words: list[str]) -> Track:
    if not words:
        return Track.failed(Reason.NO_TEXT)
    rows = [vectors.rows.get(word, -1) for word in words]
    known = np.array(rows) >= 0
    values = np.where(known[:, None], vectors.values[rows], np.float32(0))  # [T, D]; row -1 is never shown
    return Track.of(values, valid=known)


def _read(name: str, limit: int | None) -> _Vectors:
    from gensim.models import KeyedVectors

    path = Path(name).expanduser()
    if not path.is_file():
        raise InputError(
            f"no word vectors at {name}: `vectors` names a file in word2vec's format, or a URL that `make weights` "
            "fetched, such as GoogleNews-vectors-negative300.bin.gz of https://code.google.com/archive/p/word2vec; "
            'vectors = "" trains on the transcripts instead'
        )
    binary = path.name.removesuffix(".gz").endswith(".bin")
    try:
        found = KeyedVectors.load_word2vec_format(str(path), binary=binary, limit=limit)
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path} is not in word2vec's format: {error}") from error
    return _Vectors(found.vectors, found.key_to_index)
