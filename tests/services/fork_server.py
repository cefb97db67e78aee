"""`python -m` in processes of their own that have nothing left to import: each is a fork of one that has it all.

Tests start many workers, and importing costs each of them more than a second of CPU. So one process imports what a
worker needs, and forks whenever a test asks. What runs is the same code in a process of its own, with its own process
group, environment, output and exit code; a signal reaches it alone. Different is only what Python fixes as it begins:
all forks have one hash seed, and `PYTHON…` variables do nothing.

    test ── socket ──▶ fork server ── fork ──▶ supervisor ── fork ──▶ the command
      ◀───────────── pipe: its process id, later its exit code ──────────┘
"""

from __future__ import annotations

import array
import atexit
import ctypes
import functools
import gc
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[2]
IMPORTED = (
    "streams.cli",
    "streams.worker",
    "streams.kafka",
    "streams.state",
    "streams.metrics",
    "enrichment.deciding",
)
"""The packages whose modules a worker imports; with these comes nearly all else."""
MOST_BYTES = 100_000
"""Of a request: the arguments and the environment."""
_PR_SET_PDEATHSIG = 1


class ForkedProcess:
    """A command at work; the methods are those of `subprocess.Popen`, and so is what they raise."""

    def __init__(self, arguments: Sequence[str], told: int) -> None:
        self.args = list(arguments)
        self.returncode: int | None = None
        self._told = open(told, encoding="ascii")  # noqa: SIM115  # closed once the exit code is read
        self.pid = int(self._told.readline())

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._exit_code(0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once there is one. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        if (code := self._exit_code(timeout)) is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing is sent where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """By SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _exit_code(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], timeout)[0]:
            self.returncode = int(
                self._told.readline() or -signal.SIGKILL
            )  # its supervisor was killed, and so it was
            self._told.close()
        return self.returncode


def start_forked(
    arguments: Sequence[str], environment: Mapping[str, str], output: int, errors: int | None = None
) -> ForkedProcess:
    """What `python -m` with these arguments runs, as the leader of a new session, in the root of the checkout.

    It reads nothing, writes to these file descriptors, and is killed when this process ends.
    """
    reads, writes = os.pipe()
    with open(os.devnull, "rb") as nothing:
        request = json.dumps({"arguments": list(arguments), "environment": dict(environment)}).encode()
        handed = [nothing.fileno(), output, output if errors is None else errors, writes]
        _fork_server().sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", handed))])
    os.close(writes)
    return ForkedProcess(arguments, reads)


def run_forked(
    arguments: Sequence[str], environment: Mapping[str, str], timeout_s: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """The same to its end, as `subprocess.run` with captured text would. Raises `subprocess.TimeoutExpired`."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as output,
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
    ):
        process = start_forked(arguments, environment, output.fileno(), errors.fileno())
        try:
            code = process.wait(timeout_s)
        finally:
            process.kill()
        for file in (output, errors):
            file.seek(0)
        return subprocess.CompletedProcess(process.args, code, output.read(), errors.read())


@functools.cache
def _fork_server() -> socket.socket:
    """This process's own, started when it is needed first."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = subprocess.Popen(
        [sys.executable, "-m", __name__, str(its.fileno())],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        pass_fds=[its.fileno()],
        start_new_session=True,
    )
    its.close()
    atexit.register(server.wait)
    atexit.register(ours.close)  # which ends it
    return ours


# ------------------------------------------------------------------ the server


def _serve(requests: socket.socket) -> None:
    """Fork for each request until there are no more. A fork leaves by `SystemExit`, through all of this."""
    for name in IMPORTED:
        package = import_module(name)
        for module in pkgutil.iter_modules(package.__path__, f"{name}."):
            import_module(module.name)
    assert threading.active_count() == 1, "a thread would not be there in a fork"
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while (received := socket.recv_fds(requests, MOST_BYTES, 4))[0]:
        if os.fork() == 0:
            requests.close()
            _supervise(json.loads(received[0]), received[1])
        for descriptor in received[1]:
            os.close(descriptor)


def _supervise(request: Mapping[str, object], handed: Sequence[int]) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _die_with_parent()
    told = handed[3]
    pid = os.fork()
    if pid == 0:
        _run(request, handed)
    for descriptor in handed[:3]:
        os.close(descriptor)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(told, f"{code}\n".encode())
    os._exit(0)


def _run(request: Mapping[str, object], handed: Sequence[int]) -> NoReturn:
    arguments, environment = request["arguments"], request["environment"]
    assert isinstance(arguments, list)
    assert isinstance(environment, dict)
    _die_with_parent()
    os.setsid()
    for standard, descriptor in enumerate(handed[:3]):
        os.dup2(descriptor, standard)
    told = handed[3]
    os.write(told, f"{os.getpid()}\n".encode())
    for descriptor in handed:
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(arguments)
    sys.modules.pop(arguments[0], None)  # Faust's package is none that could be run once it has been imported
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    sys.exit(0)


def _die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        _serve(asked)
