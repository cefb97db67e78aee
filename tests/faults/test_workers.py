"""Workers that die, are stopped, freeze, come and go."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import ExitStack

import pytest

from tests.faults.case import FaultCase
from tests.integration.harness import WorkerProcess
from tests.services import OwnRedis

pytestmark = [pytest.mark.real_kafka, pytest.mark.timeout(900)]

GAPS_S = ((1.0, 3.0), (3.0, 7.0), (7.0, 15.0), (15.0, 30.0))


@pytest.mark.fault_case("workers", "SIGKILL after 0.1–1 s")
def test_killed_soon_after_each_start_every_change_is_there_once(case: FaultCase) -> None:
    """The time counts from the first step that the worker has published."""
    case.begin()
    for _ in range(case.choose(full=6, short=3)):
        with case.worker() as worker:
            case.until_steps(1, worker)
            time.sleep(case.random.uniform(0.1, 1.0))
            case.assert_mid_stream()
            worker.kill()
            case.injected()
    case.finish()
    case.check()


@pytest.mark.fault_case("workers", "SIGKILL after 1–30 s")
def test_killed_after_longer_and_longer_every_change_is_there_once(case: FaultCase) -> None:
    """Short times come first, so that the log is long enough for some of them; at least two are."""
    case.begin()
    for shortest_s, longest_s in GAPS_S:
        with case.worker() as worker:
            case.until_steps(1, worker)
            end = time.monotonic() + case.random.uniform(shortest_s, longest_s)
            case.until(lambda end=end: time.monotonic() > end or not case.is_mid_stream, "the time", worker)  # type: ignore[misc]
            if not case.is_mid_stream:
                break
            worker.kill()
            case.injected()
    assert case.faults >= 2
    case.finish()
    case.check()


def kill_between_persist_and_publish(case: FaultCase, worker: WorkerProcess) -> bool:
    """Kill it at the instant at which Redis has a step more; whether one was left that Kafka does not have."""
    steps = case.progress.redis_steps()
    deadline = time.monotonic() + 60
    while case.progress.redis_steps() == steps:
        assert time.monotonic() < deadline, worker.log_text()[-4_000:]
    worker.kill()
    published = case.progress.partition_steps()
    return any(step > published[place] for place, step in enumerate(case.progress.redis_steps()))


@pytest.mark.parametrize(
    "emptied",
    [
        pytest.param(False, marks=pytest.mark.fault_case("workers", "SIGKILL between persist and publish")),
        pytest.param(
            True,
            marks=pytest.mark.fault_case(
                "workers", "SIGKILL between persist and publish, Redis emptied once", short=True
            ),
        ),
    ],
)
def test_killed_between_persist_and_publish_every_change_is_there_once(
    case: FaultCase, own_redis: OwnRedis, emptied: bool
) -> None:
    """The kills are spread over the log, and Redis is emptied in its middle; those that came too late do not count."""
    case.begin()
    kills = case.choose(full=6, short=2)
    for number in range(2 * kills):
        with case.worker() as worker:
            case.until_steps(1, worker)
            case.until_backlog(1 - (case.faults + 0.5) / (kills + 1), worker)
            case.assert_mid_stream()
            if kill_between_persist_and_publish(case, worker):
                case.injected()
        if emptied and number == kills // 2:
            own_redis.flush()
            case.injected()
        if case.faults >= kills + emptied:
            break
    case.finish()
    assert case.logged("outbox of step") >= kills - emptied
    assert (case.logged("rebuilt") > 0) == emptied
    case.check()


@pytest.mark.fault_case("workers", "SIGKILL in a rebuild")
def test_killed_in_a_rebuild_the_next_worker_rebuilds_again(case: FaultCase, own_redis: OwnRedis) -> None:
    """A partition whose states are half written says so, and is not gone on with."""
    case.begin()
    with case.worker() as worker:
        case.until_backlog(0.5, worker)
        worker.kill()
        own_redis.flush()
        case.injected()
    for number in range(1, case.choose(full=4, short=2)):
        with case.worker(case.folder / f"rebuilding-{number}.log") as worker:
            case.until(lambda worker=worker: "rebuilding Redis" in worker.log_text(), "a rebuild", worker)  # type: ignore[misc]
            time.sleep(case.random.uniform(0.0, 0.3))
            worker.kill()
            assert worker.log_text().count("rebuilt") < case.workload.partitions, "killed too late"
            case.injected()
    case.finish()
    assert case.logged("rebuilt") >= case.workload.partitions
    case.check()


@pytest.mark.fault_case("workers", "SIGTERM")
def test_told_to_stop_amid_its_work_it_leaves_nothing_to_mend(case: FaultCase) -> None:
    """Exit code 0 each time, and Redis and Kafka agree when the next one takes over."""
    case.begin()
    for _ in range(case.choose(full=6, short=2)):
        with case.worker() as worker:
            case.until_steps(1, worker)
            time.sleep(case.random.uniform(0.1, 2.0))
            case.assert_mid_stream()
            assert worker.terminate() == 0, worker.log_text()[-6_000:]
            case.injected()
    case.finish()
    assert case.logged("Redis and Kafka agree") == case.faults * case.workload.partitions
    assert case.logged("outbox of step") == case.logged("rebuilding Redis") == 0
    case.check()


def shared(*workers: WorkerProcess) -> bool:
    """Whether each worker holds a partition, and together they hold each once."""
    held = [set(worker.partitions()) for worker in workers]
    return all(held) and sum(map(len, held)) == len(set().union(*held)) == 4


@pytest.mark.fault_case("workers", "SIGSTOP past the session timeout, SIGCONT", short=True)
def test_a_worker_that_wakes_after_losing_its_partitions_writes_nothing(case: FaultCase) -> None:
    """The zombie is stopped amid a step, and fenced when it goes on with it; then it takes its share again."""
    case.begin()
    with ExitStack() as ends:
        workers = [ends.enter_context(case.worker(case.folder / f"{name}.log")) for name in ("one", "two")]
        for number in range(case.choose(full=2, short=1)):
            case.until(lambda: shared(*workers), "two partitions each", *workers)
            case.until_steps(4, *workers)
            zombie, other = workers if number % 2 == 0 else reversed(workers)
            lost = set(zombie.partitions())
            case.assert_mid_stream()
            before = case.progress.partition_steps()
            os.kill(zombie.process.pid, signal.SIGSTOP)
            fenced_before = fenced(zombie)
            try:
                case.until(
                    lambda: all(case.progress.partition_steps()[place] > before[place] + 1 for place in lost),  # noqa: B023
                    "the other worker's steps",
                    other,
                )
                case.assert_mid_stream()
            finally:
                os.kill(zombie.process.pid, signal.SIGCONT)
            case.injected()
            case.until(lambda: fenced(zombie) > fenced_before, "the zombie fenced", *workers)  # noqa: B023
        case.finish(*workers)
    case.check()


def fenced(worker: WorkerProcess) -> int:
    """How often a worker has logged that it was shut out, by Redis or by Kafka."""
    return len(re.findall(r"Redis refused to|ProducerFenced|InvalidProducerEpoch", worker.log_text()))


@pytest.mark.fault_case("workers", "growing 1→3 and shrinking 3→1")
def test_workers_that_come_and_go_share_the_partitions(case: FaultCase) -> None:
    """Each of the four rebalances happens in mid-stream, and afterwards each worker holds partitions."""
    case.begin()
    with ExitStack() as ends:
        workers: list[WorkerProcess] = []
        for number in range(3):
            workers.append(ends.enter_context(case.worker(case.folder / f"worker-{number}.log")))
            case.until(lambda: shared(*workers), f"partitions shared by {len(workers)}", *workers)
            case.until_steps(4, *workers)
            case.assert_mid_stream()
            if number:
                case.injected()
        while len(workers) > 1:
            assert workers.pop(case.random.randrange(len(workers))).terminate() == 0
            case.fault_ended()
            case.until(lambda: shared(*workers), f"partitions shared by {len(workers)}", *workers)
            case.assert_mid_stream()
            case.faults += 1
        case.finish(*workers)
    case.check()


@pytest.mark.fault_case("workers", "a rebuild longer than the session timeout")
def test_a_member_stays_in_the_group_through_a_long_rebuild(case: FaultCase, own_redis: OwnRedis) -> None:
    """The worker is starved of its processor until the rebuild has taken half as long again as the session timeout."""
    case.begin()
    with case.worker() as worker:
        case.until_backlog(0.2, worker)
        assert worker.terminate() == 0
    own_redis.flush()
    log = case.folder / "rebuilding.log"
    with case.worker(log) as worker:
        case.until(lambda: worker.log_text().count("rebuilding Redis") == 4, "four rebuilds", worker)
        started = time.monotonic()
        members = case.progress.members()
        assert len(members) == 1
        while time.monotonic() < started + 1.5 * case.settings.session_timeout_s:
            assert "rebuilt" not in worker.log_text(), "the rebuild was too short"
            os.kill(worker.process.pid, signal.SIGSTOP)
            time.sleep(0.5)
            os.kill(worker.process.pid, signal.SIGCONT)
            time.sleep(0.1)
        case.assert_mid_stream()
        case.until(lambda: worker.log_text().count("rebuilt") == 4, "rebuilt", worker)
        case.injected()
        assert case.progress.members() == members
        case.finish(worker)
    assert log.read_text("utf-8").count("take-over:") == case.workload.partitions
    case.check()
