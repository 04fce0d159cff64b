"""The commands `bundle` and `predict`: a trained run as one folder or zip, and what it predicts of new clips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cache.home import Home
from pipeline.cli.evaluate import opened
from pipeline.cli.options import Json, Root, show_answer
from pipeline.cli.tables import prediction_table
from pipeline.console import console, print_line
from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.bundle.results import Written

commands = typer.Typer()


@commands.command()
def bundle(
    run: Annotated[str, typer.Argument(help="A run: its name, such as hjcag, which means the newest, or its folder.")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="A new folder, or a zip if it ends in .zip. Default: <model>.bundle.")
    ] = "",
    fold: Annotated[str, typer.Option(help="The fold whose model is bundled, if the run has several.")] = "",
    root: Root = "",
    as_json: Json = False,
) -> None:
    """Makes one folder of a trained run, from which `predict` needs neither corpus nor cache.

    It holds the model, the recipe, the fitted states that the features need, the scores and a model card. Weights that
    stages name, such as those of RoBERTa, are not in it. Example: `affectory bundle hjcag --out hjcag.bundle`
    """
    from pipeline.bundle.make import chosen_fold, make_bundle
    from pipeline.train.trained_run import find

    home = Home()
    found = find(home.runs, run)
    result = chosen_fold(found, fold)
    place = Path(out or f"{result.model}.bundle")
    if place.exists():
        raise InputError(f"{place} is there already: choose another name by --out, or remove it")
    print_line(f"Bundling {found.name} ({found.folder.name}), fold {result.fold}: first the corpus is read.")
    evaluation = opened(home, found, "test", ("", root, ""), {}, extract=False)
    contents = make_bundle(evaluation, result, place)
    answer = {"bundle": str(place), "run": str(found.folder), "fold": result.fold, "files": dict(contents.files)}
    show_answer(answer, as_json, f"Wrote {place}: {len(contents.files) + 1} files")


@commands.command()
def predict(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder or the zip of a bundle.")],
    video: Annotated[str, typer.Option(help="A video file, or a folder of clips.")] = "",
    audio: Annotated[str, typer.Option(help="A sound file. Default: the sound of the video.")] = "",
    text: Annotated[str, typer.Option(help="What the whole clip says.")] = "",
    subtitles: Annotated[str, typer.Option(help="An .srt or .vtt file, each line of which is an utterance.")] = "",
    asr: Annotated[
        str,
        typer.Option(help="Recognise what is said where no text is: org/name@revision of the hub, or a folder."),
    ] = "",
    window_s: Annotated[float | None, typer.Option(help="Cut the clip into windows of so many seconds.")] = None,
    hop_s: Annotated[float | None, typer.Option(help="From window to window. Default: the window.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes for a folder; 0 extracts in this one.")] = 0,
    out: Annotated[str, typer.Option("--out", "-o", help="A folder for the results. Default: data/predictions/.")] = "",
    as_json: Json = False,
) -> None:
    """Predicts new clips with a bundle, and writes a table of every utterance, and a page to look at.

    A clip without a transcript is predicted without it if the model was trained so, else refused. In a folder,
    <stem>.srt, <stem>.vtt or <stem>.txt beside a clip says what is said in it.
    Example: `affectory predict hjcag.bundle --video clip.mp4 --text "I can't believe it"`
    """
    from pipeline.bundle.bundle import open_bundle
    from pipeline.bundle.clips import asked_clips, common_root
    from pipeline.bundle.predict import predict as predict_rows
    from pipeline.bundle.predict import read_clips
    from pipeline.bundle.results import write_results
    from pipeline.pages.prediction_pages import write_pages

    home = Home()
    clips = asked_clips(video, audio, text, subtitles, window_s, hop_s)
    folder = Path(out) if out else home.root / "predictions" / Path(video or audio).absolute().stem
    home.log_to_file("predict", folder.name)
    with open_bundle(path, home.memory) as opened_bundle:
        rows = read_clips(opened_bundle, clips, asr)
        print_line(f"Predicting {len(rows):,} utterances of {len(clips):,} clips with {opened_bundle.contents.name}")
        predicted = predict_rows(opened_bundle, rows, common_root(clips), workers)
        written = write_results(folder, clips, predicted)
        _show(path, written, write_pages(folder, path, opened_bundle, clips, predicted, written), as_json)


def _show(bundle: Path, written: Written, page: Path, as_json: bool) -> None:
    table = written.table.to_pylist()
    console.print(prediction_table(table, written.columns))
    answer = {"bundle": str(bundle), "file": str(written.file), "page": str(page), "rows": table}
    show_answer(answer, as_json, f"Wrote {written.file} and {page}")
