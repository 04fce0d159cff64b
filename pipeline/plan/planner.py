"""Decides what is to be done: from a catalogue to the jobs whose inputs are all there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.cache import keys
from pipeline.corpus.recipe import Node
from pipeline.plan.catalogue import Catalogue, Shard, StageRows
from pipeline.plan.jobs import ExtractJob, FitJob, Plan, ReferenceJob, Run
from pipeline.plan.references import reference_of, sample_runs, used_states
from pipeline.plan.shortfall import due, left_out, provisional
from pipeline.reason import Reason

Unreadable = Callable[[], Mapping[tuple[str, str], Reason]]
"""What the doctor found: by modality and utterance, why a file gives nothing whatever part of it is read."""

Group = list[tuple[StageRows, Shard]]
"""Shards of the same rows and modality. One job computes them, so that each clip is decoded once."""


def plan(catalogue: Catalogue, unreadable: Unreadable = dict) -> Plan:
    """The jobs that can run now, the rows that wait for a fit, and the rows that are cached.

    unreadable: asked once, and only where there is something to extract.
    """
    catalogue.refresh()
    draft = _Draft(catalogue)
    for rows in catalogue:
        draft.add(rows)
    found = draft.plan
    extracts = list(_extract_jobs(draft, unreadable() if draft.groups else {}))
    found.jobs += extracts
    found.jobs += _reference_jobs(catalogue, extracts)
    return found


@dataclass
class _Draft:
    """A plan as it is made. groups: shards to compute, by modality and the rows they hold."""

    catalogue: Catalogue
    plan: Plan = field(default_factory=Plan)
    groups: dict[tuple[str, str], Group] = field(default_factory=dict)

    def add(self, rows: StageRows) -> None:
        """Adds one stage in one scope."""
        if rows.waiting:
            self.plan.waiting[rows.node] += len(rows.ids)
        if rows.waiting or due(rows):
            self._fit(rows)
        for shard in rows.shards:
            if rows.final(shard):
                self.plan.cached[rows.node] += len(shard.rows)
            else:
                self.groups.setdefault(_group(rows, shard), []).append((rows, shard))

    def _fit(self, rows: StageRows) -> None:
        """Adds the stage's own fit, if all that it reads is there."""
        key, scope = rows.state_key, rows.scope
        if key is None or scope is None or any(isinstance(job, FitJob) and job.state == key for job in self.plan.jobs):
            return
        learned = [*scope.train, *scope.valid]
        stored = {each.node.name: each.stored(learned) for each in rows.upstream}
        if any(found is None for found in stored.values()):
            return
        catalogue = self.catalogue
        self.plan.jobs.append(
            FitJob(
                rows.node,
                scope.name,
                key,
                catalogue.target,
                catalogue.manifest.root,
                tuple(catalogue.rows[i] for i in scope.train),
                tuple(catalogue.rows[i] for i in scope.valid),
                {i: catalogue.labels[i] for i in learned},
                {name: found for name, found in stored.items() if found is not None},
                scope.held,
                left_out(rows),
                catalogue.before([catalogue.rows[i] for i in learned], [rows.node]),
            )
        )


def _group(rows: StageRows, shard: Shard) -> tuple[str, str]:
    scope = rows.scope.name if rows.scope else None
    return rows.node.stage.modality, keys.digest(scope, [row.id for row in shard.rows])


def _extract_jobs(draft: _Draft, unreadable: Mapping[tuple[str, str], Reason]) -> Iterator[ExtractJob]:
    for group in draft.groups.values():
        runs = _runs(group)
        if not runs:
            draft.plan.waiting.update({rows.node: len(shard.rows) for rows, shard in group})
            continue
        modality, shared = group[0][0].node.stage.modality, group[0][1].rows
        bad = {row.id: reason for row in shared if (reason := unreadable.get((modality, row.id)))}
        before = draft.catalogue.before(shared, [run.node for run in runs])
        yield ExtractJob(modality, draft.catalogue.manifest.root, shared, tuple(runs), bad, before)


def _reference_jobs(catalogue: Catalogue, extracts: Sequence[ExtractJob]) -> list[ReferenceJob]:
    """A job for each stage of which rows are computed while its generation has no reference."""
    computed = {run.node for job in extracts for run in job.runs if any(key not in run.copies for key in run.keys)}
    jobs: dict[Node, ReferenceJob] = {}
    for rows in catalogue:
        node = rows.node
        first = node in computed and node not in jobs and node.founding and not (rows.waiting or provisional(rows))
        if first and reference_of(node, catalogue.store) is None:
            states = used_states(rows)
            jobs[node] = ReferenceJob(node, states, sample_runs(node, states)[-1].shard)
    return list(jobs.values())


def _runs(group: Sequence[tuple[StageRows, Shard]]) -> list[Run]:
    """The group's shards whose inputs are stored, or are computed in the same job."""
    runs: list[Run] = []
    for rows, shard in sorted(group, key=lambda member: member[0].node.depth):
        ids = [row.id for row in shard.rows]
        stored = {each.node: each.stored(ids) for each in rows.upstream}
        here = {run.node for run in runs}
        if any(found is None and node not in here for node, found in stored.items()):
            continue
        upstream = {node.name: found for node, found in stored.items() if found is not None}
        state = rows.state.ref if rows.state else None
        runs.append(Run(rows.node, shard.key, shard.keys, state, rows.copies(shard), upstream))
    return runs
