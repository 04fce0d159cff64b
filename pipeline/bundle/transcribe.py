"""Fills missing transcripts by a model of speech recognition of the Hugging Face hub, or of a local folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.console import bar
from pipeline.errors import InputError
from pipeline.media import audio
from pipeline.media.bounds import bound_this_process, decoder_bound
from pipeline.media.child import DEADLINE_S, Child
from pipeline.reason import Unreadable
from pipeline.stage import Waveform
from pipeline.utterance import Utterance

CHUNK_S = 30.0
"""What a recogniser hears at once; longer sound is cut into overlapping chunks of it."""


def transcribe(rows: Sequence[Utterance], root: Path, model: str) -> list[Utterance]:
    """The rows, those without a transcript with the one that a model hears; a row without sound stays as it is.

    model: `org/name` of the hub, `org/name@revision`, or a folder. Raises InputError if it can't be loaded.
    """
    todo = [row for row in rows if row.text is None and row.audio]
    if not todo:
        return list(rows)
    recognise = _recogniser(model)
    texts: dict[str, str] = {}
    bound = decoder_bound()
    with Child(prepare=bound_this_process, bound=bound) as child, bar("asr", "rows", len(todo)) as advance:
        for row in todo:
            if wave := _heard(child, row, root):
                texts[row.id] = recognise(wave)
            advance(1)
    return [replace(row, text=texts[row.id]) if row.id in texts else row for row in rows]


def _heard(child: Child, row: Utterance, root: Path) -> Waveform | None:
    try:
        [wave] = child.call(audio.decode, row.audio, root, ("asr",), deadline_s=DEADLINE_S)
    except Unreadable:
        return None  # the stages that read the sound say why
    return wave  # type: ignore[no-any-return]


def _recogniser(model: str) -> Callable[[Waveform], str]:
    from transformers import pipeline

    name, _, revision = model.partition("@")
    try:
        recogniser: Any = pipeline("automatic-speech-recognition", model=name, revision=revision or None)
        rate_hz = recogniser.feature_extractor.sampling_rate
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"--asr {model}: no model of speech recognition can be loaded ({str(error)[:300]})") from error

    def text(wave: Waveform) -> str:
        samples = audio.resample(wave, rate_hz)
        chunks = {"chunk_length_s": CHUNK_S} if len(samples) > CHUNK_S * rate_hz else {}
        return " ".join(recogniser({"raw": samples, "sampling_rate": rate_hz}, **chunks)["text"].split())

    return text
