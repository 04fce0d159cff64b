"""Kinds of video as data: codecs, pixel formats, interlacing, containers; and a writer of a tiny film of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Kind:
    """A kind of video, and the decoder that serves it.

    why: a sentence about it. ticks: when each frame is shown, in units of 1 / rate. colour: attributes of the encoder's
    context. muxing: options of the container.
    """

    name: str
    why: str
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    container: str = "mp4"
    decoder: str = "PyAV"
    size: tuple[int, int] = (256, 192)
    rate: Fraction = Fraction(25)
    ticks: Sequence[int] = tuple(range(12))
    options: Mapping[str, str] = field(default_factory=dict)
    muxing: Mapping[str, str] = field(default_factory=dict)
    colour: Mapping[str, Any] = field(default_factory=dict)
    rotation: float = 0.0


def decord(name: str, why: str, codec: str = "libx264", pix_fmt: str = "yuv420p", **rest: Any) -> Kind:
    """A kind that decord serves."""
    return Kind(name, why, codec, pix_fmt, decoder="decord", **rest)


def images(count: int, width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    """Coloured blocks that grow brighter under fine noise that moves, so that every way to scale chroma shows."""
    chance = np.random.default_rng(0)
    blocks = chance.integers(0, 256, (height // 4 + 2, width // 4 + 2, 3)).repeat(4, 0).repeat(4, 1)
    noise = chance.integers(-40, 41, (height + 8, width + 8, 3))
    for index in range(count):
        fine = noise[index % 8 : index % 8 + height, index % 8 : index % 8 + width]
        yield (blocks[:height, :width] + fine + 6 * index).clip(0, 255).astype(np.uint8)


def write(kind: Kind, path: Path) -> Path:
    """Writes the film; its frames are `images`."""
    quiet = {"x265-params": "log-level=none"} if kind.codec == "libx265" else {}
    with av.open(str(path), "w", options=dict(kind.muxing)) as container:
        stream = container.add_stream(kind.codec, rate=kind.rate, options={"g": "5", **quiet, **kind.options})
        stream.width, stream.height = kind.size
        stream.pix_fmt, stream.codec_context.thread_count = kind.pix_fmt, 1
        for name, value in kind.colour.items():
            setattr(stream.codec_context, name, value)
        if kind.rotation:
            stream.set_display_rotation(kind.rotation)
        for tick, image in zip(kind.ticks, images(len(kind.ticks), *kind.size), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=kind.pix_fmt)
            frame.pts, frame.time_base = tick, 1 / kind.rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


B = {"bf": "3", "b_strategy": "0"}
FIELDS = {"flags": "+ilme+ildct"}
TWO = (0, 1)
UNEVEN = (0, 1, 2, 10, 11, 12, 13, 30, 31, 40, 41, 44)
PAL = {"codec": "dvvideo", "size": (720, 576), "ticks": TWO}
CIF = {"size": (176, 144)}
MATRICES = {"bt709": 1, "fcc": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "bt2020": 9}

H264 = [
    decord("h264", "What nearly all clips of the corpora are."),
    decord("h264-b-frames", "Frames that look forward, as most encoders make them.", options=B),
    decord("h264-baseline", "The profile of old phones.", options={"profile": "baseline"}),
    decord("h264-all-intra", "Every frame is a key frame.", options={"g": "1"}),
    decord("h264-one-key", "Only the first frame is a key frame.", options={"g": "250", **B}),
    decord("h264-cavlc", "Weighted prediction, five references, no arithmetic coding.", options={
        "x264-params": "cabac=0:weightp=2:ref=5"}),
    decord("h264-slices", "Four slices a frame.", options={"x264-params": "slices=4"}),
    decord("h264-lossless", "Coded without loss.", options={"qp": "0"}),
    decord("h264-picture-timing", "Every frame says that it is progressive.", options={"x264-params": "pic-struct=1"}),
    decord("h264-mov", "QuickTime.", container="mov", options=B),
    decord("h264-faststart", "The index before the frames, as for the web.", muxing={"movflags": "faststart"}),
    decord("h264-variable-rate", "Frames at uneven times, as screen recorders write.", options=B, ticks=UNEVEN),
    decord("h264-ntsc-rate", "30000/1001 frames a second.", rate=Fraction(30000, 1001), options=B),
    decord("h264-slow", "One frame a second.", rate=Fraction(1)),
    decord("h264-fast", "120 frames a second.", rate=Fraction(120), options=B),
    decord("h264-258x194", "Sides that no block divides.", size=(258, 194)),
    decord("h264-upright", "A film taken upright.", size=(192, 256)),
    decord("h264-1366x768", "A width that no block divides, and a line that is padded.", size=(1366, 768), ticks=TWO),
    decord("h264-1920x1080", "Full HD.", size=(1920, 1080), ticks=TWO),
    decord("h264-422", "Chroma halved in width alone.", pix_fmt="yuv422p"),
    decord("h264-444", "Chroma in full.", pix_fmt="yuv444p"),
    decord("h264-gray", "Coded without colour.", pix_fmt="gray"),
    decord("h264-full-range", "Levels from 0 to 255, as phones write.", colour={"color_range": 2}),
    decord("h264-full-range-422", "The same with chroma halved in width alone.", pix_fmt="yuvj422p"),
    decord("h264-full-range-444", "The same with chroma in full.", pix_fmt="yuvj444p"),
    decord("h264-limited-range", "Levels from 16 to 235, said so.", colour={"color_range": 1}),
    decord("h264-full-range-bt709", "Full range in HDTV's matrix.", colour={"color_range": 2, "colorspace": 1}),
    decord("h264-srgb-curve", "A transfer curve that decoders ignore.", colour={"color_trc": 13}),
    *(decord(f"h264-{name}", f"The colour matrix {name}.", colour={"colorspace": number})
      for name, number in MATRICES.items()),
    decord("h264-turned-90", "A display matrix that turns to the left.", rotation=90),
    decord("h264-turned-180", "A display matrix that turns upside down.", rotation=180),
    decord("h264-turned-270", "A display matrix that turns to the right.", rotation=270),
    decord("h264-wide-pixels", "Pixels that are not square.", colour={"sample_aspect_ratio": Fraction(4, 3)}),
    Kind("h264-rgb", "Red, green and blue in place of luma and chroma.", "libx264rgb", "rgb24"),
    Kind("h264-10-bit", "Ten bits.", pix_fmt="yuv420p10le"),
    Kind("h264-10-bit-422", "Ten bits, chroma halved in width alone.", pix_fmt="yuv422p10le"),
    Kind("h264-10-bit-444", "Ten bits, chroma in full.", pix_fmt="yuv444p10le"),
    Kind("h264-top-field-first", "Interlaced.", options={"x264-params": "tff=1"}),
    Kind("h264-bottom-field-first", "Interlaced, the lower field first.", options={"x264-params": "bff=1"}),
    Kind("h264-interlaced-422", "Interlaced, chroma halved in width alone.", pix_fmt="yuv422p", options=FIELDS),
    Kind("h264-interlaced-444", "Interlaced, chroma in full.", pix_fmt="yuv444p", options=FIELDS),
    Kind("h264-interlaced-mkv", "Interlaced, with B-frames.", container="mkv", options={**B, **FIELDS}),
    Kind("h264-field-syntax", "Progressive frames in a syntax that admits fields.", options={
        "x264-params": "fake-interlaced=1"}),
    Kind("h264-open-groups", "Key frames that later frames look back beyond.", options={
        **B, "x264-params": "open-gop=1:scenecut=0"}),
    Kind("h264-intra-refresh", "Key frames of which a part is intact.", options={
        "x264-params": "intra-refresh=1:bframes=0"}),
    Kind("h264-odd-sides", "An odd width and height.", pix_fmt="yuv444p", size=(257, 193)),
    Kind("h264-64x48", "A frame that decord returns in the wrong shape.", size=(48, 64)),
    Kind("h264-single", "One frame, so no index.", ticks=(0,)),
    Kind("h264-late", "A film that starts after two seconds.", ticks=tuple(range(50, 62))),
    Kind("h264-fragments", "Fragments, as streaming leaves them.", options=B, muxing={
        "movflags": "frag_keyframe+empty_moov"}),
    Kind("h264-mkv", "Matroska, whose index FFmpeg reads only to seek.", container="mkv", options=B),
    Kind("h264-mkv-index-first", "Matroska with its index before the frames.", container="mkv", muxing={
        "cues_to_front": "1"}, ticks=tuple(range(0, 600, 50))),
    Kind("h264-ts", "A transport stream, which has no index.", container="ts", options=B),
    Kind("h264-flv", "Flash, whose index FFmpeg does not read.", container="flv", options=B),
    Kind("h264-avi", "AVI, which has no presentation times.", container="avi", options={"bf": "0"}),
    Kind("h264-avi-b-frames", "The same with frames that look forward.", container="avi", options=B),
    Kind("h264-avi-open-groups", "The same with key frames that later frames look back beyond.", container="avi",
         options={**B, "x264-params": "open-gop=1:scenecut=0"}),
]  # fmt: skip
HEVC = [
    Kind("hevc", "Its open groups of pictures are decoded wrongly by decord.", "libx265"),
    Kind("hevc-mkv", "The same in Matroska.", "libx265", container="mkv"),
    Kind("hevc-closed", "Groups of pictures that are closed.", "libx265", options={
        "x265-params": "open-gop=0:log-level=none"}),
    Kind("hevc-422", "Chroma halved in width alone.", "libx265", "yuv422p"),
    Kind("hevc-444", "Chroma in full.", "libx265", "yuv444p"),
    Kind("hevc-gray", "No chroma.", "libx265", "gray"),
    Kind("hevc-rgb", "Red, green and blue.", "libx265", "gbrp"),
    Kind("hevc-10-bit", "Ten bits, as phones write HDR.", "libx265", "yuv420p10le"),
    Kind("hevc-12-bit", "Twelve bits.", "libx265", "yuv420p12le"),
    Kind("hevc-interlaced", "A frame for each field.", "libx265", options={
        "x265-params": "interlace=tff:log-level=none"}),
    Kind("hevc-full-range", "Levels from 0 to 255.", "libx265", "yuvj420p"),
    Kind("hevc-turned", "A display matrix.", "libx265", rotation=90),
]  # fmt: skip
OTHERS = [
    Kind("mpeg4-avi", "XviD and its like, as IEMOCAP has.", "mpeg4", container="avi"),
    Kind("mpeg4-mp4", "The same in MP4.", "mpeg4"),
    Kind("mpeg4-b-frames", "With B-frames.", "mpeg4", options={"bf": "2"}),
    Kind("mpeg4-avi-b-frames", "With B-frames in AVI.", "mpeg4", container="avi", options={"bf": "2"}),
    Kind("mpeg4-interlaced", "Interlaced.", "mpeg4", options=FIELDS),
    Kind("mpeg1-mpg", "An MPEG-1 program stream.", "mpeg1video", container="mpg"),
    Kind("mpeg1-mkv", "MPEG-1 in Matroska.", "mpeg1video", container="mkv"),
    Kind("mpeg2-mpg", "A DVD's program stream.", "mpeg2video", container="mpg"),
    Kind("mpeg2-ts", "A broadcast.", "mpeg2video", container="ts"),
    Kind("mpeg2-mp4", "MPEG-2 in MP4.", "mpeg2video"),
    Kind("mpeg2-b-frames", "With B-frames.", "mpeg2video", container="mkv", options={"bf": "2"}),
    Kind("mpeg2-422", "Chroma halved in width alone.", "mpeg2video", "yuv422p", container="mkv"),
    Kind("mpeg2-interlaced", "Interlaced.", "mpeg2video", container="mkv", options=FIELDS),
    Kind("mjpeg-avi", "Every frame a JPEG, as cameras write.", "mjpeg", "yuvj420p", container="avi"),
    Kind("mjpeg-422", "Chroma halved in width alone.", "mjpeg", "yuvj422p", container="avi"),
    Kind("mjpeg-444", "Chroma in full.", "mjpeg", "yuvj444p", container="mov"),
    Kind("mjpeg-odd-sides", "An odd width and height.", "mjpeg", "yuvj420p", container="avi", size=(257, 193)),
    Kind("vp8", "A browser's recording.", "libvpx", container="webm"),
    Kind("vp8-odd-sides", "An odd width and height.", "libvpx", container="webm", size=(257, 193)),
    Kind("vp8-alpha", "With a layer of transparency.", "libvpx", "yuva420p", container="webm",
         options={"auto-alt-ref": "0"}),
    Kind("vp9", "A download from YouTube.", "libvpx-vp9", container="webm"),
    Kind("vp9-mp4", "VP9 in MP4.", "libvpx-vp9"),
    Kind("vp9-hidden-frames", "Frames that are decoded and not shown.", "libvpx-vp9", container="webm",
         options={"auto-alt-ref": "1", "lag-in-frames": "8"}),
    Kind("vp9-440", "Chroma halved in height alone.", "libvpx-vp9", "yuv440p", container="webm"),
    Kind("vp9-rgb", "Red, green and blue.", "libvpx-vp9", "gbrp", container="webm"),
    Kind("vp9-bt2020", "The colour matrix of UHD.", "libvpx-vp9", container="webm", colour={"colorspace": 9}),
    Kind("av1", "A codec that decord does not know.", "libsvtav1"),
    Kind("av1-10-bit", "The same with ten bits.", "libsvtav1", "yuv420p10le"),
    Kind("dv-avi", "A camcorder's tape.", container="avi", **PAL),
    Kind("dv-mov", "The same in QuickTime.", container="mov", **PAL),
    Kind("dv-raw", "The same as it comes from the tape.", container="dv", **PAL),
    Kind("dv-ntsc", "Chroma quartered in width.", "dvvideo", "yuv411p", container="avi", size=(720, 480),
         rate=Fraction(30000, 1001), ticks=TWO),
    Kind("prores", "A studio's master, ten bits.", "prores_ks", "yuv422p10le", container="mov"),
    Kind("prores-interlaced", "The same interlaced.", "prores_ks", "yuv422p10le", container="mov",
         options={"flags": "+ildct"}),
    Kind("dnxhd", "Another studio's.", "dnxhd", "yuv422p", container="mov", size=(1280, 720), ticks=TWO,
         options={"b": "90M"}),
    Kind("ffv1", "An archive's, without loss.", "ffv1", container="mkv"),
    Kind("ffv1-10-bit", "The same with ten bits.", "ffv1", "yuv420p10le", container="mkv"),
    Kind("ffv1-gray", "The same without colour.", "ffv1", "gray", container="mkv"),
    Kind("huffyuv-rgb", "Red, green and blue without loss.", "huffyuv", "rgb24", container="avi"),
    Kind("utvideo", "Luma and chroma without loss.", "utvideo", container="avi"),
    Kind("raw", "No codec.", "rawvideo", container="avi"),
    Kind("raw-rgb", "No codec, and red, green and blue.", "rawvideo", "rgb24", container="mov"),
    Kind("png", "Every frame a PNG.", "png", "rgb24", container="mov"),
    Kind("gif", "A palette and no index.", "gif", "rgb8", container="gif"),
    Kind("h263-3gp", "An old phone's.", "h263", container="3gp", **CIF),
    Kind("h263-avi", "The same in AVI, where decord seeks wrongly.", "h263", container="avi", **CIF),
    Kind("wmv1", "Windows Media.", "wmv1", container="asf"),
    Kind("wmv2-avi", "The next Windows Media, in AVI.", "wmv2", container="avi"),
    Kind("msmpeg4", "DivX 3.", "msmpeg4", container="avi"),
    Kind("flv1", "Flash's first codec.", "flv", container="flv"),
    Kind("rv20", "RealVideo.", "rv20", container="rm"),
    Kind("svq1", "Sorenson, chroma quartered twice.", "svq1", "yuv410p", container="mov"),
    Kind("cinepak", "A CD-ROM's.", "cinepak", "rgb24", container="avi"),
]  # fmt: skip
KINDS = [*H264, *HEVC, *OTHERS]
FEW = (
    *("h264-b-frames", "h264-variable-rate", "h264-full-range", "h264-bt709", "h264-turned-90", "h264-10-bit"),
    *("h264-top-field-first", "h264-open-groups", "h264-intra-refresh", "h264-odd-sides", "h264-flv", "hevc"),
    *("hevc-10-bit", "mpeg2-interlaced", "vp9", "dv-avi"),
)
"""Those that the default suite writes and reads; `make test-slow` does all."""
