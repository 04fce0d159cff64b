"""Decodes the audio of one utterance: stretches of audio or video files, joined, as mono samples at the files' rate.

The content of a file decides how it is read, never its extension. libsndfile, which seeks to the stretch, reads audio
files of one or two channels, and files of which one channel is asked for. FFmpeg reads everything else, and what
libsndfile refuses or would not read to its end: Ogg files to which others were appended, and WAV and FLAC files that no
recorder closed. FFmpeg alone knows the positions of more than two channels, and gives Ogg's the order of other files.
Of several audio streams the one that is marked as the default is read, as in a player.

Times are those of the file: 0 is the start of its earliest stream, so zeros precede an audio stream that begins late.
Holes, packets that are too damaged to decode, and the end of a stretch whose file ends before it, are filled with
zeros; a remark says so, and a stretch that would mostly be filled has a reason. What follows a hole is where the stamps
say (see `audio_timeline`). Nothing is added after the last stretch. Noise that an utterance is to have is mixed in at
the end.

Files of bare MP3, AAC and the like have no stamps: how long a damaged part lasted follows from its bytes, exactly in
MP3 of a constant bit rate, else roughly, and what follows may come early. So it may where bytes were cut out of such a
file, or out of an AVI file. A remark counts the packets that do not decode, those before the stretch too; an AVI file
that is shorter than its header says counts as one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.media import container as containers
from pipeline.media.audio_stream import CUT_S, Levels, Stream, mono
from pipeline.media.audio_timeline import check_rate
from pipeline.media.bounds import check_row
from pipeline.media.container import MediaFile, media_file
from pipeline.media.headers import flac_goes_on, holds_several, riff_size, wav_goes_on
from pipeline.media.stretches import naming, sample_range
from pipeline.reason import Reason, Unreadable
from pipeline.remark import joined
from pipeline.stage import Stage, Waveform
from pipeline.utterance import Audio, Noise, NoisyAudio

if TYPE_CHECKING:
    from soundfile import SoundFile

VERSION: int = 4
"""Bumped by hand when `decode` may give other samples; enters the digest of every audio row."""

_AUDIO_FILES = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b"NIST")
_OGG = b"OggS"  # orders its channels in its own way, which FFmpeg knows
_LONG = 2**24  # samples
_MOST_SAMPLES_PER_BYTE = 2**13  # no codec makes a file of more
_HEADERS_BYTES = 1024  # so much beside the samples is nothing to look into
_VALUE_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4} | {
    "FLOAT": 4,
    "DOUBLE": 8,
}


def decode(stretches: Sequence[Audio], root: Path, stages: Sequence[Stage]) -> list[Waveform]:
    """Returns the same waveform for each of `stages`: float32 [N] at the files' own rate, cut to the sample.

    A stretch gives its times in seconds and the channel; without a channel, all are mixed to mono (see `mono`). Where
    rates differ, the highest is taken. Raises Unreadable, which names the stretch if there are several: missing_file;
    io_error; not_media; no_audio_stream, also if there is no such channel; decode_error, also if the file was cut
    before the end of the stretch; too_large, see `check_row`; too_short for a stretch without samples; non_finite.
    """
    waves = []
    for index, stretch in enumerate(stretches):
        with naming(stretches, index):
            waves.append(_checked(_read(stretch, root / stretch.path)))
    wave = waves[0] if len(waves) == 1 else _joined(stretches, waves)
    if isinstance(stretches[0], NoisyAudio):
        wave = _with_noise(wave, stretches[0].noise)
    return [wave for _ in stages]


def _with_noise(wave: Waveform, noise: Noise) -> Waveform:
    """The waveform with noise at its ratio to the whole of it; a waveform or a sound of silence stays as it is."""
    random, size = np.random.default_rng(noise.seed), len(wave.samples)
    if noise.sound:
        sound = resample(_checked(_read(Audio(path=noise.sound), Path(noise.sound))), wave.rate_hz)
        added = np.resize(np.roll(sound, -int(random.integers(len(sound)))), size)
    else:
        added = random.standard_normal(size, np.float32)
    power, of_noise = (float(np.mean(np.square(part, dtype=np.float64))) for part in (wave.samples, added))
    if not power or not of_noise:
        return wave
    scale = math.sqrt(power / of_noise * 10 ** (-noise.snr_db / 10))
    return replace(wave, samples=wave.samples + np.float32(scale) * added)


def _checked(wave: Waveform) -> Waveform:
    if not len(wave.samples):
        raise Unreadable(Reason.TOO_SHORT, "no samples in the stretch")
    bad = np.count_nonzero(~np.isfinite(wave.samples))
    if bad:
        raise Unreadable(Reason.NON_FINITE, f"{bad} of {len(wave.samples)} samples")
    return wave


def _joined(stretches: Sequence[Audio], waves: Sequence[Waveform]) -> Waveform:
    """The waveforms of the stretches, one after the other, each but the last exactly as long as its stretch."""
    rate_hz = max(wave.rate_hz for wave in waves)
    parts = [resample(wave, rate_hz) for wave in waves]
    for index, stretch in enumerate(stretches[:-1]):
        if stretch.end_s is not None:
            first, last = sample_range(stretch, rate_hz)
            part = parts[index][: last - first]
            parts[index] = np.pad(part, (0, last - first - len(part)))
    remarks = joined(remark for wave in waves for remark in wave.remarks)
    return Waveform(np.concatenate(parts), rate_hz, remarks)


def resample(wave: Waveform, rate_hz: int) -> NDArray[np.float32]:
    """The samples at `rate_hz`, by soxr in high quality; the same array if that is their rate already."""
    import soxr

    if wave.rate_hz == rate_hz:
        return wave.samples
    samples: NDArray[np.float32] = soxr.resample(wave.samples, wave.rate_hz, rate_hz, quality="HQ")
    return samples


def _read(source: Audio, path: Path) -> Waveform:
    with media_file(path) as media:
        wave = _with_libsndfile(source, media.file, media.head) if media.head.startswith(_AUDIO_FILES) else None
        return wave or _with_ffmpeg(source, media)


def _with_libsndfile(source: Audio, file: FileIO, head: bytes) -> Waveform | None:
    """None if libsndfile refuses, reads less than the file holds, or can't tell the positions of the channels."""
    import soundfile

    file.seek(0)
    try:
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            if not sound.frames or _is_ffmpegs(sound, source, head) or _holds_more(sound, file, head):
                return None
            check_rate(sound.samplerate)
            first, last = (min(sample, sound.frames) for sample in sample_range(source, sound.samplerate))
            if last == sound.frames:
                _check_riff_size(head, file, sound.frames / sound.samplerate)
            samples = _cut(sound, first, last)
            return None if samples is None else _mixed(samples, sound.samplerate, source.channel)
    except soundfile.LibsndfileError:
        return None


