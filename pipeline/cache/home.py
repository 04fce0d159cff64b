"""The home folder, where every run keeps its files: `data/`, or the value of AFFECTORY_HOME."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.cache import keys
from pipeline.cache.atomic import publish, where_writable
from pipeline.errors import InputError

MEMORY = "digests.sqlite"
"""The file in which a cache remembers the digests of media files."""
STREAMS = "streams.sqlite"
"""The file in which the doctor remembers its findings about media files."""
SETTINGS = "settings.sqlite"
"""The file in which a cache remembers settings of models that were found sound."""
EDITION = "edition"
"""The file in which a cache notes the `KEY_VERSION` of its keys."""
LEFTOVER_S = 7 * 86_400.0
"""The age from which a half-written file counts as left by a killed run."""


class Home:
    """The paths in the home folder, and its notes about the last extraction and about locks.

    asks: it is opened by something that only asks, which makes no home where there is none.
    """

    def __init__(self, root: Path | None = None, *, asks: bool = False) -> None:
        self.asks = asks
        self.root = (root or Path(os.environ.get("AFFECTORY_HOME") or "data")).absolute()
        self.cache = self.root / "cache"
        self.memory = self.cache / MEMORY
        self.runs = self.root / "runs"
        self.reports = self.root / "reports"
        self.doctor = self.root / "doctor"

    @property
    def edition(self) -> int:
        """The `KEY_VERSION` of the keys in the cache; 0 while it holds none. The first edition kept no note of it."""
        try:
            return int((self.cache / EDITION).read_text())
        except FileNotFoundError:
            return 1 if any((self.cache / "actions").glob("*/*.json")) else 0
        except ValueError as error:
            raise InputError(f"{self.cache / EDITION} holds no number: {error}") from error

    def check_edition(self, *, make: bool = True) -> None:
        """Notes the edition of a new cache, which is made, if wanted. Raises InputError for a cache of another edition:
        nothing of it can be used."""
        edition = self.edition
        if not edition and make:
            with where_writable():
                publish(self.cache / EDITION, f"{keys.KEY_VERSION}\n")
        elif edition and edition != keys.KEY_VERSION:
            raise InputError(
                f"{self.cache} holds features of edition {edition} of the keys, and this version reads edition "
                f"{keys.KEY_VERSION} alone. `affectory gc --delete` frees their space; if they are still in use, set "
                "AFFECTORY_HOME to another folder"
            )

    def remember(self, dataset: str, root: str, changes: Sequence[str]) -> None:
        """Notes the dataset that was extracted last, for a `train` that names none."""
        publish(self.root / "last.json", json.dumps({"dataset": dataset, "root": root, "changes": list(changes)}))

    def last(self) -> tuple[str, str, list[str]]:
        """Dataset, root and changes of the last extraction. Raises InputError if there was none."""
        try:
            note = json.loads((self.root / "last.json").read_text())
            return str(note["dataset"]), str(note["root"]), [str(change) for change in note["changes"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError("nothing was extracted yet: name a dataset, such as DATASET=demo") from error

    def note_lock(self, path: Path) -> None:
        """Notes the path of a lock that was read or written, for `gc --remote`: recipes with locks may be anywhere.

        A home that is not writable is left as it is.
        """
        line = f"{path.absolute()}\n"
        with where_writable():
            self.root.mkdir(parents=True, exist_ok=True)
            with (self.root / "locks.txt").open("a+", encoding="utf-8") as file:
                file.seek(0)
                if line not in file.readlines():
                    file.write(line)

    def locks(self) -> list[Path]:
        """The paths of all noted locks that still exist."""
        noted = self.root / "locks.txt"
        lines = noted.read_text(encoding="utf-8").splitlines() if noted.exists() else []
        return [path for path in map(Path, lines) if path.exists()]

    def sweep(self) -> None:
        """Deletes half-written files of killed runs, and stamps of extractions that were finished long ago.

        None is so young that a live run may be writing it.
        """
        newest = time.time() - LEFTOVER_S
        partial = (path for folder in (self.cache, self.root) for path in (folder / "partial").glob("*"))
        stamps = (self.root / "finished").glob("*.json")  # see `pipeline.plan.finished`
        for path in [*partial, *stamps, *(self.root / "views").glob(".*")]:
            with suppress(FileNotFoundError), where_writable():
                if path.lstat().st_mtime < newest:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def log_to_file(self, command: str, name: str) -> Path:
        """Makes the home, and sends the log of this process, and those that workers forward to it, to a new file in
        `runs/logs`. Every command that works begins with this."""
        folder = self.runs / "logs"
        for each in (folder, self.cache):
            each.mkdir(parents=True, exist_ok=True)
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{command}-{name}-{os.getpid()}.log"
        handler = logging.FileHandler(path)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        root = logging.getLogger()
        root.addHandler(handler)
        for name in ("pipeline", "stages", "models", "manifests"):
            logging.getLogger(name).setLevel(logging.INFO)
        return path
