"""A refusal of memory is known whoever refuses, and ends in one message that says what needs the memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.cli import main as command
from pipeline.errors import MachineError, lacks_memory, needing_memory
from stages.text_cnn import TextCnn
from tests.small import Small

TOO_MANY = 10**16


def refused_by_torch() -> None:
    torch.empty(TOO_MANY)


def refused_by_numpy() -> None:
    np.ones(TOO_MANY)


@pytest.mark.parametrize("refused", [refused_by_torch, refused_by_numpy])
def test_a_refusal_of_memory_becomes_a_message_that_says_what_needs_it(refused) -> None:
    with (
        pytest.raises(MachineError, match="^the fit needs more memory than this machine gives"),
        needing_memory("the fit"),
    ):
        refused()
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has an error of its own
        refused()
    known = command._of_the_machine(caught.value)
    assert known is not None and known.exit_code == MachineError.exit_code


def test_another_error_is_no_refusal_of_memory() -> None:
    assert lacks_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not lacks_memory(RuntimeError("shapes differ"))
    with pytest.raises(ValueError, match="shapes"), needing_memory("the fit"):
        raise ValueError("shapes differ")


def test_a_fit_that_is_refused_memory_ends_the_run_and_is_named(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextCnn, "fit", lambda *given: refused_by_torch())
    with pytest.raises(MachineError, match="the fit of text_cnn on .* needs more memory"):
        small.extract(modality="text")
