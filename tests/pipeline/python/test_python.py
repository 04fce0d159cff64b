"""`import affectory`: every block of docs/python.md runs, its numbers are those of the commands, and it installs."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.bundle.make import chosen_fold, make_bundle
from pipeline.cache.home import Home
from pipeline.cli.evaluate import opened
from pipeline.cli.train import trained
from pipeline.errors import InputError, MachineError
from pipeline.python import affectory
from pipeline.train.trained_run import find
from pipeline.views import exported
from tests.small import RECIPE, Small

ROOT = Path(__file__).parents[3]
READ = (
    RECIPE.replace("words.text", "hjcag.text")
    .replace("features.sound", "features.hjcag")
    .replace("length = 12", "length = 32")
)
SETTINGS = """
[train.hjcag]
epochs = 1
d_model = 8
audio_dim = 4
visual_dim = 4
"""


@pytest.fixture(scope="module")
def small(demo_root: Path, extracted_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The extracted small corpus with a run of `hjcag`."""
    made = tmp_path_factory.mktemp("python")
    small = Small(demo_root, made / "home", made / "small.toml", READ + SETTINGS)
    small.take(extracted_home)
    trained(small.session(), ["hjcag"], 0, "cpu", extract=True)
    return small


@pytest.fixture(scope="module")
def dataset(small: Small) -> affectory.Dataset:
    return affectory.open(str(small.path), root=str(small.root), home=str(small.home))


# --- docs/python.md --------------------------------------------------------------------------------------------


