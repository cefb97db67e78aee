"""The embedded broker and Redis: they work, they say why when they don't, and they leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from streams.demo.embedded import (
    EmbeddedBroker,
    EmbeddedRedis,
    EmbeddedServiceError,
    OwnedProcess,
    answers_kafka,
    answers_redis,
    wait_until_ready,
)

STARTS_BOTH_AND_WAITS = """
import sys, time
from streams.demo.embedded import EmbeddedBroker, EmbeddedRedis
with EmbeddedBroker() as broker, EmbeddedRedis() as server:
    print(broker.process.pid, server.process.pid, flush=True)
    print(broker.process.log_path.parent, server.process.log_path.parent, sep="\\n", flush=True)
    time.sleep(60)
"""

IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat")
    # An orphan that nobody has waited for yet has ended all the same.
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"


def becomes_true(condition: Callable[[], bool], timeout_s: float = 15.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


async def test_the_embedded_broker_returns_the_record_it_took(
    embedded_broker: EmbeddedBroker, unique_prefix: str
) -> None:
    """A record sent to the embedded broker is read back with its key, value, headers and partition."""
    topic = f"{unique_prefix}records"
    servers = embedded_broker.bootstrap_servers
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics([NewTopic(topic, num_partitions=3, replication_factor=1)])
    admin.close()
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        await producer.send_and_wait(topic, b"value", b"key", partition=2, headers=[("ce_id", b"1")])
    async with AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        record = await consumer.getone()
    assert (record.key, record.value, record.partition) == (b"key", b"value", 2)
    assert tuple(record.headers) == (("ce_id", b"1"),)


def test_the_embedded_redis_answers_and_never_evicts() -> None:
    """The embedded Redis keeps what it is given, runs scripts, and has the policy noeviction."""
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        client.set("key", "value")
        assert client.eval("return redis.call('GET', KEYS[1])", 1, "key") == "value"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_both_are_gone_with_their_files_after_the_block() -> None:
    """When their block ends, no process, no listener and no file of either service is left."""
    with EmbeddedBroker() as broker, EmbeddedRedis() as server:
        pids = [broker.process.pid, server.process.pid]
        folders = [broker.process.log_path.parent, server.process.log_path.parent]
        assert not any(is_gone(pid) for pid in pids)
        assert all(folder.is_dir() for folder in folders)
    assert all(is_gone(pid) for pid in pids)
    assert not any(folder.exists() for folder in folders)
    with pytest.raises(OSError, match="refused"):
        answers_kafka(broker.port)
    with pytest.raises(OSError, match="refused"):
        answers_redis(server.port)


def test_stopping_twice_and_starting_again_work() -> None:
    """A second stop does nothing, and a service that was stopped can be started again, empty."""
    server = EmbeddedRedis()
    with server, redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
    server.stop()
    with server, redis.Redis.from_url(server.url) as client:
        assert client.get("key") is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_both_end_when_their_owner_is_killed() -> None:
    """After kill -9 of the process that started them, no service is left, and none of their files."""
    command = [sys.executable, "-c", STARTS_BOTH_AND_WAITS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        broker_pid, redis_pid = (int(word) for word in owner.stdout.readline().split())
        folders = [Path(owner.stdout.readline().strip()) for _ in range(2)]
        assert all(folder.is_dir() for folder in folders)
        assert not is_gone(broker_pid)
        assert not is_gone(redis_pid)
        owner.kill()
        assert becomes_true(lambda: is_gone(broker_pid) and is_gone(redis_pid))
        assert becomes_true(lambda: not any(folder.exists() for folder in folders))


def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """Starting a missing program raises an error with its name."""
    with pytest.raises(EmbeddedServiceError, match="no-such-program"):
        OwnedProcess(["no-such-program"], log_path=tmp_path / "log.txt")


def test_a_service_that_ends_while_starting_shows_its_log(tmp_path: Path) -> None:
    """The error for a child that ended early carries the end of what it wrote."""
    process = OwnedProcess(["sh", "-c", "echo the port is taken; exit 3"], log_path=tmp_path / "log.txt")
    with pytest.raises(EmbeddedServiceError, match="the port is taken"):
        wait_until_ready(process, "the service", lambda: False, timeout_s=30.0)
    process.stop()


def test_a_service_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """The error for a child that stays silent says how long it was waited for, and the child is ended."""
    process = OwnedProcess(["sleep", "60"], log_path=tmp_path / "log.txt")
    with pytest.raises(EmbeddedServiceError, match=r"did not answer within 0\.2 s"):
        wait_until_ready(process, "the service", lambda: False, timeout_s=0.2)
    process.stop()
    assert is_gone(process.pid)


def test_a_child_that_ignores_the_stop_signal_is_killed(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed once its time is over."""
    command = [sys.executable, "-c", IGNORES_SIGTERM]
    process = OwnedProcess(command, log_path=tmp_path / "log.txt", stop_timeout_s=0.2)
    assert becomes_true(lambda: "up" in process.log_tail())
    os.kill(process.pid, signal.SIGTERM)
    assert process.is_running()
    process.stop()
    assert is_gone(process.pid)
