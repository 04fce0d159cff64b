"""Transformer text encoders of `text_roberta`: read, made or restored, and run on batches of texts.

Shapes: B rows, T tokens including those that the tokenizer adds, H the encoder's width.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
)

from pipeline.backends.fitting import Fitting
from pipeline.backends.network import Network
from pipeline.cache.keys import digest
from pipeline.errors import InputError, closest
from pipeline.remark import Remark
from pipeline.stage import State
from stages._context import Passage, encode
from stages._hub import Precision, Source

TOKENS = {"cpu": 256, "cuda": 16_384}
"""The number of tokens in one batch, padding included. On a CPU, larger batches are no faster."""

ENCODERS = (
    *("bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra"),
    *("modernbert", "mpnet", "roberta", "xlm-roberta"),
)
"""The encoders of `transformers` that a fit can keep: those of texts alone, whose code is part of the library."""

_SPECIAL = ["<s>", "<pad>", "</s>"]  # their ids are 0, 1, 2, as in every RoBERTa


@dataclass(frozen=True)
class Encoder:
    """A tokenizer that truncates long texts, and the model that reads its tokens."""

    tokenizer: Tokenizer
    model: PreTrainedModel

    @torch.inference_mode()
    def states(self, passages: Sequence[Passage]) -> Iterator[tuple[int, NDArray[np.float32], tuple[Remark, ...]]]:
        """Yields the index of each passage, last hidden states [T, H] of the first token and of the text's own, and the
        remarks on what was cut off.

        Passages of similar length share a batch. Padding is masked, so states do not depend on the batch.
        """
        encoded = [encode(self.tokenizer, passage) for passage in passages]
        device = self.model.device

        def hidden(rows: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
            ids, mask = padded([encoded[row].ids for row in rows], self.pad)
            states = self._network(ids.to(device), mask.to(device)).float().cpu().numpy()  # [B, T, H]
            return zip(rows, states, strict=True)

        for batch in batches([len(row.ids) for row in encoded], TOKENS[device.type]):
            for row, states in chain.from_iterable(self._at_once(hidden, batch)):
                yield row, states[: len(encoded[row].ids)][encoded[row].own], encoded[row].remarks

    @cached_property
    def _at_once(self) -> Fitting:
        """Batches have as many rows as their tokens allow, until memory is refused."""
        return Fitting(TOKENS[self.model.device.type])

    @cached_property
    def _network(self) -> Network:
        return Network(_States(self.model))

    @property
    def pad(self) -> int:
        """The id of padding, from which RoBERTa also counts positions."""
        return int(self.model.config.pad_token_id or 0)


class _States(nn.Module):
    """Ids [B, T] and their mask to the last hidden states [B, T, H], 0 at padding, which means nothing."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden.masked_fill(mask[..., None] == 0, 0.0)


class Worker:
    """The encoder that a process keeps loaded: the published one, or that of the last fitted state. dim: H."""

    def __init__(self, dim: int, device: str, precision: Precision, published: Encoder | None = None) -> None:
        self.dim = dim
        self._to = {"device": device, "dtype": torch.bfloat16 if precision == "bf16" else torch.float32}
        self._encoder = self._placed(published) if published else None
        self._state: State | None = None

    def encoder(self, state: State | None) -> Encoder:
        """The encoder of a fitted state, or the published one. Raises ValueError if there is neither."""
        if state is not None and state is not self._state:
            self._encoder, self._state = self._placed(from_state(state)), state
        if self._encoder is None:
            raise ValueError("text_roberta needs the state of its fit")
        return self._encoder

    def _placed(self, encoder: Encoder) -> Encoder:
        return Encoder(encoder.tokenizer, encoder.model.to(**self._to))


def read_tokenizer(source: Source, max_tokens: int) -> Tokenizer:
    """The published tokenizer. Raises InputError if it can't be kept in one JSON file."""
    tokenizer = getattr(source.read(AutoTokenizer), "backend_tokenizer", None)
    if not isinstance(tokenizer, Tokenizer):
        raise InputError(f"{source.model} has no tokenizer.json")
    return _truncating(tokenizer, max_tokens)


def read_model(source: Source, max_tokens: int) -> PreTrainedModel:
    """The published model in float32, without a pooler. Raises InputError if it can't read `max_tokens` tokens."""
    model = source.weights("pooler")
    if model.config.model_type not in ENCODERS:
        raise InputError(f"{source.model} is a {model.config.model_type}: {closest(model.config.model_type, ENCODERS)}")
    longest = _positions(model)
    if max_tokens > longest:
        raise InputError(f"{source.model} reads {longest} tokens at most, max_tokens is {max_tokens}")
    return _bare(model)


