"""A small corpus of made media for the doctor: good and bad sounds and films, in a `table` corpus with a home."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import soundfile
from numpy.typing import NDArray

from pipeline.cache.home import Home
from pipeline.corpus.open_corpus import Options, scan
from pipeline.media.doctor import doctor

RATE = 16000
RECIPE = '[dataset]\nreader = "table"\nlabels = "label"\n'
COLUMNS = ("utterance", "audio", "video", "split", "start_s", "end_s", "audio_start_s", "audio_end_s", "video_start_s")


@dataclass
class Clinic:
    """A table corpus with a home; rows are added as keyword arguments, `examined` opens the doctor's door."""

    root: Path
    home: Path
    rows: list[dict[str, object]]

    def add(self, name: str, **cells: object) -> None:
        self.rows.append({"utterance": name, **cells})

    def examined(self, **options: Any) -> dict[str, Any]:
        names = [*COLUMNS, "video_end_s", "audio_channel"]
        with (self.root / "utterances.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, names, restval="")
            table.writeheader()
            table.writerows(self.rows)
        recipe = self.root.parent / "clinic.toml"
        recipe.write_text(RECIPE)
        found, manifest = scan(Home(self.home), Options(str(recipe), root=str(self.root)))
        given = {"workers": 1, **options}
        summary = doctor(found.home_name, manifest.rows, manifest.root, self.home / "doctor", **given)
        return {"dataset": found.name, **summary}

    def findings(self, **options: Any) -> dict[tuple[str, str], dict[str, Any]]:
        """The rows of the Parquet file by utterance and modality."""
        table = pq.read_table(self.examined(**options)["parquet"])
        return {(record["utterance"], record["modality"]): record for record in table.to_pylist()}

    def code(self, path: Path, modality: str, **cells: object) -> str | None:
        """What is found in one file, used by one utterance."""
        column = "audio" if modality == "audio" else "video"
        self.add("only", **{column: path.name, **cells})
        found: str | None = self.findings()["only", modality]["code"]
        return found


def tone(seconds: float, level: float = 0.3) -> NDArray[np.float32]:
    return (level * np.sin(np.arange(round(seconds * RATE)) / 5)).astype(np.float32)


def wav(path: Path, samples: NDArray[np.float32], subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples, RATE, subtype=subtype)
    return path


def film(path: Path, levels: Sequence[int], codec: str = "libx264", **options: str) -> Path:
    """Pictures of noise about each level, or of nothing but the level where it is 0 or 200, ten a second."""
    noise = np.random.default_rng(0)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10, options={"g": "5", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 10)
        for index, level in enumerate(levels):
            spread = 0 if level in (0, 200) else 40
            image = (level + noise.integers(0, spread + 1, (48, 64, 3))).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def with_sound(
    silent: Path, path: Path, samples: NDArray[np.float32], late_s: float = 0.0, damage: slice = slice(0)
) -> Path:
    """The film with a sound track that starts `late_s` after it, in packets of a tenth of a second, some spoilt."""
    with av.open(str(silent)) as source, av.open(str(path), "w") as container:
        pictures = container.add_stream_from_template(source.streams.video[0])
        sound = container.add_stream("flac", rate=RATE, layout="mono")
        sound.codec_context.options = {"frame_size": str(RATE // 10)}
        packets = list(encoded(sound, samples, round(late_s * RATE)))
        for packet in [packet for packet in source.demux() if packet.dts is not None]:
            packet.stream = pictures
            container.mux(packet)
        for spoilt in packets[damage]:
            packets[packets.index(spoilt)] = spoil(spoilt)
        container.mux(packets)
    return path


def with_packets(source: Path, path: Path, change: Callable[[int, bytes], bytes]) -> Path:
    """The film with packets that are as `change` makes them of their number and their bytes."""
    with av.open(str(source)) as film, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(film.streams.video[0])
        for number, packet in enumerate(packet for packet in film.demux() if packet.dts is not None):
            changed = av.Packet(change(number, bytes(packet)))
            changed.stream, changed.time_base, changed.duration = stream, packet.time_base, packet.duration
            changed.pts, changed.dts, changed.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
            container.mux(changed)
    return path


def encoded(sound: av.AudioStream, samples: NDArray[np.float32], first: int) -> Iterator[av.Packet]:
    for place in range(0, len(samples), RATE // 10):
        part = (samples[None, place : place + RATE // 10] * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, first + place, Fraction(1, RATE)
        yield from sound.encode(frame)
    yield from sound.encode()


def spoil(packet: av.Packet) -> av.Packet:
    bad = av.Packet(b"\xff" * packet.size)
    bad.stream, bad.time_base, bad.duration = packet.stream, packet.time_base, packet.duration
    bad.pts = bad.dts = packet.pts
    return bad


def half(path: Path) -> Path:
    """Cuts the file in the middle."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def moving(seconds: float) -> list[int]:
    return [20 + 10 * (index % 10) for index in range(round(seconds * 10))]
