"""Several workers, and a worker that is told to stop: processes of their own, on real Kafka."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest

from ebbtide.testing.services.ports import lasting_port
from enrichment.model import load_model
from streams.replay.replay import NAMESPACE, Replayed, replay
from streams.settings import Settings
from tests.integration.crowd import make_crowd
from tests.integration.harness import (
    Document,
    Record,
    aggregates,
    changes_of,
    check_sequences,
    make_settings,
    make_topics,
    partitions_of,
    produce,
    read_committed_checkpoint,
    readiness_of,
    stored_profiles,
    worker_process,
)
from tests.services import KafkaService, RedisService

PARTITIONS = 4
EVENTS = 6_000

pytestmark = pytest.mark.real_kafka


@pytest.fixture
def crowd(random_seed: int) -> list[Record]:
    return list(make_crowd(random_seed, EVENTS, 400, 20, PARTITIONS))


@pytest.fixture
def settings(kafka: KafkaService, redis_server: RedisService, unique_prefix: str) -> Settings:
    return make_settings(
        kafka.bootstrap_servers,
        redis_server.url,
        unique_prefix,
        namespace=NAMESPACE,
        clock="event",
        batch_max_records=200,
    )


def replayed(crowd: list[Record]) -> Replayed:
    return replay(((record.topic, record.value or b"") for record in crowd), load_model(None))


def told(log: str, partition: int) -> list[str]:
    """What a worker has logged of taking over a partition."""
    return re.findall(rf"partition {partition}: recovery: (.*)", log)


def taken(settings: Settings) -> int:
    """How many records Kafka's committed offsets are past, once every partition has been taken over."""
    checkpoints = [read_committed_checkpoint(settings, partition) for partition in range(PARTITIONS)]
    return sum(sum(checkpoint.offsets.values()) for checkpoint in checkpoints if checkpoint is not None)


def as_json(document: object) -> object:
    """A document as it is after JSON."""
    return orjson.loads(orjson.dumps(document))


async def check(settings: Settings, oracle: Replayed) -> list[Document]:
    """No change is missing or doubled, and the aggregates are replay's; gives the changes."""
    changes = await changes_of(settings)
    check_sequences(changes)
    assert aggregates(await stored_profiles(settings, oracle.end_us)) == aggregates(oracle.profiles)
    return changes


async def test_two_workers_share_the_partitions_and_one_takes_over_when_the_other_stops(
    settings: Settings, crowd: list[Record], tmp_path: Path
) -> None:
    """SIGTERM ends a worker with exit code 0; the partitions it leaves are clean, and nothing is doubled."""
    await make_topics(settings, PARTITIONS)
    await produce(settings, crowd[: EVENTS // 2])
    other = settings.model_copy(update={"web_port": lasting_port()})
    with ExitStack() as ends:
        first = ends.enter_context(worker_process(settings, tmp_path / "first.log"))
        second = ends.enter_context(worker_process(other, tmp_path / "second.log"))

        def shared() -> bool:
            held = [set(first.partitions()), set(second.partitions())]
            return [len(one) for one in held] == [2, 2] and held[0] | held[1] == set(range(PARTITIONS))

        await first.until(shared, "two partitions each")
        left = set(first.partitions())
        assert first.terminate() == 0
        await second.until(lambda: set(second.partitions()) == set(range(PARTITIONS)), "all partitions")
        await produce(settings, crowd[EVENTS // 2 :])
        await second.until(
            lambda: second.is_idle(PARTITIONS) and taken(settings) == EVENTS, "everything", 120
        )
        assert second.terminate() == 0
    for partition in left:
        assert told((tmp_path / "second.log").read_text("utf-8"), partition)[-1].startswith(
            "Redis and Kafka agree"
        )
    await check(settings, replayed(crowd))


async def test_sigterm_finishes_the_micro_batch_so_that_the_next_worker_starts_clean(
    settings: Settings, crowd: list[Record], tmp_path: Path
) -> None:
    """However often it is stopped amid its work, Redis and Kafka agree when the next one takes over."""
    await make_topics(settings, PARTITIONS)
    await produce(settings, crowd)
    log = tmp_path / "worker.log"
    for least in (500, 1_500):
        with worker_process(settings, log) as worker:
            await worker.until(
                lambda worker=worker, least=least: (  # type: ignore[misc]
                    sum(state["records"] for state in worker.partitions().values()) >= least
                ),
                "some records",
            )
            assert worker.terminate() == 0
    with worker_process(settings, log) as worker:
        await worker.until(
            lambda: worker.is_idle(PARTITIONS) and taken(settings) == EVENTS, "everything", 120
        )
        assert worker.terminate() == 0
    findings = [found for partition in range(PARTITIONS) for found in told(worker.log_text(), partition)]
    assert len(findings) == 3 * PARTITIONS
    assert sum(found.startswith("Redis and Kafka agree") for found in findings) == 2 * PARTITIONS
    oracle = replayed(crowd)
    changes = await check(settings, oracle)
    by_id = {change["change_id"]: change for change in oracle.results.changes}
    assert [change for change in changes if as_json(by_id[change["change_id"]]) != change] == []


async def test_workers_in_several_processes_share_the_partitions(
    settings: Settings, crowd: list[Record], tmp_path: Path
) -> None:
    """`run --workers 2` is two processes on two web ports, and SIGTERM ends both."""
    await make_topics(settings, PARTITIONS)
    await produce(settings, crowd[:2_000])
    second = settings.model_copy(update={"web_port": settings.web_port + 1})
    with worker_process(settings, tmp_path / "workers.log", "--workers", "2") as both:

        def shared() -> bool:
            return len(partitions_of(settings)) == len(partitions_of(second)) == PARTITIONS // 2

        await both.until(shared, "two partitions each")
        await both.until(lambda: taken(settings) == 2_000, "all records")
        assert both.terminate() == 0
    assert readiness_of(second) is None
    check_sequences(await changes_of(settings))
