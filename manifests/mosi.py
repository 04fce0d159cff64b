"""CMU-MOSI (Zadeh et al., 2016): 93 videos in which one person reviews a film, 2,199 segments with sentiment.

It is read from the raw release, CMU_MOSI.zip, or from the copy that the MMSA project distributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from manifests import _mmsa
from manifests._cells import Row, check, identifier, whole
from manifests._sentiment import PROTOCOLS, files, folds, lines, published, release_folders, score
from pipeline.errors import InputError
from pipeline.reader import Fold, Labels, Reader
from pipeline.utterance import Audio, Utterance, Video

_TEXTS, _SUFFIX, _DELIMITER = "Transcript/Segmented", ".annotprocessed", "_DELIM_"
_LABELS = "Labels/OpinionLevelSentiment.csv"
_COLUMNS = ("start", "end", "video", "segment", "label")

Segment = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Mosi(Reader):
    """Reads the raw release or MMSA's copy, in the root or in a folder of it named after the corpus (MOSI, CMU_MOSI).

    The root is searched first, then these folders by name; in each, the raw release comes before the copy. The dialogue
    is the video and `turn` the segment. Ids are `<video>_<segment>`, with segments from 1, and in MMSA's copy
    `<video>_<clip>`, with the clip's leading zeros.

    In the raw release, each segment's own wav and mp4 are used whole: the intervals of the labels do not fit them, and
    are kept as `start_s` and `end_s` only. There is a row for each segment in the transcripts or in the labels.
    Sentiment is read from the CSV, not from the .csd of the CMU-MultimodalSDK.

    Annotations: `sentiment` (mean of five raters, -3 to 3); in MMSA's copy also `annotation` (Negative, Neutral,
    Positive) and, if filled in, `label_T`, `label_A`, `label_V` (sentiment of one modality).

    Label protocols: `sentiment` is the number, to regress; `sentiment2` is below or above zero, without zeros;
    `sentiment2_nonneg` is below zero or not; `sentiment7` is the number rounded to -3..3, halves to the even neighbour
    as numpy rounds.
    """

    layout: ClassVar[str] = (
        "the raw release:\n"
        "Raw/Transcript/Segmented/<video>.annotprocessed\n"
        "Raw/Audio/WAV_16000/Segmented/<video>_<n>.wav\n"
        "Raw/Video/Segmented/<video>_<n>.mp4\n"
        "Labels/OpinionLevelSentiment.csv, beside Raw or in it\n"
        f"or MMSA's copy:\n{_mmsa.LAYOUT}"
    )
    obtain: ClassVar[str] = (
        "The copy is linked from https://github.com/thuiar/MMSA. The raw release, CMU_MOSI.zip, was at "
        "http://immortal.multicomp.cs.cmu.edu/raw_datasets/, which no longer answers. "
        "Give the folder that holds either, or one above it."
    )
    labels: ClassVar[Mapping[str, Labels]] = PROTOCOLS
    licence: ClassVar[str] = (
        "CMU-MOSI is for research; its videos belong to the people in them: share transcripts and features with care."
    )
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = dict.fromkeys(
        ("sentiment", "sentiment2_nonneg", "sentiment7"), {"train": 1284, "valid": 229, "test": 686}
    )
    published: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            expected,
            "2,199 segments, 1,284 to train, 229 to validate and 686 to test: the folds of the CMU-MultimodalSDK, "
            "which MulT, MISA, Self-MM and MMSA use. The 1,447 and 752 of bc-LSTM are another split.",
        ),
        "sentiment2": "The same segments without those of sentiment 0, as papers since 2019 score Acc-2 and F1.",
    }

    encoding: str = "utf-8"

    def scan(self, root: Path) -> list[Utterance]:
        """Every segment, whether its media are there or not.

        Raises one InputError that lists the malformed lines of all files.
        """
        for folder in release_folders(root, "mosi"):
            for base in (folder / "Raw", folder):
                if transcripts := files(root, base / _TEXTS, _SUFFIX):
                    return self._raw(root, base, transcripts)
            if _mmsa.is_at(root, folder):
                return _mmsa.scan(root, folder, published("mosi"), self.encoding)
        raise self.missing(root)

    def folds(self, rows: Sequence[Utterance], protocol: str) -> list[Fold]:
        """`official`: the published 52, 10 and 31 videos. `cv`: five folds by video.

        A video that is not among the published ones has MMSA's part, or none. Raises InputError if a part has no row.
        """
        return folds(rows, protocol)

    def _raw(self, root: Path, base: PurePosixPath, transcripts: Sequence[PurePosixPath]) -> list[Utterance]:
        text_rows = [row for path in transcripts for row in _text_rows(root, path, self.encoding)]
        label_rows = list(_label_rows(root, self._labels(root, base)))
        texts, labels = _by_segment(text_rows), _by_segment(label_rows)
        utterances = [_utterance(base, key, texts.get(key), labels.get(key)) for key in sorted({*texts, *labels})]
        check([*text_rows, *label_rows])
        return utterances

    def _labels(self, root: Path, base: PurePosixPath) -> PurePosixPath:
        above = [base.parent] if base.name else []
        tried = [folder / _LABELS for folder in (base, *above)]
        for path in tried:
            if path in files(root, path.parent, path.name):
                return path
        raise InputError(
            f"no {' or '.join(str(root / path) for path in tried)}: it holds the sentiment of every segment, and some "
            f"copies of CMU_MOSI.zip come without it (CMU-MultimodalSDK#141, #319); the .csd files are not read in its "
            f"place. {self.obtain}"
        )


def _text_rows(root: Path, path: PurePosixPath, encoding: str) -> Iterator[Row]:
    """The lines of a transcript, such as `3_DELIM_IT WAS GOOD`, with the cells video, segment and text."""
    for place, line in lines(root, path, encoding):
        number, delimiter, text = line.partition(_DELIMITER)
        row = Row(root, place, {"video": path.name.removesuffix(_SUFFIX), "segment": number, "text": text.strip()})
        if not delimiter:
            row.wrong(f"no {_DELIMITER} in {line!r}")
        yield row


def _label_rows(root: Path, path: PurePosixPath) -> Iterator[Row]:
    """The lines of the table of labels, which has no header."""
    for place, line in lines(root, path, "utf-8"):
        cells = line.split(",")
        row = Row(root, place, dict(zip(_COLUMNS, cells, strict=False)))
        if len(cells) != len(_COLUMNS):
            row.wrong(f"{len(cells)} cells, not {', '.join(_COLUMNS)}")
        yield row


def _segment(row: Row) -> Segment:
    return identifier(row, "video"), whole(row, "segment")


def _by_segment(rows: Sequence[Row]) -> dict[Segment, Row]:
    by_segment: dict[Segment, Row] = {}
    for row in rows:
        key = _segment(row)
        if key in by_segment and not row.errors:
            row.wrong(f"segment {key[1]} of {key[0]} is already in {by_segment[key].place}")
        by_segment.setdefault(key, row)
    return by_segment


def _utterance(base: PurePosixPath, key: Segment, text: Row | None, label: Row | None) -> Utterance:
    video, number = key
    name = f"{video}_{number}"
    start_s, end_s, sentiment = _rating(label) if label else (None, None, None)
    return Utterance(
        id=name,
        dialogue=video,
        turn=number,
        text=text.text("text") if text else None,
        audio=(Audio(path=str(base / "Audio/WAV_16000/Segmented" / f"{name}.wav")),),
        video=(Video(path=str(base / "Video/Segmented" / f"{name}.mp4")),),
        start_s=start_s,
        end_s=end_s,
        split=published("mosi").get(video),
        labels={} if sentiment is None else {"sentiment": sentiment},
    )


def _rating(row: Row) -> tuple[float | None, float | None, float | None]:
    start_s, end_s = row.number("start"), row.number("end")
    if start_s is not None and end_s is not None and end_s < start_s:
        row.wrong(f"ends at {end_s:g} s, before its start at {start_s:g} s")
    return start_s, end_s, score(row, "label")
