"""A corpus opened for work: every command that plans, extracts, trains or explains starts from a session."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from pipeline import plugins
from pipeline.cache import in_use, keys
from pipeline.cache.atomic import writable
from pipeline.cache.home import SETTINGS, STREAMS, Home
from pipeline.cache.memo import Memo
from pipeline.cache.store import Store
from pipeline.console import print_line
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.locked_store import LockedStore
from pipeline.corpus.open_corpus import CorpusLocation, Options, open_corpus
from pipeline.corpus.pulled_manifest import Pulled
from pipeline.corpus.recipe_file import check_train, recipe_path
from pipeline.media.doctor_memory import unreadable
from pipeline.plan import estimate
from pipeline.plan.catalogue import Catalogue
from pipeline.plan.generations import Compare, Verdict, resolved
from pipeline.plan.jobs import Plan
from pipeline.plan.part import Part
from pipeline.plan.planner import plan
from pipeline.reason import Reason


@dataclass(frozen=True)
class Session:
    """A corpus opened for work.

    location: how a machine that does not see this disk finds the corpus. doctored: whether a plan takes over what the
    doctor found. verdicts: on generations of stages that other versions of their libraries founded.
    """

    home: Home
    options: Options
    corpus: Corpus
    catalogue: Catalogue
    location: CorpusLocation | None = None
    doctored: bool = True
    verdicts: tuple[Verdict, ...] = ()

    @classmethod
    def open(
        cls, home: Home, options: Options, pulled: Pulled | None = None, compare: Compare | None = None
    ) -> Session:
        """Reads the recipe, scans the corpus or takes the manifest that was pulled, and lists what is asked for.

        `options.dataset` is a recipe's name in manifests/ or the path of a TOML file. pulled: see `open_corpus`.
        compare: compares stages of other libraries, see `pipeline.plan.generations`; what comes of it is printed.
        Raises InputError.
        """
        new = not home.edition
        home.check_edition(make=not home.asks or bool(options.url))  # records of a remote are kept here
        opened = open_corpus(home, options, pulled)
        if new and home.edition:
            print_line(f"New home: {home.root} (AFFECTORY_HOME names another)")
        recipe, verdicts = resolved(opened.corpus.recipe, opened.store, compare, isinstance(opened.store, LockedStore))
        for verdict in verdicts:
            print_line(verdict.line, "yellow")
        corpus = replace(opened.corpus, recipe=recipe)
        catalogue = _catalogue(options, corpus, opened.store)
        return cls(home, options, corpus, catalogue, opened.location, verdicts=verdicts)

    def under(self, protocol: str) -> Session:
        """The same under another protocol. Raises InputError if the corpus has no such folds."""
        if protocol == self.corpus.protocol:
            return self
        return self.over(self.corpus.under(protocol))

    def over(self, corpus: Corpus, *features: str) -> Session:
        """The same over another corpus, such as one with changed rows. features: all that is asked for, if any."""
        options = replace(self.options, features=features) if features else self.options
        catalogue = _catalogue(options, corpus, self.catalogue.store)
        return replace(self, options=options, corpus=corpus, catalogue=catalogue)

    def plan(self) -> Plan:
        """The jobs that can run now, see `pipeline.plan.planner`; those of a part, if the options name one."""
        whole = plan(self.catalogue, self._unreadable)
        if not self.options.part:
            return whole
        place = {row.id: number for number, row in enumerate(self.corpus.manifest.rows)}
        return Part.parse(self.options.part).of(whole, place)

    def _unreadable(self) -> Mapping[tuple[str, str], Reason]:
        memory = self.home.doctor / STREAMS
        if not self.doctored or not memory.exists():
            return {}
        return unreadable(self.corpus.manifest.rows, memory)

    def view_sizes(self, plan: Plan) -> dict[str, float | None]:
        """Megabytes of the views that an extraction makes anew, see `pipeline.plan.estimate.views`."""
        if self.options.modality:
            return {}
        return estimate.views(self.corpus, self.catalogue.store, plan, self.options.features)

    def check_train(self) -> None:
        """Raises InputError for training settings that a model would refuse, before hours of extraction.

        Settings that were found sound are remembered, because models import torch, which takes longer than a plan.
        """
        code = [keys.file_digest(plugins.folder(name)) for name in ("pipeline", "models")]
        key, memo = keys.digest("settings", self.corpus.recipe.train, code), Memo(self.home.cache / SETTINGS)
        if not memo.get([key]):
            check_train(recipe_path(self.options.dataset), self.corpus.recipe.train)
            if writable(self.home.cache):
                memo.put({key: "sound"})

    def pinned(self) -> AbstractContextManager[None]:
        """A context in which `gc` keeps every stage that is asked for."""
        stages = (stage for node, _ in self.catalogue.wanted for stage in (node.digest, node.family))
        return in_use.pinned(self.home.cache, filter(None, stages))


def _catalogue(options: Options, corpus: Corpus, store: Store) -> Catalogue:
    wanted = corpus.wanted(options.modality or None, options.features)
    return Catalogue(corpus.manifest, store, corpus.target, corpus.labels, wanted)
