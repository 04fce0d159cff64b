"""Transformer text encoders for `text_roberta`: read, made or restored, and run by batches of tokens.

B rows, T tokens with those the encoder adds, H its width.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from safetensors import SafetensorError
from tokenizers import Encoding, Tokenizer, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel, RobertaConfig

from pipeline.cache.keys import digest
from pipeline.cache.weights import local, unreachable
from pipeline.errors import InputError
from pipeline.stage import State

Precision = Literal["float32", "bf16"]

TOKENS = {"cpu": 256, "cuda": 16_384}
"""Tokens in one batch, padding included: on a CPU larger ones are no faster, since the matrices fill the caches."""

_UNREADABLE = (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError)

_SPECIAL = ["<s>", "<pad>", "</s>"]  # their ids are 0, 1, 2, as in every RoBERTa


@dataclass(frozen=True)
class Source:
    """Where published weights are: a hub id with its revision, or a directory. beside: the file next to the weights."""

    model: str
    revision: str
    beside: str = "tokenizer.json"

    @property
    def path(self) -> Path:
        """The model as a local path, which need not exist; of a pinned one the copy at home."""
        return Path(os.path.expandvars(local(self.model))).expanduser()

    def read(self, auto: Any, **options: Any) -> Any:
        """What `auto.from_pretrained` reads here; runs no code of the source. Raises InputError where it cannot."""
        path = self.path
        local_only = path.is_dir()
        why = "" if local_only else unreachable(self.model, self.revision)
        where: dict[str, Any] = {} if local_only else {"revision": self.revision}
        try:
            name = str(path) if local_only else self.model
            where |= {"trust_remote_code": False, "local_files_only": local_only or bool(why)}
            return auto.from_pretrained(name, **where, **options)
        except _UNREADABLE as error:
            at = f" at revision {self.revision}" if self.revision else ""
            raise InputError(
                f"no weights of {self.model}{at}: {why or error}\nFetch them with `make weights`, or name a local "
                f'directory that holds config.json, model.safetensors and {self.beside}: model = "/path/to/it"'
            ) from error

    def weights(self, unused: str) -> PreTrainedModel:
        """The model in float32. Raises InputError where weights lack, but for those with `unused` in their names."""
        model, found = self.read(AutoModel, use_safetensors=True, dtype=torch.float32, output_loading_info=True)
        if missing := sorted(name for name in found["missing_keys"] if unused not in name):
            kind = model.config.model_type
            raise InputError(f"{self.model} lacks {len(missing)} weights of a {kind}, among them {missing[0]}")
        return cast(PreTrainedModel, model)


@dataclass(frozen=True)
class Encoder:
    """A tokenizer that cuts at its longest text, and the model behind it."""

    tokenizer: Tokenizer
    model: PreTrainedModel

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """The tokens of each text, those at its ends included, special tokens written in the text read as words."""
        return [self.tokenizer.encode(text) for text in texts]

    @torch.inference_mode()
    def states(self, texts: Sequence[str]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The index of each text and its last hidden states [T, H], without the special tokens after the first.

        Texts of like length share a batch; padding is masked, so a text's states do not depend on its batch.
        """
        encoded = self.encode(texts)
        device = self.model.device
        for rows in batches([len(row) for row in encoded], TOKENS[device.type]):
            ids, mask = padded([encoded[row].ids for row in rows], self.pad)
            hidden = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
            for row, states in zip(rows, hidden.float().cpu().numpy(), strict=True):  # [B, T, H]
                yield row, states[: len(encoded[row])][_shown(encoded[row])]

    @property
    def pad(self) -> int:
        """The id that fills a batch; RoBERTa counts positions by it."""
        return int(self.model.config.pad_token_id or 0)


class Worker:
    """The encoder that a process holds: the published one, or that of the last state it was shown. dim is H."""

    def __init__(self, dim: int, device: str, precision: Precision, published: Encoder | None = None) -> None:
        self.dim = dim
        self._to = {"device": device, "dtype": torch.bfloat16 if precision == "bf16" else torch.float32}
        self._encoder = self._placed(published) if published else None
        self._state: State | None = None

    def encoder(self, state: State | None) -> Encoder:
        """The encoder to use. Raises ValueError for one that has to be fitted and was not."""
        if state is not None and state is not self._state:
            self._encoder, self._state = self._placed(from_state(state)), state
        if self._encoder is None:
            raise ValueError("text_roberta needs the state of its fit")
        return self._encoder

    def _placed(self, encoder: Encoder) -> Encoder:
        return Encoder(encoder.tokenizer, encoder.model.to(**self._to))


