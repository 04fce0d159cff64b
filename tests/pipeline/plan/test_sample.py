"""The built-in sample goes through what decides values: both decoders of pictures, both readers of sound."""

from __future__ import annotations

from pipeline.media.video_decoder import decoder
from pipeline.media.video_timeline import read_timeline
from pipeline.plan import sample


def test_its_pictures_are_served_by_both_decoders():
    paths = [sample.FOLDER / stretch.path for row in sample.rows() for stretch in row.video]
    assert {decoder(path, read_timeline(path)) for path in paths} == {"decord", "PyAV"}


def test_its_sound_is_in_a_container_and_in_a_file_that_libsndfile_reads():
    suffixes = {stretch.path.rpartition(".")[2] for row in sample.rows() for stretch in row.audio}
    assert suffixes == {"mp4", "flac"}
