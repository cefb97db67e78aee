"""What a worker says of itself while something is wrong: /readyz of the worker, /partitions of each partition."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from streams.operations.partition_survey import survey
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from tests.integration.harness import (
    WorkerProcess,
    make_settings,
    make_topics,
    paused,
    produce,
    record_of,
    records_of,
    run_to_the_end,
    scrape,
    worker_process,
)
from tests.oracles.seeded_log import SeededLog, make_log
from tests.services import KafkaService, OwnRedis

pytestmark = pytest.mark.real_kafka

TOLD_WITHIN_S = 60.0
"""Of a state that is told within 10 or 15 s: the machine may be busy."""


@pytest.fixture
def settings(seeded_settings: Settings) -> Settings:
    return seeded_settings.model_copy(update={"clock": "event", "batch_max_records": 100})


@pytest.fixture
def log(random_seed: int) -> SeededLog:
    return make_log(random_seed, customers=20, days=100, events=300)


def probe(settings: Settings, path: str) -> tuple[int, Any]:
    """The status and the answer of an endpoint."""
    try:
        with urllib.request.urlopen(
            f"http://{settings.web_bind}:{settings.web_port}{path}", timeout=5
        ) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
    except OSError:
        return 0, {}


def hasty_worker(settings: Settings, log: Path) -> AbstractContextManager[WorkerProcess]:
    """A worker that waits for less than it would."""
    return worker_process(settings, log, "nothing", command=["tests.integration.failing_worker"])


async def test_one_stopped_partition_does_not_make_its_worker_unready(
    settings: Settings, log: SeededLog, redis_client: Redis, tmp_path: Path
) -> None:
    """A rollout goes on; /partitions says 503 and why, and how much waits in the stopped one goes on being told."""
    await make_topics(settings, 2)
    records = records_of(log, 2)
    await produce(settings, records[: len(records) // 2])
    await run_to_the_end(settings)
    redis_client.hincrby(PartitionKeys.of(settings, 0).meta, "step", 5)
    with hasty_worker(settings, tmp_path / "worker.log") as worker:
        await worker.until(lambda: probe(settings, "/readyz")[0] == 200, "ready")
        status, said = probe(settings, "/partitions")
        assert status == 503
        assert said["partitions"]["0"]["status"] == "stopped"
        assert "Redis is at micro-batch" in said["partitions"]["0"]["reason"]
        await produce(settings, records[len(records) // 2 :])
        await worker.until(lambda: said_to_run(worker, 1), "the other runs")
        waiting = sum(record.partition == 0 for record in records[len(records) // 2 :])
        assert waiting > 0

        def lag() -> float:
            return scrape(settings).sum("ebbtide_consumer_lag_records", partition="0")

        await worker.until(lambda: lag() == waiting, "the lag of the stopped partition")
        assert scrape(settings).sum("ebbtide_worker_ready") == 1


def said_to_run(worker: WorkerProcess, partition: int) -> bool:
    return worker.partitions()[partition]["idle"] is True


@pytest.mark.parametrize("what", [pytest.param("Kafka", marks=pytest.mark.deep), "Redis"])
async def test_a_worker_that_has_lost_a_server_is_not_ready(
    own_kafka: KafkaService, own_redis: OwnRedis, unique_prefix: str, tmp_path: Path, what: str
) -> None:
    """Also where connections stay and nobody says so; it is ready again once the server answers."""
    settings = make_settings(own_kafka.bootstrap_servers, own_redis.url, unique_prefix)
    await make_topics(settings)
    with hasty_worker(settings, tmp_path / "worker.log") as worker:
        await worker.until(lambda: probe(settings, "/readyz")[0] == 200, "ready")
        with paused(own_kafka.pid if what == "Kafka" else own_redis.pid):
            await worker.until(lambda: probe(settings, "/readyz")[0] == 503, "not ready", TOLD_WITHIN_S)
            said = probe(settings, "/readyz")[1]
        assert said["reason"].startswith(f"{what} has not answered for ")
        assert said["failure"] is None
        await worker.until(lambda: probe(settings, "/readyz")[0] == 200, "ready again", TOLD_WITHIN_S)


async def test_a_read_only_redis_makes_the_worker_unready_and_its_partitions_stuck(
    settings: Settings, own_redis: OwnRedis, log: SeededLog, tmp_path: Path
) -> None:
    """As after a failover to a replica that was not told: it answers every question, and takes no write."""
    settings = settings.model_copy(update={"redis_url": own_redis.url})
    await make_topics(settings)
    with hasty_worker(settings, tmp_path / "worker.log") as worker, own_redis.client() as client:
        await worker.until(lambda: worker.is_idle(1), "idle")
        client.config_set("min-replicas-to-write", 1)
        await produce(settings, records_of(log))
        await worker.until(lambda: probe(settings, "/readyz")[0] == 503, "not ready", TOLD_WITHIN_S)
        assert "NOREPLICAS" in probe(settings, "/readyz")[1]["reason"]
        await worker.until(
            lambda: worker.partitions()[0]["status"] == "backing off", "backing off", TOLD_WITHIN_S
        )
        assert "NOREPLICAS" in worker.partitions()[0]["reason"]
        client.config_set("min-replicas-to-write", 0)
        await worker.until(lambda: worker.is_idle(1), "idle again", TOLD_WITHIN_S)


async def test_a_partition_that_fails_again_and_again_is_told_by_the_doctor(
    settings: Settings, log: SeededLog, redis_client: Redis, tmp_path: Path
) -> None:
    """With the error that its worker has; once it goes on, nothing is said of it. The worker is ready meanwhile."""
    await make_topics(settings)
    records = records_of(log)
    await produce(settings, records[: len(records) // 2])
    await run_to_the_end(settings)
    keys = PartitionKeys.of(settings, 0)
    purchase = next(
        purchase
        for purchase in log["purchases"]
        if redis_client.exists(keys.customer(purchase["customer_id"]))
    )
    key = keys.customer(purchase["customer_id"])
    held = redis_client.dump(key)
    assert isinstance(held, bytes)
    redis_client.set(key, b"no state")
    with hasty_worker(settings, tmp_path / "worker.log") as worker:
        await worker.until(lambda: bool(worker.partitions()), "a partition")
        another = record_of("purchases", {**purchase, "event_id": "of the broken state"})
        await produce(settings, [*records[len(records) // 2 :], another])
        await until_told(settings, "error", "partition 0: stuck: ")
        assert probe(settings, "/readyz")[0] == 200
        redis_client.restore(key, 0, held, replace=True)
        await worker.until(lambda: worker.is_idle(1), "idle")
        await until_told(settings, "ok", "Redis and Kafka agree")


async def until_told(settings: Settings, status: str, message: str) -> None:
    """Return once the survey of the only partition says this."""
    deadline_s = time.monotonic() + TOLD_WITHIN_S
    while True:
        (standing,) = await survey(settings, settings.load_model())
        if standing.status == status and standing.message.startswith(message):
            return
        assert time.monotonic() < deadline_s, standing
        await asyncio.sleep(0.2)
