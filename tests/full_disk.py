"""`affectory extract` on a disk that is full, again and again; every attempt is printed as JSON, a line each.

python -m tests.full_disk grow DISK STEP OPTION...      a real small disk that grows by STEP pages an attempt; run by
                                                        `unshare --mount`, so that nothing outside sees it
python -m tests.full_disk inject FOLDER OPTION...       the n-th write to a new home fails, for every n
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

PAGE = 4096
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]
WRITES = {"os.link", "os.mkdir", "os.rename", "sqlite3.connect"}


def possible(place: Path) -> bool:
    """True where a small disk may be mounted here."""
    line = [*UNSHARE, "mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(place)]
    try:
        return subprocess.run(line, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def attempt(home: Path, line: list[str]) -> dict[str, Any]:
    """The command in this process: its exit code, what it computed, and in what state it left the cache."""
    from pipeline.cache import verify
    from pipeline.cli import main as cli

    os.environ["AFFECTORY_HOME"] = str(home)
    sys.argv = ["affectory", "extract", *line, "--workers", "0", "--json"]
    code, before = 0, list(logging.getLogger().handlers)
    with redirect_stdout(io.StringIO()) as out:
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
    Switch.left = None
    for handler in set(logging.getLogger().handlers) - set(before):
        logging.getLogger().removeHandler(handler)
        with suppress(OSError):  # what it still holds finds no space either; at the end of a process nobody minds
            handler.close()
    cache = home / "cache"
    return {
        "code": code,
        "computed": json.loads(out.getvalue())["computed"] if code == 0 else {},
        "saved": len(list(cache.glob("actions/*/*.json"))),
        "damaged": [f"{each.place}: {each.why}" for each in verify.verify(cache).damaged],
        "left": [str(path) for folder in ("cache/partial", "cache/pins") for path in (home / folder).glob("[!g]*")],
    }


# --- a small disk ----------------------------------------------------------------------------------------------


def grow(disk: Path, step: int, line: list[str]) -> Iterator[dict[str, Any]]:
    """Until the disk is large enough."""
    pages, found = 1, {"code": 5}
    _mount(disk, pages)
    while found["code"] == 5:
        found = attempt(disk / "home", line)
        yield found | {"pages": pages}
        pages += step
        _mount(disk, pages, "remount")


def _mount(disk: Path, pages: int, *more: str) -> None:
    options = ",".join([f"size={pages * PAGE}", *more])
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)


# --- one write that fails --------------------------------------------------------------------------------------


class Switch:
    """How many writes below `home` still succeed, None for all; which one failed."""

    home = failed = ""
    left: int | None = None

    @classmethod
    def hook(cls, event: str, arguments: tuple[Any, ...]) -> None:
        """Raises ENOSPC where Python is about to make, link, rename or open for writing something below home."""
        if cls.left is None or not (event in WRITES or (event == "open" and _writing(arguments))):
            return
        if event == "os.mkdir" and os.path.isdir(arguments[0]):  # noqa: PTH112 - takes no room
            return
        if any(str(part).startswith(cls.home) for part in arguments[:2]):
            cls.left -= 1
            if cls.left < 0:
                cls.left, cls.failed = None, f"{event} {arguments[0]}"
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _writing(arguments: tuple[Any, ...]) -> bool:
    mode, flags = arguments[1:3]
    return any(letter in mode for letter in "wxa+") if mode else bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def inject(folder: Path, line: list[str]) -> Iterator[dict[str, Any]]:
    """Each in a home of its own, which a second attempt completes, until no write is left to fail."""
    sys.addaudithook(Switch.hook)
    number, Switch.failed = 0, "a write"
    while Switch.failed:
        home = folder / str(number)
        Switch.home, Switch.left, Switch.failed = str(home), number, ""
        first, failed = attempt(home, line), Switch.failed
        yield {"first": first, "second": attempt(home, line), "failed": failed}
        number += 1


def main() -> None:
    """See above."""
    kind, place, *rest = sys.argv[1:]
    found = grow(Path(place), int(rest[0]), rest[1:]) if kind == "grow" else inject(Path(place), rest)
    for each in found:
        sys.stdout.write(json.dumps(each) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
