"""A matrix of media files: containers by codecs by damages, with sound and pictures that tell where they belong.

The sound is noise, other at any time. Each picture has its number burnt in: eight fields, black or white.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from tests.pipeline.media.video_kinds import FIELDS, B

SECONDS = 3
FRAME_RATE_HZ = 25
HEIGHT, WIDTH, FIELD = 96, 192, 48
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
FIRST = {"movflags": "faststart"}


@dataclass(frozen=True)
class Made:
    """How a file is made: by FFmpeg, or by libsndfile if `subtype` is given.

    options: those of the video encoder. muxing: those of the container. late_s: how much later than the pictures the
    sound begins. delay_s: how much later all begins for the delay of the audio encoder, which the container hides.
    """

    suffix: str
    video: str = ""
    audio: str = ""
    subtype: str = ""
    rate_hz: int = 48000
    layout: str = "mono"
    pix_fmt: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=dict)
    muxing: Mapping[str, str] = field(default_factory=dict)
    late_s: float = 0.0
    delay_s: float = 0.0
    seconds: int = SECONDS


FILMS = {
    "mp4 h264 aac": Made("mp4", "libx264", "aac"),
    "mp4 h264 aac, b-frames": Made("mp4", "libx264", "aac", options=B),
    "mp4 h264 aac, index first": Made("mp4", "libx264", "aac", muxing=FIRST),
    "mp4 h264 aac, fragments": Made("mp4", "libx264", "aac", options={"bf": "0"}, muxing=FRAGMENTS),
    "mp4 h264 interlaced": Made("mp4", "libx264", "aac", options=FIELDS),
    "mp4 h264 10 bit": Made("mp4", "libx264", "aac", pix_fmt="yuv420p10le"),
    "mp4 h264 mp3": Made("mp4", "libx264", "libmp3lame"),
    "mp4 hevc ac3": Made("mp4", "libx265", "ac3"),
    "mp4 mpeg4 aac": Made("mp4", "mpeg4", "aac", rate_hz=44100, layout="stereo"),
    "mp4, late sound": Made("mp4", "libx264", "aac", late_s=0.6),
    "mp4 h264 alone": Made("mp4", "libx264"),
    "mov mjpeg pcm": Made("mov", "mjpeg", "pcm_s16le", pix_fmt="yuvj420p"),
    "mov prores pcm": Made("mov", "prores_ks", "pcm_s24le", pix_fmt="yuv422p10le"),
    "mkv h264 flac": Made("mkv", "libx264", "flac", options=B),
    "mkv ffv1 opus": Made("mkv", "ffv1", "libopus"),
    "mkv mpeg2 ac3": Made("mkv", "mpeg2video", "ac3", layout="5.1"),
    "mkv, late sound": Made("mkv", "libx264", "flac", late_s=0.6),
    "webm vp8 opus": Made("webm", "libvpx", "libopus"),
    "webm vp9 opus": Made("webm", "libvpx-vp9", "libopus", options={"deadline": "realtime", "cpu-used": "8"}),
    "avi mpeg4 pcm": Made("avi", "mpeg4", "pcm_s16le"),
    "avi mjpeg pcm": Made("avi", "mjpeg", "pcm_s16le", pix_fmt="yuvj420p", rate_hz=16000),
    "avi h264 mp3, b-frames": Made("avi", "libx264", "libmp3lame", options=B),
    "ts h264 aac": Made("ts", "libx264", "aac"),
    "ts mpeg2 mp2": Made("ts", "mpeg2video", "mp2"),
    "mpg mpeg1 mp2": Made("mpg", "mpeg1video", "mp2", rate_hz=44100),
    "mpg mpeg2 ac3": Made("vob", "mpeg2video", "ac3"),
    "flv h264 aac": Made("flv", "libx264", "aac", rate_hz=44100),
    "flv flv1 pcm": Made("flv", "flv", "pcm_s16le", rate_hz=44100),
    "wmv wmv2 wma": Made("wmv", "wmv2", "wmav2", layout="stereo", delay_s=0.043),
    "3gp mpeg4 amr": Made("3gp", "mpeg4", "libopencore_amrnb", rate_hz=8000),
    "gif": Made("gif", "gif", pix_fmt="rgb8"),
    "one frame": Made("mp4", "libx264", "aac", seconds=0),
}
SOUNDS = {
    "wav": Made("wav", subtype="PCM_16"),
    "wav, 8 bit": Made("wav", subtype="PCM_U8", rate_hz=11025),
    "wav, 24 bit stereo": Made("wav", subtype="PCM_24", rate_hz=44100, layout="stereo"),
    "wav, float": Made("wav", subtype="FLOAT", rate_hz=96000),
    "wav, a-law": Made("wav", subtype="ALAW", rate_hz=8000),
    "wav, four channels": Made("wav", subtype="PCM_16", rate_hz=16000, layout="4.0"),
    "wav, adpcm": Made("wav", audio="adpcm_ima_wav", rate_hz=16000),
    "rf64": Made("rf64", subtype="PCM_16"),
    "w64": Made("w64", subtype="PCM_16", rate_hz=22050),
    "aiff": Made("aiff", subtype="PCM_16", rate_hz=44100),
    "au": Made("au", subtype="PCM_16", rate_hz=16000),
    "caf": Made("caf", subtype="PCM_16"),
    "nist": Made("nist", subtype="PCM_16", rate_hz=16000),
    "flac": Made("flac", subtype="PCM_16", rate_hz=16000),
    "ogg vorbis": Made("ogg", subtype="VORBIS", rate_hz=44100),
    "ogg opus": Made("ogg", audio="libopus"),
    "ogg opus, six channels": Made("ogg", audio="libopus", layout="5.1"),
    "mp3": Made("mp3", audio="libmp3lame", rate_hz=44100),
    "m4a": Made("m4a", audio="aac", rate_hz=32000),
    "m4a, eight channels": Made("m4a", audio="aac", layout="7.1"),
    "m4a alac": Made("m4a", audio="alac", rate_hz=44100),
    "aac": Made("aac", audio="aac"),
    "ac3": Made("ac3", audio="ac3", layout="5.1"),
    "wma": Made("wma", audio="wmav2", rate_hz=44100, layout="stereo", delay_s=0.046),
    "mka": Made("mka", audio="libopus", layout="stereo"),
    "amr": Made("amr", audio="libopencore_amrnb", rate_hz=8000),
    "wavpack": Made("wv", audio="wavpack", rate_hz=44100),
}


def cut(data: bytes) -> bytes:
    """The first half."""
    return data[: len(data) // 2]


def beheaded(data: bytes) -> bytes:
    """The second half."""
    return data[len(data) // 2 :]


def zeroed(data: bytes) -> bytes:
    """Zeros in place of a twentieth in the middle."""
    begin, size = len(data) // 2 // 188 * 188, len(data) // 20
    return data[:begin] + bytes(size) + data[begin + size :]


def scratched(data: bytes) -> bytes:
    """Sixty zeros where a packet of a transport stream begins."""
    begin = len(data) // 2 // 188 * 188
    return data[:begin] + bytes(60) + data[begin + 60 :]


def holed(data: bytes) -> bytes:
    """Zeros between the packets of a transport stream, more than FFmpeg looks through at once."""
    middle = len(data) // 2 // 188 * 188
    return data[:middle] + bytes(1000 * 188) + data[middle:]


def noisy(data: bytes) -> bytes:
    """Random bytes, a thousandth of all, in the second half."""
    chance, changed = np.random.default_rng(0), bytearray(data)
    for place in chance.integers(len(data) // 2, len(data), len(data) // 1000):
        changed[place] = chance.integers(256)
    return bytes(changed)


def doubled(data: bytes) -> bytes:
    """The file twice, one after the other."""
    return data * 2


def misstated(data: bytes) -> bytes:
    """A WAV or RIFF file whose sizes are those of half of it."""
    half = (len(data) // 2).to_bytes(4, "little")
    return data[:4] + half + data[8:40] + half + data[44:]


def overstated(data: bytes) -> bytes:
    """A WAV or RIFF file whose sizes are those of twice as much."""
    twice = (len(data) * 2).to_bytes(4, "little")
    return data[:4] + twice + data[8:40] + twice + data[44:]


DAMAGES: dict[Callable[[bytes], bytes], tuple[str, ...]] = {
    cut: ("mp4 h264 aac", "mp4 h264 aac, index first", "mp4 h264 aac, fragments", "mkv h264 flac", "webm vp8 opus",
          "avi h264 mp3, b-frames", "ts h264 aac", "mpg mpeg1 mp2", "flv h264 aac", "wmv wmv2 wma", "wav", "w64",
          "aiff", "flac", "ogg vorbis", "ogg opus", "mp3", "aac", "caf", "nist", "amr", "m4a alac", "gif"),
    beheaded: ("mp4 h264 aac", "mkv h264 flac", "ts h264 aac", "mpg mpeg1 mp2", "mp3", "wav", "avi h264 mp3, b-frames"),
    zeroed: ("mp4 h264 aac", "mp4 h264 aac, fragments", "mkv h264 flac", "avi h264 mp3, b-frames", "ts h264 aac",
             "mpg mpeg1 mp2", "flv h264 aac", "wmv wmv2 wma", "flac", "ogg opus", "ogg vorbis", "mp3", "aac", "m4a"),
    scratched: ("ts h264 aac", "ts mpeg2 mp2"),
    holed: ("ts h264 aac", "ts mpeg2 mp2"),
    noisy: ("mp4 h264 aac, index first", "mkv h264 flac", "avi h264 mp3, b-frames", "ts h264 aac", "ogg opus", "flac",
            "mp3"),
    doubled: ("ts h264 aac", "mpg mpeg1 mp2", "ogg vorbis", "mp3", "mp4 h264 aac", "wav"),
    misstated: ("wav", "avi h264 mp3, b-frames"),
    overstated: ("wav", "avi h264 mp3, b-frames"),
}  # fmt: skip
IN_PLACE = (cut, zeroed, scratched, holed, noisy)
"""Damages after which what is left has its time still."""
NO_MEDIA: dict[str, Callable[[Path], object]] = {
    "empty.mp4": lambda path: path.write_bytes(b""),
    "text.mp4": lambda path: path.write_text("I did not expect that.\n" * 40),
    "zeros.wav": lambda path: path.write_bytes(bytes(4096)),
    "random.mp4": lambda path: path.write_bytes(np.random.default_rng(0).bytes(4096)),
    "list.wav": lambda path: path.write_text("ffconcat version 1.0\nfile wav.wav\n"),
    "playlist.mp4": lambda path: path.write_text("#EXTM3U\n#EXTINF:3,\nwav.wav\n#EXT-X-ENDLIST\n"),
    "riff.wav": lambda path: path.write_bytes(b"RIFF\x24\0\0\0WAVE"),
    "box.mp4": lambda path: path.write_bytes(b"\0\0\0\x18ftypisom" + bytes(12)),
    "matroska.mkv": lambda path: path.write_bytes(b"\x1aE\xdf\xa3" + bytes(40)),
    "ogg.ogg": lambda path: path.write_bytes(b"OggS" + bytes(60)),
    "flac.flac": lambda path: path.write_bytes(b"fLaC" + bytes(60)),
    "picture.mp4": lambda path: Image.fromarray(picture(3)).save(path, "png"),
    "photograph.mp4": lambda path: Image.fromarray(picture(3)).save(path, "jpeg"),
    "no samples.wav": lambda path: soundfile.write(path, np.zeros(0, np.float32), 16000),
    "ten milliseconds.wav": lambda path: soundfile.write(path, noise(16000)[:160], 16000),
    "not finite.wav": lambda path: soundfile.write(path, np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT"),
}


def noise(rate_hz: int, seconds: float = SECONDS) -> NDArray[np.float32]:
    """Noise below 3 kHz, the same at every rate."""
    import soxr

    slow = np.random.default_rng(0).normal(0, 0.12, round(6000 * (seconds + 1)))
    samples: NDArray[np.float32] = soxr.resample(slow, 6000, rate_hz)[: round(rate_hz * seconds)].astype(np.float32)
    return samples


def picture(number: int) -> NDArray[np.uint8]:
    """A picture [H, W, 3] with its number burnt in."""
    bits = np.array([number >> bit & 1 for bit in range(8)], np.uint8).reshape(2, 4)
    return np.repeat((bits * 200 + 28).repeat(FIELD, 0).repeat(FIELD, 1)[..., None], 3, axis=2).astype(np.uint8)


def number(image: NDArray[np.uint8]) -> int:
    """The number that is burnt into an image of any size."""
    height, width = image.shape[0] // 2, image.shape[1] // 4
    fields = image.mean(axis=2)[: 2 * height, : 4 * width].reshape(2, height, 4, width)
    middle = fields[:, height // 4 : -(height // 4) or None, :, width // 4 : -(width // 4) or None]
    bits = (middle.mean(axis=(1, 3)) > 128).ravel()
    return int(sum(1 << bit for bit in range(8) if bits[bit]))


def make(made: Made, path: Path) -> Path:
    """Writes the file."""
    if made.subtype:
        channels = av.AudioLayout(made.layout).nb_channels
        samples = np.repeat(noise(made.rate_hz)[:, None], channels, axis=1)
        soundfile.write(path, samples, made.rate_hz, subtype=made.subtype, format=made.suffix.upper())
        return path
    with av.open(str(path), "w", options=dict(made.muxing)) as container:
        pictures = _pictures(made, container) if made.video else iter(())
        sound = _sound(made, container) if made.audio else iter(())
        for _, packets in sorted([*pictures, *sound], key=lambda timed: timed[0]):
            container.mux(packets)
    return path


Timed = tuple[float, list[av.Packet]]


def _pictures(made: Made, container: av.container.OutputContainer) -> Iterator[Timed]:
    quiet = {"x265-params": "log-level=none"} if made.video == "libx265" else {}
    stream = container.add_stream(made.video, rate=FRAME_RATE_HZ, options={"g": "5", **quiet, **dict(made.options)})
    stream.width, stream.height, stream.pix_fmt, stream.codec_context.thread_count = WIDTH, HEIGHT, made.pix_fmt, 1
    stream.time_base = stream.codec_context.time_base = Fraction(1, FRAME_RATE_HZ)
    count = max(1, made.seconds * FRAME_RATE_HZ)
    return _encoded(stream, [_frame(index, made.pix_fmt) for index in range(count)], 1 / FRAME_RATE_HZ)


def _frame(index: int, pix_fmt: str) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24").reformat(format=pix_fmt)
    frame.pts, frame.time_base = index, Fraction(1, FRAME_RATE_HZ)
    return frame


def _sound(made: Made, container: av.container.OutputContainer) -> Iterator[Timed]:
    stream = container.add_stream(made.audio, rate=made.rate_hz, layout=made.layout)
    if made.audio == "wmav2":
        stream.bit_rate = 128_000
    channels, samples = stream.layout.nb_channels, noise(made.rate_hz, made.seconds or 0.5)
    part, frames = made.rate_hz // FRAME_RATE_HZ, []
    for first in range(0, len(samples), part):
        values = np.repeat(samples[first : first + part], channels)[None]  # [1, N * C], one sample after the other
        frame = av.AudioFrame.from_ndarray(values, format="flt", layout=made.layout)
        frame.sample_rate, frame.time_base = made.rate_hz, Fraction(1, made.rate_hz)
        frame.pts = first + round(made.late_s * made.rate_hz)
        frames.append(frame)
    return _encoded(stream, frames, 1 / FRAME_RATE_HZ)


def _encoded(stream: av.VideoStream | av.AudioStream, frames: list[av.Frame], each_s: float) -> Iterator[Timed]:
    for index, frame in enumerate([*frames, None]):
        yield index * each_s, stream.encode(frame)
