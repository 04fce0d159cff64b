"""Predictions of new clips by a bundle, as `affectory predict` makes them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.bundle.bundle import open_bundle
from pipeline.bundle.clips import asked_clips, common_root
from pipeline.bundle.predict import predict as predict_rows
from pipeline.bundle.predict import read_clips
from pipeline.bundle.results import result_table, write_results
from pipeline.cache.home import Home
from pipeline.pages.prediction_pages import write_pages


def predict(
    bundle: str | Path,
    video: str | Path = "",
    *,
    audio: str | Path = "",
    text: str = "",
    subtitles: str | Path = "",
    asr: str = "",
    window_s: float | None = None,
    hop_s: float | None = None,
    workers: int = 0,
    out: str | Path = "",
    home: str = "",
) -> pd.DataFrame:
    """Predicts a clip, or a folder of clips, with a bundle; its options are those of `affectory predict`.

    out: a folder for the page and the table of `affectory predict`; "" writes none.

    A row for each utterance: clip, start_s, end_s, text; label and a `p_<class>` for each class, or a column for each
    number of a regression; reason, why a modality has no features. Raises InputError for a bundle that was changed or
    needs other libraries, and for a clip that lacks a modality which the model can't do without.
    """
    clips = asked_clips(str(video), str(audio), text, str(subtitles), window_s, hop_s)
    with open_bundle(Path(bundle), Home(Path(home) if home else None).memory) as opened:
        rows = read_clips(opened, clips, asr)
        predicted = predict_rows(opened, rows, common_root(clips), workers)
        if out:
            write_pages(Path(out), Path(bundle), opened, clips, predicted, write_results(Path(out), clips, predicted))
        table: pd.DataFrame = result_table(clips, predicted).to_pandas()
    return table
