"""CMU's computational sequences, `.csd`: an HDF5 file of one modality, with features and intervals by segment.

Source: github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK, `computational_sequence/file_ops.py` and
`configurations/metadataconfigs.py`: `<root name>/data/<segment>/{features, intervals}`, and in
`<root name>/metadata/<key>` JSON in a string.

Shapes: T steps of a segment, D features.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InputError
from pipeline.formats.content import Content, Steps, Tracks, given, known
from pipeline.stage import Modality
from pipeline.utterance import Utterance, Value

MODALITIES: tuple[Modality, ...] = ("text", "audio", "visual")
LABELS = "labels"
MOST_BYTES = 2**30
"""The most that the features of one segment may take; a compressed file can say any size."""
_METADATA = (
    "root name",
    "computational sequence description",
    "dimension names",
    "computational sequence version",
    "alignment compatible",
    "dataset name",
    "dataset version",
    "creator",
    "contact",
    "featureset bib citation",
    "dataset bib citation",
)

# --- in --------------------------------------------------------------------------------------------------------


def parts(folder: Path) -> dict[Modality, Path]:
    """The file of each modality in a folder, `text.csd` and so on; none if it is another folder."""
    return {m: path for m in MODALITIES if (path := folder / f"{m}.csd").is_file()}


def read(path: Path) -> Content:
    """What a folder of sequences holds, with the labels in its `labels.csd`; or a file, for whichever modality asks.

    The ids are the names of the segments; a sequence has neither texts nor a split. Raises InputError for a file that
    is damaged, or that leads to another file.
    """
    files: Mapping[Modality, Path] = parts(path) if path.is_dir() else dict.fromkeys(MODALITIES, path)
    sequences = {file: _sequence(file) for file in dict.fromkeys(files.values())}
    names = list(dict.fromkeys(name for segments in sequences.values() for name in segments))
    labels = _labels(path / f"{LABELS}.csd") if path.is_dir() else {}
    rows = (
        Utterance(id=name, dialogue=name.partition("[")[0], turn=number, labels=known(labels.get(name, {})))
        for number, name in enumerate(names)
    )
    return Content(tuple(rows), {m: _tracks(sequences[file], names, file) for m, file in files.items()})


def _sequence(path: Path) -> Mapping[str, Any]:
    """The segments of a file by name."""
    import h5py

    try:
        root = h5py.File(path, "r")
        [name] = root
        return dict(_segments(root[name]["data"], path))
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is no computational sequence: {error}") from error


def _segments(data: Any, path: Path) -> Iterator[tuple[str, Any]]:
    import h5py

    for name in data:
        if not isinstance(data.get(name, getlink=True), h5py.HardLink):
            raise InputError(f"{path}: {name} leads to another file")
        segment = data[name]
        if not isinstance(segment.get("features", getlink=True), h5py.HardLink):
            raise InputError(f"{path}: {name} has no features of its own")
        features = segment["features"]
        if features.external or features.is_virtual:
            raise InputError(f"{path}: the features of {name} lie in another file")
        if features.ndim != 2 or features.dtype.kind not in "fiu" or features.nbytes > MOST_BYTES:
            raise InputError(f"{path}: {name} is {features.shape} {features.dtype}, expected numbers [T, D]")
        yield name, features


def _tracks(segments: Mapping[str, Any], names: Sequence[str], path: Path) -> Tracks:
    widths = {features.shape[1] for features in segments.values()}
    if len(widths) != 1:
        raise InputError(f"{path} has segments of several widths: {sorted(widths)}")
    return Tracks(widths.pop(), partial(_steps, segments, names))


def _steps(segments: Mapping[str, Any], names: Sequence[str], number: int) -> Steps | None:
    features = segments.get(names[number])
    return None if features is None else given(features[()])


def _labels(path: Path) -> Mapping[str, Mapping[str, Value]]:
    if not path.is_file():
        return {}
    return {name: {"label": float(features[0, 0])} for name, features in _sequence(path).items() if features.size}


# --- out -------------------------------------------------------------------------------------------------------


def write(content: Content, folder: Path) -> None:
    """Writes a sequence for each modality, and `labels.csd`.

    A segment has the utterance's id. Its intervals are the numbers of its steps, because a view has no times. Raises
    InputError for an id with a slash, which HDF5 would take apart.
    """
    if wrong := [row.id for row in content.rows if "/" in row.id]:
        raise InputError(f"an id with a slash cannot be the name of a segment: {wrong[0]}")
    about = json.loads((folder / "about.json").read_text())
    for modality, tracks in content.tracks.items():
        values = {row.id: tracks.read(number) for number, row in enumerate(content.rows)}
        found = {i: np.where(s.valid[:, None], s.values, 0) for i, s in values.items() if s is not None}
        _write(folder / f"{modality}.csd", modality, found, list(tracks.names), about)
    labels = {row.id: np.array([[row.labels["label"]]], np.float32) for row in content.rows if "label" in row.labels}
    _write(folder / f"{LABELS}.csd", LABELS, labels, ["label"], about)


def _write(path: Path, kind: str, segments: Mapping[str, Any], names: list[str], about: Mapping[str, Any]) -> None:
    import h5py

    name = f"{about.get('dataset', 'corpus')} {kind}"
    values = dict.fromkeys(_METADATA, "") | {
        "root name": name,
        "computational sequence description": f"{kind} as Affectory extracted it; about.json has the stages",
        "dimension names": names,
        "computational sequence version": "1.0",
        "alignment compatible": False,
        "dataset name": str(about.get("dataset", "")),
        "creator": "Affectory",
    }
    with h5py.File(path, "w") as file:
        data = file.create_group(f"{name}/data")
        for segment, features in segments.items():
            group = data.create_group(segment)
            group["features"] = np.asarray(features, np.float32)
            steps = np.arange(len(features), dtype=np.float64)
            group["intervals"] = np.stack([steps, steps + 1], axis=1)
        metadata = file.create_group(f"{name}/metadata")
        for key, value in values.items():
            metadata.create_dataset(key, data=[json.dumps(value)], dtype=h5py.string_dtype())
