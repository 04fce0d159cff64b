"""`affectory` as a user who owns nothing: no home folder, and no right to write to the packages that are installed.

python -m tests.stranger LINES      runs several command lines in one process, given as JSON, and prints what each gave
"""

from __future__ import annotations

import io
import json
import logging
import os
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

USER = 54321
"""A user whom no machine knows."""
CODE = Path(__file__).parents[1]


@dataclass
class Ended:
    """What a command line gave. A traceback that reaches the user is at the end of `err`."""

    line: list[str]
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """What it said, without the line breaks that a narrow terminal puts in."""
        return " ".join(self.err.split())


def affectory(line: Sequence[str]) -> Ended:
    """Runs a command line in this process."""
    from pipeline.cli import main

    sys.argv = ["affectory", *line]
    handlers, code = list(logging.getLogger().handlers), 0
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            main.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        except BaseException:
            code = 1
            traceback.print_exc()
    for handler in set(logging.getLogger().handlers) - set(handlers):
        logging.getLogger().removeHandler(handler)
        handler.close()
    return Ended(list(line), code, out.getvalue(), err.getvalue())


@dataclass
class Stranger:
    """Runs commands as that user, in mounts of its own, where the interpreter and the code can be reached.

    home: the Affectory home. read_only: folders that are mounted so. without: folders that are empty and read-only.
    """

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    read_only: Sequence[Path] = ()
    without: Sequence[Path] = ()

    def affectory(self, *lines: Sequence[str], folder: Path = Path("/")) -> list[Ended]:
        """What each of several command lines gave, run one after another in one process."""
        done = self.python("-m", "tests.stranger", json.dumps([list(map(str, line)) for line in lines]), folder=folder)
        assert done.returncode == 0, done.stderr[-3000:]
        return [Ended(**found) for found in json.loads(done.stdout)]

    def python(self, *arguments: str, folder: Path = Path("/")) -> subprocess.CompletedProcess[str]:
        """Runs Python in a folder."""
        command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", sys.executable, *arguments]
        script = "\n".join(["set -e", *self._mounts(), f"cd {shlex.quote(str(folder))}", f"exec {shlex.join(command)}"])
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", script],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def _environment(self) -> dict[str, str]:
        kept = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CODE)}
        return kept | {"HOME": "/nonexistent", "AFFECTORY_HOME": str(self.home)} | self.environment

    def _mounts(self) -> Iterator[str]:
        yield from _opened([Path(sys.base_prefix), Path(sys.prefix), CODE])
        for folder in (Path(sys.prefix), CODE, *self.read_only):
            yield f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"
        for folder in self.without:
            yield f"mount -t tmpfs -o ro tmpfs {folder}"


def _opened(needed: Sequence[Path]) -> Iterator[str]:
    """Mounts an empty folder over each that other users cannot enter, and what is needed below it into that one."""
    closed = {next((p for p in reversed(path.parents) if not p.stat().st_mode & 0o001), None) for path in needed}
    for folder in filter(None, closed):
        below = [path for path in needed if path.is_relative_to(folder)]
        yield "kept=$(mktemp -d) && mount -t tmpfs tmpfs $kept"
        for number, path in enumerate(below):
            yield f"mkdir $kept/{number} && mount --bind {path} $kept/{number}"
        yield f"mount -t tmpfs -o mode=755 tmpfs {folder}"
        for number, path in enumerate(below):
            yield f"mkdir -p {path} && mount --bind $kept/{number} {path}"


def possible() -> bool:
    """True where this process may become another user and mount."""
    if os.getuid():
        return False
    done = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return done.returncode == 0


def main() -> None:
    """See above."""
    found: list[dict[str, Any]] = [asdict(affectory(line)) for line in json.loads(sys.argv[1])]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
