"""The section of the report on single utterances: what they look and sound like, and what is predicted of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.console import bar
from pipeline.pages.clip_look import looking_child
from pipeline.pages.excerpt import SECONDS, Excerpt, excerpt
from pipeline.plan.session import Session
from pipeline.report.chosen import Group, groups
from pipeline.report.corpus_section import duration, label_text
from pipeline.report.distributions import Distribution
from pipeline.report.guesses import Guesses
from pipeline.report.media_folder import MediaFolder, Shown
from pipeline.stage import Target
from pipeline.utterance import Utterance

NONE = "no label"

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Predicted:
    """What a model predicts of an utterance. cells: the share, and the text, of each class or number."""

    model: str
    answer: str
    wrong: bool
    cells: Sequence[tuple[float | None, str]]


@dataclass(frozen=True)
class Card:
    """What the report shows of an utterance. ranges: feature -> the range of its values. failures: lines about it."""

    id: str
    facts: str
    text: str
    label: str
    shown: Shown
    names: Sequence[str]
    predicted: Sequence[Predicted]
    ranges: Mapping[str, str] = field(default_factory=dict)
    failures: Sequence[str] = ()


@dataclass(frozen=True)
class Shelf:
    """The cards of a group."""

    title: str
    cards: Sequence[Card]


class Cards:
    """Makes the cards of utterances. failed: the entries of `pipeline.ask.failures`."""

    def __init__(
        self, session: Session, models: Sequence[Guesses], spread: Sequence[Distribution], failed: Sequence[Entry]
    ) -> None:
        self._corpus = session.corpus
        self._numbers = {row.id: number for number, row in enumerate(session.corpus.manifest.rows)}
        self._models = [(model, {name: i for i, name in enumerate(model.utterances)}) for model in models]
        wanted = [*(model.features for model in models), *session.corpus.recipe.features]
        features = next((name for name in wanted if name in session.corpus.recipe.features), "")
        self._spread = [one for one in spread if one.features == features]
        self._failed = failed
        self.groups: Sequence[Group] = groups(session.corpus, models, failed)

    def shelves(self, folder: MediaFolder) -> list[Shelf]:
        """The cards of all groups; their pictures and clips go into the folder."""
        names = [name for group in self.groups for name in group.utterances]
        rows = {name: self._corpus.manifest.rows[self._numbers[name]] for name in names}
        shown = dict(_shown(list(rows.values()), folder))
        return [Shelf(group.title, [self._card(rows[i], shown[i]) for i in group.utterances]) for group in self.groups]

    def _card(self, row: Utterance, shown: Shown) -> Card:
        target, label = self._corpus.target, self._corpus.labels.get(row.id)
        text = NONE if label is None else _numbers(label) if target.task == "regression" else label_text(label, target)
        ranges = {one.name: one.range_of(self._numbers[row.id]) for one in self._spread}
        return Card(
            id=row.id,
            facts=_facts(row),
            text=row.text or "",
            label=text,
            shown=shown,
            names=target.classes if target.task != "regression" or target.several else (),
            predicted=list(self._predicted(row.id, target)),
            ranges={name: values for name, values in ranges.items() if values},
            failures=list(dict.fromkeys(_failure(entry) for entry in self._failed if entry["utterance"] == row.id)),
        )

    def _predicted(self, utterance: str, target: Target) -> Iterator[Predicted]:
        for model, places in self._models:
            if (place := places.get(utterance)) is not None:
                values = model.values[place]
                regression = target.task == "regression"
                wrong = not regression and bool(model.error[place] > 0)
                cells = [(None if regression else float(value), _numbers(value)) for value in values]
                yield Predicted(model.name, _answer(model, place), wrong, cells)


def _answer(model: Guesses, place: int) -> str:
    decided = model.decided[place]
    if model.target.task == "regression":
        return _numbers(decided)
    return label_text(tuple(decided.astype(int)) if decided.ndim else int(decided), model.target)


def _numbers(value: Any) -> str:
    return ", ".join(f"{number:.2f}".replace("-", "−") for number in np.ravel(value).tolist())


def _facts(row: Utterance) -> str:
    length_s = duration(row)
    facts = [f"dialogue {row.dialogue}", f"turn {row.turn}"]
    facts += [f"speaker {row.speaker}"] if row.speaker else []
    facts += [] if length_s is None else [f"{length_s:.1f} s"]
    return ", ".join(facts)


def _failure(entry: Entry) -> str:
    reason = entry["reason"].replace("_", " ")
    return f"{entry['stage']}: {reason}" + (f", {entry['message']}" if entry["message"] else "")


def about(folder: MediaFolder, models: Sequence[Guesses], licence: str) -> list[str]:
    """Sentences about what is shown, and what is not."""
    lines = ["A value of a feature is unusual if it is outside the middle 90 % of those of its dimension."]
    if models:
        names = ", ".join(model.name for model in models)
        lines.append(f"Predictions on test of {names}: the best models by validation, with the best run of each.")
    if not folder.wanted:
        return [*lines, "Without pictures and clips: --media puts them in."]
    if folder.clips_bytes:
        lines.append(f"Clips of {folder.clips_bytes / 1e6:.1f} MB in all, at most {SECONDS:g} s of each utterance.")
    if folder.without_clip:
        lines.append(
            f"{folder.without_clip} utterances have no clip, which would be more than --media-mb "
            f"{folder.most_bytes / 1e6:g} allows."
        )
    if folder.not_here:
        lines.append(f"The media of {folder.not_here} utterances are not here.")
    if licence and (folder.clips_bytes or folder.without_clip):
        lines.append(f"Pictures and clips are the corpus's own. {licence}")
    return lines


def _shown(rows: Sequence[Utterance], folder: MediaFolder) -> Iterator[tuple[str, Shown]]:
    """What there is to see of each utterance."""
    if not folder.wanted:
        yield from ((row.id, Shown()) for row in rows)
        return
    with looking_child() as child, bar("media", "utterances", len(rows)) as advance:
        for row in rows:
            here = folder.within_reach(row)
            made = excerpt(child, here, folder.root, playable=folder.has_room) if here.stretches else Excerpt()
            yield row.id, folder.add(row, made)
            advance(1)
