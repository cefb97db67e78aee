"""Several workers that share the partitions: they die together, join together, or belong to two deployments."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import resources
from itertools import pairwise

import pytest

from ebbtide.testing.services.ports import lasting_port
from tests.faults.case import FaultCase
from tests.faults.test_workers import shared
from tests.integration.harness import WorkerProcess, paused, worker_process

pytestmark = [pytest.mark.real_kafka, pytest.mark.timeout(900)]


@contextmanager
def stopped(workers: Iterable[WorkerProcess]) -> Iterator[None]:
    """Workers that do nothing inside the block, which must be shorter than their session."""
    with ExitStack() as ends:
        for worker in workers:
            ends.enter_context(paused(worker.process.pid))
        yield


def portions(case: FaultCase, count: int) -> Iterator[None]:
    """Each `next` puts the next portion of the events into the inputs: the first one begins the case.

    Workers that join take their time, in which all there is would be taken. Those that run must be `stopped` meanwhile:
    what comes in one input before the others have theirs would be taken out of its order.
    """
    cuts = [len(case.workload.records) * number // count for number in range(1, count)]
    case.begin(cuts[0])
    yield
    for start, end in pairwise((*cuts, None)):
        assert start is not None
        case.send(start, end)
        yield


@pytest.mark.fault_case("workers", "SIGKILL of all that share the partitions")
def test_workers_killed_together_leave_nothing_that_the_next_ones_cannot_mend(case: FaultCase) -> None:
    """The next ones get their partitions once the session of the last ones has ended."""
    times = case.choose(full=3, short=1)
    sent = portions(case, times + 2)
    next(sent)
    for number in range(times):
        with ExitStack() as ends:
            logs = [case.folder / f"{name}-{number}.log" for name in ("one", "two", "three")]
            workers = [ends.enter_context(case.worker(log)) for log in logs]
            case.until(lambda: shared(*workers), "partitions shared by three", *workers)  # noqa: B023
            with stopped(workers):
                next(sent)
            case.until_batches(4, *workers)
            case.assert_mid_stream()
            for worker in workers:
                os.killpg(worker.process.pid, signal.SIGKILL)
            for worker in workers:
                assert worker.process.wait() == -signal.SIGKILL
            case.injected()
    next(sent)
    case.finish()
    case.check()


@pytest.mark.fault_case("workers", "five join at once, one more than partitions")
def test_a_worker_without_a_partition_takes_over_where_another_dies(case: FaultCase) -> None:
    """All five are members of the group; the one that holds nothing works once another is killed."""
    sent = portions(case, 4)
    next(sent)
    with ExitStack() as ends:
        first = ends.enter_context(case.worker())
        case.until_batches(4, first)
        logs = [case.folder / f"late-{number}.log" for number in range(case.workload.partitions)]
        workers = [first, *(ends.enter_context(case.worker(log)) for log in logs)]
        case.until(
            lambda: held(workers) == [0, 1, 1, 1, 1] and assigned(case) == [0, 3, 3, 3, 3],
            "a partition each, and one with none",
            *workers,
        )
        with stopped(workers):
            next(sent)
        case.until_batches(4, *workers)
        case.assert_mid_stream()
        case.injected(len(logs))
        victim = next(worker for worker in workers if worker.partitions())
        workers.remove(victim)
        victim.kill()
        case.injected()
        with stopped(workers):
            next(sent)
        case.until(lambda: held(workers) == [1, 1, 1, 1], "a partition each", *workers)
        case.until_batches(4, *workers)
        case.assert_mid_stream()
        with stopped(workers):
            next(sent)
        case.finish(*workers)
    case.check()


def held(workers: list[WorkerProcess]) -> list[int]:
    """How many partitions each holds, the fewest first."""
    return sorted(len(worker.partitions()) for worker in workers)


def assigned(case: FaultCase) -> list[int]:
    """How many input partitions the group has given to each member, the fewest first."""
    return sorted(len(given) for given in case.progress.members().values())


@pytest.mark.fault_case("workers", "two deployments of one group that come and go")
def test_two_deployments_with_the_same_settings_are_one_group(case: FaultCase) -> None:
    """The other one has its own folder, with its own copy of the model: nobody is evaluated anew for it."""
    folder = case.folder / "other deployment"
    folder.mkdir()
    model = folder / "model.yaml"
    with resources.as_file(resources.files("enrichment") / "default_model.yaml") as built_in:
        shutil.copy(built_in, model)
    sent = portions(case, 4)
    next(sent)
    with ExitStack() as ends:
        one = ends.enter_context(case.worker(case.folder / "one.log"))
        case.until_batches(4, one)
        for number in range(2):
            settings = case.settings.model_copy(
                update={"web_port": lasting_port(), "model": model, "faust_data_dir": folder / "faust"}
            )
            other = ends.enter_context(worker_process(settings, case.folder / f"other-{number}.log"))
            case.until(lambda: shared(one, other), "partitions shared by both", one, other)  # noqa: B023
            with stopped((one, other)):
                next(sent)
            case.until_batches(4, one, other)
            case.assert_mid_stream()
            case.injected()
            if number == 0:
                assert one.terminate() == 0
                one = other
            else:
                other.kill()
            case.injected()
            case.until(lambda: len(one.partitions()) == case.workload.partitions, "all of them", one)  # noqa: B023
            case.assert_mid_stream()
        with stopped((one,)):
            next(sent)
        case.finish(one)
    assert case.logged("another model than before") == 0
    case.check()
