"""The command `export`: features for other tools."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cache.home import Home
from pipeline.cli.coverage import covered
from pipeline.cli.extract import extract_shown
from pipeline.cli.options import (
    Gpus,
    Json,
    Limit,
    NoExtract,
    OrLast,
    Protocol,
    Root,
    Scheduler,
    Set,
    Workers,
    options,
    or_last,
    show_answer,
)
from pipeline.console import console, print_line
from pipeline.corpus.recipe_file import home_name, recipe_path
from pipeline.errors import InputError, closest
from pipeline.formats.writers import FORMATS, named, write
from pipeline.plan.session import Session
from pipeline.run.extraction import repaired
from pipeline.run.reference_job import open_session
from pipeline.written_path import written_path

commands = typer.Typer()


@commands.command()
def export(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")],
    features: Annotated[str, typer.Option(help="The feature set, such as hjcag or mulg.")],
    to: Annotated[str, typer.Option("--to", "-o", help="The file or the folder to write, which must not exist yet.")],
    dataset: OrLast = "",
    root: Root = "",
    protocol: Protocol = "",
    fold: Annotated[str, typer.Option(help="The fold whose parts are the split. Default: the only one.")] = "",
    workers: Workers = None,
    scheduler: Scheduler = "",
    gpus: Gpus = 0,
    change: Set = None,
    limit: Limit = None,
    no_extract: NoExtract = False,
    as_json: Json = False,
) -> None:
    """Writes the features, labels and split of a corpus as a file that another tool reads, and first extracts them.

    docs/exchange.md says what each format holds.
    Example: `affectory export mmsa --dataset demo --features hjcag -o demo.pkl`
    """
    from pipeline.views import exported

    home, wanted, place = Home(), named(form), written_path(to)
    dataset, root, change = or_last(home, dataset, root, change)
    log = home.log_to_file("export", home_name(recipe_path(dataset)))
    given = options(
        dataset, root, protocol=protocol, workers=workers, scheduler=scheduler, gpus=gpus, change=change, limit=limit
    )
    session = _over(open_session(home, given), features)
    chosen = exported.fold_of(session.corpus, fold)
    covered(session) if no_extract else extract_shown(session, noted=False)
    found = repaired(session, lambda: exported.content(session, features, chosen, aligned=wanted.aligned))
    about = exported.about(session, features, chosen, found) | {"format": form}
    with console.status(f"Writing {place}"):
        beside = write(found, about, wanted, place)
    print_line(", ".join(f"{part}: {count:,} rows" for part, count in about["rows"].items()))
    answer = {"file": str(place), "about": str(beside), "rows": about["rows"]}
    show_answer(answer, as_json, f"Written: {place}, described in {beside}\nLog: {log}")


def _over(session: Session, features: str) -> Session:
    """The session of this feature set alone. Raises InputError if the recipe has none of the name."""
    if features not in session.corpus.recipe.features:
        raise InputError(f"no feature set {features!r}: {closest(features, session.corpus.recipe.features)}")
    return session.over(session.corpus, features)
