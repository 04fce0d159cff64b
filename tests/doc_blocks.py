"""The blocks of code in README and docs/, and the list of those that no test runs, each with its reason."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}

_SHELL = re.compile(r"#!/bin/bash|(\w+=\S+ )*(make|affectory|export|source|pip|pytest|ruff|mkdir|sbatch|dask|\\)(\s|$)")
_KINDS = {"python": re.compile(r"(import|from) \w"), "toml": re.compile(r"\["), "shell": _SHELL}

NOT_RUN = {
    ("README.md", "raw files"): "a picture of the way of the data",
    ("README.md", "make demo"): "takes minutes; tests/test_docs.py runs the commands of the first ten minutes",
    ("README.md", "make test"): "it is what runs this",
    ("README.md", "manifests/   one corpus"): "a list of folders",
    ("README.md", "(doorstep)"): "a list of rooms; tests/test_rooms.py compares it with the folders",
    ("add-a-corpus.md", ""): "its files are written and its commands run by tests/manifests/test_add_a_corpus.py",
    ("add-a-model.md", ""): "its files are written and its commands run by tests/models/test_add_a_model.py",
    ("add-a-stage.md", ""): "its files are written and its commands run by tests/stages/test_add_a_stage.py",
    ("cluster.md", "sbatch"): "there is no Slurm; what it submits is a call like those of the other blocks",
    ("cluster.md", "from dask_jobqueue"): "there is no Slurm",
    ("cluster.md", "make extract DATASET=iemocap"): "tests/pipeline/run/test_dask_workers.py has a scheduler",
    ("commands.md", ""): "tests/test_docs.py compares the page with what the commands say of themselves",
    ("corpora.md", "make fetch"): "downloads gigabytes; tests/pipeline/transfer/test_fetch_corpus.py has a server",
    ("formats.md", "data/"): "a list of folders",
    ("gpu.md", "pip install"): "downloads a gigabyte",
    ("gpu.md", "make extract DATASET=iemocap GPUS=2"): "there is no GPU",
    ("gpu.md", "make bench GPU=1"): "there is no GPU, and on the CPU it takes minutes",
    ("index.md", ""): "tests/test_docs.py builds the site of these lists of pages",
    ("predict.md", "make predict BUNDLE=hjcag.bundle VIDEO=clip.mp4 ASR="): "downloads a recogniser of speech",
    ("sharing.md", "objects/ab/cdef"): "a list of folders",
    ("sharing.md", "opensmile 3.0.0 -> 3.0.1"): "what a command says",
    ("sharing.md", "AFFECTORY_HOME=/local/affectory"): "tests/pipeline/run/test_apart.py starts such workers",
    ("sharing.md", "AFFECTORY_REMOTE=s3://team/affectory make extract"): "needs those workers",
}
"""Page and beginning of a block or of a command -> why it is not run; "" is every block of the page."""


@dataclass(frozen=True)
class Block:
    """A block of code. kind: python, toml or shell, or another word for anything that is no code of these."""

    page: str
    line: int
    kind: str
    text: str

    @property
    def place(self) -> str:
        """The page and the line, as messages name it."""
        return f"{self.page}:{self.line}"

    @property
    def parts(self) -> list[str]:
        """The commands of a shell block, of which a script is one; any other block in one part."""
        if self.kind != "shell" or self.text.startswith("#!"):
            return [self.text]
        return [line for line in re.split(r"(?<!\\)\n", self.text) if line.strip()]

    def why_not(self, part: str) -> list[tuple[str, str]]:
        """The entries of `NOT_RUN` for a part of this block."""
        return [(page, start) for page, start in NOT_RUN if page == self.page and part.startswith(start)]

    @property
    def run(self) -> list[str]:
        """The parts that are run."""
        return [part for part in self.parts if not self.why_not(part)]


def blocks(name: str) -> list[Block]:
    """The blocks of a page in order: fenced ones, and those that are indented by four or more."""
    return list(_blocks(name, PAGES[name].read_text(encoding="utf-8").splitlines()))


def _blocks(name: str, lines: list[str]) -> Iterator[Block]:
    at = 0
    while at < len(lines):
        start = at
        if lines[at].startswith("```"):
            at = lines.index("```", at + 1)
            yield Block(name, start + 1, lines[start].strip("`"), "\n".join(lines[start + 1 : at]) + "\n")
        elif lines[at].startswith("    ") and not lines[at - 1].strip():
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at].strip()):
                at += 1
            text = textwrap.dedent("\n".join(lines[start:at])).strip("\n") + "\n"
            yield Block(name, start + 1, next((k for k, begins in _KINDS.items() if begins.match(text)), "text"), text)
            continue
        at += 1
