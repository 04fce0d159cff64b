"""Commands that keep caches sound and small."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand

from pipeline.cache.home import Home
from pipeline.cli.options import Json, tell
from pipeline.console import console
from pipeline.errors import InputError

commands = typer.Typer()

DAMAGED = 2
"""The exit code of a `verify` that found damage."""

Remote = Annotated[
    str | None, typer.Option("--remote", help="The remote too: s3://bucket/prefix, or AFFECTORY_REMOTE without one.")
]
OlderThan = Annotated[float, typer.Option("--older-than", min=1, help="Days without use.")]
Delete = Annotated[bool, typer.Option("--delete", help="Delete what is listed; without it nothing is.")]


class WithRemote(TyperCommand):
    """A command whose `--remote` may stand without a URL: then AFFECTORY_REMOTE is meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the environment's URL after a bare `--remote`."""
        at = args.index("--remote") + 1 if "--remote" in args else 0
        if at and (at == len(args) or args[at].startswith("--")):
            args = [*args[:at], os.environ.get("AFFECTORY_REMOTE", ""), *args[at:]]
        return super().parse_args(ctx, args)


@commands.command(cls=WithRemote)
def verify(remote: Remote = None, as_json: Json = False) -> None:
    """Reads the whole cache, and with --remote the remote too, and sets aside what is damaged; ends with 2 if any is.

    Example: `affectory verify --remote s3://team/affectory`
    """
    from pipeline.cache import verify as checks
    from pipeline.corpus.open_corpus import reachable

    url, cache = _url(remote), Home().cache
    answer = checks.verify(cache, reachable(url or os.environ.get("AFFECTORY_REMOTE", ""), cache)).answer()
    if url:
        answer["remote"] = checks.verify_remote(url, cache).answer()
    both = [(str(cache), answer), *([(url, answer["remote"])] if url else [])]
    for place, found in both:
        _show_damage(place, found)
    tell(answer, as_json, "")
    if any(found["damaged"] for _, found in both):
        raise typer.Exit(DAMAGED)


@commands.command(cls=WithRemote)
def gc(older_than: OlderThan = 30, remote: Remote = None, delete: Delete = False, as_json: Json = False) -> None:
    """Lists what nobody used for a while, and deletes it with --delete; on the remote too with --remote.

    Never what is younger than a day, nor what a live run uses. Example: `affectory gc --older-than 60 --delete`
    """
    from pipeline.cache import gc as collect

    url, home = _url(remote), Home()
    waste = (collect.delete if delete else collect.collect)(home, older_than)
    answer = {"older_than": older_than, "deleted": delete, **waste.answer()}
    _show_waste(answer)
    if url:
        answer["remote"] = _gc_remote(url, home, older_than, delete)
    done = "" if delete else " Nothing was deleted: --delete does it."
    tell(answer, as_json, f"{'Deleted' if delete else 'To delete'}: {answer['bytes']:,} bytes here.{done}")


def _gc_remote(url: str, home: Home, older_than: float, delete: bool) -> dict[str, Any]:
    from pipeline.cache import gc_remote
    from pipeline.cache.remote_inventory import Inventory
    from pipeline.corpus.lock_file import locked_indexes

    there = Inventory(url, home.cache)
    there.check()
    found = (gc_remote.delete if delete else gc_remote.collect)(there, home, older_than, locked_indexes(home)).answer()
    for kind in ("indexes", "objects"):
        console.print(f"{url}: {found[kind]['files']} {kind}, {found[kind]['bytes']:,} bytes", soft_wrap=True)
    return found


def _url(remote: str | None) -> str:
    """Of the remote where one was asked for. Raises InputError where nobody says which."""
    if remote == "":
        raise InputError("which remote? Give --remote s3://bucket/prefix, or set AFFECTORY_REMOTE")
    return remote or ""


def _show_damage(place: str, found: dict[str, Any]) -> None:
    for each in found["damaged"]:
        console.print(f"[red]{escape(place)}/{each['place']}: {escape(each['why'])}[/red]", soft_wrap=True)
    checked = f"{found['records']} records, {found['objects']} objects, {found['bytes']:,} bytes"
    loose = f", {found['unreferenced']} objects that nothing names" if found["unreferenced"] else ""
    console.print(f"{escape(place)}: {len(found['damaged'])} damaged of {checked}{loose}", soft_wrap=True)


def _show_waste(answer: dict[str, Any]) -> None:
    from rich.table import Table

    from pipeline.cache.gc import KINDS

    table = Table("stage", "actions", "objects", "bytes", title=f"Not used for {answer['older_than']:g} days")
    for each in answer["stages"]:
        name = f"{each['name']} {each['stage'][:12]}"
        table.add_row(name, str(each["actions"]), str(each["objects"]), f"{each['bytes']:,}")
    for kind in KINDS:
        table.add_row(f"({kind})", "", str(answer[kind]["files"]), f"{answer[kind]['bytes']:,}")
    console.print(table)
    if answer["pinned"]:
        console.print(f"{answer['pinned']} stages of live runs stay, and so do objects that nothing names.")
