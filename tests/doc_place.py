"""A copy of the project with small corpora and recipes, in which the blocks of README and docs/ are run."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.corpus.recipe_file import home_name
from tests.contracts import reader_cases
from tests.doc_blocks import ROOT, Block
from tests.foreign import mmsa_unaligned

PARTS = ("pipeline", "stages", "models", "manifests")
SAMPLE = ROOT / "pipeline" / "plan" / "sample_files" / "clip.mp4"
HEADS = {
    "demo": 'reader = "demo"\nper_cell = 2\nroot = "{demo}"\nlabels = "six"',
    "iemocap": 'reader = "iemocap"\nroot = "$IEMOCAP_ROOT"\nlabels = "six"',
    "meld": 'reader = "meld"\nroot = "{corpora}/MELD"\nlabels = "emotion"',
    "ravdess": 'reader = "ravdess"\nroot = "{corpora}/RAVDESS"\nlabels = "emotion"\nprotocol = "cv"',
    "ch_sims": 'reader = "ch_sims"\nroot = "{corpora}/CH-SIMS"\nlabels = "sentiment"',
    "ch_sims_v2": 'reader = "ch_sims_v2"\nroot = "{corpora}/CH-SIMS-v2"\nlabels = "sentiment"',
}
"""Recipe -> its `[dataset]`. The small corpus of the demo stands in for IEMOCAP, whose layout it has."""
READ = ("demo", "iemocap", "meld")
"""The recipes whose models read texts too, by stages that are fitted."""
TEXTS = """
[features.hjcag.text]
stage      = "text_roberta"
init       = "random"
hidden     = 8
layers     = 1
heads      = 2
vocab_size = 300
max_tokens = 32
epochs     = 1
align      = { mode = "pad", length = 4 }
[features.mulg.text]
stage               = "text_cnn"
epochs              = 1
channels            = 4
input.text_word2vec = { size = 8, epochs = 1, min_count = 1 }
align               = { mode = "pad", length = 4 }
"""
MEDIA = """
[features.hjcag]
audio  = { stage = "audio_opensmile", feature_set = "IS09", align = { mode = "broadcast", length = 4 } }
visual = { stage = "visual_resnet50", frames = 4, size = 32, weights = "random", align = { mode = "pad", length = 4 } }
[features.mulg]
audio  = { stage = "audio_mfcc", n_mfcc = 5, deltas = 0, rate_hz = 12.5, align = { mode = "pad", length = 16 } }
visual = { stage = "visual_cnn3d", weights = "random", clips = 1, size = 32, align = { mode = "pad", length = 1 } }
"""
TRAIN = """
[train.hjcag]
epochs           = 1
d_model          = 8
audio_dim        = 4
visual_dim       = 4
modality_dropout = 0.3
[train.mulg]
epochs     = 1
hidden     = 4
width      = 8
gru_layers = 1
[train.mult]
epochs        = 1
layers        = 1
memory_layers = 1
width         = 10
[train.dialogue_rnn]
epochs         = 1
global_hidden  = 8
party_hidden   = 8
emotion_hidden = 8
hidden         = 8
"""
SPEAKERS = ("ann", "bob", "cat", "dan", "eve", "flo")
"""Who speaks in the clips of own-clips.md beside the two in its table."""


@dataclass
class Place:
    """A copy of the project.

    clone: its folder, in which blocks are run. outside: the folder of all that pages name by absolute paths. demo: the
    root of the demo's small corpus. shard: the one that stands for the shards that pages name.
    """

    clone: Path
    outside: Path
    demo: Path
    shard: str = ""

    @classmethod
    def make(cls, folder: Path, demo: Path, recipes: Iterable[str] = HEADS) -> Place:
        """A copy in an empty folder, in which these recipes are small."""
        place = cls(folder / "clone", folder / "outside", demo)
        for part in PARTS:
            left_out = shutil.ignore_patterns("__pycache__", "*.lock.json")
            shutil.copytree(ROOT / part, place.clone / part, ignore=left_out)
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, place.clone)
        (place.clone / "affectory").symlink_to("pipeline/python/affectory")
        place._link_environment()
        place._write_files()
        place._write_corpora()
        place._write_clips()
        for name in recipes:
            head = HEADS[name].format(demo=demo, corpora=place.outside / "corpora")
            texts = TEXTS if name in READ else ""
            place.recipe(name).write_text(f"[dataset]\n{head}\n{texts}{MEDIA}{TRAIN}")
        with place.recipe("imported").open("a") as recipe:
            recipe.write(TRAIN)
        return place

    def copy(self, folder: Path) -> Place:
        """Another copy with what this one has extracted and trained. Both name the same files outside."""
        shutil.copytree(self.clone, folder / "clone", symlinks=True)
        copied = Place(folder / "clone", self.outside, self.demo)
        copied.find_shard()
        return copied

    def recipe(self, name: str) -> Path:
        """The file of a recipe in manifests/."""
        return self.clone / "manifests" / f"{name}.toml"

    def take(self, home: Path, name: str) -> None:
        """A home in which another recipe was extracted, as if that had been the recipe of this name."""
        shutil.copytree(home, self.clone / "data")
        [history] = (self.clone / "data" / "history").iterdir()
        history.rename(history.with_name(home_name(ROOT / "manifests" / f"{name}.toml")))
        self.find_shard()

    def find_shard(self) -> None:
        """Chooses a shard for the blocks that name one."""
        objects = (self.clone / "data" / "cache" / "objects").rglob("*.parquet")
        self.shard = str(next(path for path in objects if b"affectory" in (pq.read_schema(path).metadata or {})))

    # --- blocks ----------------------------------------------------------------------------------------------------

    def run(self, block: Block) -> None:
        """Runs what is to be run of a block. Fails with its place and what it said."""
        if block.kind in ("toml", "text"):
            self._write(block)
        elif block.kind == "python":
            self.python(block.place, block.text)
        else:
            self._call(block.place, ["bash", "-ex", "-o", "pipefail", "-c", self.here("\n".join(block.run))])

    def python(self, place: str, text: str) -> None:
        """Runs Python as a script, with the guard that docs/python.md asks of one."""
        script = self.clone / "block.py"
        script.write_text(f'if __name__ == "__main__":\n{textwrap.indent(self.here(text), "    ")}', encoding="utf-8")
        self._call(place, [sys.executable, str(script)])

    def affectory(self, *line: str) -> None:
        """Runs a command that is in no block."""
        self._call("a command before the page", [str(self.clone / ".venv" / "bin" / "affectory"), *line])

    def here(self, text: str) -> str:
        """A text with the places that it names replaced by those of this copy."""
        places = {
            "/corpora/IEMOCAP_full_release": self.demo,
            "/shared/IEMOCAP_full_release": self.demo,
            "/shared/affectory-repository": self.clone,
            "/shared/affectory": self.clone / "data",
            "s3://team/affectory": f"file://{self.clone}/remote",
            "data/cache/objects/ab/cdef….parquet": self.shard,
            '"cdef….parquet"': f'"{self.shard}"',
            "explain SHARD": f"explain {self.shard}",
            "UTTERANCE STAGE": "Ses01F_impro01_F000 audio_opensmile",
        }
        for written, place in places.items():
            text = text.replace(written, str(place))
        return re.sub(r"(?<![\w.}])/(corpora|my|data|sounds)/", lambda found: f"{self.outside}{found[0]}", text)

    def _call(self, place: str, command: list[str]) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.clone),
            "PATH": f"{self.clone}/.venv/bin:{os.environ['PATH']}",
            "AFFECTORY_HOME": "",
            "IEMOCAP_ROOT": str(self.demo),
            "SLURM_ARRAY_TASK_ID": "1",
            "SLURM_ARRAY_TASK_COUNT": "40",
            "SLURM_CPUS_PER_TASK": "1",
        }
        done = subprocess.run(command, cwd=self.clone, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{place}: {command[-1]}\n{done.stdout[-1500:]}\n{done.stderr[-4000:]}"

    def _write(self, block: Block) -> None:
        """The files of own-clips.md: its recipe, and its table with more rows. Parts of recipes have no file."""
        folder = self.outside / "my" / "clips"
        if "[dataset]" in block.text:
            (folder / "clips.toml").write_text(self.here(block.text), encoding="utf-8")
        elif block.kind == "text":
            with (folder / "utterances.csv").open("w", newline="", encoding="utf-8") as file:
                file.write(block.text)
                csv.writer(file).writerows(map(_row, range(2 * len(SPEAKERS))))

    # --- what pages take for granted -------------------------------------------------------------------------------

    def _link_environment(self) -> None:
        """The virtual environment that `make` looks for: this one."""
        (self.clone / ".venv").mkdir()
        for entry in Path(sys.prefix).iterdir():
            if entry.name != ".ready":
                (self.clone / ".venv" / entry.name).symlink_to(entry)
        (self.clone / ".venv" / ".ready").touch()

    def _write_files(self) -> None:
        for name in ("clip.mp4", "long.mp4"):
            shutil.copy(SAMPLE, self.clone / name)
        (self.clone / "clip.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nI can't believe it\n")
        sound = next(self.demo.rglob("Ses01F_impro01_F000.wav"))
        shutil.copy(sound, self.clone / "microphone.wav")
        for folder in ("data", "corpora", "my/clips", "sounds/babble"):
            (self.outside / folder).mkdir(parents=True)
        shutil.copy(sound, self.outside / "sounds" / "babble")
        widths = dict.fromkeys(("text", "audio", "vision"), 4)
        mmsa_unaligned(self.outside / "data" / "unaligned_50.pkl", {"train": 24, "valid": 8, "test": 8}, widths=widths)

    def _write_corpora(self) -> None:
        """Small corpora in each release's layout, in which each clip is the same second of sound and pictures."""
        for case in ("meld", "ravdess", "ch_sims", "ch_sims_v2"):
            folder = self.outside / "corpora" / re.findall("{corpora}/([\\w-]+)", HEADS[case])[0]
            folder.mkdir()
            reader_cases.CASES[case][1](folder, self.demo)
            for path in [*folder.rglob("*.mp4"), *folder.rglob("*.wav")]:
                path.unlink()
                path.hardlink_to(self.clone / "clip.mp4")

    def _write_clips(self) -> None:
        """Clips of one's own, with transcripts beside them: `ann_01.mp4` and so on."""
        folder = self.outside / "my" / "clips"
        for clip in (f"{who}_{number:02}" for who in ("anna", "ben", *SPEAKERS) for number in (1, 2)):
            (folder / f"{clip}.mp4").hardlink_to(self.clone / "clip.mp4")
            (folder / f"{clip}.txt").write_text(f"{clip} says this")
        shutil.copy(self.clone / "microphone.wav", folder / "anna_01.wav")


def _row(number: int) -> list[str]:
    """A row of the table of own-clips.md, by its number."""
    who, take = SPEAKERS[number % len(SPEAKERS)], 1 + number // len(SPEAKERS)
    part = ("train", "train", "train", "valid", "valid", "test")[number % len(SPEAKERS)]  # of one, all takes
    label = ("negative", "neutral", "positive")[number % 3]
    clip = f"{who}_{take:02}"
    return [clip, who, who, part, f"{who} says take {take}", f"{clip}.mp4", f"{clip}.mp4", label]
