"""Sources of weights: a stage says what it reads, and only what is published is pinned."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pipeline.cache import keys
from pipeline.cache.weights import Pin, Weights, published_sources
from pipeline.stage import SOURCE, Modality, Spec, Stage
from stages.audio_wavlm import AudioWavlm
from stages.text_roberta import TextRoberta
from stages.text_word2vec import TextWord2vec
from stages.visual_cnn3d import VisualCnn3d
from stages.visual_resnet50 import VisualResnet50

COMMIT = "c" * 40
DIGEST = "d" * 64
PIN = Pin(revision=COMMIT, digest=DIGEST, files=("model.safetensors",), bytes=1)


@dataclass(frozen=True, kw_only=True)
class Choir(Stage):
    """A stage whose fields are called as in no other."""

    version: ClassVar[int] = 1
    modality: ClassVar[Modality] = "audio"
    inputs: ClassVar[tuple[str, ...]] = ("audio",)
    singer: str = field(default="lab/tenor", metadata=SOURCE)
    year: str = "1999"
    words: str = field(default="https://example.org/words.txt", metadata=SOURCE)

    def sources(self):
        return super().sources() | {"singer": f"{self.singer}@{self.year}"}

    def spec(self, loaded):
        return Spec(1)

    def transform(self, loaded, state, batch):
        return []


def test_a_stage_of_any_fields_is_pinned_by_the_sources_it_gives():
    pinned = Weights({"lab/tenor@1999": PIN}).applied(Choir())
    assert (pinned.singer, pinned.words) == (f"pinned:{DIGEST}:lab/tenor@1999", "https://example.org/words.txt")
    assert published_sources(pinned) == {"words": "https://example.org/words.txt"}


def test_a_pinned_source_enters_the_key_by_its_digest_alone():
    def digested(name):
        return DIGEST if name.startswith("pinned:") else name

    one, two = (Weights({source: PIN}).applied(Choir(year=year)) for source, year in SINGERS)
    assert keys.stage_params(one, digested)["singer"] == keys.stage_params(two, digested)["singer"] == DIGEST


SINGERS = [("lab/tenor@1999", "1999"), ("lab/tenor@2001", "2001")]


def test_each_stage_says_which_published_weights_it_reads():
    assert published_sources(TextRoberta(model="lab/tiny", revision=COMMIT)) == {"model": f"lab/tiny@{COMMIT}"}
    assert published_sources(AudioWavlm(model="lab/tiny", revision=COMMIT)) == {"model": f"lab/tiny@{COMMIT}"}
    assert published_sources(VisualCnn3d()) == {"weights": "torchvision/r3d_18/KINETICS400_V1"}
    assert published_sources(VisualResnet50()) == {"weights": "torchvision/resnet50/IMAGENET1K_V2"}
    timm = VisualResnet50(backbone="timm/resnet18", weights="a1_in1k")
    assert published_sources(timm) == {"weights": "timm/resnet18/a1_in1k"}


def test_a_url_is_its_own_source_whatever_stands_beside_it():
    url = "https://example.org/weights.safetensors"
    for stage in (TextRoberta(model=url, revision=COMMIT), VisualResnet50(weights=url), TextWord2vec(vectors=url)):
        assert [*published_sources(stage).values()] == [url]


def test_weights_drawn_at_random_trained_here_or_at_a_local_path_are_not_published(tmp_path: Path):
    for stage in (TextRoberta(init="random"), AudioWavlm(init="random"), VisualCnn3d(weights="random"), TextWord2vec()):
        assert stage.sources() == {}
    stage = TextRoberta(model=str(tmp_path), revision=COMMIT)
    assert stage.sources() == {"model": str(tmp_path)} and published_sources(stage) == {}
