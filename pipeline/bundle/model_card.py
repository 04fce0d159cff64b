"""The model card of a bundle, in Markdown: what the model is, what it learned from, its scores, and its limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.bundle.differences import Described
from pipeline.corpus.corpus import Corpus
from pipeline.score.metrics import scalars
from pipeline.train.fold_result import FoldResult
from pipeline.train.trained_run import TrainedRun


def model_card(run: TrainedRun, result: FoldResult, corpus: Corpus, stages: Described) -> str:
    """The card of a fold's model. corpus: that it learned from. stages: see `Contents`."""
    sections = (
        _about(run, result, corpus),
        _features(stages),
        _scores(result),
        _limits(result, corpus),
    )
    return "\n".join(line for section in sections for line in section)


def _about(run: TrainedRun, result: FoldResult, corpus: Corpus) -> Iterator[str]:
    target = run.target
    yield from (f"# {run.answer['name']}, trained on {corpus.recipe.name}", "")
    names = ", ".join(target.classes) or "one number"
    yield f"A model of Affectory that predicts a {target.task}: {names}. To predict a clip:"
    yield from ("", '    affectory predict FOLDER --video clip.mp4 --text "what is said"', "")
    yield f"- Model: `{result.model}`, {result.parameters:,} parameters, seed {result.seed}"
    counts = ", ".join(f"{result.counts[part]:,} {part}" for part in ("train", "valid", "test"))
    yield f"- Corpus: {corpus.recipe.name}, labels `{corpus.recipe.label_protocol}`, protocol `{corpus.protocol}`"
    yield from (f"- Utterances of the fold `{result.fold}`: {counts}", "")


def _features(stages: Described) -> Iterator[str]:
    yield from ("## Features", "", "| modality | stage | parameters |", "|---|---|---|")
    for modality, parts in stages.items():
        for stage in parts:
            yield from _stage(modality, stage)
    yield ""


def _stage(modality: str, stage: Mapping[str, Any]) -> Iterator[str]:
    parameters = ", ".join(f"{name} = {_in_cell(value)}" for name, value in sorted(stage["params"].items()))
    yield f"| {modality} | `{stage['stage']}`, version {stage['version']} | {parameters} |"
    for source in stage["inputs"]:
        if isinstance(source, Mapping):
            yield from _stage(f"{modality}, input of `{stage['stage']}`", source)


def _in_cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _scores(result: FoldResult) -> Iterator[str]:
    yield from ("## Scores", "", "| score | test | majority | validation |", "|---|---|---|---|")
    test, valid = scalars(result.metrics), scalars(result.valid)
    for name, value in test.items():
        if not name.startswith("majority_"):
            yield f"| {name} | {_score(value)} | {_score(test.get(f'majority_{name}'))} | {_score(valid.get(name))} |"
    yield ""


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _limits(result: FoldResult, corpus: Corpus) -> Iterator[str]:
    yield from ("## Limits", "")
    yield f"- It knows people, languages and recordings like those of {corpus.recipe.name}, and no others."
    yield "- It predicts how annotators would label an expression. It does not say what a person feels."
    yield "- Weights that its stages name are not in the bundle: a stage loads them by name, and checks their digest."
    yield f"- Validation chose epoch {result.best_epoch + 1} of {result.epochs}; the test rows were scored once."
    if corpus.recipe.reader.licence:
        yield f"- Licence of the corpus: {corpus.recipe.reader.licence}"
    yield ""
