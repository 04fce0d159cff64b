"""Notes the last extraction of a dataset at home, so that the next command can say what has changed since.

    history/<recipe>/last.json               each stage with its recipe, who its fits learned from, and its rows file
    history/<recipe>/rows-<digest>.parquet   the manifest as that extraction saw it, without transcripts and labels

The session at hand is described in the same form, so that the two can be compared. A note that is damaged or of another
version is ignored: it explains keys, and no key is made of it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from pipeline.cache import atomic, keys
from pipeline.cache.record import Record
from pipeline.corpus.fit_scope import Scope
from pipeline.corpus.recipe import Node, Recipe
from pipeline.dialogue import Context, Dialogues
from pipeline.media import audio, video
from pipeline.plan.catalogue import Catalogue
from pipeline.plan.noted_rows import read_rows, write_rows
from pipeline.stage import ID
from pipeline.utterance import Utterance

if TYPE_CHECKING:
    from pipeline.corpus.open_corpus import Options
    from pipeline.plan.session import Session

log = logging.getLogger(__name__)

NOTE = "last.json"
CHECKED = ConfigDict(extra="forbid", strict=True)
Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


@checked(frozen=True, kw_only=True, config=CHECKED)
class Fitted:
    """A fit of one scope: the digest of its state, None while it is missing, and the parts of its key, counted and
    digested: the rows it learns from, the rows it stops by, and their labels."""

    state: Digest | None
    train: str
    valid: str
    labels: str


@checked(frozen=True, kw_only=True, config=CHECKED)
class Entry:
    """A stage as an extraction saw it.

    asked: the feature sets that ask for it, as `<set>.<modality>`. about: see `Node.describe`. code: the versions of
    the code that makes keys and of the code that decodes its input. fits: by scope. rows: the digest of the rows file.
    keys: that of the keys of all its shards.
    """

    name: str
    digest: Digest
    asked: tuple[str, ...]
    about: Mapping[str, Any]
    code: Mapping[str, int]
    fits: Mapping[str, Fitted] = field(default_factory=dict)
    rows: Digest | None = None
    keys: Digest | None = None


@checked(frozen=True, kw_only=True, config=CHECKED)
class Note:
    """The content of `last.json`. at: when, in UTC."""

    at: str
    stages: tuple[Entry, ...]


_NOTE = TypeAdapter(Note)
_CONTEXT = {"turns": int, "speakers": bool}


@dataclass(frozen=True)
class Seen:
    """An extraction as it was: its stages by digest, and the rows that a stage was applied to, by utterance."""

    at: str
    stages: Mapping[str, Entry]
    rows: Callable[[Entry], Dialogues]

    def like(self, entry: Entry, now: Seen) -> Entry | None:
        """The stage that `entry`, of the session `now`, was then: the same one, or else the one in its place."""
        if entry.digest in self.stages:
            return self.stages[entry.digest]
        near = [e for e in self.stages.values() if e.name == entry.name and not set(entry.asked).isdisjoint(e.asked)]
        gone = [e for e in near if e.digest not in now.stages]
        return min(gone, key=lambda e: _distance(e.about["params"], entry.about["params"]), default=None)

    def key(self, entry: Entry, scope: str | None, utterance: str) -> str | None:
        """The key of a row; None if it had none, because the state or the utterance was missing."""
        try:
            return self._key(entry, scope or "", utterance)
        except LookupError:
            return None

    def _key(self, entry: Entry, scope: str, utterance: str) -> str:
        row = self.rows(entry)[utterance]
        state = entry.fits[scope].state if entry.fits else None
        if entry.fits and state is None:
            raise LookupError(scope)
        inputs = [
            self._raw_digest(source, entry, row)
            if isinstance(source, str)
            else self._key(self.stages[source["digest"]], scope, utterance)
            for source in entry.about["inputs"]
        ]
        return keys.row_key(entry.digest, state, inputs)

    def turns(self, entry: Entry, row: Utterance) -> list[str]:
        """The digest of each turn that a stage reads before an utterance, oldest first."""
        context = Context(**entry.about["dialogue"])
        before = self.rows(entry).before(row.id, context.turns)
        return [keys.turn_digest(turn, context) for turn in before]

    def _raw_digest(self, kind: str, entry: Entry, row: Utterance) -> str | None:
        if kind == "audio":
            return keys.audio_digest(row.audio, entry.code["audio"])
        if kind == "video":
            return keys.video_digest(row.video, entry.code["video"])
        if kind == ID:
            return keys.id_digest(row)
        text = keys.text_digest(row)
        if kind == "text" or text is None:
            return text
        own = keys.turn_digest(row, Context(**entry.about["dialogue"]))
        return keys.dialogue_digest([*self.turns(entry, row), own])


# --- now -------------------------------------------------------------------------------------------------------


def present(session: Session) -> Seen:
    """The session at hand, described as the last extraction is."""
    asked = _asked(session.corpus.recipe, session.options)
    fits: dict[Node, dict[str, Fitted]] = {}
    for rows in session.catalogue:
        mine = fits.setdefault(rows.node, {})
        if rows.scope is not None and rows.node.stage.fitted:
            mine[rows.scope.name] = _fitted(session.catalogue, rows.scope, rows.state)
    stages = {node.digest: _entry(node, asked[node.digest], found) for node, found in fits.items()}
    return Seen(_now(), stages, lambda entry: session.catalogue.dialogues)


def write(session: Session) -> None:
    """Notes this extraction as the last; stages that it was not asked for stay as they were noted before."""
    folder = _folder(session.home.root, session.corpus.recipe.home_name)
    before = _read(folder)
    session.catalogue.refresh()
    name = write_rows(session.home.root, folder, session.corpus.manifest.rows)
    found = _keys(session)
    mine = {d: replace(entry, rows=name, keys=found[d]) for d, entry in present(session).stages.items()}
    note = Note(at=_now(), stages=tuple(_merged(before, mine, session)))
    atomic.publish(folder / NOTE, json.dumps(asdict(note), indent=1, sort_keys=True))
    for old in _files(before) - _files(note):
        (folder / f"rows-{old}.parquet").unlink(missing_ok=True)


def is_noted(session: Session) -> bool:
    """True if what is noted as the last extraction is this one: the same stages with the same keys."""
    before = _read(_folder(session.home.root, session.corpus.recipe.home_name))
    noted = before.stages if before else ()
    asked = _asked(session.corpus.recipe, session.options)
    now = {(place, stage, found) for stage, found in _keys(session).items() for place in asked[stage]}
    places = {place for place, _, _ in now}
    return now == {(at, entry.digest, entry.keys) for entry in noted for at in entry.asked if at in places}


def digest(home: Path, dataset: str) -> str:
    """The digest of what is noted, by which a change of it is seen."""
    path = _folder(home, dataset) / NOTE
    return keys.file_digest(path) if path.is_file() else ""


def _keys(session: Session) -> dict[str, str]:
    """For each stage the digest of the keys of its shards, in all scopes."""
    found: dict[str, list[str]] = {}
    for rows in session.catalogue:
        found.setdefault(rows.node.digest, []).extend(shard.key for shard in rows.shards)
    return {stage: keys.digest("shards", listed) for stage, listed in found.items()}


def _entry(node: Node, asked: Iterable[str], fits: Mapping[str, Fitted]) -> Entry:
    about = json.loads(json.dumps(node.describe()))  # lists for tuples, as it is read back
    decoders = {"audio": audio.VERSION, "video": video.VERSION}
    code = {"keys": keys.KEY_VERSION} | {kind: version for kind, version in decoders.items() if kind in node.inputs}
    return Entry(name=node.name, digest=node.digest, asked=tuple(sorted(asked)), about=about, code=code, fits=fits)


def _fitted(catalogue: Catalogue, scope: Scope, state: Record | None) -> Fitted:
    labels = [catalogue.labels[i] for i in (*scope.train, *scope.valid)]
    target = (catalogue.target.task, catalogue.target.classes)
    return Fitted(
        state=state.object if state else None,
        train=f"{len(scope.train)} rows {keys.digest(scope.train)[:12]}",
        valid=f"{len(scope.valid)} rows {keys.digest(scope.valid)[:12]}",
        labels=f"{len(labels)} labels {keys.digest(target, labels)[:12]}",
    )


def _asked(recipe: Recipe, options: Options | None = None) -> dict[str, set[str]]:
    """By the digest of each stage, upstream ones included, the places in the recipe that ask for it."""
    found: dict[str, set[str]] = {}
    for name, selections in recipe.features.items():
        for modality, selection in selections.items():
            if options is None or (options.modality in ("", modality) and name in (options.features or (name,))):
                for node in (node for part in selection.parts for node in part.walk()):
                    found.setdefault(node.digest, set()).add(f"{name}.{modality}")
    return found


def _merged(before: Note | None, mine: Mapping[str, Entry], session: Session) -> Iterator[Entry]:
    """The stages of this session, then those noted before that this session was not asked for."""
    now = {place for entry in mine.values() for place in entry.asked}
    others = {place for places in _asked(session.corpus.recipe).values() for place in places} - now
    kept = {entry.digest: others.intersection(entry.asked) for entry in before.stages} if before else {}
    for entry in mine.values():
        yield replace(entry, asked=tuple(sorted({*entry.asked, *kept.get(entry.digest, ())})))
    for entry in before.stages if before else ():
        if kept[entry.digest] and entry.digest not in mine:
            yield replace(entry, asked=tuple(sorted(kept[entry.digest])))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return sum(one.get(name) != other.get(name) for name in one.keys() | other.keys())


# --- on disk ---------------------------------------------------------------------------------------------------


def read(home: Path, dataset: str) -> Seen | None:
    """The last extraction of a dataset; None if none is noted."""
    folder = _folder(home, dataset)
    note = _read(folder)
    if note is None:
        return None

    @cache
    def rows(name: str | None) -> Dialogues:
        return Dialogues(read_rows(folder / f"rows-{name}.parquet", name))

    return Seen(note.at, {entry.digest: entry for entry in note.stages}, lambda entry: rows(entry.rows))


def _folder(home: Path, dataset: str) -> Path:
    return home / "history" / dataset


def _read(folder: Path) -> Note | None:
    path = folder / NOTE
    try:
        note: Note = _NOTE.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, OSError) as error:
        log.warning("%s is not used: %s", path, error)
        return None
    return note if all(_is_sound(entry.about, entry.code) for entry in note.stages) else None


def _is_sound(about: Mapping[str, Any], code: Mapping[str, int]) -> bool:
    """True for a description that `Node.describe` may have given, of the stages upstream too."""
    tables = [about.get("params"), about.get("libraries")]
    inputs = about.get("inputs")
    if not all(isinstance(table, dict) for table in tables) or not isinstance(inputs, list) or "version" not in about:
        return False
    for source in inputs:
        if not (source in ("text", "dialogue", ID) or source in code if isinstance(source, str) else _is_below(source)):
            return False
    context = about.get("dialogue", {})
    sound = isinstance(context, dict) and {name: type(value) for name, value in context.items()} == _CONTEXT
    return sound or "dialogue" not in inputs


def _is_below(about: Any) -> bool:
    names = ("stage", "digest")
    every = dict.fromkeys(("audio", "video"), 0)
    return isinstance(about, dict) and all(isinstance(about.get(n), str) for n in names) and _is_sound(about, every)


def _files(note: Note | None) -> set[str]:
    return {entry.rows for entry in note.stages if entry.rows} if note else set()