def _mixed(samples: NDArray[np.float32], rate_hz: int, channel: int | None) -> Waveform:
    """The samples [C, N] of a stretch as one channel."""
    wave, levels = mono(samples, (), channel), Levels()
    if channel is None:
        levels.add(samples, wave)
    return Waveform(wave, rate_hz, levels.remarks(rate_hz))


def _is_ffmpegs(sound: SoundFile, source: Audio, head: bytes) -> bool:
    return sound.channels > 2 and (source.channel is None or head.startswith(_OGG))


def _holds_more(sound: SoundFile, file: FileIO, head: bytes) -> bool:
    """True if the file holds more sound than libsndfile finds in it, or can't hold so much as it states."""
    size = os.fstat(file.fileno()).st_size
    if sound.frames >= _MOST_SAMPLES_PER_BYTE * size:
        return True
    if head.startswith(_OGG):
        return holds_several(file)
    if head.startswith(b"fLaC"):
        return flac_goes_on(file, sound.frames)
    values = sound.frames * sound.channels
    if not head.startswith(b"RIFF") or 0 <= size - 2 * values <= _HEADERS_BYTES:  # 16 bits, as most have
        return False
    value_bytes = _VALUE_BYTES.get(sound.subtype, 0)
    return value_bytes > 0 and size - value_bytes * values > _HEADERS_BYTES and wav_goes_on(file)


def _cut(sound: SoundFile, first: int, last: int) -> NDArray[np.float32] | None:
    """The samples [C, N] from `first` to before `last`; None if there are fewer.

    A header alone reserves no memory: many samples are only asked for once the last of them was read.
    """
    check_row((last - first) * np.dtype(np.float32).itemsize)
    if last - first > _LONG:
        sound.seek(last - 1)
        if not len(sound.read(1)):
            return None
    sound.seek(first)
    samples: NDArray[np.float32] = sound.read(last - first, dtype="float32", always_2d=True).T
    return samples if samples.shape[1] == last - first else None


def _check_riff_size(head: bytes, file: FileIO, duration_s: float) -> None:
    """Raises decode_error for a WAV file that was cut: libsndfile takes what is left for the whole."""
    stated = riff_size(head)
    size = os.fstat(file.fileno()).st_size
    if stated is not None and size * (1 + CUT_S / duration_s) < stated:
        raise Unreadable(Reason.DECODE_ERROR, f"ends at byte {size} of {stated}")


def _with_ffmpeg(source: Audio, media: MediaFile) -> Waveform:
    with media.container() as container:
        return Stream(container, containers.audio_stream(container), media.is_short_avi).read(source)
