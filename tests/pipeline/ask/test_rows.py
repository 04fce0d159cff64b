"""`affectory rows`: which rows a label protocol keeps, in which part, and why others are left out."""

from __future__ import annotations

import json

import pytest

from manifests.ch_sims import ChSims
from manifests.ch_sims_v2 import ChSimsV2
from manifests.crema_d import CremaD
from manifests.iemocap import Iemocap
from manifests.meld import Meld
from manifests.mosei import Mosei
from manifests.mosi import Mosi
from manifests.ravdess import Ravdess
from pipeline.ask.rows import ALL, NOWHERE, rows
from pipeline.cache.home import Home
from pipeline.corpus.open_corpus import Options, open_corpus
from tests.contracts.reader_cases import CASES
from tests.manifests.mosi_files import TEST, TRAIN, VALID, write_raw
from tests.manifests.test_iemocap import write_dialogue
from tests.pipeline.cli.test_commands import affectory, options  # noqa: F401 - a fixture

CORPORA = {
    "ch_sims": ChSims,
    "ch_sims_v2": ChSimsV2,
    "crema_d": CremaD,
    "iemocap": Iemocap,
    "meld": Meld,
    "mosi": Mosi,
    "mosei": Mosei,
    "ravdess": Ravdess,
}
EVERY = [(corpus, labels) for corpus, reader in CORPORA.items() for labels in reader.labels]


@pytest.fixture(scope="module")
def releases(tmp_path_factory, demo_root):
    made = tmp_path_factory.mktemp("releases")
    return {name: CASES[name][1](made / name, demo_root) for name in CORPORA}


def answered(folder, root, reader, labels, protocol="", **more):
    recipe = folder / f"{reader}.toml"
    settings = "".join(f"{name} = {json.dumps(value)}\n" for name, value in more.items())
    recipe.write_text(f"[dataset]\nreader = {json.dumps(reader)}\nlabels = {json.dumps(labels)}\n{settings}")
    given = Options(dataset=str(recipe), root=str(root), protocol=protocol)
    return rows(open_corpus(Home(folder / "home"), given).corpus)


@pytest.mark.parametrize(("reader", "labels"), EVERY)
def test_under_every_label_protocol_each_row_is_in_one_part_or_left_out_for_a_reason(
    releases, tmp_path, reader, labels
):
    answer = answered(tmp_path, releases[reader], reader, labels)
    counts = answer["counts"]
    assert answer["labelled"] + sum(answer["left_out"].values()) == answer["utterances"]
    assert counts[ALL][ALL] == answer["labelled"] > 0
    assert sum(counts[part][ALL] for part in counts if part != ALL) == answer["labelled"]
    assert {part: len(ids) for part, ids in answer["parts"].items()} == {
        part: count[ALL] for part, count in counts.items() if part != ALL
    }
    for name in set(counts[ALL]) - {ALL}:
        assert counts[ALL][name] == sum(count[name] for part, count in counts.items() if part != ALL)
    assert "no label" not in answer["left_out"] and answer["published"]


def test_a_row_left_out_says_the_code_that_its_protocol_does_not_keep(tmp_path):
    codes = ("neu", "fru", "xxx", "xxx", "oth", "exc")
    turns = [(f"Ses01F_impro01_F{n:03}", n + 0.0, n + 0.5, code) for n, code in enumerate(codes)]
    write_dialogue(tmp_path / "corpus", "Ses01F_impro01", turns)
    answer = answered(tmp_path, tmp_path / "corpus", "iemocap", "four")
    assert answer["left_out"] == {"labelled xxx: the raters do not agree": 2, "labelled fru": 1, "labelled oth": 1}
    assert answer["counts"][ALL] == {"neu": 1, "hap": 1, "sad": 0, "ang": 0, ALL: 2}


def test_under_cross_validation_each_fold_has_its_own_parts(releases, tmp_path):
    answer = answered(tmp_path, releases["iemocap"], "iemocap", "six", protocol="cv")
    tests = [count[ALL] for part, count in answer["counts"].items() if part.endswith(" test")]
    assert len(tests) == 5 and sum(tests) == answer["labelled"]


def test_rows_of_a_video_that_no_fold_has_are_in_no_part_and_zeros_are_left_out_by_sign(tmp_path):
    said = [("GOOD", 0.0, 1.0, 2.4), ("SO", 1.0, 2.0, 0.0)]
    write_raw(tmp_path / "mosi", dict.fromkeys((TRAIN, VALID, TEST, "elsewhere"), said))
    answer = answered(tmp_path, tmp_path / "mosi", "mosi", "sentiment2")
    assert answer["parts"][NOWHERE] == ["elsewhere_1"]
    assert answer["left_out"] == {"sentiment 0": 4}


def test_a_copy_that_cannot_be_split_is_counted_all_the_same(tmp_path):
    write_raw(tmp_path / "mosi")
    answer = answered(tmp_path, tmp_path / "mosi", "mosi", "sentiment7")
    assert answer["counts"] == {ALL: answer["counts"][ALL]} and "none of valid, test" in answer["no_folds"]


def test_melds_real_tables_have_every_published_count(kit, tmp_path):
    answer = answered(tmp_path, kit / "meld", "meld", "emotion")
    assert len(answer["stated"]) == len(Meld.expected["emotion"])
    assert all(count["published"] == count["here"] for count in answer["stated"].values())
    assert not answer["left_out"]


def test_the_command_shows_parts_published_counts_and_reasons(affectory, demo_root, tmp_path):  # noqa: F811
    recipe = tmp_path / "own.toml"
    recipe.write_text('[dataset]\nreader = "iemocap"\nlabels = "six"\n')
    code, out, shown = affectory("rows", "--dataset", str(recipe), "--root", str(demo_root), "--labels", "four")
    assert code == 0 and not out
    assert "labels four" in shown and "5,531 utterances" in shown and "labelled fru" in shown
