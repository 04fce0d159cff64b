"""The console: what is printed came from elsewhere, and cannot steer the terminal."""

from __future__ import annotations

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
