"""Finds plug-ins by the names of their files: `stages/audio_mfcc.py` is the stage `audio_mfcc`. There is no list."""

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
    """The names of a package's plug-ins: its modules without a leading underscore."""
    path = importlib.import_module(package).__path__
    return tuple(sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_")))


def folder(package: str) -> Path:
    """The folder of a package's source."""
    return Path(importlib.import_module(package).__path__[0])


def find(package: str, name: str, kind: type[T]) -> type[T]:
    """The one public subclass of `kind` that `<package>/<name>.py` defines.

    Raises InputError, with the closest names, if there is no such file; TypeError if it defines none or several.
    """
    if name not in names(package):
        raise InputError(f"no {name!r} in {package}/: {closest(name, names(package))}")
    module = importlib.import_module(f"{package}.{name}")
    plugins = [value for value in vars(module).values() if _defined_here(value, kind, module.__name__)]
    if len(plugins) != 1:
        raise TypeError(f"{package}/{name}.py must define exactly one public {kind.__name__}, has {len(plugins)}")
    plugin: type[T] = plugins[0]
    return plugin


def name_of(plugin: type[Any]) -> str:
    """A plug-in's name: the stem of its file."""
    return plugin.__module__.rpartition(".")[2]


def _defined_here(value: object, kind: type[Any], module: str) -> bool:
    return (
        inspect.isclass(value)
        and issubclass(value, kind)
        and value.__module__ == module
        and not value.__name__.startswith("_")
    )
