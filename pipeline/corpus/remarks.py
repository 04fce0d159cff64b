"""The remarks of a reader on single utterances: a clip that is used in part, or whose faults others have reported.

A remark is an annotation: `windowed_s` is the annotated length, in seconds, of a clip that is used in part, and `known`
is a reported fault with its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.utterance import Utterance


def remarks(rows: Iterable[Utterance]) -> Iterator[tuple[str, str]]:
    """The id and the remark of every utterance that has one."""
    for row in rows:
        length_s, known = row.labels.get("windowed_s"), row.labels.get("known")
        texts = [f"used in part, annotated {float(length_s):.1f} s"] if length_s is not None else []
        texts += [str(known)] if known is not None else []
        if texts:
            yield row.id, "; ".join(texts)


def summary(rows: Iterable[Utterance]) -> str:
    """One line for a person, which counts the remarks; "" if there are none."""
    texts = [text for _, text in remarks(rows)]
    windowed = sum(text.startswith("used in part") for text in texts)
    return f"{len(texts):,} clips have remarks, {windowed:,} are used in part: the report lists them." if texts else ""
