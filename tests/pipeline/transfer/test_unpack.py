"""Unpacking: whole archives alone appear, nothing leaves the folder, and nothing grows past its bound."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.transfer.unpack import unpack

LIMIT = 10**6
Files = Mapping[str, bytes]


def tar(files: Files, mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            archive.addfile(file_header(name, len(content)), io.BytesIO(content))
    return stream.getvalue()


def file_header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.type, header.linkname, header.mode = size, kind, link, 0o4777
    return header


def tgz(files: Files) -> bytes:
    return tar(files, "w:gz")


def zipped(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def put(root: Path, name: str, content: bytes) -> Path:
    (root / name).write_bytes(content)
    return root / name


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


KINDS: dict[str, Callable[[Files], bytes]] = {"a.tar": tar, "a.tar.gz": tgz, "a.tgz": tgz, "a.zip": zipped}


@pytest.mark.parametrize("name", KINDS)
def test_files_and_folders_come_out_as_they_went_in(tmp_path: Path, name: str) -> None:
    files = {"top/a.txt": b"a" * 3000, "./top/sub/b.bin": bytes(range(256)) * 9000, "c": b"", "ünï.txt": b"u"}
    out = tmp_path / "out"
    assert unpack(put(tmp_path, name, KINDS[name](files)), out, 10 * LIMIT) == ["c", "top", "ünï.txt"]
    assert tree(out) == {key.removeprefix("./"): content for key, content in files.items()}


def test_nested_archives_are_unpacked_where_they_stand_and_not_kept(tmp_path: Path) -> None:
    inner = {
        "train.tar.gz": tgz({"train_splits/x.mp4": b"x"}),
        "dev.zip": zipped({"d.mp4": b"d"}),
        "t.tar": tar({"t": b"t"}),
    }
    outer = {f"Raw/{name}": content for name, content in inner.items()} | {"Raw/table.csv": b"c", "Raw/other.tar": b"o"}
    out = tmp_path / "out"
    assert unpack(put(tmp_path, "a.tar.gz", tgz(outer)), out, LIMIT, tuple(inner)) == ["Raw"]
    expected = {"train_splits/x.mp4": b"x", "d.mp4": b"d", "t": b"t", "table.csv": b"c", "other.tar": b"o"}
    assert tree(out) == {f"Raw/{name}": content for name, content in expected.items()}


def test_a_nested_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = put(tmp_path, "a.tar", tar({"Raw/train.tar": tar({"x": b""})}))
    with pytest.raises(InputError, match=r"holds no dev\.tar"):
        unpack(path, tmp_path / "out", LIMIT, ("train.tar", "dev.tar"))
    assert tree(tmp_path / "out") == {}


BAD_NAMES = ["/etc/passwd", "../x", "a/../../x", "a/..", "a\\..\\x", "n" * 256]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leads_outside_is_refused_and_nothing_appears(tmp_path: Path, kind: str, name: str) -> None:
    path = put(tmp_path, kind, KINDS[kind]({"good": b"g", name: b"x"}))
    with pytest.raises(InputError, match="leads outside|too long"):
        unpack(path, tmp_path / "out", LIMIT)
    assert list((tmp_path / "out").iterdir()) == []
    assert {entry.name for entry in tmp_path.iterdir()} == {kind, "out"}


def test_a_bad_name_inside_a_nested_archive_is_refused_too(tmp_path: Path) -> None:
    path = put(tmp_path, "a.tar", tar({"Raw/in.tar": tar({"../../x": b"x"})}))
    with pytest.raises(InputError, match=r"a\.tar: in\.tar: the name '\.\./\.\./x'"):
        unpack(path, tmp_path / "out", LIMIT, ("in.tar",))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(file_header("good", 1), io.BytesIO(b"g"))
        archive.addfile(file_header("bad", kind=kind, link="good"))
    with pytest.raises(InputError, match="'bad' is neither a file nor a folder"):
        unpack(put(tmp_path, "a.tar", stream.getvalue()), tmp_path / "out", LIMIT)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, mode: int) -> None:
    stream, info = io.BytesIO(), zipfile.ZipInfo("bad")
    info.external_attr = (mode | 0o777) << 16
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match="'bad' is neither a file nor a folder"):
        unpack(put(tmp_path, "a.zip", stream.getvalue()), tmp_path / "out", LIMIT)


def test_modes_of_the_archive_are_not_taken_over(tmp_path: Path) -> None:
    unpack(put(tmp_path, "a.tar", tar({"a": b"a"})), tmp_path / "out", LIMIT)
    assert not (tmp_path / "out/a").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_counts_everything_and_is_exact(tmp_path: Path, kind: str) -> None:
    path = put(tmp_path, kind, KINDS[kind]({"a": bytes(700), "b": bytes(600)}))
    assert unpack(path, tmp_path / "enough", 1300) == ["a", "b"]
    with pytest.raises(InputError, match="more than is allowed, by 1 bytes"):
        unpack(path, tmp_path / "out", 1299)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("inner", ["in.tar.gz", "in.zip"])
def test_the_bound_holds_inside_nested_archives(tmp_path: Path, inner: str) -> None:
    bomb = {"a": bytes(5 * LIMIT)}
    path = put(tmp_path, "a.tar", tar({inner: zipped(bomb) if inner.endswith("zip") else tgz(bomb)}))
    with pytest.raises(InputError, match="more than is allowed"):
        unpack(path, tmp_path / "out", LIMIT, (inner,))


def test_a_nested_zip_larger_than_the_bound_is_not_copied(tmp_path: Path) -> None:
    inner = zipped({"a": bytes(2 * LIMIT)}, zipfile.ZIP_STORED)
    with pytest.raises(InputError, match="larger than the whole archive"):
        unpack(put(tmp_path, "a.tar", tar({"in.zip": inner})), tmp_path / "out", LIMIT, ("in.zip",))


def test_empty_files_count_too(tmp_path: Path) -> None:
    path = put(tmp_path, "a.tar.gz", tgz({str(n): b"" for n in range(100)}))
    with pytest.raises(InputError, match="more than is allowed"):
        unpack(path, tmp_path / "out", 100)


def long_file(kind: str) -> bytes:
    return KINDS[kind]({"first": b"f", "long": bytes(range(256)) * 200, "last": b"l" * 3000})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_an_archive_that_ends_early_leaves_nothing(tmp_path: Path, kind: str, share: float) -> None:
    whole = long_file(kind)
    size = len(whole) if kind != "a.tar" else 512 * 108  # without the zeros after the last file
    with pytest.raises(InputError, match="broken|another size"):
        unpack(put(tmp_path, kind, whole[: int(share * size)]), tmp_path / "out", LIMIT)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_tar_cut_between_two_files_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ends early"):
        unpack(put(tmp_path, "a.tar", tar({"a": b"a", "b": b"b"})[:1024]), tmp_path / "out", LIMIT)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    content = bytearray(tar({"a": b"a", "b": b"b"}))
    content[1024 + 150] ^= 0xFF
    with pytest.raises(InputError, match="broken"):
        unpack(put(tmp_path, "a.tar", bytes(content)), tmp_path / "out", LIMIT)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_cut_nested_archive_is_named(tmp_path: Path) -> None:
    path = put(tmp_path, "a.tar.gz", tgz({"Raw/train.tar.gz": long_file("a.tar.gz")[:200]}))
    with pytest.raises(InputError, match=r"a\.tar\.gz: train\.tar\.gz is broken"):
        unpack(path, tmp_path / "out", LIMIT, ("train.tar.gz",))


def test_a_zip_with_a_wrong_checksum_is_broken(tmp_path: Path) -> None:
    content = bytearray(zipped({"a": b"content" * 99}, zipfile.ZIP_STORED))
    content[60] ^= 1
    with pytest.raises(InputError, match="broken"):
        unpack(put(tmp_path, "a.zip", bytes(content)), tmp_path / "out", LIMIT)


@pytest.mark.parametrize("size", [6, 8])
def test_a_zip_that_lies_about_a_size_is_refused(tmp_path: Path, size: int) -> None:
    content = bytearray(zipped({"a": b"content"}))
    place = content.index(b"PK\x01\x02") + 24
    content[place : place + 4] = size.to_bytes(4, "little")
    with pytest.raises(InputError, match="broken|another size"):
        unpack(put(tmp_path, "a.zip", bytes(content)), tmp_path / "out", LIMIT)
    assert list((tmp_path / "out").iterdir()) == []


def test_encrypted_and_oddly_packed_zips_are_refused(tmp_path: Path) -> None:
    locked = bytearray(zipped({"a": b"content"}))
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    for content in (bytes(locked), zipped({"a": b"content"}, zipfile.ZIP_LZMA)):
        with pytest.raises(InputError, match="can't be unpacked"):
            unpack(put(tmp_path, "a.zip", content), tmp_path / "out", LIMIT)


def test_another_kind_of_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.rar is neither"):
        unpack(put(tmp_path, "a.rar", b"Rar!"), tmp_path / "out", LIMIT)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_also_a_folder_is_refused(tmp_path: Path, kind: str) -> None:
    for files in ({"a": b"a", "a/b": b"b"}, {"a/b": b"b", "a": b"a"}, {".": b"dot"}):
        with pytest.raises(InputError, match="of one name"):
            unpack(put(tmp_path, kind, KINDS[kind](files)), tmp_path / "out", LIMIT)


def test_what_lies_there_is_kept_but_for_files_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "out/top").mkdir(parents=True)
    (tmp_path / "out/top/mine").write_bytes(b"m")
    (tmp_path / "out/top/a").write_bytes(b"old")
    unpack(put(tmp_path, "a.tar", tar({"top/a": b"new"})), tmp_path / "out", LIMIT)
    assert tree(tmp_path / "out") == {"top/mine": b"m", "top/a": b"new"}


def test_everything_in_the_way_is_listed_and_nothing_is_moved(tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    (out / "b").mkdir(parents=True)
    outside.mkdir()
    (out / "c").symlink_to(outside)
    (out / "d").write_bytes(b"d")
    path = put(tmp_path, "a.tar", tar({"a": b"a", "b": b"b", "c/x": b"x", "d/y": b"y"}))
    with pytest.raises(InputError, match="in the way") as caught:
        unpack(path, out, LIMIT)
    assert all(str(out / name) in str(caught.value) for name in "bcd")
    assert sorted(entry.name for entry in out.iterdir()) == ["b", "c", "d"] and not list(outside.iterdir())


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / "out/.unpacking-a.tar"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"h")
    assert unpack(put(tmp_path, "a.tar", tar({"a": b"a"})), tmp_path / "out", LIMIT) == ["a"]
    assert tree(tmp_path / "out") == {"a": b"a"}


def test_progress_adds_up_to_what_was_written(tmp_path: Path) -> None:
    sizes: list[int] = []
    path = put(tmp_path, "a.tar", tar({"a": bytes(3 * 2**20), "b": bytes(7)}))
    unpack(path, tmp_path / "out", 10 * LIMIT, (), sizes.append)
    assert sum(sizes) == 3 * 2**20 + 7 and len(sizes) > 3


# --- headers and paths without end -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_a_path_of_thousands_of_characters_is_an_input_error(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, KINDS[name]({"a/" * 1000 + "b": b"x"}))
    with pytest.raises(InputError, match="too long|header of"):
        unpack(path, tmp_path / "out", LIMIT)
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_larger_than_any_path_needs_is_refused_before_it_is_searched(
    tmp_path: Path, kind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in ("_proc_pax", "_proc_gnulong"):
        monkeypatch.setattr(tarfile.TarInfo, method, lambda self, archive: pytest.fail("it was read"))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(file_header("x", 8192, kind), io.BytesIO(b"9" * 8192))
    path = put(tmp_path, "a.tar", stream.getvalue())
    with pytest.raises(InputError, match="a header of 8,192 bytes"):
        unpack(path, tmp_path / "out", LIMIT)


def test_headers_before_headers_without_end_are_an_input_error(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for _ in range(2000):
            archive.addfile(file_header("x", 30, tarfile.XHDTYPE), io.BytesIO(b"30 mtime=1350244992.0123456789\n"[:30]))
    with pytest.raises(InputError):
        unpack(put(tmp_path, "a.tar", stream.getvalue()), tmp_path / "out", LIMIT)
