"""`affectory fetch`: what is there already, archives, room on the disk, and corpora that have to be asked for."""

from __future__ import annotations

import fcntl
import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from manifests.iemocap import Iemocap
from pipeline import plugins
from pipeline.cache.home import Home
from pipeline.console import Bars
from pipeline.corpus.recipe_file import home_name
from pipeline.errors import InputError, SpaceError
from pipeline.reader import Download, Reader
from pipeline.transfer.fetch_corpus import fetch, fetch_all
from tests.site import Site, serving


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as found:
        yield found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tgz(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return stream.getvalue()


def release(site: Site, **changed: object) -> Download:
    """The site's one file becomes a tar.gz with a table and a tar.gz of clips."""
    site.content = tgz({"Raw/table.csv": b"a,b", "Raw/train.tar.gz": tgz({"train_splits/a.mp4": b"video"})})
    return site.item(**({"name": "raw.tar.gz", "unpacked": 10_000, "nested": ("train.tar.gz",)} | changed))


def test_an_archive_is_unpacked_with_those_inside_and_a_second_call_does_nothing(site: Site, tmp_path: Path) -> None:
    item = release(site)
    assert fetch_all([item], tmp_path, Bars()) == ["raw.tar.gz"]
    assert (tmp_path / "Raw/train_splits/a.mp4").read_bytes() == b"video"
    assert names(tmp_path) == [".fetched.json", "Raw", "raw.tar.gz"]
    assert fetch_all([item], tmp_path, Bars()) == []
    (tmp_path / "raw.tar.gz").unlink()
    assert fetch_all([item], tmp_path, Bars()) == [] and len(site.seen) == 1


def test_what_was_unpacked_and_removed_is_unpacked_again(site: Site, tmp_path: Path) -> None:
    item = release(site)
    fetch_all([item], tmp_path, Bars())
    shutil.rmtree(tmp_path / "Raw")
    assert fetch_all([item], tmp_path, Bars()) == ["raw.tar.gz"] and len(site.seen) == 1
    assert (tmp_path / "Raw/table.csv").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"raw.tar.gz": 1}', '{"raw.tar.gz": {"sha256": "0"}}'])
def test_a_damaged_note_of_what_was_unpacked_costs_only_time(site: Site, tmp_path: Path, content: str) -> None:
    item = release(site)
    fetch_all([item], tmp_path, Bars())
    (tmp_path / ".fetched.json").write_text(content)
    assert fetch_all([item], tmp_path, Bars()) == ["raw.tar.gz"] and len(site.seen) == 1


def test_an_archive_that_somebody_put_there_is_only_unpacked(site: Site, tmp_path: Path) -> None:
    item = release(site)
    (tmp_path / "raw.tar.gz").write_bytes(site.content)
    assert fetch_all([item], tmp_path, Bars()) == ["raw.tar.gz"]
    assert site.seen == [] and (tmp_path / "Raw/table.csv").exists()


def test_another_file_in_the_way_is_kept_and_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(InputError, match="move it elsewhere"):
        fetch_all([site.item()], tmp_path, Bars())
    assert (tmp_path / "file").read_bytes() == b"mine" and site.seen == []


def test_an_archive_larger_than_its_bound_leaves_nothing_unpacked(site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than is allowed"):
        fetch_all([release(site, unpacked=1000)], tmp_path, Bars())
    assert names(tmp_path) == ["raw.tar.gz"]


def test_a_disk_too_small_is_refused_before_anything_is_asked(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = release(site, unpacked=2 * 10**9)
    need = item.bytes + item.unpacked
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**10, 0, need - 1))
    with pytest.raises(SpaceError, match="has 2,000 MB free, the rest of the corpus needs 2,000 MB"):
        fetch_all([item], tmp_path, Bars())
    assert site.seen == []
    (tmp_path / "raw.tar.gz.part").write_bytes(site.content[:1])
    assert fetch_all([item], tmp_path, Bars()) == ["raw.tar.gz"]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a recipe of a reader with these downloads."""

    def written(*items: Download, root: str = "") -> Path:
        monkeypatch.setattr(Iemocap, "downloads", items)
        path = tmp_path / "open.toml"
        path.write_text(f'[dataset]\nreader = "iemocap"\nroot = "{root}"\n[features.broken]\n')
        return path

    return written


def test_the_command_fetches_into_the_root_that_extract_reads(
    site: Site, tmp_path: Path, recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    path = str(recipe(site.item(), root="$OPEN_PLACE"))
    with pytest.raises(InputError, match="OPEN_PLACE is not set"):
        fetch(home, path, "")
    monkeypatch.setenv("OPEN_PLACE", str(tmp_path / "there"))
    assert fetch(home, path, "") == {"fetched": ["file"], "root": str(tmp_path / "there")}
    assert fetch(home, path, "") == {"fetched": [], "root": str(tmp_path / "there")}
    assert fetch(home, path, str(tmp_path / "here"))["fetched"] == ["file"]
    path = str(recipe(site.item()))
    assert fetch(home, path, "")["root"] == str(tmp_path / "home/raw" / home_name(Path(path)))


def test_the_end_says_what_was_fetched_and_which_archives_can_go(
    site: Site, tmp_path: Path, recipe: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    path = str(recipe(release(site)))
    fetch(Home(tmp_path), path, "")
    assert "fetched raw.tar.gz. raw.tar.gz can be deleted now." in capfd.readouterr().err
    fetch(Home(tmp_path), path, "")
    assert "everything is there already." in capfd.readouterr().err


def test_two_fetches_into_one_root_do_not_mix(site: Site, tmp_path: Path, recipe: Callable[..., Path]) -> None:
    path = str(recipe(site.item()))
    (tmp_path / "root").mkdir()
    with (tmp_path / "root/.fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with pytest.raises(InputError, match="another process is fetching"):
            fetch(Home(tmp_path / "home"), path, str(tmp_path / "root"))
    assert fetch(Home(tmp_path / "home"), path, str(tmp_path / "root"))["fetched"] == ["file"]


def test_a_corpus_that_has_to_be_asked_for_says_how(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    answer = fetch(Home(tmp_path), "iemocap", "")
    assert answer == {"fetched": [], "obtain": Iemocap.obtain}
    said = capfd.readouterr().err
    assert "sail.usc.edu" in said and "Session{1..5}/dialog/EmoEvaluation" in said
    assert json.loads(json.dumps(answer)) == answer


@pytest.mark.parametrize(
    ("text", "message"),
    [("[dataset", "open.toml: "), ("a = 1", r"no table \[dataset\]"), ('[dataset]\nreader = "iemocp"', "iemocap")],
)
def test_a_recipe_that_names_no_reader_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "open.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        fetch(Home(tmp_path), str(tmp_path / "open.toml"), "")


def test_an_unknown_dataset_names_the_closest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean iemocap"):
        fetch(Home(tmp_path), "iemocp", "")


def readers() -> list[type[Reader]]:
    return [plugins.find("manifests", name, Reader) for name in plugins.names("manifests")]  # type: ignore[type-abstract]


def test_what_readers_offer_is_https_with_a_digest_and_a_place_inside_the_root() -> None:
    for item in (item for reader in readers() for item in reader.downloads):
        assert item.url.startswith("https://") and item.bytes > 0
        digits = {64: item.sha256, 40: item.git_blob, 32: item.md5}
        assert [re.fullmatch(f"[0-9a-f]{{{count}}}", digest) for count, digest in digits.items() if digest] != [None]
        assert any(digits.values())
        assert not Path(item.name).is_absolute() and ".." not in Path(item.name).parts
        assert item.unpacked or not item.nested
