"""What a reader remarks of single utterances: that a clip is used in part, and what is reported of it elsewhere.

A reader remarks by two annotations: `windowed_s`, the annotated length in seconds of a clip that is used in part, and
`known`, words with their source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.utterance import Utterance


def remarks(rows: Iterable[Utterance]) -> Iterator[tuple[str, str]]:
    """(utterance, remark) of every utterance that has one."""
    for row in rows:
        length_s, known = row.labels.get("windowed_s"), row.labels.get("known")
        found = [f"used in part, annotated {float(length_s):.1f} s"] if length_s is not None else []
        found += [str(known)] if known is not None else []
        if found:
            yield row.id, "; ".join(found)


def said(rows: Iterable[Utterance]) -> str:
    """One line for a person; empty where there is nothing to remark."""
    found = list(remarks(rows))
    windowed = sum(text.startswith("used in part") for _, text in found)
    return f"{len(found):,} clips have remarks, {windowed:,} are used in part: the report lists them." if found else ""
