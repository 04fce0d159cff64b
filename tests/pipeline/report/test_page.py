"""The report: what it says of a corpus, its features and models, and that nothing in it can run or load anything."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.cache.home import Home
from pipeline.corpus.open_corpus import Options
from pipeline.plan.session import Session
from pipeline.reader import Label
from pipeline.report import model_details, models_section, probes_section
from pipeline.report import page as report
from pipeline.report.charts import curves, grouped, histogram
from pipeline.report.corpus_section import expected
from pipeline.report.features_section import Extracted, covered, failures
from pipeline.report.models_section import Trained
from pipeline.report.probes_section import Probe
from pipeline.report.table import Sheet, cell, size
from pipeline.stage import Target
from pipeline.train import metrics
from pipeline.train.linear_probe import probe
from pipeline.views.build_view import names
from tests.small import RECIPE, Small

KNOWN = RECIPE.replace('reader   = "iemocap"', 'reader = "demo"\nper_cell = 2')
EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """The tags of a page with their attributes, its tables, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.tables: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        if self.tables and tag in ("caption", "th", "td"):
            self.tables[-1].append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


@pytest.fixture(scope="module")
def known(demo_root: Path, extracted_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The extracted small corpus, by the reader that knows the bounds."""
    made = tmp_path_factory.mktemp("known")
    small = Small(demo_root, made / "home", made / "small.toml", KNOWN)
    small.take(extracted_home)
    return small


def write(small: Small, **options: Any) -> tuple[dict[str, Any], Page]:
    answer = report.write(Session.open(*place(small, **options)))
    return answer, Page(Path(answer["report"]).read_text())


def place(small: Small, **options: Any) -> tuple[Home, Options]:
    small.path.write_text(small.recipe)
    return Home(small.home), Options(dataset=str(small.path), root=str(small.root), **options)


@pytest.fixture(scope="module")
def written(known: Small) -> tuple[dict[str, Any], Page]:
    run(known, "perfect", right=True)
    run(known, "idle", right=False)
    (known.home / "runs" / known.name / "broken-official.json").write_text('{"model": ')
    return write(known)


# --- runs of models, made by hand ----------------------------------------------------------------------------


def fold(name: str, target: Target, logits: Any, truth: Sequence[Label], train: Sequence[Label]) -> dict[str, Any]:
    """A FoldResult as JSON, of given predictions on test."""
    found = {**metrics.evaluate(logits, truth, target), **metrics.majority(train, truth, target)}
    return {
        "fold": name,
        "seed": 0,
        "target": {"task": target.task, "classes": list(target.classes)},
        "metrics": found,
        "complete": found,
        "valid": found,
        "best_epoch": 1,
        "epochs": 3,
        "seconds": 1.0,
        "parameters": 1234567,
        "device": "cpu",
        "normalize": "train",
        "transductive": False,
        "counts": {"train": len(train), "valid": 0, "test": len(truth), "test_complete": len(truth)},
        "cropped": {"audio": dict.fromkeys(("train", "valid", "test"), {"utterances": 0.5, "steps": 0.25})},
        "gates": {"all": {"text": 0.2, "audio": 0.8}},
        "answers": {key: list(value) for key, value in metrics.answers(train, target).items()},
    }


def answer(model: str, folds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first = folds[0]["metrics"]
    spread = dict.fromkeys(metrics.scalars(first), 0.125)
    summary = {"pooled": first, "mean": metrics.scalars(first), "std": spread, "folds": len(folds)}
    return {"model": model, "protocol": "official", "seed": 0, "folds": folds, "metrics": summary, "run": f"/x/{model}"}


def run(small: Small, model: str, *, right: bool, features: str = "") -> None:
    """A run that is always right, or that always says the first class; of a feature set as it now stands."""
    session = small.session()
    corpus = session.corpus
    folds = []
    for each in corpus.folds:
        truth = [corpus.labels[i] for i in each.test]
        logits = np.eye(len(corpus.target.classes))[np.asarray(truth) * right]
        made = fold(each.name, corpus.target, logits, truth, [corpus.labels[i] for i in each.train])
        made["digests"] = each.digests
        folds.append(made)
        place = small.home / "runs" / small.name / model / each.name
        place.mkdir(parents=True)
        (place / "epochs.csv").write_text("epoch,train_loss,valid_loss\n0,3.5,3\n1,2,2\n2,1,2.5\n")
    columns = [names(corpus, session.catalogue, features, each) for each in corpus.folds if features]
    made = answer(model, folds) | {"columns": columns}
    (small.home / "runs" / small.name / f"{model}-official.json").write_text(json.dumps(made))


def trained(folds: Sequence[dict[str, Any]], bound: float | None = None) -> Trained:
    return Trained(answer("any", folds), Path("nowhere"), 0.0, "", bound, ())


def column(sheet: Sheet, name: str) -> dict[str, str]:
    at = list(sheet.header).index(name)
    return {row[0].text: row[at].text for row in sheet.rows}


# --- what a report says -----------------------------------------------------------------------------------------


def test_the_answer_is_json_and_names_the_file_that_was_written(
    known: Small, written: tuple[dict[str, Any], Page]
) -> None:
    made, page = written
    assert Path(made["report"]).name == f"{known.name}.html"
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert set(made["probes"]) == {"words/text", "sound/audio", "pitch/audio"}
    assert made["incomplete"] == [] and "Not complete" not in page.words


def test_a_probe_says_by_how_much_it_misses_the_known_bound(written: tuple[dict[str, Any], Page]) -> None:
    made, page = written
    probe = made["probes"]["sound/audio"]
    assert 0 < probe["bound"] <= 1
    assert probe["missed"] == pytest.approx(probe["bound"] - probe["test"]["accuracy"])
    assert "majority_accuracy" in probe["majority"]
    assert f"{probe['bound']:.4f}" in page.words


def test_a_model_above_what_is_possible_is_suspected_of_a_leak(written: tuple[dict[str, Any], Page]) -> None:
    made, page = written
    assert made["bounds"]["all"] < 1
    assert made["models"]["perfect-official"]["missed"] == pytest.approx(made["bounds"]["all"] - 1)
    assert "perfect, official exceeds the known bound" in page.words
    assert "idle, official exceeds" not in page.words


def test_a_model_no_better_than_the_majority_is_said_so(written: tuple[dict[str, Any], Page]) -> None:
    assert "idle, official does not beat the majority" in written[1].words
    assert "perfect, official does not beat" not in written[1].words


def test_a_run_of_another_protocol_is_held_against_its_own_folds(
    known: Small, written: tuple[dict[str, Any], Page]
) -> None:
    made, page = write(known, protocol="cv")
    assert made["models"]["perfect-official"]["bound"] == written[0]["bounds"]["all"]
    assert "other folds" not in page.words
    assert "best probe (" in written[1].words and "best probe (" not in page.words  # protocols are never mixed (H2)


def test_a_run_of_other_folds_of_the_same_sizes_has_no_bound_and_is_to_be_trained_again(known: Small) -> None:
    run(known, "early", right=True)
    path = known.home / "runs" / known.name / "early-official.json"
    path.write_text(re.sub(r'"valid": "\w{64}"', '"valid": "another"', path.read_text()))
    made, page = write(known)
    path.unlink()
    assert made["models"]["early-official"]["bound"] is None
    assert "early, official was trained on other folds or labels" in page.words


def test_a_run_of_other_features_is_to_be_trained_again_and_held_against_no_probe(
    extracted: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    extracted.recipe = KNOWN
    monkeypatch.setattr(models_section, "_features", lambda model: "sound")
    run(extracted, "idle", right=False, features="sound")
    _, page = write(extracted)
    assert "than the recipe now gives" not in page.words and "does not beat the best probe" in page.words
    extracted.recipe = KNOWN.replace("n_mfcc = 5", "n_mfcc = 6")
    extracted.extract(modality="audio")
    _, page = write(extracted)
    assert "idle, official was trained on other features than the recipe now gives: train it again." in page.words
    assert "does not beat the best probe" not in page.words


def test_a_damaged_run_is_left_out(written: tuple[dict[str, Any], Page]) -> None:
    assert set(written[0]["models"]) == {"perfect-official", "idle-official"}


def test_a_second_report_reads_every_probe(known: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = write(known)
    monkeypatch.setattr(probes_section, "probe", None)
    assert write(known)[0]["probes"] == first["probes"]


def test_other_labels_are_probed_anew(known: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(view: Any, modality: str, *rest: Any) -> dict[str, Any]:
        asked.append(modality)
        return probe(view, modality, *rest)

    write(known)
    monkeypatch.setattr(probes_section, "probe", counted)
    write(Small(known.root, known.home, known.path, RECIPE.replace('"six"', '"four"')))
    assert asked == ["audio", "audio"]  # the text's fit is of the other labels


def test_the_scores_are_printed_on_standard_error(
    known: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    write(known)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Missed by" in printed.err and "audio of sound" in printed.err


def test_what_is_not_extracted_is_named_and_hides_no_other(extracted: Small) -> None:
    extracted.recipe = KNOWN.replace("n_mfcc = 5", "n_mfcc = 6")
    made, page = write(extracted)
    assert made["incomplete"] == ["audio_mfcc: 60 of 60 rows"]
    assert "Not complete" in page.words
    assert set(made["probes"]) == {"words/text", "pitch/audio"}


def test_nothing_is_extracted_by_a_report_and_random_weights_are_loud(known: Small, tmp_path: Path) -> None:
    visual = 'visual = { stage = "visual_resnet50", weights = "random", align = { mode = "sample", length = 4 } }'
    made, page = write(Small(known.root, tmp_path, tmp_path / "small.toml", f"{KNOWN}[features.face]\n{visual}\n"))
    assert "Random weights. visual_resnet50" in page.words
    assert "visual_resnet50: 60 of 60 rows" in made["incomplete"]
    assert "text_cnn: 60 of 60 rows, 1 fits" in made["incomplete"]
    assert made["probes"] == {} and not (tmp_path / "cache" / "objects").exists()


def test_a_failed_clip_is_counted_in_its_part_and_named_with_its_file(extracted: Small) -> None:
    path = sorted(extracted.root.glob("Session5/sentences/wav/*/*.wav"))[0]
    path.unlink()
    extracted.extract()
    found = Extracted(extracted.session())
    rows = [[each.text for each in row] for row in covered(found).rows]
    assert ["", "failed: missing file", "0", "0", "1", "1", "1.7 %"] in rows
    [fine] = [row for row in rows if row[0] == "audio"]
    assert (fine[1], fine[-2]) == ("ok", "59")
    [sheet] = failures(found)
    assert [each.text for each in sheet.rows[0]][:2] == [path.stem, path.relative_to(extracted.root).as_posix()]


def test_expected_counts_stand_beside_what_was_found(known: Small) -> None:
    session = Small(known.root, known.home, known.path).session()
    sheet = expected(session.corpus)
    assert sheet is not None
    assert column(sheet, "expected")["hap"] == "595"
    assert column(sheet, "difference")["hap"] == "-585"


# --- scores -----------------------------------------------------------------------------------------------------

MANY = Target("multilabel", ("a", "b"))
LINE = Target("regression", ())
VAD = Target("regression", ("valence", "arousal", "dominance"))


def test_scores_of_several_folds_are_said_to_be_pooled(known: Small) -> None:
    target = Target("multiclass", ("a", "b"))
    folds = [fold(name, target, np.eye(2)[[0, 1, 1]], [0, 1, 0], [0, 0, 1]) for name in ("one", "two")]
    sheet = models_section.scores(trained(folds), [])
    assert column(sheet, "mean ± deviation over folds")["Accuracy"] == "0.6667 ± 0.1250"
    assert "all 2 folds scored as one set of 6 rows" in sheet.note
    assert "fold" not in models_section.scores(trained(folds[:1]), []).note


def test_a_model_and_a_probe_are_compared_by_their_means_over_folds() -> None:
    target = Target("multiclass", ("a", "b"))
    parts = {"accuracy": 0.7, "f1_weighted": 0.7}
    best = Probe("set", "text", (), {name: {"test": parts, "majority": {}} for name in ("one", "two")})
    wrong, right = (fold(name, target, np.eye(2)[[0, 1, 1]], [0, 1, 0], [0, 0, 1]) for name in ("one", "two"))
    for mean, said in ((0.6, True), (0.8, False)):  # pooled it is 0.6667
        each = answer("any", [wrong, right])
        each["metrics"]["mean"] = {**each["metrics"]["mean"], "accuracy": mean}
        run = Trained(each, Path("nowhere"), 0.0, "", None, ())
        assert run.line.scores["accuracy"] == mean
        assert (
            any("the best probe of a single modality" in told for told in models_section.notices(run, [best])) == said
        )
    assert "on the test rows that have its modality, means over folds" in models_section.scores(run, [best]).note


def test_each_head_has_its_own_majority_beside_it() -> None:
    truth = [(0, 1), (0, 0), (0, 1), (1, 1)]
    run = trained([fold("one", MANY, np.zeros((4, 4)), truth, [(0, 1), (0, 1), (0, 0)])])
    [heads] = [sheet for sheet in model_details.details(run) if sheet.caption == "Classes"]
    assert column(heads, "majority accuracy") == {"a": "0.7500", "b": "0.7500"}


def test_a_regression_has_its_own_scores_and_an_undefined_one_is_a_dash() -> None:
    sheet = models_section.scores(trained([fold("one", LINE, np.zeros((3, 1)), [1.0, -1.0, 2.0], [0.5, 1.0])]), [])
    assert column(sheet, "test")["Corr"] == "–"
    assert column(sheet, "test")["MAE"] == "1.3333"
    assert column(sheet, "majority")["Acc2 non0"] == "0.6667"


def test_a_number_on_one_side_of_0_is_judged_by_its_error_and_not_by_its_sign() -> None:
    rated, felt = ([4.0, 1.0, 2.5], [3.0, 2.0]), ([1.0, -1.0, 2.0], [0.5, 1.0])
    for (truth, train), heads in ((rated, ("ccc", "mae")), (felt, ("acc2_non0", "f1_non0"))):
        run = trained([fold("one", LINE, np.array(truth)[:, None] * -1, truth, train)])
        assert probes_section.headline(LINE, [run.line]) == heads
        assert probes_section.told(heads[0]) in report._columns([run.line], LINE)
        assert any("does not beat the majority" in told for told in models_section.notices(run, []))


def test_each_of_several_numbers_has_its_own_scores_and_its_own_majority() -> None:
    truth, train = [(1.0, 2.0, 5.0), (3.0, 4.0, 1.0)], [(2.0, 3.0, 3.0)]
    run = trained([fold("one", VAD, np.array(truth) + (0.0, 0.5, -1.0), truth, train)])
    [numbers] = [sheet for sheet in model_details.details(run) if sheet.caption == "Targets"]
    assert column(numbers, "MAE") == {"valence": "0.0000", "arousal": "0.5000", "dominance": "1.0000"}
    assert column(numbers, "majority MAE") == {"valence": "1.0000", "arousal": "1.0000", "dominance": "2.0000"}
    assert column(numbers, "Corr")["dominance"] == "1.0000"
    assert float(column(numbers, "CCC")["arousal"]) == pytest.approx(2 * 1 / (1 + 1 + 0.25), abs=1e-4)


def test_the_means_over_several_numbers_stand_among_the_scores_and_what_they_say_is_held_against_the_majority() -> None:
    truth = [(1.0, 2.0, 5.0), (3.0, 4.0, 1.0)]
    good, bad = (trained([fold("one", VAD, sign * np.array(truth), truth, truth)]) for sign in (1, -1))
    sheet = models_section.scores(good, [])
    assert column(sheet, "test") == {"MAE": "0.0000", "Corr": "1.0000", "CCC": "1.0000"}
    assert column(sheet, "majority") == {"MAE": "1.3333", "Corr": "–", "CCC": "0.0000"}
    assert models_section.notices(good, []) == []
    assert any("does not beat the majority" in told for told in models_section.notices(bad, []))


def test_a_report_of_several_numbers_has_a_row_for_each_and_no_score_of_signs(known: Small) -> None:
    small = Small(known.root, known.home, known.path.with_name("vad.toml"), RECIPE.replace('"six"', '"vad"'))
    corpus = small.session().corpus
    [each] = corpus.folds
    truth, train = ([corpus.labels[i] for i in part] for part in (each.test, each.train))
    made = fold(each.name, corpus.target, np.array(truth) + 0.5, truth, train)
    made["digests"] = each.digests
    runs = small.home / "runs" / small.name
    runs.mkdir(parents=True)
    (runs / "close-official.json").write_text(json.dumps(answer("close", [made])))
    told, page = write(small)
    assert told["models"]["close-official"]["metrics"]["mae"] == pytest.approx(0.5)
    assert set(told["probes"]) == {"sound/audio", "pitch/audio"}  # the text's fit is of the other labels
    assert all(set(probe["test"]) == {"mae", "corr", "ccc"} for probe in told["probes"].values())
    assert "vad (regression: valence, arousal, dominance)" in page.words
    assert all(f"{name}, {part}" in page.words for name in VAD.classes for part in ("train", "valid", "test"))
    assert "majority MAE" in page.words and "Acc2" not in page.words and "other folds or labels" not in page.words


def test_the_confusion_matrix_is_shaded_by_the_share_of_the_row() -> None:
    target = Target("multiclass", ("a", "b"))
    run = trained([fold("one", target, np.eye(2)[[0, 1, 1, 1]], [0, 0, 0, 1], [0, 1])])
    [matrix] = [sheet for sheet in model_details.details(run) if sheet.caption == "Confusion"]
    assert [[each.text for each in row] for row in matrix.rows] == [["a", "1", "2"], ["b", "0", "1"]]
    assert [each.share for each in matrix.rows[0][1:]] == [pytest.approx(1 / 3), pytest.approx(2 / 3)]


def test_a_run_on_test_statistics_is_called_transductive() -> None:
    made = fold("one", Target("multiclass", ("a", "b")), np.eye(2), [0, 1], [0, 1])
    assert any("transductive" in told for told in models_section.notices(trained([made | {"transductive": True}]), []))
    assert not any("transductive" in told for told in models_section.notices(trained([made]), []))


def test_a_large_gap_is_suspicious_of_learned_features_alone() -> None:
    def gap(value: float | None, *fitted: str) -> Probe:
        return Probe("set", "text", fitted, {"one": {"gap": value}})

    assert probes_section.suspicious(gap(0.4, "text_cnn"))
    assert not probes_section.suspicious(gap(0.4))
    assert not probes_section.suspicious(gap(0.05, "text_cnn"))
    assert not probes_section.suspicious(gap(None, "text_cnn"))
    assert "crossfit avoids" in probes_section.warnings([gap(0.4, "text_cnn")], 0)[0]
    assert "did not see" in probes_section.warnings([gap(0.4, "text_cnn")], 3)[0]


# --- the page ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report of a corpus whose files, transcripts, classes and model are named to run as code."""
    root = tmp_path_factory.mktemp("hostile")
    lines = ["utterance,text,audio,speaker,split,label"]
    for number in range(12):
        part = ("train", "train", "valid", "test")[number % 4]
        label = (f'"{EVIL}"', "b$x_{")[number // 4 % 2]
        lines.append(f"u{number}{EVIL},{EVIL} word,<img src=x onerror=alert({number})>.wav,{EVIL},{part},{label}")
    (root / "utterances.csv").write_text("\n".join(lines))
    recipe = f"""
[dataset]
reader = "table"
labels = "label"
classes = ["{EVIL}", "b$x_{{"]
[features."{EVIL}"]
text = {{ stage = "text_word2vec", size = 4, epochs = 1, min_count = 1, align = {{ mode = "pad", length = 4 }} }}
audio = {{ stage = "audio_mfcc", align = {{ mode = "pad", length = 4 }} }}
"""
    small = Small(root, root / "home", root / "small.toml", recipe)
    small.extract()
    run(small, f"{EVIL.replace('/', '')}", right=True)
    return write(small)[1]


def test_no_name_of_a_file_a_class_or_a_model_runs_as_code(hostile: Page) -> None:
    names = {tag for tag, _ in hostile.tags}
    assert not names & {"script", "img", "iframe", "object", "embed", "link", "base"}
    assert not [name for _, attributes in hostile.tags for name in attributes if name.startswith("on")]
    assert f"u0{EVIL}" in hostile.words
    assert "<img src=x onerror=alert(0)>.wav" in hostile.words
    assert "<script>alert(1)<script>, official" in hostile.words


def test_the_page_asks_nobody_for_anything(written: tuple[dict[str, Any], Page]) -> None:
    html = Path(written[0]["report"]).read_text()
    sources = [a.get(name) or "" for _, a in written[1].tags for name in ("src", "href", "xlink:href", "srcset")]
    assert all(not source or source.startswith("#") for source in sources)
    assert not re.search(r"@import|url\((?!#)", html)
    assert "default-src 'none'" in html


def test_every_table_has_a_caption_and_headings_and_every_chart_is_told(written: tuple[dict[str, Any], Page]) -> None:
    _, page = written
    assert len(page.tables) > 10
    assert all(table[0] == "caption" and "th" in table for table in page.tables)
    assert all(a.get("scope") in ("col", "row") for tag, a in page.tags if tag == "th")
    svgs = sum(tag == "svg" for tag, _ in page.tags)
    told = [a["aria-label"] for _, a in page.tags if a.get("role") == "img"]
    assert svgs == len(told) > 4 and all(told)


def test_no_two_parts_of_the_page_have_one_id(written: tuple[dict[str, Any], Page]) -> None:
    ids = [a["id"] for _, a in written[1].tags if a.get("id")]
    assert len(ids) == len(set(ids))


def test_charts_take_their_colours_from_the_page() -> None:
    made = grouped("Counts", ["a", "b"], {"train": [1, 2], "test": [3, 4]}, "utterances")
    assert "var(--series-2)" in made.svg
    assert set(re.findall(r"#[0-9a-f]{6}", made.svg)) <= {"#000000"}
    assert made.alt == "Bar chart. train: a 1, b 2; test: a 3, b 4."


def test_many_curves_show_the_first_and_say_how_many_there_are() -> None:
    made = curves("Losses", {f"f{i}": {"train": [2.0, 1.0]} for i in range(20)}, {"f0": 1})
    assert made.caption == "Losses The first 12 of 20."
    assert "f0: train from 2 to 1, kept epoch 2." in made.alt


def test_a_histogram_of_equal_values_has_a_bar() -> None:
    assert "from 2 to 2, median 2" in histogram("Words", [2.0, 2.0], "words").alt


@pytest.mark.parametrize(("count", "text"), [(999, "999 B"), (1500, "1.5 kB"), (2.5e6, "2.5 MB"), (3e13, "30.0 TB")])
def test_bytes_have_the_largest_unit_that_fits(count: float, text: str) -> None:
    assert size(count).text == text


def test_what_is_not_known_is_a_dash_and_not_a_zero() -> None:
    assert (cell(None).text, cell(0).text, cell(-0.5).text) == ("–", "0", "−0.5000")


def test_names_that_are_no_text_are_written_with_backslashes(tmp_path: Path) -> None:
    report._publish(tmp_path / "deep" / "a.html", "caf\udce9")
    assert (tmp_path / "deep" / "a.html").read_text() == "caf\\udce9"
