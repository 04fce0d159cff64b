"""Makes a bundle of a trained run: the model of one fold, with all that its features need."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.bundle.bundle import state_name
from pipeline.bundle.contents import METRICS, README, RECIPE, STATES, Contents, digests, place, write_contents
from pipeline.bundle.differences import DECODING, described, founded_here
from pipeline.bundle.model_card import model_card
from pipeline.bundle.probe import probed
from pipeline.cache.atomic import publish
from pipeline.cache.weights import LOCK as PINS
from pipeline.cache.weights import Weights, pinned_digest
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.recipe import Selection
from pipeline.corpus.recipe_file import recipe_path
from pipeline.corpus.recipe_text import read_text
from pipeline.corpus.release_file import released
from pipeline.errors import InputError, closest
from pipeline.stage import Modality
from pipeline.train.evaluate import Evaluation
from pipeline.train.fold_result import FoldResult
from pipeline.train.model_file import CARD, WEIGHTS, load_model
from pipeline.train.trained_run import TrainedRun


def chosen_fold(run: TrainedRun, name: str) -> FoldResult:
    """The fold of that name, or the only one. Raises InputError if there are several, or for one that can't predict a
    clip by itself."""
    names = [result.fold for result in run.folds]
    if not name and len(names) > 1:
        raise InputError(f"{run.name} has a model for each fold, and a bundle holds one: --fold {' or '.join(names)}")
    if name and name not in names:
        raise InputError(f"{run.name} has no fold {name!r}: {closest(name, names)}")
    result = run.folds[names.index(name) if name else 0]
    if result.transductive:
        raise InputError(
            f"{run.name} standardises by speaker, over all that a speaker says, which a new clip is not: train with "
            f"--set train.{result.model}.normalize='\"train\"'"
        )
    return result


def make_bundle(evaluation: Evaluation, result: FoldResult, out: Path) -> Contents:
    """Writes a bundle of a fold's model to `out`, a new folder, or a zip if the name ends in .zip.

    evaluation: of the run on its own corpus, whose features are in the cache. Raises InputError if there is something
    at `out`, if the recipe gives other features now, and if libraries have changed since and were not compared.
    """
    if out.exists():
        raise InputError(f"{out} is there already: choose another name, or remove it")
    corpus = evaluation.current(result)
    selections = corpus.recipe.features[evaluation.features]
    _check_compared(evaluation, selections)
    here = {m: Selection(tuple(map(founded_here, s.parts)), s.align) for m, s in selections.items()}
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=".bundle-") as temporary:
        folder = Path(temporary) / "bundle"
        (folder / STATES).mkdir(parents=True)
        _write_files(evaluation, result, corpus, here, folder)
        model = load_model(folder)
        contents = Contents(
            name=str(evaluation.run.answer["name"]),
            dataset=corpus.recipe.name,
            fold=result.fold,
            features=evaluation.features,
            changes=tuple(evaluation.session.options.changes),
            stages=described(here),
            decoding=DECODING,
            probe=tuple(tuple(row) for row in probed(model)),
            files=digests(folder),
        )
        write_contents(folder, contents)
        place(folder, out.absolute())
    return contents


def _write_files(
    evaluation: Evaluation,
    result: FoldResult,
    corpus: Corpus,
    here: Mapping[Modality, Selection],
    folder: Path,
) -> None:
    source, recipe = evaluation.run.folder / result.fold, recipe_path(evaluation.session.options.dataset)
    for name in (WEIGHTS, CARD):
        shutil.copyfile(source / name, folder / name)
    release = released(recipe)
    publish(folder / RECIPE, release.text if release else read_text(recipe))
    pins = Weights(release.pins) if release else Weights.read(recipe.with_name(PINS))
    if needed := _needed_pins(pins, here):
        needed.write(folder / PINS)
    _copy_states(evaluation, result, here, folder)
    metrics = {"test": result.metrics, "complete": result.complete, "valid": result.valid, "counts": result.counts}
    publish(folder / METRICS, json.dumps(metrics, indent=1) + "\n")
    publish(folder / README, model_card(evaluation.run, result, corpus, described(here)))


def _copy_states(evaluation: Evaluation, result: FoldResult, here: Mapping[Modality, Selection], folder: Path) -> None:
    """Copies the fitted states that rows of test got their features by: those of the fits on all of train."""
    session = evaluation.session
    selections = session.corpus.recipe.features[evaluation.features]
    for modality, selection in selections.items():
        for part, own in zip(selection.parts, here[modality].parts, strict=True):
            for node, named in zip(part.walk(), own.walk(), strict=True):
                if not node.stage.fitted:
                    continue
                state = session.catalogue.of(node, session.corpus.scopes[result.fold][0]).state
                assert state is not None, "the model's columns were made with it"
                shutil.copyfile(session.catalogue.store.open(state), folder / state_name(named))


def _needed_pins(pins: Weights, selections: Mapping[Modality, Selection]) -> Weights | None:
    """The pins that stages of the model's features read; None if there are none."""
    nodes = [node for s in selections.values() for part in s.parts for node in part.walk()]
    read = {pinned_digest(name) for node in nodes for name in node.stage.sources().values()}
    needed = {source: pin for source, pin in pins.pins.items() if pin.digest in read}
    return Weights(needed) if needed else None


def _check_compared(evaluation: Evaluation, selections: Mapping[Modality, Selection]) -> None:
    """Raises InputError if rows of other libraries than those here were taken without being compared with them."""
    nodes: set[Any] = {node for s in selections.values() for part in s.parts for node in part.walk()}
    wrong = [v.line for v in evaluation.session.verdicts if v.comparison is None and v.node in nodes]
    if wrong:
        raise InputError("the model learned from rows of other libraries:\n" + "\n".join(wrong))
