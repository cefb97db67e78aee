"""Whether a worker could listen on its web port, and if not, who has it."""

from __future__ import annotations

import errno
import http.client
import json
import socket
import urllib.error
import urllib.request
from typing import Any, Final, Literal, NamedTuple

from streams.errors import EbbtideError, one_line
from streams.settings import Settings

ANSWER_TIMEOUT_S: Final = 3.0
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""An address that stands for all of a machine's, and one that reaches it."""


class Tenant(NamedTuple):
    """Who has the port.

    `told` is what a worker of ours says on `/readyz`, `who` what anything else is to be called.
    """

    kind: Literal["nobody", "ours", "other"]
    who: str = ""
    told: dict[str, Any] | None = None


def address_of(settings: Settings) -> str:
    """Where a worker with these settings listens, to be shown to people."""
    return f"{settings.web_bind}:{settings.web_port}"


def tenant(settings: Settings) -> Tenant:
    """Who has the port that a worker with these settings would take.

    Raises:
        EbbtideError: no process of this machine can listen there.
    """
    if _is_free(settings):
        return Tenant("nobody")
    told = _readiness(settings)
    worker = None if told is None else told.get("worker")
    if not isinstance(worker, dict):
        return Tenant("other", "something that is not a worker of ours")
    if (worker.get("group_id"), worker.get("topic_prefix")) != (settings.group_id, settings.topic_prefix):
        group = f"{worker.get('group_id')!r} with topic prefix {worker.get('topic_prefix')!r}"
        return Tenant("other", f"a worker of another group, {group}")
    return Tenant("ours", "a worker of this group", told)


def require_free(settings: Settings) -> None:
    """Raise `EbbtideError` where a worker could not listen on its port."""
    if (found := tenant(settings)).kind != "nobody":
        raise EbbtideError(taken(settings, found))


def taken(settings: Settings, found: Tenant) -> str:
    """One line that says who has the port, and what to do."""
    return f"{address_of(settings)} is taken by {found.who}; set EBBTIDE_WEB_PORT to a free port"


def _is_free(settings: Settings) -> bool:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            settings.web_bind, settings.web_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: connections that have ended there are in nobody's way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            return _can_listen(probe, place)
    except (OSError, OverflowError) as error:
        where = f"{address_of(settings)} (settings EBBTIDE_WEB_BIND, EBBTIDE_WEB_PORT)"
        raise EbbtideError(f"nobody can listen at {where}: {one_line(error)}") from error


def _can_listen(probe: socket.socket, place: Any) -> bool:
    try:
        probe.bind(place)
        probe.listen(1)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def _readiness(settings: Settings) -> dict[str, Any] | None:
    """What `/readyz` at the port says; None where nothing answers that could be ours."""
    host = _ANY.get(settings.web_bind, settings.web_bind)
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.web_port}/readyz"
    try:
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_TIMEOUT_S) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        told = json.loads(body)
    except (OSError, ValueError, http.client.HTTPException):
        return None
    return told if isinstance(told, dict) else None
