"""What a model loses without one of its parts: a chart of the ablations that were trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pipeline.corpus.recipe_training import model_class
from pipeline.errors import InputError
from pipeline.pages.charts import Chart, Difference, differences
from pipeline.report.model_table import Entry, ModelTable
from pipeline.report.models_section import Trained
from pipeline.report.probes_section import score_name


def ablation_chart(run: Trained, runs: Sequence[Trained], dialogues: Mapping[str, str]) -> Chart | None:
    """The score of each ablation less that of the whole model, paired by test utterance and by seed.

    run: the whole model. runs: all finished runs, of which those that are stale or have no predictions do not count.
    dialogues: utterance -> dialogue. Returns None if no ablation was trained with a seed of the whole model, or if
    `run` is not the first seed.
    """
    whole = _seeds(run, runs, run.answer.get("changes", ()))
    if not whole or run.answer["seed"] != min(whole):
        return None
    pairs = {label: (_seeds(run, runs, changes), whole) for label, changes in _ablations(run).items()}
    shown = {label: _difference(label, *pair, dialogues) for label, pair in pairs.items() if pair[0].keys() & whole}
    if not shown:
        return None
    score = score_name(next(iter(shown.values()))[1])
    caption = (
        f"Ablations of {run.name}: {score} on test less that of the whole model, mean over the seeds of both, paired "
        "by row. Lines are 95 % intervals over dialogues"
    )
    return differences(caption, [difference for difference, _ in shown.values()], f"{score} less the whole model's")


def _ablations(run: Trained) -> dict[str, list[str]]:
    """The changes of settings of a run without a part that this run has, by the name of the ablation."""
    try:
        named = model_class(run.answer["model"]).ablations
    except InputError:  # the model's file is gone, but its scores are not
        return {}
    own = list(run.answer.get("changes", ()))
    changes = {label: [f"{key}={json.dumps(value)}" for key, value in to.items()] for label, to in named.items()}
    return {label: own + other for label, other in changes.items() if not set(other) <= set(own)}


def _seeds(run: Trained, runs: Sequence[Trained], changes: Sequence[str]) -> dict[int, Trained]:
    """Seed -> run, of the runs of the same model and protocol with these changes of settings."""
    return {
        other.answer["seed"]: other
        for other in runs
        if (other.answer["model"], other.answer["protocol"]) == (run.answer["model"], run.answer["protocol"])
        and set(other.answer.get("changes", ())) == set(changes)
        and not other.stale
        and all(path.exists() for path in other.predictions)
    }


def _difference(
    label: str, without: Mapping[int, Trained], whole: Mapping[int, Trained], dialogues: Mapping[str, str]
) -> tuple[Difference, str]:
    """The difference of scores over the seeds of both, and the name of the score."""
    seeds = without.keys() & whole.keys()
    entries = [Entry(label, [of[seed].answer for seed in seeds], False, {}) for of in (without, whole)]
    table = ModelTable(entries, dialogues)
    return Difference(label, *table.interval(*entries)), table.score
