"""A run plans no more often than it has to, and what cannot be done is named while the rest goes on."""

from __future__ import annotations

import gc
import os
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest

from pipeline.cache.keys import digest
from pipeline.cache.record import Ref
from pipeline.cache.store import Store
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.recipe import Node
from pipeline.errors import InputError
from pipeline.plan import session as sessions
from pipeline.plan.catalogue import Catalogue
from pipeline.plan.jobs import ExtractJob, FitJob
from pipeline.plan.planner import plan
from pipeline.run import extraction
from pipeline.run.dask_workers import Workers
from pipeline.run.inline_workers import Inline
from pipeline.run.job_queue import JobQueue
from pipeline.run.outcome import Again, Died, Outcome
from pipeline.stage import Item, Rows, Spec, Stage, State, Target, Track
from tests.small import driven


def catalogue_of(corpus: Corpus, home: Any, *nodes: Node) -> Catalogue:
    wanted = [(node, scope) for node in nodes for scope in corpus.scopes_of(node)]
    return Catalogue(corpus.manifest, Store(home / "cache"), corpus.target, corpus.labels, wanted)


# --- how often a run plans -------------------------------------------------------------------------------------


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each plan that sessions made."""
    made: list[int] = []

    def counted(*arguments: Any) -> Any:
        made.append(1)
        return real(*arguments)

    real = sessions.plan
    monkeypatch.setattr(sessions, "plan", counted)
    return made


def test_a_run_without_fits_plans_once(small, plans):
    assert extraction.extract(small.session(modality="audio")).jobs > 1
    assert len(plans) == 1


def test_a_run_with_nothing_to_do_plans_once(extracted, plans):
    assert extraction.extract(extracted.session()).jobs == 0
    assert len(plans) == 1


def test_a_run_plans_again_after_each_fit_and_after_the_rows_that_a_fit_reads(small, plans):
    counts = extraction.extract(small.session(modality="text"))
    assert counts.total().calls["text_cnn (fit)"] == 1
    assert len(plans) == 4, "at first, after the fit of word2vec, after its rows, after the fit of the CNN"


def test_keys_that_depend_on_no_fit_survive_another_plan(small):
    catalogue = small.session(modality="audio").catalogue
    plan(catalogue)
    [before, *_] = list(catalogue)
    keys = before.keys
    plan(catalogue)
    assert next(iter(catalogue)).keys is keys


def test_a_catalogue_that_nobody_uses_is_given_back(small):
    session = small.session(modality="audio")
    session.plan()
    catalogue = weakref.ref(session.catalogue)
    del session
    gc.collect()
    assert catalogue() is None


def test_the_work_of_a_queue_grows_with_its_jobs_and_not_with_their_square(small, monkeypatch):
    asked: list[int] = []
    real = JobQueue._feeds
    monkeypatch.setattr(JobQueue, "_feeds", lambda self, job: asked.append(1) or real(self, job))
    catalogue = small.session(modality="audio").catalogue
    jobs = plan(catalogue).jobs
    queue = JobQueue(catalogue, jobs, list, lambda new, ended: None)
    for job in queue.more():
        queue.ended(job)
    assert len(asked) == len(jobs) > 1


def test_fits_come_first_then_what_they_wait_for_then_the_slowest_modality_and_of_it_the_largest_shard(small):
    catalogue = small.session().catalogue
    jobs = plan(catalogue).jobs
    large, *rest = sorted((job for job in jobs if isinstance(job, ExtractJob)), key=lambda job: -len(job.rows))
    upstream = next(node for node, _ in catalogue.wanted if node.name == "text_word2vec")
    word = replace(large, modality="text", runs=(replace(large.runs[0], node=upstream, shard="word"),))
    few, many = (
        replace(large, modality="visual", rows=large.rows[:n], runs=(replace(large.runs[0], shard=f"{n}"),))
        for n in (1, 2)
    )
    queue = JobQueue(catalogue, [*rest, large, few, many, word], list, lambda new, ended: None)
    order = queue.more()
    assert [job.id for job in order[:4]] == [job.id for job in (word, many, few, large)]
    fits = JobQueue(catalogue, jobs, list, lambda new, ended: None).more()
    assert not isinstance(fits[0], ExtractJob) and isinstance(fits[-1], ExtractJob)


# --- what kills its worker -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Deadly(Stage):
    """A stage whose fit ends its process, or which gives one number for each transcript."""

    version: ClassVar[int] = 1
    modality: ClassVar = "text"
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    deadly: bool = True

    @property
    def fitted(self) -> bool:
        return self.deadly

    def fit(self, train: Rows, valid: Rows, target: Target, device: str) -> State:
        os._exit(9)

    def spec(self, loaded: Any) -> Spec:
        return Spec(1)

    def transform(self, loaded: Any, state: State | None, batch: Sequence[Item]) -> list[Track]:
        return [Track.of(np.ones((1, 1), np.float32)) for _ in batch]


def node(*, deadly: bool) -> Node:
    return Node("deadly", Deadly(deadly=deadly), {"deadly": deadly}, ("text",), digest("deadly", deadly))


@pytest.mark.slow
def test_a_fit_that_kills_its_workers_is_named_with_its_memory_and_the_rest_of_the_run_goes_on(small):
    corpus = small.session().corpus
    catalogue = catalogue_of(corpus, small.home, node(deadly=True), node(deadly=False))
    counts = driven(catalogue, Workers(count=2))
    [message] = counts.waiting.values()
    assert message.startswith("the fit of deadly on official killed its workers, the largest with ")
    assert "GB of memory" in message and "WORKERS=1" in message
    others = plan(catalogue)
    assert {node.stage.deadly for node in others.cached} == {False}
    assert sum(others.cached.values()) == len(corpus.manifest.rows)


class Scripted(Inline):
    """Workers that answer jobs as a test says: it gets the job and whether it runs row by row."""

    def __init__(self, answer: Callable[[Any, bool], Any]) -> None:
        self.answer = answer

    def run(self, function: Any, more: Callable[[], Sequence[Any]], *arguments: Any) -> Iterator[tuple[Any, Any]]:
        waiting = list(more())
        while waiting:
            job = waiting.pop(0)
            yield job, self.answer(job, arguments[1].isolated)
            waiting.extend(more())


def test_a_job_that_kills_its_workers_even_row_by_row_is_named_and_not_tried_again(small):
    tried: list[bool] = []

    def answer(job: ExtractJob, isolated: bool) -> Died:
        tried.append(isolated)
        return Died("killed", 3 * 2**30)

    catalogue = catalogue_of(small.session().corpus, small.home, node(deadly=False))
    counts = driven(catalogue, Scripted(answer))
    assert len(counts.waiting) == len(plan(catalogue).jobs) and sorted(tried) == [False, False, True, True]
    assert all("rows of text, row by row, killed its workers" in message for message in counts.waiting.values())
    assert all("3.0 GB" in message for message in counts.waiting.values())


def test_an_object_that_is_lost_while_a_job_runs_row_by_row_is_distrusted_too(small, monkeypatch):
    lost = Ref(stage="a" * 64, key="b" * 64, object="c" * 64, suffix=".parquet", size=1)
    distrusted: list[Ref] = []
    monkeypatch.setattr(Store, "distrust", lambda self, ref: distrusted.append(ref))

    def answer(job: ExtractJob | FitJob, isolated: bool) -> Any:
        if not isolated:
            return Died("killed")
        return Again("an upstream shard is damaged", lost) if len(distrusted) < 1 else Outcome(job.modality)

    driven(catalogue_of(small.session().corpus, small.home, node(deadly=False)), Scripted(answer))
    assert distrusted == [lost]


def test_a_start_that_fails_leaves_no_process_behind(monkeypatch):
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with pytest.raises(InputError, match="dask-cuda"):
        Workers(count=1, gpus=1).__enter__()
    after = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    shared = re.compile("multiprocessing.(resource_tracker|forkserver)")  # which serve this process as long as it lives
    assert [process for process in after if not shared.search(" ".join(process.cmdline()))] == []


@pytest.mark.slow
def test_the_log_of_a_run_with_workers_names_the_clips_that_failed(small):
    victim = small.session().corpus.manifest.rows[5]
    (small.root / victim.audio[0].path).unlink()
    session = small.session(modality="audio", workers=1)
    log = session.home.log_to_file("extract", "small")
    extraction.extract(session)
    assert f"audio_mfcc: {victim.id} failed: missing_file" in log.read_text()
