"""What the product relies on in Kafka and Redis, shown on the services that the tests run on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata
from kafka import KafkaAdminClient, KafkaConsumer
from kafka import TopicPartition as PlainTopicPartition
from kafka.admin import NewTopic

from ebbtide.testing.services import maven
from ebbtide.testing.services.kafka import format_storage
from tests.services import KafkaService, NoKafkaHereError, OwnRedis, RedisService
from tests.services.fork_server import run_forked, start_forked

ROOT = Path(__file__).parents[2]


def create_topics(service: KafkaService, *names: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=service.bootstrap_servers)
    admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1) for name in names])
    admin.close()


async def read_committed(service: KafkaService, topic: str) -> list[bytes]:
    """Every value of partition 0 that a read_committed consumer sees, up to the last stable offset."""
    partition = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(
        bootstrap_servers=service.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    ) as consumer:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        values: list[bytes] = []
        while await consumer.position(partition) < end:
            batches = await consumer.getmany(partition, timeout_ms=1000)
            values += [record.value for record in batches.get(partition, [])]
        return values


@pytest.mark.real_kafka
async def test_a_transaction_commits_records_and_offsets_with_metadata(
    kafka: KafkaService, unique_prefix: str
) -> None:
    """Records and consumed offsets, with their metadata, become visible together by one commit."""
    source, sink, group = (f"{unique_prefix}{name}" for name in ("source", "sink", "group"))
    create_topics(kafka, source, sink)
    servers, transactional_id = kafka.bootstrap_servers, f"{unique_prefix}0"
    producer = AIOKafkaProducer(bootstrap_servers=servers, transactional_id=transactional_id)
    async with producer, producer.transaction():
        await producer.send_and_wait(sink, b"change", partition=0)
        offsets = {TopicPartition(source, 0): OffsetAndMetadata(7, "micro-batch 3")}
        await producer.send_offsets_to_transaction(offsets, group)
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, group_id=group, isolation_level="read_committed"
    )
    committed = consumer.committed(PlainTopicPartition(source, 0), metadata=True)
    consumer.close()
    assert (committed.offset, committed.metadata) == (7, "micro-batch 3")
    assert await read_committed(kafka, sink) == [b"change"]


@pytest.mark.real_kafka
async def test_an_aborted_transaction_is_not_seen(kafka: KafkaService, unique_prefix: str) -> None:
    """A read_committed consumer sees nothing of a transaction that was aborted."""
    topic = f"{unique_prefix}sink"
    create_topics(kafka, topic)
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, transactional_id=f"{unique_prefix}0"
    ) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"half a micro-batch", partition=0)
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(topic, b"a whole micro-batch", partition=0)
    assert await read_committed(kafka, topic) == [b"a whole micro-batch"]


@pytest.mark.real_kafka
async def test_a_new_owner_of_a_transactional_id_fences_the_old_one(
    kafka: KafkaService, unique_prefix: str
) -> None:
    """Once a second producer has taken the transactional id, the first can commit nothing more."""
    topic, transactional_id = f"{unique_prefix}sink", f"{unique_prefix}0"
    create_topics(kafka, topic)
    old = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=transactional_id)
    new = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=transactional_id)
    try:
        await old.start()
        await old.begin_transaction()
        await old.send_and_wait(topic, b"of the old owner", partition=0)
        await new.start()
        async with new.transaction():
            await new.send_and_wait(topic, b"of the new owner", partition=0)
        with pytest.raises(Exception, match=r"(?i)epoch|fenced|invalid"):
            await old.commit_transaction()
    finally:
        await new.stop()
        await old.stop()
    assert await read_committed(kafka, topic) == [b"of the new owner"]


def test_a_brokers_cluster_id_may_begin_with_a_dash(tmp_path: Path) -> None:
    """One in 64 of those that Kafka makes up does; it is not taken for an option."""
    try:
        jars = maven.jars()
    except NoKafkaHereError as error:
        pytest.skip(str(error))
    data = tmp_path / "data"
    properties = tmp_path / "server.properties"
    lines = {
        "node.id": 1,
        "process.roles": "broker,controller",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": "1@127.0.0.1:1",
        "listeners": "PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:1",
        "log.dirs": data,
    }
    properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), encoding="utf-8")
    format_storage(jars, properties, "-xK3v0pJQ5uG1mWc8Rr2TA")
    assert "cluster.id=-xK3v0pJQ5uG1mWc8Rr2TA" in (data / "meta.properties").read_text("utf-8")


def test_redis_never_evicts(each_redis: RedisService) -> None:
    """The policy is noeviction on both kinds of Redis: an evicted key would read as a new customer."""
    with redis.Redis.from_url(each_redis.url, decode_responses=True) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_a_killed_redis_comes_back_empty_at_the_same_address(own_redis: OwnRedis) -> None:
    """The tests' own Redis, killed and started again, has lost everything: the worst a restore must bear."""
    with own_redis.client() as client:
        client.set("key", "value")
    own_redis.kill()
    own_redis.start()
    with own_redis.client() as client:
        assert client.get("key") is None


def test_processes_that_ask_for_the_jars_at_once_download_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a new machine the first tests of a parallel run all do; one must not delete what another is given."""
    calls, mvn = tmp_path / "calls", tmp_path / "bin" / "mvn"
    mvn.parent.mkdir()
    mvn.write_text(
        f'#!/bin/sh\necho call >> {calls}\nfor last; do :; done\nsleep 0.5\nfolder="${{last#*=}}"\n'
        'mkdir -p "$folder" && touch "$folder/kafka.jar"\n'
    )
    mvn.chmod(0o755)
    monkeypatch.setenv("PATH", f"{mvn.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = "from ebbtide.testing.services.maven import jars; print(sorted(path.name for path in jars().iterdir()))"
    processes = [
        subprocess.Popen([sys.executable, "-c", asked], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert said == ["['complete', 'kafka.jar']"] * 3
    assert calls.read_text().splitlines() == ["call"]


def test_a_forked_command_is_a_process_of_its_own(tmp_path: Path) -> None:
    """It leads a session, sees the environment it was given and no other, and its output goes where it was sent."""
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = start_forked(["tests.integration.told", "rest"], {"ONE": "1"}, output.fileno())
    while not log.read_text():
        assert process.poll() is None
        time.sleep(0.01)
    assert os.getsid(process.pid) == process.pid
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM
    assert process.poll() == -signal.SIGTERM
    assert log.read_text() == "['rest'] {'ONE': '1'}\n"


def test_a_forked_command_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    """However that one ends."""
    asks = (
        "import os, sys; from tests.services.fork_server import start_forked\n"
        "print(start_forked(['tests.integration.told'], {}, 2).pid, flush=True); os.kill(os.getpid(), 9)"
    )
    asking = subprocess.run(
        [sys.executable, "-c", asks], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert asking.returncode == -signal.SIGKILL
    pid, deadline = int(asking.stdout), time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.01)


def test_what_a_forked_command_exits_with_and_says_is_given() -> None:
    """As of any other: here it refuses its arguments."""
    done = run_forked(["streams", "no-such-command"], {})
    assert (done.returncode, done.stdout) == (2, "")
    assert "no-such-command" in done.stderr