def read_config(source: Source) -> PreTrainedConfig:
    """The published configuration, without weights."""
    config: PreTrainedConfig = source.read(AutoConfig)
    return config


def learn_tokenizer(texts: Sequence[str], vocab_size: int, max_tokens: int) -> Tokenizer:
    """Learns a byte-level BPE tokenizer like that of RoBERTa, from pairs that occur in `texts` at least twice.

    Any text can be encoded: there are no unknown tokens.
    """
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
    return _truncating(tokenizer, max_tokens)


def make_model(
    tokenizer: Tokenizer, vocab_size: int, hidden: int, layers: int, heads: int, max_tokens: int, seed: int
) -> PreTrainedModel:
    """A RoBERTa with random weights, drawn from torch's generator.

    Fits on different rows start from the same axes, because X9 puts their features together, although their tokenizers
    differ: there is room for `vocab_size` tokens however many were learned, and the embedding of a token is a function
    of `seed` and of its text.
    """
    config = RobertaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=max_tokens + 2,  # positions start after the padding id, 1
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
    """The encoder that `stages._roberta_fit.fit` learned, made from the state alone.

    Raises InputError if its configuration is not that of its tensors, before anything of that size is made.
    """
    if _shapes(state) != {name: value.shape for name, value in state.tensors.items() if name.startswith("model.")}:
        raise InputError("the configuration in the fitted state is not that of its weights")
    with torch.random.fork_rng(devices=[]):  # weights are drawn, then replaced
        model = _bare(AutoModel.from_config(config_of(state)))
    tensors = {name: torch.tensor(value) for name, value in state.tensors.items() if name.startswith("model.")}
    model.load_state_dict({name.removeprefix("model."): value for name, value in tensors.items()})
    return Encoder(tokenizer_from_state(state), model)


def tokenizer_from_state(state: State) -> Tokenizer:
    """The tokenizer alone of the encoder in a state."""
    return _plain(Tokenizer.from_str(state.text["tokenizer"]))


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor that a model of a state's configuration has. No memory is taken for them."""
    config = config_of(state)
    try:
        with torch.device("meta"):
            model = _bare(AutoModel.from_config(config))
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"the configuration in the fitted state makes no model: {error}") from error
    return {f"model.{name}": tuple(value.shape) for name, value in model.state_dict().items()}


def config_of(state: State) -> PreTrainedConfig:
    """The configuration of the encoder in a state, which may come from another machine.

    Only the known fields of the configuration of a known encoder are read: what would have `transformers` run other
    code, such as `auto_map`, `attn_implementation` or `quantization_config`, is no such field. Raises InputError.
    """
    try:
        written = json.loads(state.text["config"])
        kind = written["model_type"]
        if kind not in ENCODERS:
            raise InputError(f"the fitted state is of a {kind!r}: {closest(str(kind), ENCODERS)}")
        known = {f.name for f in fields(CONFIG_MAPPING[kind])}
        if any(name.endswith("_layers") and value > len(state.tensors) for name, value in written.items()):
            raise InputError("the fitted state has more layers than tensors")
        return CONFIG_MAPPING[kind](**{name: value for name, value in written.items() if name in known})
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, StrictDataclassError) as error:
        raise InputError(f"the configuration in the fitted state is none: {error}") from error


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yields batches of indices sorted by length, each of at most `budget` tokens with padding, or of one text."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[row] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Ids [B, T], and a mask [B, T] that is 1 for a token and 0 for padding."""
    ids = [torch.tensor(row) for row in rows]
    mask = [torch.ones(len(row), dtype=torch.int64) for row in rows]
    return pad_sequence(ids, batch_first=True, padding_value=pad), pad_sequence(mask, batch_first=True)


def _truncating(tokenizer: Tokenizer, max_tokens: int) -> Tokenizer:
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return _plain(tokenizer)


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.encode_special_tokens = True  # "<s>" in a transcript is three characters
    return tokenizer


def _bare(model: PreTrainedModel) -> PreTrainedModel:
    """The model in evaluation mode, without its pooler, which many checkpoints lack and nothing here reads."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model.eval()


def _positions(model: PreTrainedModel) -> int:
    """The length of the longest text in tokens. RoBERTa and its kin don't use the positions up to the padding id."""
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    return int(model.config.max_position_embeddings) - (getattr(table, "padding_idx", None) or -1) - 1
