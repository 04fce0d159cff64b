"""Finds plug-ins by file name: `stages/audio_mfcc.py` is the stage `audio_mfcc`. Nobody keeps a list."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import InputError, closest

T = TypeVar("T")


@cache
def names(package: str) -> tuple[str, ...]:
    """The plug-ins of a package: its modules without a leading underscore."""
    path = importlib.import_module(package).__path__
    return tuple(sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_")))


def folder(package: str) -> Path:
    """Where the source of a package lies."""
    return Path(importlib.import_module(package).__path__[0])


def find(package: str, name: str, kind: type[T]) -> type[T]:
    """The one public subclass of `kind` that `<package>/<name>.py` defines.

    Raises InputError with the closest name where there is no such file, TypeError where it defines none or several.
    """
    if name not in names(package):
        raise InputError(f"no {name!r} in {package}/: {closest(name, names(package))}")
    module = importlib.import_module(f"{package}.{name}")
    found = [value for value in vars(module).values() if _defined_here(value, kind, module.__name__)]
    if len(found) != 1:
        raise TypeError(f"{package}/{name}.py must define exactly one public {kind.__name__}, has {len(found)}")
    chosen: type[T] = found[0]
    return chosen


def name_of(plugin: type[Any]) -> str:
    """The plug-in's name: the stem of its file."""
    return plugin.__module__.rpartition(".")[2]


def _defined_here(value: object, kind: type[Any], module: str) -> bool:
    return (
        inspect.isclass(value)
        and issubclass(value, kind)
        and value.__module__ == module
        and not value.__name__.startswith("_")
    )
