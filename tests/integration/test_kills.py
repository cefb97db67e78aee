"""Exactly once under `kill -9`: half a million events, ten kills, and a Redis that loses everything in the middle."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from kafka.errors import KafkaError

from enrichment.acceptance import TOPICS
from enrichment.days import midnight_us
from enrichment.model import load_model
from schemas.timestamps import parse_timestamp
from streams.redis_keys import PartitionKeys
from streams.replay import NAMESPACE, replay
from streams.settings import Settings
from streams.take_over import read_committed_mark
from tests.integration.crowd import make_crowd
from tests.integration.damage import admin
from tests.integration.harness import (
    Document,
    Record,
    WorkerProcess,
    aggregates,
    changes_of,
    check_sequences,
    input_ends,
    make_settings,
    make_topics,
    partition_of,
    produce,
    stored_profiles,
    worker_process,
)
from tests.services import KafkaService, OwnRedis

EVENTS, CUSTOMERS, DAYS, PARTITIONS = 500_000, 25_000, 40, 4
KILLS = 10
LEAST_BACKLOG = 20_000

pytestmark = [pytest.mark.real_kafka, pytest.mark.timeout(1_200)]


@pytest.fixture(scope="module")
def crowd(random_seed: int) -> list[Record]:
    return list(make_crowd(random_seed, EVENTS, CUSTOMERS, DAYS, PARTITIONS))


@dataclass(frozen=True)
class Oracle:
    """What replay makes of the same events, and nothing more of it: it is large."""

    changes: list[Any]
    aggregates: dict[str, Document]
    end_us: int


@pytest.fixture(scope="module")
def oracle(crowd: list[Record]) -> Oracle:
    made = replay(((record.topic, record.value or b"") for record in crowd), load_model(None))
    return Oracle(made.results.changes, aggregates(made.profiles), made.end_us)


class Watch:
    """What Redis and Kafka say of a group, asked again and again."""

    def __init__(self, settings: Settings, client: Any, ends: int) -> None:
        self._settings = settings
        self._client = client
        self._ends = ends
        self._has_answered = False
        self._redis = redis.Redis.from_url(settings.redis_url)

    def steps_in_redis(self) -> list[int]:
        """The step of each partition; -1 where there is none."""
        asked = self._redis.pipeline(transaction=False)
        for partition in range(PARTITIONS):
            asked.hget(PartitionKeys.of(self._settings, partition).meta, "step")
        return [-1 if step is None else int(step) for step in asked.execute()]

    def published(self) -> tuple[int, int]:
        """How many steps Kafka has of all partitions, and how many records its offsets are short of the end."""
        group = self._settings.group_id
        try:
            offsets = self._client.list_group_offsets(group)[group]
        except KafkaError:
            if self._has_answered:
                raise
            return 0, self._ends  # nobody has been in the group yet
        self._has_answered = True
        steps = sum(
            json.loads(o.metadata)["step"] for tp, o in offsets.items() if tp.topic.endswith("purchases")
        )
        return steps, self._ends - sum(o.offset for o in offsets.values())

    def close(self) -> None:
        self._redis.close()


@pytest.fixture
def settings(kafka: KafkaService, own_redis: OwnRedis, unique_prefix: str) -> Settings:
    return make_settings(
        kafka.bootstrap_servers, own_redis.url, unique_prefix, namespace=NAMESPACE, clock="event"
    )


@pytest.fixture
def watch(settings: Settings, crowd: list[Record]) -> Iterator[Watch]:
    """With the whole crowd in the inputs."""
    asyncio.run(make_topics(settings, PARTITIONS))
    asyncio.run(produce(settings, crowd))
    with admin(settings) as client:
        watching = Watch(settings, client, sum(asyncio.run(input_ends(settings)).values()))
        yield watching
        watching.close()


def kill_between_persist_and_publish(worker: WorkerProcess, watch: Watch, due_backlog: float) -> int:
    """Kill it once it has published a step and the backlog is down to so much; gives the backlog.

    The instant is that at which Redis has the next step.
    """
    before = watch.published()[0] if any(step >= 0 for step in watch.steps_in_redis()) else 0
    deadline = time.monotonic() + 300
    while (said := watch.published())[0] <= before + 1 or said[1] > due_backlog:
        assert worker.process.poll() is None, worker.log_text()[-4_000:]
        assert time.monotonic() < deadline, worker.log_text()[-4_000:]
        time.sleep(0.1)
    steps = watch.steps_in_redis()
    while watch.steps_in_redis() == steps:
        assert time.monotonic() < deadline, worker.log_text()[-4_000:]
    worker.kill()
    return watch.published()[1]


@pytest.mark.parametrize("emptied", [False, True], ids=["Redis keeps", "Redis emptied once"])
def test_killed_ten_times_every_change_is_there_once_and_as_replay_has_it(
    settings: Settings, watch: Watch, own_redis: OwnRedis, oracle: Oracle, tmp_path: Path, emptied: bool
) -> None:
    """Each kill finds 20,000 records still to come and a step published since the last; the last worker ends it.

    They are spread over the log, so that Redis is emptied in its middle.
    """
    backlogs: list[int] = []
    log = tmp_path / "worker.log"
    for number in range(KILLS):
        with worker_process(settings, log) as worker:
            due_backlog = EVENTS * (1 - number / (KILLS + 1))
            backlogs.append(kill_between_persist_and_publish(worker, watch, due_backlog))
        if emptied and number == KILLS // 2:
            own_redis.flush()
    assert min(backlogs) >= LEAST_BACKLOG, backlogs
    with worker_process(settings, log) as worker:
        asyncio.run(worker.until(lambda: worker.is_idle(PARTITIONS), "the end of the log", 600))
        assert worker.terminate() == 0
    said = log.read_text("utf-8")
    assert re.search(r"outbox of step \d+ published", said)
    assert ("rebuilt" in said) == emptied
    check_against(oracle, settings)


def check_against(oracle: Oracle, settings: Settings) -> None:
    """Changes are replay's, ids included, up to each partition's last midnight; aggregates are replay's at the end."""
    marks = [read_committed_mark(settings, partition) for partition in range(PARTITIONS)]
    end_us = [midnight_us(mark.midnight_day + 1) for mark in marks if mark is not None]
    changes = asyncio.run(changes_of(settings))
    check_sequences(changes)

    def happened(documents: list[Any]) -> dict[str, Document]:
        found = {}
        for document in documents:
            place = partition_of(document["customer_id"].encode(), PARTITIONS)
            if parse_timestamp(document["as_of"]) < end_us[place]:
                found[document["change_id"]] = document
        return found

    found, expected = happened(changes), happened(oracle.changes)
    assert found.keys() == expected.keys()
    assert all(orjson.loads(orjson.dumps(expected[key])) == change for key, change in found.items())
    held = aggregates(asyncio.run(stored_profiles(settings, oracle.end_us)))
    assert held.keys() == oracle.aggregates.keys()
    assert [customer for customer, wanted in oracle.aggregates.items() if held[customer] != wanted] == []
    assert {mark.offsets[topic] for mark in marks if mark for topic in TOPICS} != {0}
