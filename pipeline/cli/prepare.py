"""The commands that prepare an extraction: `doctor`, `fetch`, `init-table` and `weights`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cache.home import Home
from pipeline.cli.options import Dataset, Json, Modality, Root, Set, Workers, options, show_answer
from pipeline.console import console, print_line
from pipeline.corpus.open_corpus import Options
from pipeline.errors import InputError

commands = typer.Typer()


@commands.command()
def doctor(
    dataset: Dataset = "",
    root: Root = "",
    modality: Modality = "",
    workers: Workers = None,
    change: Set = None,
    machine: Annotated[bool, typer.Option("--system", help="Examine this machine instead of a corpus.")] = False,
    as_json: Json = False,
) -> None:
    """Opens every media file of a corpus and lists what is wrong with it, before a long run.

    Example: `affectory doctor --dataset meld --root /corpora/MELD.Raw`, or `affectory doctor --system`
    """
    if machine:
        _examine_machine(as_json)
    elif dataset:
        _examine_media(options(dataset, root, modality=modality, workers=workers, change=change), as_json)
    else:
        raise InputError("doctor needs a corpus, --dataset meld, or --system for this machine")


def _examine_media(asked: Options, as_json: bool) -> None:
    from pipeline.cli.tables import doctor_tables
    from pipeline.corpus.corpus import Corpus
    from pipeline.corpus.open_corpus import scan
    from pipeline.corpus.same_media import answers, same_media
    from pipeline.media.doctor import doctor as examined

    home = Home()
    home.check_edition()
    recipe, manifest = scan(home, replace(asked, modality=""))  # the whole corpus, whatever is examined of it
    where = (recipe.home_name, manifest.rows, manifest.root, home.doctor)
    summary = examined(*where, modality=asked.modality, workers=asked.workers)
    same = []
    with suppress(InputError):  # a copy that cannot be split has no parts to compare
        same = same_media(Corpus(recipe, manifest, recipe.protocol))
    answer = {"dataset": recipe.name, **summary, "same_media": answers(same)}
    if not as_json:
        for table in doctor_tables(answer):
            console.print(table)
    for found in same:
        print_line(found.line, "red")
    show_answer(answer, as_json, f"All findings: {answer['parquet']}")


def _examine_machine(as_json: bool) -> None:
    from pipeline.ask.system import system, system_table

    found = system(Home())
    if not as_json:
        console.print(system_table(found))
    show_answer(found, as_json, "")


@commands.command()
def fetch(dataset: Dataset, root: Root = "", as_json: Json = False) -> None:
    """Downloads a corpus, and resumes a download that broke off. Of a corpus on request, prints whom to ask.

    Example: `affectory fetch --dataset meld --root /corpora/MELD.Raw`
    """
    from pipeline.transfer import fetch_corpus

    show_answer(fetch_corpus.fetch(Home(), dataset, root), as_json, "")


@commands.command("init-table")
def start_table(
    folder: Annotated[Path, typer.Argument(help="A folder of clips, each with its transcript beside it as .txt.")],
    encoding: Annotated[str, typer.Option(help="The encoding of the transcripts, such as cp1252.")] = "utf-8",
    as_json: Json = False,
) -> None:
    """Writes a table of the clips in a folder, for you to fill in; the reader `table` then reads it as a corpus.

    Example: `affectory init-table /my/clips`
    """
    from pipeline.corpus import init_table

    answer = init_table.write(folder, encoding=encoding)
    for why, names in answer["left_out"].items():
        print_line(f"left out, {why}: {len(names)}, such as {names[0]}", "yellow")
    show_answer(answer, as_json, f"Fill in {answer['table']}, then: make extract DATASET=my.toml ROOT={folder}")


@commands.command()
def weights(
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="A recipe, by name or path. May be repeated. Default: every recipe in manifests/."),
    ] = None,
    change: Set = None,
    as_json: Json = False,
) -> None:
    """Downloads the published weights that a recipe names, and pins them, so that later runs need no network.

    Example: `affectory weights --dataset iemocap --dataset meld`
    """
    from pipeline.transfer import fetch_weights

    answer = fetch_weights.fetch_weights(Home(), dataset or (), change or ())
    line = f"{len(answer['fetched'])} fetched, {len(answer['there'])} there already. {' '.join(answer['locks'])}"
    show_answer(answer, as_json, line.rstrip())
