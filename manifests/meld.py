"""MELD (Poria et al., 2019): scenes of Friends, 1,432 dialogues, 13,708 utterances, each with its own clip.

The tables define the utterances; clips without a row are ignored. Tables and folders of clips are found by their names
at any depth, since the annotations come from a git repository and the clips from a tar of tars.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from manifests._cells import Row, check, whole
from manifests._meld import FACES, FAIR_TABLES, KNOWN, TABLES, TIMES, TWIN, Clips, clips, listing, read, seconds, tables
from manifests._meld_fair import Name, Realigned, realigned
from pipeline.errors import InputError, closest
from pipeline.reader import Download, Fold, Labels, Reader, in_parts, published_split
from pipeline.utterance import Audio, Utterance, Value, Video

EMOTIONS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
SENTIMENTS = ("neutral", "positive", "negative")

NOT_REALIGNED = "not in MELD-FAIR: MELD's own cut is used"
_CHOICES = {
    "realign": ("none", "fair"),
    "crop": ("face", "none"),
    "final_videos_test": ("ignore", "prefer"),
    "group": ("dialogue", "episode"),
}
_SPLIT = {"train": "train", "dev": "valid", "test": "test"}


def _classes(name: str, classes: tuple[str, ...]) -> Labels:
    def of(row: Utterance) -> int | None:
        value = row.labels.get(name)
        return None if value is None else classes.index(str(value))

    return Labels("multiclass", classes, of, lambda row: f"no {name}")


def _counts(classes: tuple[str, ...], **parts: tuple[int, ...]) -> dict[str, int]:
    """By class, by part, and by part and class, from the counts of each part in the order of the classes."""
    totals = (sum(column) for column in zip(*parts.values(), strict=True))
    within = {f"{part}/{name}": count for part, row in parts.items() for name, count in zip(classes, row, strict=True)}
    return {**dict(zip(classes, totals, strict=True)), **{part: sum(row) for part, row in parts.items()}, **within}


# A commit, so that a later edit of the tables does not change the corpus.
_GIT = "https://raw.githubusercontent.com/declare-lab/MELD/2d2011b409d3ca2d7e94460cd007d434b1d0a102/"


def _table(part: str, size: int, sha256: str) -> Download:
    name = f"data/MELD/{part}_sent_emo.csv"
    return Download(url=_GIT + name, name=name, bytes=size, sha256=sha256)


_FAIR = "https://raw.githubusercontent.com/knowledgetechnologyuhh/MELD-FAIR/0503d90a0c34491bdc43a7a518169f5c1c4bf7a4/"


def _fair(file: str, size: int, sha256: str = "", git_blob: str = "") -> Download:
    name = f"csvs/{file}"
    return Download(url=_FAIR + name, name=f"MELD-FAIR/{name}", bytes=size, sha256=sha256, git_blob=git_blob)


@dataclass(frozen=True, kw_only=True)
class Meld(Reader):
    """Reads MELD.Raw and the tables of MELD's git repository.

    Ids are `<part>_dia<dialogue>_utt<utterance>`, with MELD's own names for the parts, train, dev and test, since its
    numbers start anew in each. `turn` is its Utterance_ID, which has gaps; `session` is the episode, such as `s08e21`;
    `start_s` and `end_s` are times in the episode. The path of a missing clip is the place where it ought to be.

    Options. realign: which part of which clips is an utterance's: its own clip as MELD cut it ("none"), or the
    stretches that MELD-FAIR found by aligning a dialogue's transcripts with its sound ("fair"); an utterance that FAIR
    lacks keeps its own clip. crop: of FAIR's stretches, only the face that FAIR takes for the speaker's, where it found
    one ("face"), or the whole picture ("none"). final_videos_test: whether test clips with a second file,
    `final_videos_testdia0_utt0.mp4`, are read from it ("prefer") or from the first ("ignore"); projects differ in this,
    and FAIR's times are those of the first. max_duration_s: a clip with a longer annotated length is a wrong cut, and
    only this many seconds of it are used, from its start. group: the rows that the protocol `cv` does not split;
    dialogues of one episode share speakers and scenery.

    Annotations: `emotion`, `sentiment`, `season`, `episode`, `sr_no` (not unique), `file` (the name of the clip's
    file); for some clips also `windowed_s` (the annotated length of a clip that is used in part) and `known` (a
    reported fault, or that FAIR lacks the utterance).
    """

    layout: ClassVar[str] = (
        "at any depth, each part's table and its folder of clips:\n"
        "train_sent_emo.csv  train_splits/dia<n>_utt<n>.mp4\n"
        "dev_sent_emo.csv    dev_splits_complete/dia<n>_utt<n>.mp4\n"
        "test_sent_emo.csv   output_repeated_splits_test/dia<n>_utt<n>.mp4\n"
        f'for realign = "fair" also {TIMES}, {FACES} and realigned_<part>_sent_emo.csv'
    )
    obtain: ClassVar[str] = (
        "`make fetch DATASET=meld` gets it: MELD.Raw.tar.gz (10.9 GB) and the tables of "
        "https://github.com/declare-lab/MELD and https://github.com/knowledgetechnologyuhh/MELD-FAIR. "
        "Of a copy of your own, unpack the tar and the tars in it, and give the folder that holds all of it."
    )
    labels: ClassVar[Mapping[str, Labels]] = {
        "emotion": _classes("emotion", EMOTIONS),
        "sentiment": _classes("sentiment", SENTIMENTS),
    }
    licence: ClassVar[str] = (
        "The tables of MELD and MELD-FAIR are under GPL-3.0, the clips belong to the series' owners: share them for "
        "research alone."
    )
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "emotion": _counts(
            EMOTIONS,
            train=(4710, 1205, 268, 683, 1743, 271, 1109),
            valid=(470, 150, 40, 111, 163, 22, 153),
            test=(1256, 281, 50, 208, 402, 68, 345),
        ),
        "sentiment": _counts(SENTIMENTS, train=(4710, 2334, 2945), valid=(470, 233, 406), test=(1256, 521, 833)),
    }

    published: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("emotion", "sentiment"),
        "13,708 utterances, 9,989 to train, 1,109 to validate and 2,610 to test: MELD's own tables and split. Counts "
        "of 13,706 leave out the two clips that cannot be read; here they are rows without sound and pictures.",
    )

    downloads: ClassVar[Sequence[Download]] = (
        _table("train", 1_119_290, "d2fa2d6529cf03cac2989efec05c9b27d8fd2f4c8fc5974c7ae88aa537fa02db"),
        _table("dev", 121_640, "2e89c6f8aa182d6f62f8c6331aece905ac7273ca4999660bfb5213e1d0370c1c"),
        _table("test", 294_526, "8d37103938f7067600839fe29d5a114a6cd1bcdafb75bec101e06464c5006888"),
        _fair(FAIR_TABLES["train"], 1_141_246, "c2946703e7d57ec7bf568af8458f7ca2bbe8f0493f8607a75cd04e91411bfd73"),
        _fair(FAIR_TABLES["dev"], 123_056, "44d31d73aa4426afcfcf0ad9c9c8266e692db22a60cafc3b4bdc0717dba32122"),
        _fair(FAIR_TABLES["test"], 299_393, "151da84d49c8b94abe96367c23d9de0e089a1d642ff68b22695313f757bf5902"),
        _fair(TIMES, 618_247, "7212bc0a8a521878f89a5a5c0b6f4565d31f0c3dc7615703fcd69bb51b952d9d"),
        Download(
            url="https://huggingface.co/datasets/declare-lab/MELD/resolve/main/MELD.Raw.tar.gz",
            name="MELD.Raw.tar.gz",
            bytes=10_878_146_150,
            sha256="a56b4407d574195cbce470d86f9c9d72fcfea59b0e34502ecd4babee4a5c613e",
            unpacked=13_000_000_000,
            nested=("train.tar.gz", "dev.tar.gz", "test.tar.gz"),
        ),
        _fair(FACES, 100_000_000, git_blob="c20d9db4ce2538a4ce63e18d103e7770952d0cc1"),
    )

    realign: Literal["none", "fair"] = "none"
    crop: Literal["face", "none"] = "face"
    final_videos_test: Literal["ignore", "prefer"] = "ignore"
    max_duration_s: float = 60.0
    group: Literal["dialogue", "episode"] = "dialogue"

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"{name} = {getattr(self, name)!r}: {closest(str(getattr(self, name)), known)}")
        if not 0 < self.max_duration_s < math.inf:
            raise InputError(f"max_duration_s = {self.max_duration_s} is not a length")

    def scan(self, root: Path) -> list[Utterance]:
        """Every row of the three tables, whether its clip is there or not.

        Raises one InputError that lists the malformed rows.
        """
        files = listing(root)
        paths = tables(files)
        if absent := [name for part, name in TABLES.items() if part not in paths]:
            raise InputError(f"no {', '.join(absent)} found.\n{self.missing(root)}")
        rows = [(part, row) for part, path in paths.items() for row in read(root, path)]
        media = {part: clips(files, part) for part in TABLES}
        fair = realigned(root, files, self.crop == "face") if self.realign == "fair" else {}
        utterances = [self._utterance(row, part, media[part], fair) for part, row in rows]
        check(row for _, row in rows)
        return utterances

    def folds(self, rows: Sequence[Utterance], protocol: str) -> list[Fold]:
        """`official`: the published split. `cv`: five folds over the whole corpus, by `group`.

        Neither separates speakers, and nearly all episodes of the published test part are in train too (X16).
        """
        if protocol == "cv":
            return in_parts(rows, "session" if self.group == "episode" else "dialogue")
        if protocol != "official":
            raise InputError(f"no protocol {protocol!r}: {closest(protocol, ('official', 'cv'))}")
        return [published_split(rows)]

    def _utterance(self, row: Row, part: str, media: Clips, fair: Mapping[Name, Realigned]) -> Utterance:
        number, turn = whole(row, "Dialogue_ID"), whole(row, "Utterance_ID")
        dialogue = f"dia{number}"
        start_s, end_s = seconds(row, "StartTime"), seconds(row, "EndTime")
        path = self._path(part, f"{dialogue}_utt{turn}.mp4", media)
        labels = _annotations(row) | {"file": PurePosixPath(path).name}
        faults = [KNOWN.get(f"{part}_{dialogue}_utt{turn}")]
        audio: tuple[Audio, ...]
        video: tuple[Video, ...]
        if pieces := fair.get((part, number, turn)):
            audio, video = _stretches(pieces, media)
        else:
            until_s = self.max_duration_s if end_s - start_s > self.max_duration_s else None
            audio, video = (Audio(path=path, end_s=until_s),), (Video(path=path, end_s=until_s),)
            labels["windowed_s"] = round(end_s - start_s, 6) if until_s else None
            faults.append(NOT_REALIGNED if self.realign == "fair" else None)
        labels["known"] = "; ".join(filter(None, faults)) or None
        return Utterance(
            id=f"{part}_{dialogue}_utt{turn}",
            dialogue=f"{part}_{dialogue}",
            turn=turn,
            speaker=row.text("Speaker"),
            text=row.text("Utterance"),
            audio=audio,
            video=video,
            start_s=start_s,
            end_s=end_s,
            split=_SPLIT[part],
            session=f"s{labels['season']:02}e{labels['episode']:02}",
            labels={name: value for name, value in labels.items() if value is not None},
        )

    def _path(self, part: str, name: str, media: Clips) -> str:
        twin = media.paths.get(f"{TWIN}{name}") if part == "test" and self.final_videos_test == "prefer" else None
        return twin or media.path(name)


def _stretches(pieces: Realigned, media: Clips) -> tuple[tuple[Audio, ...], tuple[Video, ...]]:
    return (
        tuple(Audio(path=media.path(p.file), start_s=p.start_s, end_s=p.end_s) for p in pieces.sound),
        tuple(Video(path=media.path(p.file), start_s=p.start_s, end_s=p.end_s, crop=p.crop) for p in pieces.pictures),
    )


def _annotations(row: Row) -> dict[str, Value]:
    return {
        "emotion": row.choice("Emotion", {name: name for name in EMOTIONS}),
        "sentiment": row.choice("Sentiment", {name: name for name in SENTIMENTS}),
        "season": whole(row, "Season"),
        "episode": whole(row, "Episode"),
        "sr_no": whole(row, "Sr No."),
    }
