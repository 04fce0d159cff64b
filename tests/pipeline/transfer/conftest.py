"""Fixtures of the tests of transfer: two teams, and a hub on loopback with a home to fetch weights to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cache import keys
from pipeline.cache.home import Home
from pipeline.run import reference_job
from tests.hub import Hub, serving
from tests.small import Small
from tests.teams import other, push  # noqa: F401 - a fixture among them
from tests.weights import WORDS, Place


@pytest.fixture
def pushed(extracted: Small, bucket: str) -> Small:
    push(extracted, bucket)
    return extracted


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder as `transformers` saves one, with pickled weights beside it."""
    from transformers import RobertaConfig

    from tests.encoders import saved

    folder = saved(tmp_path_factory.mktemp("tiny"), RobertaConfig)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling.py").write_text("raise SystemExit")
    return folder


@pytest.fixture
def hub(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as found:
        found.publish(encoder)
        found.plain["words.bin.gz"] = WORDS
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", found.url)
        template = f"{found.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("AFFECTORY_HOME", str(tmp_path / "home"))
    return Place(tmp_path, Home())


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the sample ran, by stage."""
    counts, real = Counter[str](), reference_job.sampled

    def counted(node, *more):
        counts[node.name] += 1
        return real(node, *more)

    monkeypatch.setattr(reference_job, "sampled", counted)
    return counts


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch):
    """Installs other versions of libraries, as it seems."""
    real = keys.library_version

    def install(**versions: str) -> None:
        monkeypatch.setattr(keys, "library_version", lambda name: versions.get(name) or real(name))

    return install


@pytest.fixture
def remote(tmp_path: Path) -> str:
    return f"file://{tmp_path / 'remote'}"
