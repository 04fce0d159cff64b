"""Fits that had to leave out rows whose failure may pass.

Such a state is provisional, as a shard with such a row is: it serves, is made again once the rows are there, and is
never pushed nor locked. Rows stand under the digest of the state they got, so that none is ever taken for one of the
whole fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.corpus.fit_scope import Scope
from pipeline.corpus.recipe import Node
from pipeline.reason import Reason

if TYPE_CHECKING:
    from pipeline.plan.catalogue import Planner


def left_out(planner: Planner, node: Node, scope: Scope | None) -> Mapping[str, str]:
    """By utterance, why a stage's own state was learned without it; nothing where it is whole, or missing."""
    record = planner.state_record(node, scope)
    return record.reasons if record else {}


def due(planner: Planner, node: Node, scope: Scope | None) -> bool:
    """True where a state left rows out none of which still fails upstream; of raw input the fit itself has to look."""
    missing = left_out(planner, node, scope)
    return bool(missing) and not any(missing.keys() & _passing(planner, up, scope) for up in node.upstream)


def provisional(planner: Planner, node: Node, scope: Scope | None) -> bool:
    """True where a stage's rows stand on a state that left rows out, its own or one upstream."""
    return bool(left_out(planner, node, scope)) or any(provisional(planner, up, scope) for up in node.upstream)


def by_fit(planner: Planner) -> dict[str, dict[str, str]]:
    """What each fit left out, and why, by the names of stage and scope."""
    fits = {f"{node.name} on {scope.name}": left_out(planner, node, scope) for node, scope in planner.wanted if scope}
    return {name: dict(missing) for name, missing in fits.items() if missing}


def _passing(planner: Planner, node: Node, scope: Scope | None) -> set[str]:
    """Utterances that a stage gives no values for now."""
    records = (planner.store.find(node.digest, shard.key) for shard in planner.shards(node, scope) or ())
    return {i for record in records if record for i, why in record.reasons.items() if Reason(why).transient}
