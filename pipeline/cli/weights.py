"""The command that fetches and pins published weights."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cache.home import Home
from pipeline.cli.options import Json, Set, tell

commands = typer.Typer()


@commands.command()
def weights(
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="A recipe in manifests/ or a TOML file; may be repeated; else all of manifests/."),
    ] = None,
    change: Set = None,
    as_json: Json = False,
) -> None:
    """Fetches the published weights that a recipe names, and pins them, so that later runs need no network.

    Example: `affectory weights --dataset iemocap --dataset meld`
    """
    from pipeline.transfer import fetch_weights

    answer = fetch_weights.fetch_weights(Home(), dataset or (), change or ())
    said = f"{len(answer['fetched'])} fetched, {len(answer['there'])} there already. {' '.join(answer['locks'])}"
    tell(answer, as_json, said.rstrip())