def read_tokenizer(source: Source, max_tokens: int) -> Tokenizer:
    """The published tokenizer. Raises InputError where it is not of the kind that one JSON file holds."""
    found = getattr(source.read(AutoTokenizer), "backend_tokenizer", None)
    if not isinstance(found, Tokenizer):
        raise InputError(f"{source.model} has no tokenizer.json")
    return _cutting(found, max_tokens)


def read_model(source: Source, max_tokens: int) -> PreTrainedModel:
    """The published weights in float32, without a pooler. Raises InputError where texts are longer than it can read."""
    model = source.weights("pooler")
    longest = _positions(model)
    if max_tokens > longest:
        raise InputError(f"{source.model} reads {longest} tokens at most, max_tokens is {max_tokens}")
    return _bare(model)


def read_config(source: Source) -> PreTrainedConfig:
    """The published sizes alone."""
    config: PreTrainedConfig = source.read(AutoConfig)
    return config


def learn_tokenizer(texts: Sequence[str], vocab_size: int, max_tokens: int) -> Tokenizer:
    """Byte-level byte pairs that occur twice or more in `texts`, as GPT-2 and RoBERTa have them: no unknown tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=_SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return _cutting(tokenizer, max_tokens)


def make_model(
    tokenizer: Tokenizer, vocab_size: int, hidden: int, layers: int, heads: int, max_tokens: int, seed: int
) -> PreTrainedModel:
    """A RoBERTa of random weights, drawn from torch's generator.

    Fits on different rows, whose tokenizers number and count their tokens differently, start from the same axes (X9
    puts their features together): there is room for `vocab_size` tokens however many were learned, and each token's
    embedding is a function of `seed` and of its own text.
    """
    config = RobertaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=max_tokens + 2,  # RoBERTa's positions start behind its padding id, 1
        type_vocab_size=1,
    )
    model = _bare(AutoModel.from_config(config))
    table = model.get_input_embeddings().weight
    with torch.no_grad():
        for token, number in tokenizer.get_vocab().items():
            generator = torch.Generator().manual_seed(int(digest(seed, token)[:15], 16))
            table[number] = torch.randn(hidden, generator=generator) * config.initializer_range
    return model


def from_state(state: State) -> Encoder:
    """The encoder that `stages._roberta_fit.fit` learned; reads nothing else."""
    with torch.random.fork_rng(devices=[]):  # weights are drawn before they are replaced
        model = _bare(AutoModel.from_config(config_of(state)))
    tensors = {name: torch.tensor(value) for name, value in state.tensors.items() if name.startswith("model.")}
    model.load_state_dict({name.removeprefix("model."): value for name, value in tensors.items()})
    return Encoder(_plain(Tokenizer.from_str(state.text["tokenizer"])), model)


def config_of(state: State) -> PreTrainedConfig:
    """The sizes of the encoder that a state holds."""
    return AutoConfig.for_model(**json.loads(state.text["config"]))


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices sorted by length, in batches of at most `budget` tokens with their padding, or of a single text."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[row] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Ids [B, T] and a mask [B, T] of 1 where a token stands."""
    ids = [torch.tensor(row) for row in rows]
    mask = [torch.ones(len(row), dtype=torch.int64) for row in rows]
    return pad_sequence(ids, batch_first=True, padding_value=pad), pad_sequence(mask, batch_first=True)


def _shown(encoding: Encoding) -> NDArray[np.bool_]:
    """The first token, which stands for the text, and those of the text itself, [T]."""
    shown = np.array(encoding.special_tokens_mask) == 0
    shown[:1] = True
    return shown


def _cutting(tokenizer: Tokenizer, max_tokens: int) -> Tokenizer:
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return _plain(tokenizer)


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.encode_special_tokens = True  # a transcript that says "<s>" says three characters
    return tokenizer


def _bare(model: PreTrainedModel) -> PreTrainedModel:
    """Without the pooler, which many checkpoints lack and nothing here reads; in evaluation mode."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model.eval()


def _positions(model: PreTrainedModel) -> int:
    """The longest text, in tokens: RoBERTa and its kin leave out the positions up to their padding id."""
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    return int(model.config.max_position_embeddings) - (getattr(table, "padding_idx", None) or -1) - 1
