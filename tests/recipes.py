"""Texts of small recipes, and what tests look up in them."""

from __future__ import annotations

from typing import Any

from pipeline.corpus.recipe import Node, Recipe

DATASET = """
[dataset]
reader = "iemocap"
labels = "six"
root   = "corpus"
"""
SOUND = DATASET + '[features.sound]\naudio = { stage = "audio_mfcc", align = { mode = "pad", length = 4 } }\n'
WORDS = (
    DATASET
    + """
[features.words.text] # trained on the fold
stage = "text_cnn"
input.text_word2vec = { size = 8 }
align = { mode = "pad", length = 4 }
[features.words]
audio = { concat = [{ stage = "audio_opensmile", feature_set = "IS09", level = "lld", rate_hz = 12.5 },
                    { stage = "audio_mfcc", rate_hz = 12.5 }], align = { mode = "pad", length = 4 } }
"""
)


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def node(read: Recipe, features: str, modality: Any = "audio", part: int = 0) -> Node:
    return read.features[features][modality].parts[part]
