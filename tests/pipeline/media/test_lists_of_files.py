"""A file that names other files or addresses is not media: nothing that it names is opened."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pipeline.media.decode import read
from pipeline.media.doctor_file import examine
from pipeline.media.video_decoder import decoder
from pipeline.media.video_timeline import read_timeline
from pipeline.reason import Reason, Unreadable
from pipeline.utterance import Audio, Video
from stages.audio_mfcc import AudioMfcc
from stages.visual_resnet50 import VisualResnet50
from tests.clinic import film, moving, tone, wav
from tests.pipeline.media.video_kinds import KINDS, write

LISTS = {
    "ffconcat": "ffconcat version 1.0\nfile {name}\n",
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{name}\n#EXT-X-ENDLIST\n",
    "hls by address": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n",
    "asx": "[Reference]\nRef1={url}\n",
    "address": "{url}\n",
    "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="a" bandwidth="1"><BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "vobsub": "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n",
    "subtitles": "1\n00:00:00,000 --> 00:00:01,000\n{name}\n",
    "webvtt": "WEBVTT\n\n00:00.000 --> 00:01.000\n{name}\n",
    "metadata": ";FFMETADATA1\ntitle={name}\n",
}


@contextmanager
def untouched(pipe: Path) -> Iterator[None]:
    """Asserts that nobody opens the named pipe. Whoever does finds it empty, and does not wait."""
    os.mkfifo(pipe)
    opened, done = threading.Event(), threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            with suppress(OSError):  # nobody reads
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
                opened.set()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert not opened.is_set()


def reason(kind: str, path: Path) -> Reason:
    """The reason of extraction, which the doctor gives too."""
    with pytest.raises(Unreadable) as examined:
        examine("audio" if kind == "audio" else "video", path)
    with pytest.raises(Unreadable) as extracted:
        if kind == "audio":
            read("audio", [Audio(path=path.name)], path.parent, [AudioMfcc()])
        else:
            read("video", [Video(path=path.name)], path.parent, [VisualResnet50(frames=2, size=32, weights="random")])
    assert examined.value.reason is extracted.value.reason
    return extracted.value.reason


@pytest.mark.parametrize("kind", ["audio", "video"])
@pytest.mark.parametrize("form", LISTS)
def test_a_file_that_names_others_is_not_media_and_nothing_that_it_names_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for suffix in ("wav", "mp4"):
        with socket.create_server(("127.0.0.1", 0)) as server, untouched(tmp_path / f"other.{suffix}"):
            port = server.getsockname()[1]
            path = tmp_path / f"list.{suffix}"
            path.write_text(LISTS[form].format(name=f"other.{suffix}", url=f"http://127.0.0.1:{port}/", port=port))
            assert reason(kind, path) is Reason.NOT_MEDIA
            server.setblocking(False)
            with pytest.raises(BlockingIOError):  # nobody called
                server.accept()


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_a_list_beside_the_real_clip_that_it_names_does_not_get_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    real = wav(tmp_path / "real.wav", tone(1)) if kind == "audio" else film(tmp_path / "real.mp4", moving(1))
    path = tmp_path / f"list{real.suffix}"
    path.write_text(f"ffconcat version 1.0\nfile {real.name}\n")
    assert reason(kind, path) is Reason.NOT_MEDIA


@pytest.mark.parametrize("name", ["a%02d.png", "list.m3u8", "session.sdp", "list.ffconcat"])
def test_the_name_of_a_film_does_not_say_what_is_in_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    shutil.move(write(next(kind for kind in KINDS if kind.name == "h264"), tmp_path / "film.mp4"), path)
    assert decoder(path, read_timeline(path)) == "decord"


@pytest.mark.parametrize("kind", ["audio", "video"])
@pytest.mark.parametrize("form", ["ffconcat", "hls", "sdp", "asx", "metadata"])
def test_the_head_of_a_list_before_a_film_opens_nothing_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    real = film(tmp_path / "real.mp4", moving(1)).read_bytes()
    with untouched(tmp_path / "other.mp4"):
        path = tmp_path / "headed.mp4"
        path.write_bytes(LISTS[form].format(name="other.mp4", url="http://127.0.0.1:9/", port=9).encode() + real)
        assert reason(kind, path) in (Reason.NOT_MEDIA, Reason.DECODE_ERROR, Reason.NO_AUDIO_STREAM)
