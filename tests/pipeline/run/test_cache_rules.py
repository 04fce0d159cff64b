"""What is computed again and what is not: each rule counts the rows and the calls into every stage."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from pipeline.run.inline_workers import Inline
from tests.small import driven

TEXT = {"text_word2vec", "text_cnn"}
EVERY = TEXT | {"audio_mfcc", "audio_opensmile"}


def session5(small):
    """Utterances of the test session, in manifest order."""
    return [row for row in small.session().corpus.manifest.rows if row.session == "Session5"]


def train_row(small):
    corpus = small.session().corpus
    return next(row for row in corpus.manifest.rows if row.id == corpus.folds[0].train[0])


def insert_after(small, row, name):
    """Adds an utterance to a dialogue: the row's own audio backwards, and its words with one more."""
    for kind in ("EmoEvaluation", "transcriptions"):
        [file] = small.root.glob(f"Session*/dialog/{kind}/{row.dialogue}.txt")
        lines = file.read_text().splitlines(keepends=True)
        at = next(i for i, line in enumerate(lines) if row.id in line)
        added = lines[at].replace(row.id, name).replace("]: ", "]: well ")
        file.write_text("".join([*lines[: at + 1], added, *lines[at + 1 :]]))
    audio = small.root / row.audio[0].path
    samples, rate_hz = soundfile.read(audio)
    soundfile.write(audio.with_name(f"{name}.wav"), samples[::-1], rate_hz)


def test_a_second_run_calls_no_extractor(small):
    first = small.extract()
    assert first == dict.fromkeys(EVERY, 60)
    assert small.extract() == {}
    assert small.last.jobs == 0 and small.count("calls") == {}


def test_a_test_transcript_costs_text_of_that_row_alone(extracted):
    small = extracted
    small.edit(session5(small)[3].id, "]: ", "]: well ")
    assert small.extract() == {"text_word2vec": 1, "text_cnn": 1}
    assert not any("fit" in name for name in small.count("calls"))


def test_a_train_transcript_runs_the_fits_that_saw_it_and_what_stands_on_them(extracted):
    small = extracted
    small.edit(train_row(small).id, "]: ", "]: well ")
    assert small.extract() == {"text_word2vec": 60, "text_cnn": 60}
    assert {"text_word2vec (fit)", "text_cnn (fit)"} <= small.count("calls").keys()


def test_a_parameter_of_one_stage_costs_that_stage_alone(extracted):
    small = extracted
    small.recipe = small.recipe.replace('"IS09"', '"GeMAPSv01b"')
    assert small.extract() == {"audio_opensmile": 60}


def test_a_parameter_of_an_upstream_stage_costs_what_stands_on_it_too(extracted):
    small = extracted
    small.recipe = small.recipe.replace("size = 8", "size = 9")
    assert small.extract().keys() == TEXT


def test_a_label_costs_states_and_what_stands_on_them_alone(extracted):
    small = extracted
    row = train_row(small)
    label = row.labels["emotion"]
    other = "sad" if label != "sad" else "ang"
    small.edit(row.id, f"\t{label}\t", f"\t{other}\t", kind="EmoEvaluation")
    assert small.extract().keys() <= TEXT
    assert not {"audio_mfcc", "audio_opensmile"} & small.count("calls").keys()


def test_an_inserted_utterance_costs_one_row_a_stage_and_the_rest_is_copied(extracted):
    small = extracted
    row = session5(small)[4]
    insert_after(small, row, f"{row.id[:-3]}999")
    assert small.extract() == dict.fromkeys(EVERY, 1)
    assert small.count("copied").keys() == EVERY


def test_a_removed_utterance_costs_nothing(extracted):
    small = extracted
    row = session5(small)[4]
    for kind in ("EmoEvaluation", "transcriptions"):
        [file] = small.root.glob(f"Session*/dialog/{kind}/{row.dialogue}.txt")
        file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if row.id not in line))
    assert small.extract() == {}


def test_another_label_protocol_extracts_no_frozen_stage_again(extracted):
    small = extracted
    small.recipe = small.recipe.replace('labels   = "six"', 'labels   = "four"')
    assert small.extract().keys() <= TEXT


def test_one_modality_can_be_extracted_alone(small):
    assert small.extract(modality="audio") == {"audio_mfcc": 60, "audio_opensmile": 60}
    assert small.extract().keys() == TEXT


def test_one_feature_set_can_be_extracted_alone(small):
    assert small.extract(features=("sound",)) == {"audio_mfcc": 60}


def test_a_missing_file_is_a_reason_and_its_arrival_is_noticed(small):
    row = session5(small)[0]
    audio = small.root / row.audio[0].path
    away = audio.rename(audio.with_suffix(".away"))
    small.extract(modality="audio")
    assert small.failed()["audio"] == {row.id: "missing_file"}
    away.rename(audio)
    assert small.extract(modality="audio") == {"audio_mfcc": 1, "audio_opensmile": 1}
    assert small.failed()["audio"] == {}


def test_a_moved_corpus_extracts_nothing_again(extracted, tmp_path):
    small = extracted
    small.root = small.root.rename(tmp_path / "elsewhere")
    assert small.extract() == {}


def test_an_object_with_flipped_bits_is_made_again(extracted):
    small = extracted
    session = small.session()
    store = session.catalogue.store
    victim, bad, shard = max(
        ((store.path(rows.record(shard)), rows, shard) for rows in session.catalogue for shard in rows.shards),
        key=lambda found: found[0],
    )
    victim.chmod(0o644)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    from pipeline.cache.store import CorruptError

    with pytest.raises(CorruptError):
        store.open(bad.final(shard))
    assert small.extract() == {bad.node.name: len(shard.rows)}


@pytest.mark.slow
def test_a_row_is_the_same_whatever_the_batch(small, tmp_path):
    from pipeline.run.stage_calls import Knobs

    found = []
    for batch in (1, 64):
        small.home = tmp_path / f"home-{batch}"
        opened = small.session(modality="audio")
        driven(opened.catalogue, Inline(), Knobs(batch=batch))
        found.append({k: v for k, v in small.rows().items() if k[0].startswith("audio")})
    assert len(found[0]) == 120 and same(*found)


def same(a, b, tolerance=1e-4):
    """The same keys, ids, masks and reasons, and values within the tolerance."""
    assert a.keys() == b.keys()
    for place in a:
        (key, one), (other_key, two) = a[place], b[place]
        assert (key, one.reason) == (other_key, two.reason), place
        if one.values is not None:
            np.testing.assert_array_equal(one.valid, two.valid)
            np.testing.assert_allclose(one.values, two.values, rtol=tolerance, atol=tolerance)
    return True
