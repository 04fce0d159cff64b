"""The command `maps`: pictures of a trained run's attention and gates."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from pipeline.cache.home import Home
from pipeline.cli.evaluate import opened
from pipeline.cli.options import Json, Root, show_answer
from pipeline.console import console, print_line
from pipeline.run.extraction import repaired

commands = typer.Typer()


@commands.command()
def maps(
    run: Annotated[str, typer.Argument(help="A run: its name, such as mulg, which means the newest, or its folder.")],
    utterance: Annotated[list[str] | None, typer.Option(help="Draw this utterance; may be repeated.")] = None,
    wrong: Annotated[int, typer.Option(min=0, help="Or so many that are most surely wrong.")] = 4,
    part: Annotated[Literal["train", "valid", "test"], typer.Option("--split", help="The part of a fold.")] = "valid",
    root: Root = "",
    as_json: Json = False,
) -> None:
    """Draws where a trained run's attention goes, by utterance and in the mean by class, and its gates by class.

    Every picture is an SVG, a PNG and a CSV file in the folder `maps` of the run; the report shows some and links the
    others. Example: `affectory maps mulg --utterance Ses05F_impro01_F004 --split test`
    """
    from pipeline.report import attention
    from pipeline.report.attention_pictures import FOLDER
    from pipeline.train.trained_run import find

    home = Home()
    found = find(home.runs, run)
    print_line(f"Drawing {found.name} ({found.folder.name}): first the corpus is read.")
    evaluation = opened(home, found, part, ("", root, ""), {}, extract=False)
    with console.status("Drawing"):
        pictures = repaired(evaluation.session, lambda: attention.draw(evaluation, utterance or [], wrong))
    folder = found.folder / FOLDER
    for picture in pictures:
        print_line(f"{picture.name}: {picture.caption}")
    answer = {"run": str(found.folder), "part": part, "files": [str(folder / f"{p.name}.svg") for p in pictures]}
    show_answer(answer, as_json, f"Pictures as SVG, PNG and CSV in {folder}")
