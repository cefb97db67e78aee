"""A worker always ends: whatever has failed, SIGTERM and SIGINT end its process within the grace time."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from streams.settings import Settings
from streams.worker.ending import ENDED_BY_FORCE
from streams.worker.worker import METADATA_MAX_AGE_S, PARTITION_CHECK_S
from tests.integration.damage import admin
from tests.integration.failing_worker import HANGS
from tests.integration.harness import (
    WorkerProcess,
    make_settings,
    make_topics,
    paused,
    worker_process,
)
from tests.services import KafkaService, OwnRedis

pytestmark = pytest.mark.real_kafka

FAILING = ("tests.integration.failing_worker",)
ENDED_WITHIN_S = 60.0
"""The grace time, and as much again: the machine may be busy."""


def failure_of(settings: Settings) -> str | None:
    """What `/healthz` says has failed; None while nothing has, or nobody answers."""
    try:
        urllib.request.urlopen(f"http://{settings.web_bind}:{settings.web_port}/healthz", timeout=5).close()
    except urllib.error.HTTPError as error:
        return str(json.loads(error.read())["status"])
    except OSError:
        pass
    return None


@pytest.fixture
def start_failing(settings: Settings, tmp_path: Path) -> Iterator[Callable[[str], WorkerProcess]]:
    """Starts a worker that fails in a way of its own; none outlives the test."""
    started: list[WorkerProcess] = []

    def start(fault: str) -> WorkerProcess:
        started.append(WorkerProcess(settings, tmp_path / "worker.log", fault, command=FAILING))
        return started[-1]

    yield start
    for worker in started:
        with suppress(ProcessLookupError):
            worker.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_worker_ends_after_partitions_were_added_while_it_ran(
    settings: Settings, start_failing: Callable[[str], WorkerProcess], number: signal.Signals
) -> None:
    """It says which input has how many; the process goes on, and does nothing, until it is told to end."""
    await make_topics(settings, 1)
    worker = start_failing("nothing")
    await worker.until(lambda: worker.is_idle(1), "idle")
    with admin(settings) as client:
        client.create_partitions({settings.topic("purchases"): 2})
    await worker.until(lambda: failure_of(settings) is not None, "a failure")
    name = settings.topic("purchases")
    assert failure_of(settings) == (
        f"{name}: the number of partitions changed from 1 to 2: customers would move between partitions"
    )
    await worker.until(lambda: not worker.partitions(), "no partition")
    worker.process.send_signal(number)
    assert worker.process.wait(ENDED_WITHIN_S) == 0
    assert worker.log_text().count("; stopped") == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("supervisor", "ebbtide-supervisor ended: RuntimeError: no"),
        ("membership", "the group membership failed: GroupAuthorizationFailedError"),
        ("assignor", "the assignor separated equal partition numbers of the inputs"),
    ],
)
async def test_a_worker_that_has_failed_ends(
    settings: Settings, start_failing: Callable[[str], WorkerProcess], fault: str, reason: str
) -> None:
    """In good order: with exit code 0."""
    await make_topics(settings)
    worker = start_failing(fault)
    await worker.until(lambda: reason in (failure_of(settings) or ""), reason)
    assert worker.terminate(ENDED_WITHIN_S) == 0


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("start", 0),
        ("hanging_batch", 0),
        pytest.param("uncancelled_batch", 0, marks=pytest.mark.deep),
        pytest.param("loop", ENDED_BY_FORCE, marks=pytest.mark.deep),
        ("thread", ENDED_BY_FORCE),
    ],
)
async def test_a_worker_that_hangs_ends(
    settings: Settings, start_failing: Callable[[str], WorkerProcess], fault: str, code: int
) -> None:
    """What does not end when it is told to is left alone; where not even that helps, the process is ended by force."""
    await make_topics(settings)
    worker = start_failing(fault)
    await worker.until(lambda: HANGS in worker.log_text(), "it hangs")
    assert worker.terminate(ENDED_WITHIN_S) == code
    assert ("ended as it is" in worker.log_text()) == (code == ENDED_BY_FORCE)


@pytest.mark.parametrize("what", [pytest.param("Kafka", marks=pytest.mark.deep), "Redis"])
async def test_a_worker_ends_whose_servers_answer_no_more(
    own_kafka: KafkaService, own_redis: OwnRedis, unique_prefix: str, tmp_path: Path, what: str
) -> None:
    """Whether in good order or by force depends on what was under way."""
    settings = make_settings(own_kafka.bootstrap_servers, own_redis.url, unique_prefix)
    await make_topics(settings)
    with worker_process(settings, tmp_path / "worker.log", "nothing", command=FAILING) as worker:
        await worker.until(lambda: worker.is_idle(1), "idle")
        with paused(own_kafka.pid if what == "Kafka" else own_redis.pid):
            worker.terminate(ENDED_WITHIN_S)


def test_added_partitions_are_noticed_within_a_minute() -> None:
    """By aiokafka's next question for metadata, and the supervisor's next look."""
    assert METADATA_MAX_AGE_S + PARTITION_CHECK_S < 60
