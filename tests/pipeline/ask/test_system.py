"""`doctor --system` says what this machine has, and that the hub is out of reach if it is."""

from __future__ import annotations

import io
import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
from rich.console import Console

from pipeline.ask.system import system, system_table
from pipeline.cache.home import Home


class Answers(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def nobody(monkeypatch):
    """The address of a port that nobody listens on, as the hub's."""
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        port = server.server_port
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")


def test_facts_are_those_of_this_machine_and_nothing_is_written(nobody, tmp_path):
    home = Home(tmp_path / "home")
    found = system(home)
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["libraries"]["torch"] == torch.__version__.partition("+")[0]
    assert found["disks"]["home"]["free_bytes"] == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)
    assert found["disks"]["home"]["writable"] and not home.root.exists()


def test_a_hub_that_does_not_answer_is_out_of_reach_and_one_that_does_is_not(nobody, tmp_path, monkeypatch):
    assert "out of reach" in system(Home(tmp_path))["hub"]["problem"]
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert system(Home(tmp_path))["hub"]["problem"] == ""
        server.shutdown()


def test_its_table_fits_80_columns(nobody, tmp_path):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(system_table(system(Home(tmp_path / ("long" * 40)))))
    assert max(len(line) for line in console.export_text().splitlines()) <= 80
