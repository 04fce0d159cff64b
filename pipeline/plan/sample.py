"""The built-in sample: a few utterances, on which the output of a stage under other libraries is compared.

It goes the way of every corpus: its sound and pictures are encoded files, decoded by the real decoders. It never
changes, since what was computed of it is compared with what will be; `tests/sample_clips.py` wrote the media. Two
utterances are cut from one clip of 1.5 s (H.264 that decord serves, AAC in stereo at 44.1 kHz), the second with a
crop; the third has sound that libsndfile reads (FLAC at 22.05 kHz), and 10-bit pictures, which PyAV reads. The others
have text alone.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pipeline.cache.keys import file_digest
from pipeline.utterance import Audio, Utterance, Video

FOLDER = Path(__file__).with_name("sample_files")

_TEXTS = (
    "I never said that you could leave, did I?",
    "No!",
    "it was the 3rd of May, 1998, and we paid $12.50 for two of them",
    " ",
    "Oh wow 😂😂 that's so café-like… naïve, but I LOVED it!!!",
    "um",
    "well you know the thing is that we went all the way down to the station and then we waited and waited and nobody "
    "came so in the end we walked back home in the rain and I was so angry with him that I did not say a single word "
    "until the next morning when he finally asked me what was wrong",
)


@cache
def rows() -> tuple[Utterance, ...]:
    """The utterances, in order, of two dialogues by two speakers."""
    media = _media()
    return tuple(
        Utterance(
            id=f"sample_{i}",
            dialogue=f"sample_{i // 4}",
            turn=i % 4,
            speaker="AB"[i % 2],
            text=text,
            audio=(media[i][0],) if i < len(media) else (),
            video=(media[i][1],) if i < len(media) else (),
        )
        for i, text in enumerate(_TEXTS)
    )


def _media() -> list[tuple[Audio, Video]]:
    clip, voice, deep = ((name, file_digest(FOLDER / name)) for name in ("clip.mp4", "voice.flac", "deep.mkv"))
    return [
        (Audio(path=clip[0], digest=clip[1]), Video(path=clip[0], digest=clip[1])),
        (
            Audio(path=clip[0], start_s=0.31, end_s=1.12, digest=clip[1]),
            Video(path=clip[0], start_s=0.31, end_s=1.12, crop=(0.25, 0.125, 0.5, 0.75), digest=clip[1]),
        ),
        (Audio(path=voice[0], digest=voice[1]), Video(path=deep[0], digest=deep[1])),
    ]
