"""A bundle: what is in it, and that nothing of one is read which is not what was written."""

from __future__ import annotations

import json
import re
import shutil
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.bundle.bundle import open_bundle
from pipeline.bundle.contents import place, read_contents, write_contents
from pipeline.bundle.make import chosen_fold
from pipeline.errors import InputError
from tests.pipeline.bundle.conftest import bundled, found_run
from tests.small import Small


@pytest.fixture
def bundle(bundles: Path, tmp_path: Path) -> Path:
    """A copy of the bundle `gmu` to change at will."""
    return shutil.copytree(bundles / "gmu", tmp_path / "gmu")


def refused(path: Path) -> str:
    with pytest.raises(InputError) as error, open_bundle(path, path.parent / "digests.sqlite"):
        pass
    return str(error.value)


def test_it_holds_model_recipe_fitted_states_scores_and_card_and_no_pickle(bundles, tmp_path):
    contents = read_contents(bundles / "gmu")
    states = [name for name in contents.files if name.startswith("states/")]
    assert len(states) == 2, "text_word2vec and text_cnn are fitted"
    assert contents.files.keys() - {*states} == {
        *("model.safetensors", "model.json", "recipe.toml", "metrics.json", "README.md")
    }
    card = (bundles / "gmu" / "README.md").read_text()
    assert "`text_cnn`, version" in card and "| accuracy | 0." in card and "| audio | `audio_mfcc`" in card
    with open_bundle(bundles / "gmu", tmp_path / "digests.sqlite") as bundle:
        assert bundle.target.task == "multiclass" and len(bundle.target.classes) == 6
        assert bundle.indispensable == ("text", "audio")


def test_a_zip_is_the_same_bundle(bundle, tmp_path):
    place(bundle, tmp_path / "gmu.zip")
    with open_bundle(tmp_path / "gmu.zip", tmp_path / "digests.sqlite") as opened:
        assert opened.contents.name == "gmu"


def damage_byte(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def lose_state(folder: Path) -> None:
    next((folder / "states").iterdir()).unlink()


def add_pins(folder: Path) -> None:
    (folder / "weights.lock.json").write_text("{}")


def link_recipe(folder: Path) -> None:
    (folder / "recipe.toml").rename(folder.parent / "elsewhere.toml")
    (folder / "recipe.toml").symlink_to(folder.parent / "elsewhere.toml")


def rename_run(folder: Path) -> None:
    path = folder / "bundle.json"
    path.write_text(path.read_text().replace('"name": "gmu"', '"name": "best"'))


def no_json(folder: Path) -> None:
    (folder / "bundle.json").write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (damage_byte, "model.safetensors: changed since it was written"),
        (lose_state, "missing"),
        (add_pins, "weights.lock.json: not named in bundle.json"),
        (link_recipe, "recipe.toml is no plain file"),
        (rename_run, "was changed since it was written"),
        (no_json, "holds no bundle"),
    ],
)
def test_a_file_that_was_changed_lost_added_or_linked_is_refused_by_name(
    bundle: Path, tamper: Callable[[Path], None], said: str
) -> None:
    tamper(bundle)
    assert said in refused(bundle)


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (entry("../bundle.json"), "leads outside"),
        (entry("/tmp/bundle.json"), "leads outside"),
        (entry("states\\bundle.json"), "leads outside"),
        (entry("model.json", stat.S_IFLNK | 0o777), "neither a file nor a folder"),
        (entry("bundle.json"), "holds no bundle"),
    ],
)
def test_a_hostile_zip_is_refused_and_leaves_nothing(tmp_path: Path, info: zipfile.ZipInfo, said: str) -> None:
    path = tmp_path / "made.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert said in refused(path)
    assert [p.name for p in tmp_path.iterdir()] == ["made.zip"]


def test_another_version_parameter_or_library_is_refused_by_name(bundle):
    contents = read_contents(bundle)
    [audio], [text] = contents.stages["audio"], contents.stages["text"]
    audio = {**audio, "version": 0, "params": {**audio["params"], "n_mfcc": 13}}
    libraries = {**text["inputs"][0]["libraries"], "gensim": "0.1"}
    text = {**text, "inputs": [{**text["inputs"][0], "libraries": libraries}]}
    stages = {"audio": (audio,), "text": (text,)}
    write_contents(bundle, contents.model_copy(update={"stages": stages, "decoding": {"audio": 0, "video": 0}}))
    said = refused(bundle)
    assert "audio_mfcc: version 0 in the bundle" in said and "audio_mfcc: n_mfcc 13 in the bundle, 5 here" in said
    assert re.search(r"text_word2vec: gensim 0\.1 in the bundle, \d", said)
    assert "audio: decoding version 0 in the bundle" in said


def test_a_model_whose_code_gives_other_logits_is_refused(bundle):
    contents = read_contents(bundle)
    probe = tuple(tuple(value + 0.1 for value in row) for row in contents.probe)
    write_contents(bundle, contents.model_copy(update={"probe": probe}))
    assert "gives other predictions here" in refused(bundle)


def test_a_run_of_several_folds_asks_which_and_one_by_speaker_is_not_bundled(run):
    found = found_run(run, "gmu")
    [fold] = found.folds
    with pytest.raises(InputError, match="--fold official or other"):
        chosen_fold(replace(found, folds=[fold, replace(fold, fold="other")]), "")
    with pytest.raises(InputError, match="no fold 'ofical': did you mean official"):
        chosen_fold(found, "ofical")
    with pytest.raises(InputError, match="standardises by speaker"):
        chosen_fold(replace(found, folds=[replace(fold, transductive=True)]), "")


def test_a_run_whose_recipe_now_gives_other_features_is_not_bundled(run: Small, tmp_path):
    before = run.recipe
    run.path.write_text(before.replace("length = 12", "length = 11").replace("n_mfcc = 5", "n_mfcc = 6"))
    try:
        with pytest.raises(InputError, match="not extracted|other features"):
            bundled(run, "gmu", tmp_path / "gmu")
    finally:
        run.path.write_text(before)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_a_bundle_once(run, tmp_path, monkeypatch, capsys):
    from pipeline.cli.main import app

    monkeypatch.setenv("AFFECTORY_HOME", str(run.home))
    out = str(tmp_path / "gmu.zip")
    app(["bundle", "gmu", "--out", out, "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["bundle"] == out and zipfile.is_zipfile(out)
    with pytest.raises(InputError, match="there already"):
        app(["bundle", "gmu", "--out", out], standalone_mode=False)
