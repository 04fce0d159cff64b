"""Tables under headings, as a terminal and a notebook show them."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import pandas as pd


def as_text(title: str, tables: Mapping[str, pd.DataFrame], empty: Mapping[str, str]) -> str:
    """The tables below a title. empty: what is said in place of a table without rows."""
    parts = [f"{name}\n{_shown(table).to_string() if len(table) else empty[name]}" for name, table in tables.items()]
    return "\n\n".join([title, *parts])


def as_html(title: str, tables: Mapping[str, pd.DataFrame], empty: Mapping[str, str]) -> str:
    """The same as HTML."""
    parts = [
        f"<h4>{escape(name)}</h4>{_shown(table).to_html() if len(table) else escape(empty[name])}"
        for name, table in tables.items()
    ]
    return "".join([f"<h3>{escape(title)}</h3>", *parts])


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """A table of texts: three digits after the point, and nothing where a value is missing."""
    return table.map(lambda value: "" if pd.isna(value) else f"{value:.3f}" if isinstance(value, float) else str(value))
