"""One word vector per token, read from a word2vec file or trained on the transcripts of the fold's train rows.

Source: MulG, "Text": tokenise -> word2vec; `text_cnn` reads it. Training is gensim's skip-gram with negative sampling
(Mikolov et al. 2013). Decisions: G12 (sequences are cached), H13 (a fold fits on its own rows), X14 (normalisation).
"""

from __future__ import annotations

import gzip
import os
import re
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
from pipeline.remark import Kind, Remark
from pipeline.stage import SOURCE, Item, Modality, Rows, Spec, Stage, State, Target, Track
from pipeline.written_path import written_path
from stages._text import Case, Tags, normalise, tokens


@dataclass(frozen=True)
class _Vectors:
    """Word vectors [V, D], and the row of each word."""

    values: NDArray[np.float32]
    rows: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class TextWord2vec(Stage):
    """[T, D], one step per token; a word without a vector is a step of zeros whose `valid` is False.

    vectors: a file in word2vec's own format, binary (`.bin`) or text, plain or `.gz`, such as MulG's
    GoogleNews-vectors-negative300; or its URL, once `affectory weights` has fetched it. Empty trains on the train
    transcripts of the fold instead. limit: how many words of the file are read, the most frequent first; all three
    million of GoogleNews take 3.6 GB of memory. size (D), window (words on each side), min_count (rarer words get no
    vector), epochs and seed are parameters of the training, and are refused beside a file. case, tags: see
    `stages._text.normalise`; the case must be that of the file's words.
    """

    version: ClassVar[int] = 2
    modality: ClassVar[Modality] = "text"
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    libraries: ClassVar[tuple[str, ...]] = ("gensim",)
    batch: ClassVar[int] = 256
    imports: ClassVar[tuple[str, ...]] = ("gensim.models",)

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
        """True if no file of vectors is named."""
        return not self.vectors

    def check(self) -> None:
        """Raises ValueError for numbers out of range, a limit without a file, and training parameters beside one."""
        if not self.fitted:
            self.refuse(("size", "window", "min_count", "epochs", "seed"), "nothing is trained beside `vectors`")
        for name in ("size", "window", "min_count", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, is {getattr(self, name)}")
        if self.limit is not None and (self.fitted or self.limit < 1):
            raise ValueError(f"limit is a count of words to read from `vectors`, is {self.limit}")

    def load(self, device: str) -> _Vectors | None:
        """Returns the file's vectors. Raises InputError if it is absent or not in word2vec's format."""
        return None if self.fitted else _read(os.path.expandvars(local(self.vectors)), self.limit)

    def fit(self, train: Rows, valid: Rows, target: Target, device: str) -> State:
        """Trains on the transcripts of `train`; validation rows, labels and device are not used.

        tensors: `vectors` [V, D], the most frequent word first. text: `words`, one per line. Raises InputError if no
        word occurs `min_count` times.
        """
        from gensim.models import Word2Vec

        model = Word2Vec(
            vector_size=self.size,
            window=self.window,
            min_count=self.min_count,
            sg=1,
            seed=self.seed,
            workers=1,  # with more, the result would depend on their timing
            hashfxn=_hash,
        )
        sentences = [self._tokens(item["text"]) for item in train.items]
        model.build_vocab(sentences)
        if not model.wv.index_to_key:
            raise InputError(f"no word occurs {self.min_count} times in {len(sentences)} train transcripts")
        model.train(sentences, total_examples=len(sentences), epochs=self.epochs)
        return State({"vectors": model.wv.vectors}, {"words": "\n".join(model.wv.index_to_key)})

    def spec(self, loaded: _Vectors | None) -> Spec:
        """D is the width of the file's vectors, or `size`."""
        return Spec(dim=self.size if loaded is None else loaded.values.shape[1])

    def transform(self, loaded: _Vectors | None, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """Returns the vectors of each text's tokens; a text without a token has the reason `no_text`, and one with
        words that have no vector the remark `unknown_words`."""
        vectors = loaded if state is None else _of(state)
        if vectors is None:
            raise ValueError("text_word2vec without `vectors` needs the state of its fit")
        return [_look_up(vectors, self._tokens(item["text"])) for item in batch]

    def words(self, text: str, state: State | None) -> list[str]:
        """The tokens of a text, of which each is a step, whatever the state is."""
        return self._tokens(text)

    def _tokens(self, text: str) -> list[str]:
        return tokens(normalise(text, self.case, self.tags))


def _hash(word: str) -> int:
    """A hash that is the same in every process, unlike Python's own."""
    return zlib.crc32(word.encode())


def _of(state: State) -> _Vectors:
    words = state.text["words"].split("\n")
    return _Vectors(state.tensors["vectors"], {word: row for row, word in enumerate(words)})


def _look_up(vectors: _Vectors, words: list[str]) -> Track:
    if not words:
        return Track.failed(Reason.NO_TEXT)
    rows = [vectors.rows.get(word, -1) for word in words]
    known = np.array(rows) >= 0
    values = np.where(known[:, None], vectors.values[rows], np.float32(0))  # [T, D]; row -1 is masked
    unknown = rows.count(-1)
    remarks = (Remark(Kind.UNKNOWN_WORDS, unknown, len(words)),) if unknown else ()
    return Track.of(values, valid=known, remarks=remarks)


def _read(name: str, limit: int | None) -> _Vectors:
    from gensim.models import KeyedVectors

    path = written_path(name)
    if not path.is_file():
        raise InputError(
            f"no word vectors at {name}: `vectors` names a file in word2vec's format, or a URL that `make weights` "
            "fetched, such as GoogleNews-vectors-negative300.bin.gz of https://code.google.com/archive/p/word2vec; "
            'vectors = "" trains on the transcripts instead'
        )
    binary = path.name.removesuffix(".gz").endswith(".bin")
    try:
        if not binary:
            _check_header(path)
        vectors = KeyedVectors.load_word2vec_format(str(path), binary=binary, limit=limit)
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path} is not in word2vec's format: {error}") from error
    return _Vectors(vectors.vectors, vectors.key_to_index)


def _check_header(path: Path) -> None:
    """Raises ValueError if a text file of vectors does not begin with its numbers of words and dimensions."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        if not re.fullmatch(rb"\d+ \d+\s*", file.readline(1000)):
            raise ValueError(
                "it does not begin with its numbers of words and dimensions. GloVe's files do not: put them before its "
                "first line, such as `400000 300`"
            )
