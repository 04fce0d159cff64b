"""What is missing although it was asked for: utterances without features, and rows that a fit had to leave out.

A fit that leaves out rows with a transient reason gives a provisional state, as such a row makes a provisional shard. A
provisional state serves until its rows are there, is then fitted anew, and is never pushed nor locked. Rows carry the
digest of their state in their keys, so that none is ever taken for a row of the complete fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pipeline.corpus.corpus import Corpus
from pipeline.plan.catalogue import Catalogue, StageRows
from pipeline.reason import Reason

# --- fits ------------------------------------------------------------------------------------------------------


def left_out(rows: StageRows) -> Mapping[str, str]:
    """The utterances that a stage's own state was learned without, with the reason; none while there is no state."""
    return rows.state.reasons if rows.state else {}


def due(rows: StageRows) -> bool:
    """True if a provisional state can be fitted anew: no row that it left out still fails upstream.

    Whether raw input still fails is known only to the fit itself.
    """
    missing = left_out(rows)
    return bool(missing) and not any(missing.keys() & _transient(upstream) for upstream in rows.upstream)


def provisional(rows: StageRows) -> bool:
    """True if rows depend on a provisional state, the stage's own or one upstream."""
    return bool(left_out(rows)) or any(map(provisional, rows.upstream))


def by_fit(catalogue: Catalogue) -> dict[str, dict[str, str]]:
    """The utterances that each fit left out, with the reason, by the names of stage and scope."""
    fits = {f"{rows.node.name} on {rows.scope.name}": left_out(rows) for rows in catalogue if rows.scope}
    return {name: dict(missing) for name, missing in fits.items() if missing}


def _transient(rows: StageRows) -> set[str]:
    """The utterances for which a stage has no values, for a transient reason."""
    records = map(rows.record, rows.shards)
    return {i for record in records if record for i, reason in record.reasons.items() if Reason(reason).transient}


# --- utterances without features -------------------------------------------------------------------------------


def reasons(catalogue: Catalogue) -> dict[str, dict[str, str]]:
    """By modality, the reason of each utterance that some stage has no values for, cached rows included."""
    by_modality: dict[str, dict[str, str]] = {}
    for rows in catalogue:
        mine = by_modality.setdefault(rows.node.stage.modality, {})
        for record in map(rows.said, rows.shards):
            mine.update(record.reasons if record else {})
    return by_modality


def counts(by_utterance: Mapping[str, Mapping[str, str]]) -> dict[str, Counter[str]]:
    """Utterances by modality and reason."""
    return {modality: Counter(reasons.values()) for modality, reasons in by_utterance.items()}


def over_limit(corpus: Corpus, by_utterance: Mapping[str, Mapping[str, str]]) -> dict[str, float]:
    """The modalities of which more than `max_failed` failed, with the share of utterances that did.

    Utterances that have no such modality are not counted.
    """
    shares = {modality: _failed_share(reasons, len(corpus.manifest.rows)) for modality, reasons in by_utterance.items()}
    return {modality: share for modality, share in shares.items() if share > corpus.recipe.max_failed}


def _failed_share(reasons: Mapping[str, str], utterances: int) -> float:
    failed = sum(Reason(reason).failed for reason in reasons.values())
    present = utterances - (len(reasons) - failed)
    return failed / present if present else 0.0
