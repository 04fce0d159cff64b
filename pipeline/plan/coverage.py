"""Which utterances have features and which do not, by modality, over everything a recipe asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pipeline.plan.catalogue import Planner
from pipeline.reason import Reason, failed_share
from pipeline.run.driver import Corpus


def reasons(planner: Planner) -> dict[str, dict[str, str]]:
    """By modality, the reason of each utterance that some stage of it gave no features, cached rows included."""
    found: dict[str, dict[str, str]] = {}
    for node, scope in planner.wanted:
        mine = found.setdefault(node.stage.modality, {})
        for shard in planner.shards(node, scope) or ():
            record = planner.store.find(node.digest, shard.key)
            mine.update(record.reasons if record else {})
    return found


def counts(by_utterance: Mapping[str, Mapping[str, str]]) -> dict[str, Counter[str]]:
    """Utterances by modality and reason."""
    return {modality: Counter(found.values()) for modality, found in by_utterance.items()}


def over_limit(corpus: Corpus, by_utterance: Mapping[str, dict[str, str]]) -> dict[str, float]:
    """The modalities of which more than `max_failed` of the utterances that have them failed, with that share."""
    total = len(corpus.manifest.rows)
    shares = {}
    for modality, found in by_utterance.items():
        absent = sum(1 for reason in found.values() if not Reason(reason).failed)
        shares[modality] = failed_share(found, total - absent)
    return {modality: share for modality, share in shares.items() if share > corpus.recipe.max_failed}
