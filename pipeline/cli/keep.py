"""The commands that keep caches sound and small: `verify` and `gc`."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from pipeline.cache.home import Home
from pipeline.cli.options import Json, show_answer
from pipeline.console import console, print_line, table
from pipeline.errors import InputError

commands = typer.Typer()

DAMAGED = 2
"""The exit code of a `verify` that found damage."""

Remote = Annotated[
    str | None,
    typer.Option("--remote", help="The remote as well: s3://bucket/prefix, or without a URL that of AFFECTORY_REMOTE."),
]
Delete = Annotated[bool, typer.Option("--delete", help="Delete what is listed. Without it nothing is deleted.")]


def _at_least_a_day(days: float) -> float:
    if not days >= 1:
        raise typer.BadParameter(
            f"{days:g} is less than a day. What is younger than a day is never deleted: a run may be about to use it."
        )
    return days


OlderThan = Annotated[
    float, typer.Option("--older-than", callback=_at_least_a_day, help="Days without use, at least 1.")
]


class WithRemote(TyperCommand):
    """A command whose `--remote` takes the URL of AFFECTORY_REMOTE if none follows it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Inserts the environment's URL after a `--remote` without one."""
        at = args.index("--remote") + 1 if "--remote" in args else 0
        if at and (at == len(args) or args[at].startswith("--")):
            args = [*args[:at], os.environ.get("AFFECTORY_REMOTE", ""), *args[at:]]
        return super().parse_args(ctx, args)


@commands.command(cls=WithRemote)
def verify(remote: Remote = None, as_json: Json = False) -> None:
    """Reads the whole cache and all views, and sets damaged ones aside; exits with 2 if there are any.

    With --remote, reads the remote too.

    Example: `affectory verify --remote s3://team/affectory`
    """
    from pipeline.cache import verify as checks
    from pipeline.corpus.open_corpus import reachable
    from pipeline.views import integrity

    url, home = _url(remote), Home()
    cache = home.cache
    answer = checks.verify(cache, reachable(url or os.environ.get("AFFECTORY_REMOTE", ""), cache)).answer()
    if url:
        answer["remote"] = checks.verify_remote(url, cache).answer()
    both = [(str(cache), answer), *([(url, answer["remote"])] if url else [])]
    for place, checked in both:
        _show_damage(place, checked)
    answer["views"] = views = integrity.verify(home.root)
    _show_damaged(str(home.root), views)
    print_line(f"{home.root / 'views'}: {len(views['damaged'])} damaged of {views['columns']} columns")
    show_answer(answer, as_json, "")
    if views["damaged"] or any(checked["damaged"] for _, checked in both):
        raise typer.Exit(DAMAGED)


@commands.command(cls=WithRemote)
def gc(older_than: OlderThan = 30, remote: Remote = None, delete: Delete = False, as_json: Json = False) -> None:
    """Lists what nobody has used for some days, here and with --remote on the remote. With --delete, deletes it.

    What is younger than a day, or in use by a live run, is never deleted.

    Example: `affectory gc --older-than 60 --delete`
    """
    from pipeline.cache import gc as collect

    url, home = _url(remote), Home()
    waste = (collect.delete if delete else collect.collect)(home, older_than)
    answer = {"older_than": older_than, "deleted": delete, **waste.answer()}
    _show_waste(answer)
    if url:
        answer["remote"] = _gc_remote(url, home, older_than, delete)
    done = "" if delete else " Nothing was deleted; --delete deletes it."
    show_answer(answer, as_json, f"{'Deleted' if delete else 'To delete'}: {answer['bytes']:,} bytes here.{done}")


def _gc_remote(url: str, home: Home, older_than: float, delete: bool) -> dict[str, Any]:
    from pipeline.cache import gc_remote
    from pipeline.cache.remote_inventory import Inventory
    from pipeline.corpus.release_file import agreed_digests
    from pipeline.transfer.remote_contents import released_digests

    there = Inventory(url, home.cache)
    there.check()
    agreed = agreed_digests(home) | released_digests(there)
    waste = (gc_remote.delete if delete else gc_remote.collect)(there, home, older_than, agreed).answer()
    for kind in ("indexes", "objects"):
        print_line(f"{url}: {waste[kind]['files']} {kind}, {waste[kind]['bytes']:,} bytes")
    return waste


def _url(remote: str | None) -> str:
    """The URL of the remote, "" if none was asked for. Raises InputError if one was, and nothing says which."""
    if remote == "":
        raise InputError("which remote? Give --remote s3://bucket/prefix, or set AFFECTORY_REMOTE")
    return remote or ""


def _show_damage(place: str, answer: dict[str, Any]) -> None:
    _show_damaged(place, answer)
    checked = f"{answer['records']} records, {answer['objects']} objects, {answer['bytes']:,} bytes"
    loose = f", {answer['unreferenced']} objects that nothing names" if answer["unreferenced"] else ""
    print_line(f"{place}: {len(answer['damaged'])} damaged of {checked}{loose}")


def _show_damaged(place: str, answer: dict[str, Any]) -> None:
    for damage in answer["damaged"]:
        print_line(f"{place}/{damage['place']}: {damage['why']}", "red")


def _show_waste(answer: dict[str, Any]) -> None:
    from pipeline.cache.gc import KINDS

    shown = table(f"Not used for {answer['older_than']:g} days", "stage", "actions", "objects", "bytes")
    for stage in answer["stages"]:
        name = f"{stage['name']} {stage['stage'][:6]}"
        shown.add_row(name, f"{stage['actions']:,}", f"{stage['objects']:,}", f"{stage['bytes']:,}")
    for kind in KINDS:
        shown.add_row(f"({kind})", "", f"{answer[kind]['files']:,}", f"{answer[kind]['bytes']:,}")
    console.print(shown)
    if answer["pinned"]:
        print_line(f"{answer['pinned']} stages of live runs are kept, and so are objects that nothing names.")
