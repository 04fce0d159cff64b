"""The console: what is printed came from elsewhere, and cannot steer the terminal; what a terminal is spared."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest
from rich.table import Table

from pipeline import console

HOSTILE = "u1\x1b(0;owned\x07\x1b2J\u202egpj\udc80\x9b1m"
SHOWN = r"u1\x1b(0;owned\x07\x1b2J\u202egpj\udc80\x9b1m"


def cell(text):
    table = Table("id")
    table.add_row(text)
    return table


@pytest.mark.parametrize("shown", [str, cell])
def test_an_escape_sequence_in_an_id_is_shown_and_not_obeyed(capsys, shown):
    console.console.print(shown(HOSTILE), markup=False, soft_wrap=True)
    written = capsys.readouterr().err
    assert SHOWN in written and "\x1b" not in written and "\u202e" not in written


def test_letters_of_every_script_and_the_ends_of_lines_stay_as_they_are(capsys):
    text = "na\u00efve \u0928\u092e\u0938\u094d\u0924\u0947 \U0001f469\u200d\U0001f680\nnext\n"
    console.print_line(text)
    assert capsys.readouterr().err == text + "\n"


# --- terminals, and what is none ---------------------------------------------------------------------------------

PROGRAM = """
from pipeline import console
console.LINE_S = 0.0
with console.Bars() as bars:
    bars.grow("audio", "rows", 3)
    for row in range(3):
        bars.advance("audio")
console.print_line("too many failed", "red")
console.console.print(console.table("Extraction", "stage", "rows"))
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-8]|9[0-7])[;0-9]*m")


def written(terminal=True, **environment):
    """What a program with a bar, a red line and a table writes to a terminal, or to a pipe."""
    known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    whole = {**known, "TERM": "xterm-256color", **environment}
    command = [sys.executable, "-c", PROGRAM]
    if not terminal:
        return subprocess.run(command, env=whole, stderr=subprocess.PIPE, text=True, check=True).stderr
    ours, theirs = pty.openpty()
    with (
        os.fdopen(ours, "rb", buffering=0) as screen,
        subprocess.Popen(command, env=whole, stderr=theirs, stdin=theirs),
    ):
        os.close(theirs)
        return b"".join(iter(lambda: _chunk(screen), b"")).decode()


def _chunk(screen):
    try:
        return screen.read(4096)
    except OSError:  # the program has ended
        return b""


def test_a_terminal_has_live_bars_in_colours():
    text = written()
    assert COLOUR.search(text) and "3/3 rows" in text and "audio: 1/3 rows" not in text


def test_no_color_takes_the_colours_and_leaves_the_bars():
    text = written(NO_COLOR="1")
    assert "\x1b" in text and "3/3 rows" in text and not COLOUR.search(text)


@pytest.mark.parametrize("place", [{"TERM": "dumb"}, {"terminal": False}], ids=["a dumb terminal", "a pipe"])
def test_without_live_bars_there_are_plain_lines_and_no_escape_sequence(place):
    text = written(**place)
    lines = [line.strip() for line in text.splitlines()]
    assert "\x1b" not in text and "too many failed" in lines
    assert [line.partition(",")[0] for line in lines if "audio" in line] == [f"audio: {n}/3 rows" for n in (1, 2, 3)]
