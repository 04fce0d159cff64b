"""The one folder that running leaves behind: `data/`, or what AFFECTORY_HOME says."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.cache.atomic import publish
from pipeline.errors import InputError

MEMORY = "digests.sqlite"
"""Where a cache remembers the digests of media files."""
STREAMS = "streams.sqlite"
"""Where the doctor remembers what it found in media files."""
LEFTOVER_S = 7 * 86_400.0
"""How old a half-written file must be before it is taken for what a killed run left."""


class Home:
    """Paths under the home folder, and what was extracted last."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or Path(os.environ.get("AFFECTORY_HOME") or "data")).absolute()
        self.cache = self.root / "cache"
        self.memory = self.cache / MEMORY
        self.runs = self.root / "runs"
        self.reports = self.root / "reports"
        self.doctor = self.root / "doctor"

    def remember(self, dataset: str, root: str, changes: Sequence[str]) -> None:
        """Notes what was extracted last, for a `train` that names no dataset."""
        found = {"dataset": dataset, "root": root, "changes": list(changes)}
        publish(self.root / "last.json", json.dumps(found))

    def last(self) -> tuple[str, str, list[str]]:
        """Dataset, root and changes of what was extracted last; raises InputError where there is nothing."""
        try:
            found = json.loads((self.root / "last.json").read_text())
            return str(found["dataset"]), str(found["root"]), [str(change) for change in found["changes"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError("nothing was extracted yet: name a dataset, such as DATASET=demo") from error

    def note_lock(self, path: Path) -> None:
        """Notes where a lock lies that was read or written, for `gc --remote`: it may lie beside a recipe anywhere."""
        line = f"{path.absolute()}\n"
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "locks.txt").open("a+", encoding="utf-8") as file:
            file.seek(0)
            if line not in file.readlines():
                file.write(line)

    def locks(self) -> list[Path]:
        """Every lock that was noted and is still there."""
        noted = self.root / "locks.txt"
        lines = noted.read_text(encoding="utf-8").splitlines() if noted.exists() else []
        return [path for path in map(Path, lines) if path.exists()]

    def sweep(self) -> None:
        """Removes what killed runs left half written; nothing that a live one may still be writing."""
        before = time.time() - LEFTOVER_S
        for path in [*(self.cache / "partial").glob("*"), *(self.root / "views").glob(".*")]:
            with suppress(FileNotFoundError):
                if path.lstat().st_mtime < before:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def log_to_file(self, command: str, name: str) -> Path:
        """Sends this process's log, and what workers forward to it, to a new file in `runs/logs`."""
        folder = self.runs / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{command}-{name}-{os.getpid()}.log"
        handler = logging.FileHandler(path)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        root = logging.getLogger()
        root.addHandler(handler)
        for name in ("pipeline", "stages", "models", "manifests"):
            logging.getLogger(name).setLevel(logging.INFO)
        return path
