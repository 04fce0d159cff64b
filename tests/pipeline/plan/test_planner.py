"""A plan: what is still to be done, as a pure and stable function of manifest, recipe and store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline.plan.jobs import ExtractJob, FitJob, Plan, named

HEAVY = ("dask", "distributed", "torch", "transformers", "gensim", "sklearn", "cv2", "av", "opensmile")


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its size and time of change."""
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


def runs(plan: Plan) -> list[tuple[str, str]]:
    return [(run.node.name, run.shard) for job in plan.jobs if isinstance(job, ExtractJob) for run in job.runs]


def fits(plan: Plan) -> list[FitJob]:
    return [job for job in plan.jobs if isinstance(job, FitJob)]


def remove_fits(small, stage: str) -> None:
    """Removes the states of a stage, as a cache that lost them."""
    for node, _ in small.session().catalogue.wanted:
        if node.name == stage:
            for path in (small.home / "cache" / "actions" / f"{node.digest}.fit").glob("*.json"):
                path.unlink()


# --- purity ----------------------------------------------------------------------------------------------------


def test_a_plan_writes_nothing(extracted):
    small = extracted
    small.recipe = small.recipe.replace('"IS09"', '"GeMAPSv01b"')
    session = small.session()
    before = files(small.home) | files(small.root)
    plan = session.plan()
    assert plan.jobs and files(small.home) | files(small.root) == before


