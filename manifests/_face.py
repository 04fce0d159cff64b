"""Draws a face whose brows, eyes, mouth and movement show an emotion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 160, 120
TALK_HZ = 4.5

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]
Point = tuple[float, float]

_SCALE = 2
_SHIFT = 4
_WHITE, _INK, _WALL = (250, 250, 250), (25, 20, 20), (155, 160, 160)
_MOUTH, _LIPS = (70, 15, 25), (165, 60, 65)


@dataclass(frozen=True, kw_only=True)
class Looks:
    """An actor's appearance. Colours are RGB; `wide` and `tall` are factors of the head's size."""

    skin: Colour
    hair: Colour
    shirt: Colour
    wide: float
    tall: float
    long_hair: bool


@dataclass(frozen=True, kw_only=True)
class Expression:
    """The movements of a face, as shares of the largest one, from -1 or 0 to 1.

    smile: corners of the mouth up. open, width: of the mouth. teeth: shown. skew: one corner of the mouth higher. brow:
    raised. frown: inner ends of the brows down. eye: open. flush: red skin. droop: head down. nod, shake: movements of
    the head, `tempo_hz` times a second.
    """

    smile: float = 0.0
    open: float = 0.0
    width: float = 0.5
    teeth: float = 0.0
    skew: float = 0.0
    brow: float = 0.0
    frown: float = 0.0
    eye: float = 0.55
    flush: float = 0.0
    droop: float = 0.0
    nod: float = 0.0
    shake: float = 0.0
    tempo_hz: float = 1.0


_MOUTHS = {
    "hap": Expression(smile=1.0, open=0.35, width=1.0, teeth=1.0),
    "sad": Expression(smile=-1.0, width=0.45),
    "neu": Expression(),
    "ang": Expression(smile=-0.3, open=0.55, width=0.85, teeth=1.0),
    "exc": Expression(smile=0.5, open=1.0, width=0.7),
    "fru": Expression(smile=-0.6, width=0.75, skew=1.0),
}
EXPRESSIONS = {
    "hap": replace(_MOUTHS["hap"], brow=0.2, eye=0.3, shake=0.3),
    "sad": replace(_MOUTHS["sad"], brow=0.3, frown=-1.0, eye=0.25, droop=1.0, nod=0.1, tempo_hz=0.5),
    "neu": _MOUTHS["neu"],
    "ang": replace(_MOUTHS["ang"], brow=-0.9, frown=1.0, eye=0.6, flush=1.0, shake=0.8, tempo_hz=4.0),
    "exc": replace(_MOUTHS["exc"], brow=1.0, eye=1.0, droop=-0.6, nod=1.0, tempo_hz=3.0),
    "fru": replace(_MOUTHS["fru"], brow=-0.5, frown=0.7, eye=0.08, shake=0.3, droop=0.2, tempo_hz=0.7),
}
REST = Expression()


def blend(share: float, towards: Expression) -> Expression:
    """The expression at `share` of the way from rest to another one."""
    there = vars(towards)
    return Expression(**{name: rest + share * (there[name] - rest) for name, rest in vars(REST).items()})


def draw(looks: Looks, face: Expression, time_s: float, talk: float) -> Image:
    """The picture [HEIGHT, WIDTH, RGB] at a time; `talk`, from 0 to 1, opens the mouth further."""
    canvas = np.empty((HEIGHT * _SCALE, WIDTH * _SCALE, 3), np.uint8)
    canvas[:] = _WALL
    _Drawing(canvas, looks, face, time_s).paint(talk)
    return np.asarray(cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


class _Drawing:
    """A drawing in units of the head: (0, 0) is its middle, x = 1 its right side, y = 1 its chin."""

    def __init__(self, canvas: Image, looks: Looks, face: Expression, time_s: float) -> None:
        swing = np.sin(2 * np.pi * face.tempo_hz * time_s)
        self.canvas, self.looks, self.face = canvas, looks, face
        self.x = WIDTH * _SCALE / 2 + 16 * face.shake * swing
        self.y = HEIGHT * _SCALE * 0.52 + 14 * face.nod * swing + 16 * face.droop
        self.unit_x, self.unit_y = 80 * looks.wide, 100 * looks.tall
        red = np.array(looks.skin) * (1 - 0.45 * face.flush) + np.array((225, 40, 30)) * 0.45 * face.flush
        self.skin: Colour = (int(red[0]), int(red[1]), int(red[2]))

    def paint(self, talk: float) -> None:
        self._body()
        self.ellipse((0, 0), (1, 1), self.skin)
        self._hair()
        self._nose()
        for side in (-1, 1):
            self._eye(side)
            self._brow(side)
        self._mouth(talk)

    def _body(self) -> None:
        if self.looks.long_hair:
            self.ellipse((0, 0.15), (1.18, 1.15), self.looks.hair)
        self.ellipse((0, 1.55), (1.5, 0.7), self.looks.shirt)
        self.ellipse((0, -0.12), (1.1, 1.02), self.looks.hair)

    def _hair(self) -> None:
        arc = [(np.cos(a), -0.45 - 0.6 * np.sin(a)) for a in np.linspace(0, np.pi, 16)]
        self.polygon([*arc, (-0.6, -0.62), (0.6, -0.62)], self.looks.hair)

    def _nose(self) -> None:
        dark: Colour = (int(self.skin[0] * 0.75), int(self.skin[1] * 0.75), int(self.skin[2] * 0.75))
        self.line([(0, -0.05), (-0.1, 0.2), (0.06, 0.23)], dark, 4)

    def _eye(self, side: int) -> None:
        height = 0.02 + 0.19 * self.face.eye
        self.ellipse((0.4 * side, -0.17), (0.23, height), _WHITE)
        self.ellipse((0.4 * side, -0.17), (0.09, min(0.1, height)), _INK)
        self.line([(0.4 * side - 0.23, -0.17 - height / 3), (0.4 * side + 0.23, -0.17 - height / 3)], _INK, 2)

    def _brow(self, side: int) -> None:
        inner = -0.42 - 0.14 * self.face.brow + 0.16 * self.face.frown
        outer = -0.42 - 0.14 * self.face.brow - 0.12 * self.face.frown
        self.line([(0.16 * side, inner), (0.4 * side, (inner + outer) / 2 - 0.04), (0.66 * side, outer)], _INK, 9)

    def _mouth(self, talk: float) -> None:
        face = self.face
        x = np.linspace(-1, 1, 15)
        bow = 1 - x**2
        middle = 0.52 + 0.22 * face.smile * (bow - 0.5) - 0.12 * face.skew * np.sin(np.pi * x * 0.75)
        gap = (0.36 * face.open + 0.1 * talk) * np.sqrt(bow)
        upper = list(zip(0.55 * (0.4 + 0.6 * face.width) * x, middle - gap / 2, strict=True))
        lower = list(zip(0.55 * (0.4 + 0.6 * face.width) * x, middle + gap / 2, strict=True))
        self.polygon([*upper, *lower[::-1]], _MOUTH)
        if face.teeth > 0:
            edge = [(px, py + 0.5 * face.teeth * (qy - py)) for (px, py), (_, qy) in zip(upper, lower, strict=True)]
            self.polygon([*upper, *edge[::-1]], _WHITE)
        self.line([*upper, *lower[::-1], upper[0]], _LIPS, 6)

    def _pixels(self, points: Sequence[Point]) -> NDArray[np.int32]:
        scaled = [(self.x + self.unit_x * px, self.y + self.unit_y * py) for px, py in points]
        return np.round(np.array(scaled) * 2**_SHIFT).astype(np.int32)

    def ellipse(self, centre: Point, radii: Point, colour: Colour) -> None:
        middle = self._pixels([centre])[0].tolist()
        axes = (round(radii[0] * self.unit_x * 2**_SHIFT), round(radii[1] * self.unit_y * 2**_SHIFT))
        cv2.ellipse(self.canvas, middle, axes, 0, 0, 360, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        cv2.fillPoly(self.canvas, [self._pixels(points)], colour, cv2.LINE_AA, _SHIFT)

    def line(self, points: Sequence[Point], colour: Colour, thickness: int) -> None:
        cv2.polylines(self.canvas, [self._pixels(points)], False, colour, thickness, cv2.LINE_AA, _SHIFT)
