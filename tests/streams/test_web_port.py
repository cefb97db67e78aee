"""Who has the port that a worker would listen on: nobody, a worker of this group, or something else."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from ebbtide.testing.services.ports import lasting_port
from streams.operations import web_port
from streams.operations.doctor import Finding, check_web_port
from streams.settings import Settings

OURS = {"group_id": "mine", "topic_prefix": "of-mine-"}


@pytest.fixture
def settings() -> Settings:
    return Settings(group_id=OURS["group_id"], topic_prefix=OURS["topic_prefix"], web_port=lasting_port())


@contextmanager
def answering(settings: Settings, body: bytes) -> Iterator[None]:
    """Something on the port that answers every request with this."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Nothing."""

    server = HTTPServer((settings.web_bind, settings.web_port), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def told(settings: Settings) -> Finding:
    (finding,) = check_web_port(settings)
    return finding


def readiness(reason: str | None, failure: str | None = None, **worker: str) -> bytes:
    return json.dumps({"reason": reason, "failure": failure, "worker": {**OURS, **worker}}).encode()


def test_a_free_port_is_well(settings: Settings) -> None:
    """It stays free."""
    assert told(settings).status == told(settings).status == "ok"


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b"{}", b""])
def test_a_stranger_on_the_port_is_an_error(settings: Settings, body: bytes) -> None:
    """Whatever it answers, the line names the address and the setting."""
    with answering(settings, body):
        finding = told(settings)
    assert finding.status == "error"
    assert finding.message == (
        f"127.0.0.1:{settings.web_port} is taken by something that is not a worker of ours; "
        "set EBBTIDE_WEB_PORT to a free port"
    )


def test_a_stranger_that_answers_nothing_is_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not waited for without end."""
    monkeypatch.setattr(web_port, "ANSWER_TIMEOUT_S", 0.1)
    with socket.create_server((settings.web_bind, settings.web_port)):
        assert "not a worker of ours" in told(settings).message


def test_a_worker_of_another_group_is_an_error(settings: Settings) -> None:
    """A worker of this group could not listen there."""
    with answering(settings, readiness(None, group_id="theirs")):
        finding = told(settings)
    assert finding.status == "error"
    assert "is taken by a worker of another group, 'theirs' with topic prefix 'of-mine-'" in finding.message


@pytest.mark.parametrize(
    ("reason", "failure", "status"),
    [
        (None, None, "ok"),
        ("partitions are being taken over: 3", None, "warning"),
        ("the group membership failed: no", "the group membership failed: no", "error"),
    ],
)
def test_what_a_worker_of_this_group_says_is_told(
    settings: Settings, reason: str | None, failure: str | None, status: str
) -> None:
    """Doctor may run beside it; one that has failed as a whole is an error."""
    with answering(settings, readiness(reason, failure)):
        finding = told(settings)
    assert finding.status == status
    assert (reason or "is ready") in finding.message


def test_an_address_of_another_machine_is_an_error(settings: Settings) -> None:
    """The line names both settings."""
    finding = told(settings.model_copy(update={"web_bind": "192.0.2.1"}))
    assert finding.status == "error"
    assert "EBBTIDE_WEB_BIND" in finding.message
