"""`affectory list`: the datasets, releases and stages that a remote has. No recipe is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.cache.home import Home
from pipeline.cache.record import FITS
from pipeline.cache.remote_inventory import THREADS, Counts, Inventory
from pipeline.console import print_line
from pipeline.corpus.open_corpus import Options
from pipeline.corpus.release_file import FOLDER, Release
from pipeline.errors import AffectoryError
from pipeline.transfer.push_pull import reached
from pipeline.transfer.releases import fetched


def remote_contents(home: Home, options: Options) -> dict[str, Any]:
    """Answers `affectory list`: what a remote has, as JSON-able data.

    A release that cannot be read is named in `unreadable` and printed. Raises InputError if no remote is given,
    RemoteError if it cannot be reached.
    """
    remote = reached(home, options)
    counts = remote.contents()
    releases, unreadable = _releases(remote)
    for line in unreadable:
        print_line(line, "yellow")
    return {
        "remote": remote.url,
        "datasets": sorted(_datasets(counts), key=lambda entry: str(entry["dataset"])),
        "releases": [_described(release) for release in releases],
        "stages": sorted(_stages(counts), key=lambda entry: (entry["stage"], entry["digest"], entry["fits"])),
        "unreadable": unreadable,
    }


def released_digests(remote: Inventory) -> set[str]:
    """The indexes and the manifests that the releases of a remote name. Raises InputError if one cannot be read."""
    labels = [Path(file.place).stem for file in remote.files(FOLDER)]
    with ThreadPoolExecutor(THREADS) as pool:
        releases = pool.map(lambda label: fetched(remote, label), labels)
        return {digest for release in releases for digest in release.named}


def _releases(remote: Inventory) -> tuple[list[Release], list[str]]:
    """The releases of a remote, and a line for each that cannot be read."""

    def read(label: str) -> Release | str:
        try:
            return fetched(remote, label)
        except AffectoryError as error:
            return str(error)

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(read, (Path(file.place).stem for file in remote.files(FOLDER))))
    return [a for a in answers if isinstance(a, Release)], [a for a in answers if isinstance(a, str)]


def _described(release: Release) -> dict[str, Any]:
    stages = release.stages.values()
    size = release.manifest.bytes + sum(stage.bytes for stage in stages)
    return {
        "release": release.label,
        "dataset": release.dataset,
        "date": release.date,
        "rows": release.rows,
        "stages": sum("." not in name for name in release.stages),
        "bytes": size,
    }


def _datasets(counts: Mapping[str, Counts]) -> Iterator[dict[str, Any]]:
    for count in counts.values():
        if count.dataset:
            yield {"dataset": count.dataset, "rows": count.rows, "manifests": count.objects, "bytes": count.bytes}


def _stages(counts: Mapping[str, Counts]) -> Iterator[dict[str, Any]]:
    """Each stage and the fits of each; what else is pushed beside a stage is no row of anybody's."""
    for digest, count in counts.items():
        if not count.dataset and "." not in digest.removesuffix(FITS):
            yield {
                "stage": count.stage,
                "digest": digest.removesuffix(FITS),
                "fits": digest.endswith(FITS),
                "rows": count.rows,
                "objects": count.objects,
                "bytes": count.bytes,
            }
