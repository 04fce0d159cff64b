"""What a planner answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.corpus.recipe import Node
from pipeline.plan.jobs import Job


@dataclass
class Plan:
    """What is to be done now, what stands `behind` a fit, and what is `there` already, in rows by stage."""

    jobs: list[Job] = field(default_factory=list)
    behind: Counter[Node] = field(default_factory=Counter)
    there: Counter[Node] = field(default_factory=Counter)

    @property
    def pending(self) -> Counter[str]:
        """What stands behind a fit, by the stage's name."""
        return by_name(self.behind)

    @property
    def cached(self) -> Counter[str]:
        """What is there already, by the stage's name."""
        return by_name(self.there)


def by_name(counts: Mapping[Node, int]) -> Counter[str]:
    """Stages of one name together."""
    found = Counter[str]()
    for node, count in counts.items():
        found[node.name] += count
    return found
