"""A run on a KFP server as its API tells of it, followed step by step; the answers are those of KFP 2.17.0."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tidegate_pipelines import remote_run
from tidegate_pipelines.catalogue import PipelineError
from tidegate_pipelines.local_run import Progress
from tidegate_pipelines.remote_run import Server

TITLES = {"ingest": "Ingest", "train": "Train"}


def task(name: str, start: int, end: int, state: str) -> dict[str, str]:
    times = {"start_time": f"2026-11-29T17:00:{start:02}Z", "end_time": f"2026-11-29T17:00:{end:02}Z"}
    return {"task_id": f"{name}-{start}", "display_name": name, "state": state, **times}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server's address, and what it answers about the run, look after look."""
    looks: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = looks.pop(0) if "/runs/" in self.path else {"multi_user": False}
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    monkeypatch.setattr(remote_run, "_LOOK_SECONDS", 0.0)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", looks
    server.shutdown()
    server.server_close()


def look(state: str, *tasks: dict[str, str]) -> dict[str, Any]:
    return {"run_id": "r", "state": state, "run_details": {"task_details": list(tasks)}}


def test_each_step_is_told_once_when_it_has_ended(answers: tuple[str, list[dict[str, Any]]]) -> None:
    host, looks = answers
    cached, driver = task("ingest", 5, 5, "SUCCEEDED"), task("train-driver", 5, 9, "SUCCEEDED")
    running = {**task("train", 9, 9, "RUNNING"), "end_time": "0001-01-01T00:00:00Z"}
    looks += [look("RUNNING", running, cached, driver), look("SUCCEEDED", task("train", 9, 30, "SUCCEEDED"), cached)]
    told: list[Progress] = []
    assert Server(host).follow("r", TITLES, told.append) == told
    assert told == [Progress("Ingest", "cached", 0.0), Progress("Train", "done", 21.0)]


def test_a_failed_run_names_its_step_and_its_page(answers: tuple[str, list[dict[str, Any]]]) -> None:
    host, looks = answers
    looks.append(look("FAILED", task("ingest", 5, 9, "FAILED"), task("train", 9, 9, "SKIPPED")))
    with pytest.raises(PipelineError, match=rf"run r: outcome is 'FAILED'.*failed: Ingest.*{host}/#/runs/details/r"):
        Server(host).follow("r", TITLES, lambda _: None)