def test_every_block_of_the_page_runs(small, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    found, [clip] = find(Home(small.home).runs, "hjcag"), [*small.root.rglob("Ses01F_impro01_F000.wav")]
    make_bundle(
        opened(Home(small.home), found, "test", ("", "", ""), {"workers": 0}, extract=False),
        chosen_fold(found, ""),
        tmp_path / "hjcag.bundle",
    )
    monkeypatch.setitem(sys.modules, "affectory", affectory)
    monkeypatch.setenv("AFFECTORY_HOME", str(small.home))
    monkeypatch.chdir(tmp_path)
    names = {'"demo"': f"{str(small.path)!r}, root={str(small.root)!r}", '"clip.mp4"': f"audio={str(clip)!r}"}
    scope: dict[str, object] = {}
    for block in blocks:
        for name, here in names.items():
            block = block.replace(f"({name})", f"({here})").replace(f", {name},", f", {here},")
        exec(block, scope)  # noqa: S102
    assert len(blocks) > 6 and len(scope["batch"]["id"]) == 8


# --- a dataset -------------------------------------------------------------------------------------------------


def test_an_opened_dataset_shows_its_splits_stages_and_runs(dataset, small):
    shown, html = repr(dataset), dataset._repr_html_()
    assert "60 utterances" in shown and "hjcag" in shown and "<table" in html and "audio_mfcc" in html
    assert dataset.splits.loc["train", "all"] == len(small.session().corpus.folds[0].train)
    mfcc = dataset.stages.loc["audio_mfcc"]
    assert (mfcc["dim"], mfcc["rows"], mfcc["extracted"], mfcc["features"]) == (5, 60, 60, "hjcag")
    [run] = dataset.runs.index
    assert dataset.runs.loc[run, "accuracy"] == affectory.run(run, home=str(small.home)).scores.loc["accuracy"].iloc[0]


def test_files_that_are_no_runs_and_runs_of_an_older_version_are_not_shown(dataset, small):
    folder = small.home / "runs" / small.name
    before = list(dataset.runs.index)
    for name, text in {"damaged": "{", "list": "[]", "older": '{"model": "hjcag"}'}.items():
        (folder / f"{name}.json").write_text(text)
    assert list(dataset.runs.index) == before != []


def test_nothing_extracted_is_shown_as_such_and_refused_by_name(demo_root, tmp_path):
    Small(demo_root, tmp_path / "home", tmp_path / "small.toml").session()
    empty = affectory.open(str(tmp_path / "small.toml"), root=str(demo_root), home=str(tmp_path / "home"))
    assert (empty.stages["extracted"] == 0).all() and empty.stages["dim"].isna().all() and "none yet" in repr(empty)
    with pytest.raises(InputError, match="affectory extract"):
        empty.features("sound")


def test_features_of_a_set_are_those_that_are_exported(dataset, small):
    session = small.session()
    fold = exported.fold_of(session.corpus, "")
    whole, content = dataset.features("hjcag"), exported.content(session, "hjcag", fold)
    assert whole.ids == [row.id for row in content.rows] and len(whole) == len(content.rows)
    train = dataset.features("hjcag", split="train")
    assert set(train.ids) == set(fold.train)
    for number, name in enumerate(train.ids):
        steps = content.of("audio", name)
        np.testing.assert_array_equal(train[number]["audio_features"], steps.values * steps.valid[:, None])
        assert train[number]["label"] == session.corpus.labels[name]
    assert train[-1]["id"] == train.ids[-1]
    with pytest.raises(IndexError):
        train[len(train)]


def test_every_form_holds_the_same_numbers(dataset):
    features = dataset.features("hjcag", "audio", split="test")
    arrays, frame, means = features.to_numpy(), features.to_pandas(), features.means()
    polars, hugging = features.to_polars(), features.to_huggingface()
    assert list(features.dims) == ["audio"] and means.shape == (len(features), 5)
    for number, name in enumerate(features.ids):
        for other in (frame.loc[name, "audio_features"], polars["audio_features"][number].to_list()):
            np.testing.assert_array_equal(np.array(list(other), np.float32), arrays[name])
        np.testing.assert_array_equal(hugging[number]["audio_features"], arrays[name])
        np.testing.assert_allclose(means.loc[name], arrays[name].mean(axis=0), rtol=1e-5, atol=1e-5)
        assert hugging[number]["class"] == frame.loc[name, "class"]


def test_features_of_a_stage_are_the_tracks_that_are_in_the_cache(dataset, small):
    stage, catalogue = dataset.features("audio_mfcc"), small.session().catalogue
    rows = {name: track for (kind, name), (_, track) in small.rows().items() if kind == "audio_mfcc"}
    assert catalogue.rows.keys() == set(stage.ids) == rows.keys() and stage.names["audio"][0] == "mfcc_0"
    for name, array in stage.to_numpy().items():
        np.testing.assert_array_equal(array, rows[name].values)


def test_a_batch_is_padded_and_says_which_steps_are_real(dataset):
    samples = [dataset.features("hjcag")[number] for number in range(4)]
    samples[2]["audio_features"], samples[2]["audio_valid"] = torch.zeros(0, 5), torch.zeros(0, dtype=torch.bool)
    batch = affectory.collate(samples)
    lengths = [len(sample["audio_features"]) for sample in samples]
    assert batch["audio_features"].shape == (4, max(lengths), 5) and batch["audio_valid"].dtype == torch.bool
    assert not batch["audio_valid"][2].any() and batch["label"].tolist() == [sample["label"] for sample in samples]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("hjcg",), {}, "no features 'hjcg': did you mean hjcag"),
        (("hjcag", "visual"), {}, "hjcag has no visual"),
        (("hjcag",), {"split": "validation"}, "no split 'validation'"),
        (("hjcag",), {"fold": "nine"}, "no fold 'nine'"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(dataset, arguments, options, message):
    with pytest.raises(InputError, match=message):
        dataset.features(*arguments, **options)


def test_a_library_that_is_not_installed_is_named_with_its_extra(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MachineError, match=r"affectory\[polars\]"):
        dataset.features("hjcag", "audio").to_polars()


# --- a run -----------------------------------------------------------------------------------------------------


def test_predictions_of_a_run_give_its_scores(small):
    run = affectory.run("hjcag", home=str(small.home))
    test = run.predictions()
    assert (test["label"] == test["prediction"]).mean() == run.scores.loc["accuracy"].iloc[0]
    probabilities = test[[f"p_{name}" for name in run.classes]]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.idxmax(axis=1) == "p_" + test["prediction"]).all() and "accuracy" in repr(run)
    assert not set(run.predictions("valid").index) & set(test.index)


# --- installed -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_an_installed_affectory_is_imported_from_any_folder(tmp_path, kind):
    source, site = tmp_path / "source", tmp_path / "site"  # a build leaves files behind
    source.mkdir()
    for name in ("pipeline", "stages", "models", "manifests", "pyproject.toml", "README.md"):
        (source / name).symlink_to(ROOT / name)
    call = "build_wheel" if kind == "wheel" else "build_editable"
    code = f"from setuptools import build_meta; build_meta.{call}({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    done = subprocess.run([sys.executable, "-c", IMPORT, site], cwd=tmp_path, env={}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(site if kind == "wheel" else ROOT)
    assert kind == "editable" or (site / "affectory" / "py.typed").is_file()


IMPORT = """
import site, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]  # not those of the tests
for name in [name for name in sys.modules if name.startswith("__editable__")]:
    del sys.modules[name]
sys.path.insert(0, sys.argv[1])
site.addsitedir(sys.argv[1])
import affectory
assert affectory.open and affectory.predict
print(affectory.__file__)
"""
