"""The command `bundle`: a trained run as one folder or zip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cache.home import Home
from pipeline.cli.evaluate import opened
from pipeline.cli.options import Json, Root, show_answer
from pipeline.console import print_line
from pipeline.errors import InputError

commands = typer.Typer()


@commands.command()
def bundle(
    run: Annotated[str, typer.Argument(help="A run: its name, such as hjcag, which means the newest, or its folder.")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="A new folder, or a zip if it ends in .zip. Default: <model>.bundle.")
    ] = "",
    fold: Annotated[str, typer.Option(help="The fold whose model is bundled, if the run has several.")] = "",
    root: Root = "",
    as_json: Json = False,
) -> None:
    """Makes one folder of a trained run, from which `predict` needs neither corpus nor cache.

    It holds the model, the recipe, the fitted states that the features need, the scores and a model card. Weights that
    stages name, such as those of RoBERTa, are not in it. Example: `affectory bundle hjcag --out hjcag.bundle`
    """
    from pipeline.bundle.make import chosen_fold, make_bundle
    from pipeline.train.trained_run import find

    home = Home()
    found = find(home.runs, run)
    result = chosen_fold(found, fold)
    place = Path(out or f"{result.model}.bundle")
    if place.exists():
        raise InputError(f"{place} is there already: choose another name by --out, or remove it")
    print_line(f"Bundling {found.name} ({found.folder.name}), fold {result.fold}: first the corpus is read.")
    evaluation = opened(home, found, "test", ("", root, ""), {}, extract=False)
    contents = make_bundle(evaluation, result, place)
    answer = {"bundle": str(place), "run": str(found.folder), "fold": result.fold, "files": dict(contents.files)}
    show_answer(answer, as_json, f"Wrote {place}: {len(contents.files) + 1} files")
