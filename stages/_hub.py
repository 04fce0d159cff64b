"""Published models of `transformers`: read from a local directory or from the hub, safetensors only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging

from pipeline.cache.weights import check_hub_cache, local, unreachable
from pipeline.errors import InputError
from pipeline.written_path import written_path

Precision = Literal["float32", "bf16"]

_UNREADABLE = (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError)


@dataclass(frozen=True)
class Source:
    """The place of published weights: a hub id with its revision, or a directory.

    beside: the file that is needed beside the weights, for messages.
    """

    model: str
    revision: str
    beside: str = "tokenizer.json"

    @property
    def path(self) -> Path:
        """The model as a local path, which need not exist; for a pinned model, the copy at home."""
        return written_path(local(self.model), variables=True)

    def read(self, auto: Any, **options: Any) -> Any:
        """Returns `auto.from_pretrained` of this source, without running its code. Raises InputError if it can't."""
        path = self.path
        local_only = path.is_dir()
        why = "" if local_only else unreachable(self.model, self.revision)
        logging.disable_progress_bar()  # a bar for the weights of each worker would break up those of the run
        origin: dict[str, Any] = {} if local_only else {"revision": self.revision}
        try:
            name = str(path) if local_only else self.model
            origin |= {"trust_remote_code": False, "local_files_only": local_only or bool(why)}
            found = auto.from_pretrained(name, **origin, **options)
            if not local_only:
                check_hub_cache(self.model, self.revision)
            return found
        except _UNREADABLE as error:
            at = f" at revision {self.revision}" if self.revision else ""
            raise InputError(
                f"no weights of {self.model}{at}: {why or error}\nFetch them with `make weights`, or name a local "
                f'directory that holds config.json, model.safetensors and {self.beside}: model = "/path/to/it"'
            ) from error

    def weights(self, unused: str) -> PreTrainedModel:
        """The model in float32. Raises InputError if weights are missing, except those with `unused` in their names."""
        model, report = self.read(AutoModel, use_safetensors=True, dtype=torch.float32, output_loading_info=True)
        if missing := sorted(name for name in report["missing_keys"] if unused not in name):
            kind = model.config.model_type
            raise InputError(f"{self.model} lacks {len(missing)} weights of a {kind}, among them {missing[0]}")
        return cast(PreTrainedModel, model)
