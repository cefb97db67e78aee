"""Ports for servers that are ended and come back at the same address."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

from streams.demo.embedded import HOST

_FIRST_PORT = 15_000
_LOCAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_ATTEMPTS = 200
_SLICES = 16
"""Processes of a parallel test run take their ports from ranges of their own, since a look does not reserve one."""
_given: set[int] = set()


def lasting_port(adjacent: int = 1) -> int:
    """A free TCP port of 127.0.0.1 that no outgoing connection takes while its server is down: the first of several.

    Those get theirs from a range of the system's. A client that tries to reach a dead server on a port of that range
    may even be given this very port, and is then connected to itself.
    """
    width = (_first_local_port() - _FIRST_PORT) // _SLICES
    lowest = _FIRST_PORT + width * (_process_number() % _SLICES)
    for _ in range(_ATTEMPTS):
        first = random.randrange(lowest, lowest + width - adjacent)
        ports = range(first, first + adjacent)
        if _given.isdisjoint(ports) and all(map(_is_free, ports)):
            _given.update(ports)
            return first
    raise OSError("no free port found below the range of outgoing connections")


def _process_number() -> int:
    """Of this process of pytest-xdist, from its name: gw0, gw1, …; 0 without."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def _first_local_port() -> int:
    return int(_LOCAL_RANGE.read_text().split()[0]) if _LOCAL_RANGE.exists() else 32_768


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
