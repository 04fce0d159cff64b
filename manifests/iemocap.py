"""IEMOCAP (USC), full release: ten actors in five dyadic sessions, 151 dialogues, 10,039 utterances.

The files in `EmoEvaluation` define the utterances; lines of the transcripts that have another id, or none, are ignored.
Each utterance has its own wav file; its video is cut out of the dialogue's AVI by the times of the annotation.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from manifests._cells import refuse_stray
from manifests._iemocap import Turn, malformed, transcript, transcript_path, turns
from pipeline.errors import InputError, closest
from pipeline.reader import Fold, Labels, Reader, fold, held_out, leave_one_out
from pipeline.utterance import Audio, Utterance, Video

log = logging.getLogger(__name__)

SIX = ("hap", "sad", "neu", "ang", "exc", "fru")
FOUR = ("neu", "hap", "sad", "ang")
MULG_FOUR = ("hap", "sad", "ang", "neu")
VAD = ("valence", "arousal", "dominance")

# The 12 validation dialogues of COSMIC (Ghosal et al., 2020), whose 108/12/31 dialogues the published tables use.
COSMIC_VALID = {
    *("Ses01M_impro01", "Ses01M_script03_1", "Ses02F_impro02", "Ses02F_impro07", "Ses02M_script01_2"),
    *("Ses03F_impro01", "Ses03M_impro02", "Ses03M_impro08a", "Ses03M_script02_2", "Ses03M_script03_2"),
    *("Ses04F_impro07", "Ses04F_script02_1"),
}


def six_7433(emotion: str, votes: str) -> str | None:
    """The label in the published six-class set of 7,433 utterances; None for an utterance that is not in the set.

    The set has every utterance with one of the six codes and, as `hap`, 53 utterances without a consensus (`xxx`):
    those in which Happiness alone has the most votes and the speaker's own report is exactly Happiness. Each label of
    each rater is a vote, and the speaker counts as a rater. `votes` is the annotation of this name.
    """
    if emotion in SIX:
        return emotion
    return "hap" if emotion == "xxx" and _happiness_wins(votes) and _reports_happiness(votes) else None


def _ballots(votes: str) -> Iterator[tuple[str, list[str]]]:
    for ballot in filter(None, votes.split(";")):
        rater, _, names = ballot.partition("=")
        yield rater, names.split(",")


def _happiness_wins(votes: str) -> bool:
    ranking = Counter(name for _, names in _ballots(votes) for name in names).most_common(2)
    alone = len(ranking) == 1 or (len(ranking) == 2 and ranking[0][1] > ranking[1][1])
    return alone and ranking[0][0] == "Happiness"


def _reports_happiness(votes: str) -> bool:
    return any(rater.startswith(("C-F", "C-M")) and names == ["Happiness"] for rater, names in _ballots(votes))


# The raters' names for MulG's four emotions.
_NAMED = {"Happiness": "hap", "Sadness": "sad", "Anger": "ang", "Neutral": "neu", "Neutral state": "neu"}


def mulg4_votes(votes: str) -> tuple[int, ...] | None:
    """A 0 or 1 for each of hap, sad, ang, neu: 1 if at least two raters name it, since a speaker may feel two (X15).

    None if no two raters agree on one of the four. The speaker's own report does not count. `votes` is the annotation
    of this name.
    """
    others = [names for rater, names in _ballots(votes) if rater.startswith("C-E")]
    named = Counter(code for names in others for code in {_NAMED.get(name) for name in names})
    agreed = tuple(int(named[code] >= 2) for code in MULG_FOUR)
    return agreed if any(agreed) else None


_NO_TWO = "no two raters name the same of the four emotions"


def _voted(row: Utterance) -> tuple[int, ...] | None:
    return mulg4_votes(str(row.labels["votes"]))


def _emotion(row: Utterance) -> str:
    return str(row.labels["emotion"])


def _why_not(row: Utterance) -> str:
    code = _emotion(row)
    return "labelled xxx: the raters do not agree" if code == "xxx" else f"labelled {code}"


def _classes(task: Literal["multiclass", "multilabel"], classes: tuple[str, ...], merge: Mapping[str, str]) -> Labels:
    """Labels of the rows whose code, after `merge`, is one of `classes`: its index, or for multilabel a tuple with 1
    at its place."""

    def of(row: Utterance) -> int | tuple[int, ...] | None:
        code = merge.get(_emotion(row), _emotion(row))
        if code not in classes:
            return None
        return classes.index(code) if task == "multiclass" else tuple(int(code == name) for name in classes)

    return Labels(task, classes, of, _why_not)


def _published(row: Utterance) -> int | None:
    code = six_7433(_emotion(row), str(row.labels["votes"]))
    return None if code is None else SIX.index(code)


def _attribute(name: str) -> Labels:
    def of(row: Utterance) -> float | None:
        value = row.labels.get(name)
        return None if value is None else float(value)

    return Labels("regression", (), of)


def _vad(row: Utterance) -> tuple[float, ...] | None:
    values = [row.labels.get(name) for name in VAD]
    known = tuple(float(value) for value in values if value is not None)
    return known if len(known) == len(VAD) else None


@dataclass(frozen=True, kw_only=True)
class Iemocap(Reader):
    """Reads IEMOCAP_full_release.

    `turn` counts the utterances of a dialogue by their start: the files list those of one actor first.

    Options. video: the half of the picture that shows the `speaker`, or `both` halves. audio: the utterance's own file
    (`sentence`), or the `speaker`'s channel of the dialogue's stereo file, cut by the annotation's times. The actor who
    wears markers is on the left of picture and sound; the letter after the session's number in the dialogue's name says
    who it is. valid: the part that validates under the protocol `cv`, a tenth of the other `dialogues` or the next
    `session` (X16). encoding: that of the transcripts.

    Annotations: `emotion` (the consensus code, `xxx` if there is none); `valence`, `arousal`, `dominance` (means
    over raters, 1 to 5); `votes` (each rater's categories, `C-E2=Neutral;C-F1=Neutral,Anger`); `ratings` (each rater's
    valence, arousal, dominance, `A-E3=3,2,2`, with an empty place for a missing one).
    Label protocols of the means: one for each of the three, and `vad` for all three at once.
    """

    layout: ClassVar[str] = (
        "Session{1..5}/dialog/EmoEvaluation/<dialogue>.txt\n"
        "Session{1..5}/dialog/transcriptions/<dialogue>.txt\n"
        "Session{1..5}/dialog/avi/DivX/<dialogue>.avi\n"
        "Session{1..5}/dialog/wav/<dialogue>.wav (for audio = speaker)\n"
        "Session{1..5}/sentences/wav/<dialogue>/<utterance>.wav"
    )
    obtain: ClassVar[str] = (
        "IEMOCAP is released on request: https://sail.usc.edu/iemocap/iemocap_release.htm. "
        "Unpack it and give the folder that holds Session1 to Session5."
    )
    labels: ClassVar[Mapping[str, Labels]] = {
        "six": _classes("multiclass", SIX, {}),
        "six_7433": Labels("multiclass", SIX, _published, _why_not),
        "four": _classes("multiclass", FOUR, {"exc": "hap"}),
        "mulg4": _classes("multilabel", MULG_FOUR, {}),
        "mulg4_votes": Labels("multilabel", MULG_FOUR, _voted, lambda row: _NO_TWO),
        **{name: _attribute(name) for name in VAD},
        "vad": Labels("regression", VAD, _vad),
    }
    licence: ClassVar[str] = (
        "USC licenses IEMOCAP to those who signed its release form: share its transcripts and features with them alone."
    )
    expected: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "six": {"hap": 595, "sad": 1084, "neu": 1708, "ang": 1103, "exc": 1041, "fru": 1849, "test": 1622},
        "six_7433": {
            **{"hap": 648, "sad": 1084, "neu": 1708, "ang": 1103, "exc": 1041, "fru": 1849},
            **{"train": 5163, "valid": 647, "test": 1623},
            **{"test/hap": 144, "test/sad": 245, "test/neu": 384, "test/ang": 170, "test/exc": 299, "test/fru": 381},
        },
        "four": {"neu": 1708, "hap": 1636, "sad": 1084, "ang": 1103},
        "mulg4": {"hap": 595, "sad": 1084, "ang": 1103, "neu": 1708},
    }
    published: ClassVar[Mapping[str, str]] = {
        "six": "7,380 utterances, the codes as released. Most tables of conversations have the 7,433 of six_7433.",
        "six_7433": "7,433 utterances, 5,810 to train and validate and 1,623 to test: the files of DialogueRNN and "
        "COSMIC, which MMGCN, MM-DFN and GraphSmile read too. The 53 more than in `six` have no consensus (xxx) and "
        "count as hap there.",
        "four": "5,531 utterances, excited as happy: SUPERB, SpeechBrain and most work on speech alone.",
        "mulg4": "4,490 utterances, excited left out. The 2,717, 798 and 938 of MulT and its followers are a split of "
        "the CMU-MultimodalSDK that the release does not tell (CMU-MultimodalSDK#200): this is close to it, not it.",
        "mulg4_votes": "No published set: two emotions at once, by the votes of the raters (X15).",
        **dict.fromkeys((*VAD, "vad"), "10,039 utterances, all that have the means of the raters."),
    }

    video: Literal["speaker", "both"] = "speaker"
    audio: Literal["sentence", "speaker"] = "sentence"
    valid: Literal["dialogues", "session"] = "dialogues"
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        either = {"video": ("speaker", "both"), "audio": ("sentence", "speaker"), "valid": ("dialogues", "session")}
        for name, known in either.items():
            if (given := getattr(self, name)) not in known:
                raise InputError(f"{name} = {given!r}: {closest(given, known)}")

    def scan(self, root: Path) -> list[Utterance]:
        """Every utterance that has an evaluation, whether its media are there or not.

        Raises one InputError that lists the malformed turns, or the files that lead outside the root.
        """
        files = sorted(f for f in root.glob("Session[1-5]/dialog/EmoEvaluation/*.txt") if not f.name.startswith("._"))
        if not files:
            raise self.missing(root)
        refuse_stray(root, (path.relative_to(root) for file in files for path in (file, transcript_path(file))))
        if bad := [message for file in files for message in malformed(file)]:
            raise InputError("\n".join(bad))
        return [row for file in files for row in self._dialogue(file)]

    def folds(self, rows: Sequence[Utterance], protocol: str) -> list[Fold]:
        """`official`: Session 5 is the test part, and COSMIC's 12 dialogues validate. `cv`: each session tests once.

        If one of the 12 dialogues is not in `rows`, a tenth of the dialogues of Sessions 1 to 4 validates, and the
        log says which is missing, unless all are, as in a corpus that only has this layout.
        """
        if protocol == "cv":
            share = 0.1 if self.valid == "dialogues" else None
            return leave_one_out(rows, lambda row: row.session, share, group="session")
        if protocol != "official":
            raise InputError(f"no protocol {protocol!r}: {closest(protocol, ('official', 'cv'))}")
        test = [row for row in rows if row.session == "Session5"]
        train, valid = _cosmic([row for row in rows if row.session != "Session5"])
        return [fold("official", train, valid, test, "session")]

    def _dialogue(self, file: Path) -> list[Utterance]:
        texts = transcript(transcript_path(file), self.encoding)
        in_time = sorted(turns(file), key=lambda turn: (turn.start_s, turn.name))
        return [self._utterance(file, number, turn, texts) for number, turn in enumerate(in_time)]

    def _utterance(self, file: Path, number: int, turn: Turn, texts: Mapping[str, str]) -> Utterance:
        dialogue, session = file.stem, file.parents[2].name
        on_left = dialogue[5] == turn.actor
        path = f"{session}/dialog/avi/DivX/{dialogue}.avi"
        return Utterance(
            id=turn.name,
            dialogue=dialogue,
            turn=number,
            speaker=f"{dialogue[:5]}_{turn.actor}",
            text=texts.get(turn.name),
            audio=(self._audio(session, dialogue, turn, on_left),),
            video=(Video(path=path, start_s=turn.start_s, end_s=turn.end_s, crop=self._crop(on_left)),),
            start_s=turn.start_s,
            end_s=turn.end_s,
            session=session,
            labels=turn.labels,
        )

    def _audio(self, session: str, dialogue: str, turn: Turn, on_left: bool) -> Audio:
        if self.audio == "sentence":
            return Audio(path=f"{session}/sentences/wav/{dialogue}/{turn.name}.wav")
        path = f"{session}/dialog/wav/{dialogue}.wav"
        return Audio(path=path, start_s=turn.start_s, end_s=turn.end_s, channel=0 if on_left else 1)

    def _crop(self, on_left: bool) -> tuple[float, float, float, float]:
        """The part of the picture to use. It is letterboxed: its middle half shows both actors side by side."""
        if self.video == "both":
            return (0.0, 0.25, 1.0, 0.5)
        return (0.0 if on_left else 0.5, 0.25, 0.5, 0.5)


def _cosmic(rows: Sequence[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    if missing := COSMIC_VALID - {row.dialogue for row in rows}:
        if missing != COSMIC_VALID:
            log.info("COSMIC's %s is not here, so a tenth of the dialogues validates", ", ".join(sorted(missing)))
        return held_out(rows, 0.1, "valid-official")
    return [r for r in rows if r.dialogue not in COSMIC_VALID], [r for r in rows if r.dialogue in COSMIC_VALID]