def test_a_plan_imports_nothing_heavy(small):
    session = small.session()
    program = (
        "import sys; from pathlib import Path; from pipeline.cache.home import Home\n"
        "from pipeline.plan.session import Options, Session\n"
        f"options = Options(dataset={session.options.dataset!r}, root={session.options.root!r})\n"
        f"plan = Session.open(Home(Path({str(small.home)!r})), options).plan()\n"
        f"print(len(plan.jobs), *(name for name in {('pandas', *HEAVY)} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.split()[1:]) == ("", []) and int(done.stdout.split()[0]) > 0


def test_an_extraction_without_work_imports_nothing_heavy_and_lists_each_stage_once(extracted):
    small = extracted
    small.session()
    program = (
        "import collections, json, os, sys\n"
        "from pathlib import Path; from pipeline.cache.home import Home\n"
        "from pipeline.cli.extract import extracted; from pipeline.plan.session import Options, Session\n"
        "listed, real = collections.Counter(), os.listdir\n"
        "def counted(path='.'):\n"
        "    listed[str(path)] += 1\n"
        "    return real(path)\n"
        "os.listdir = counted\n"
        f"given = Options(dataset={str(small.path)!r}, root={str(small.root)!r}, modality='audio')\n"
        f"answer, _ = extracted(Session.open(Home(Path({str(small.home)!r})), given))\n"
        f"heavy = [name for name in {HEAVY} if name in sys.modules]\n"
        "mine = {place: n for place, n in listed.items() if '/actions/' in place}\n"
        "rows = sorted(n for place, n in mine.items() if not place.endswith('.reference'))\n"
        "print(json.dumps([answer['jobs'], heavy, rows, max(mine.values())]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [0, [], [1, 1], 1]


def test_a_plan_reads_no_media(small):
    small.session()
    for path in small.root.glob("Session*/sentences/wav/*/*.wav"):
        status = path.stat()
        path.write_bytes(b"\0" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(runs(small.session(modality="audio").plan())) > 1


def test_a_plan_is_stable(small):
    one, two = (small.session().plan() for _ in range(2))
    assert [job.id for job in one.jobs] == [job.id for job in two.jobs]
    assert (one.waiting, one.cached) == (two.waiting, two.cached)


def test_every_job_has_an_id_of_its_own(small):
    jobs = small.session().plan().jobs
    assert len({job.id for job in jobs}) == len(jobs) > 1


# --- what is planned -------------------------------------------------------------------------------------------


def test_stages_of_one_modality_share_a_job_so_that_a_clip_is_decoded_once(small):
    jobs = [job for job in small.session().plan().jobs if isinstance(job, ExtractJob)]
    assert all({run.node.name for run in job.runs} == {"audio_mfcc", "audio_opensmile"} for job in jobs)
    found = sorted(row.id for job in jobs for row in job.rows)
    assert found == sorted(row.id for row in small.session().corpus.manifest.rows)


def test_a_shard_does_not_cut_a_dialogue(small):
    jobs = [job for job in small.session().plan().jobs if isinstance(job, ExtractJob)]
    dialogues = [row for job in jobs for row in {row.dialogue for row in job.rows}]
    assert len(dialogues) == len(set(dialogues))


def test_rows_that_depend_on_a_missing_fit_wait_and_the_fit_is_planned(small):
    plan = small.session(modality="text").plan()
    assert named(plan.waiting) == {"text_word2vec": 60, "text_cnn": 60}
    assert [(fit.node.name, fit.scope) for fit in fits(plan)] == [("text_word2vec", "official")]
    assert not runs(plan)


def test_a_fit_gets_the_rows_of_train_and_validation_and_nothing_of_test(small):
    session = small.session(modality="text")
    [fit] = fits(session.plan())
    [fold] = session.corpus.folds
    assert [row.id for row in fit.train] == list(fold.train) and [row.id for row in fit.valid] == list(fold.valid)
    assert fit.labels.keys() == {*fold.train, *fold.valid}


def test_a_stage_that_is_no_longer_asked_for_is_not_planned(small):
    assert {name for name, _ in runs(small.session(features=("sound",)).plan())} == {"audio_mfcc"}
    assert not fits(small.session(features=("sound",)).plan())


def test_what_is_there_is_cached_and_nothing_is_to_be_done(extracted):
    plan = extracted.session().plan()
    assert (plan.jobs, plan.waiting) == ([], {})
    assert named(plan.cached) == dict.fromkeys(("text_word2vec", "text_cnn", "audio_mfcc", "audio_opensmile"), 60)


def test_a_lost_object_is_planned_again_and_copies_nothing_from_itself(extracted):
    small = extracted
    catalogue = small.session().catalogue
    [node] = [node for node, _ in catalogue.wanted if node.name == "audio_mfcc"]
    shard = catalogue.of(node, None).shards[0]
    store = catalogue.store
    store.path(store.find(node.digest, shard.key)).unlink()
    plan = small.session().plan()
    [job] = plan.jobs
    assert runs(plan) == [("audio_mfcc", shard.key)] and job.runs[0].copies == {}


def test_a_lost_state_is_fitted_again_before_what_stands_on_it(extracted):
    small = extracted
    remove_fits(small, "text_word2vec")
    plan = small.session(modality="text").plan()
    assert [fit.node.name for fit in fits(plan)] == ["text_word2vec"]
    assert named(plan.waiting).keys() == {"text_word2vec", "text_cnn"}


def test_a_fit_of_a_stage_whose_input_is_there_is_planned_with_where_it_stands(extracted):
    small = extracted
    remove_fits(small, "text_cnn")
    [fit] = fits(small.session(modality="text").plan())
    assert fit.node.name == "text_cnn"
    assert fit.stored["text_word2vec"].keys.keys() == {row.id for row in (*fit.train, *fit.valid)}


def test_each_fold_has_a_fit_of_its_own_and_frozen_stages_are_planned_once(small):
    plan = small.session(protocol="cv").plan()
    assert [fit.scope for fit in fits(plan)] == [f"test-Session{n}" for n in range(1, 6)]
    assert len({fit.state for fit in fits(plan)}) == 5
    assert len(runs(plan)) == len(set(runs(plan)))
    assert sum(len(job.rows) for job in plan.jobs if isinstance(job, ExtractJob)) == 60


def test_crossfit_plans_a_fit_for_each_part_and_one_for_all(small):
    small.recipe = small.recipe.replace('protocol = "official"', 'protocol = "official"\ncrossfit = 2')
    plan = small.session(modality="text").plan()
    assert [fit.scope for fit in fits(plan)] == ["official", "official/part-0", "official/part-1"]


def test_a_stage_that_two_sets_want_is_planned_once(small):
    small.recipe += (
        small.recipe.partition("[features.sound]")[2]
        .partition("[features")[0]
        .replace("audio =", "[features.again]\naudio =")
    )
    plan = small.session(features=("sound", "again")).plan()
    assert len(runs(plan)) == len(set(runs(plan)))
    assert {name for name, _ in runs(plan)} == {"audio_mfcc"}


# --- what is in no key -----------------------------------------------------------------------------------------


def test_root_home_labels_and_alignment_are_in_no_row_key(small, tmp_path):
    def keys() -> list[tuple[str, str]]:
        return runs(small.session(modality="audio").plan())

    before = keys()
    small.recipe = small.recipe.replace('"six"', '"valence"').replace("length = 32", "length = 9")
    small.root, small.home = small.root.rename(tmp_path / "moved"), tmp_path / "other-home"
    assert keys() == before


def test_the_annotations_own_times_are_in_no_row_key_of_a_whole_file(small):
    before = runs(small.session(modality="audio").plan())
    row = small.session().corpus.manifest.rows[0]
    small.edit(row.id, f"[{row.start_s:.4f} ", f"[{row.start_s + 0.001:.4f} ", kind="EmoEvaluation")
    assert runs(small.session(modality="audio").plan()) == before
