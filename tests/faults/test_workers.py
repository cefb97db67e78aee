"""Workers that die, are stopped, come and go."""

from __future__ import annotations

import time

import pytest

from tests.faults.case import FaultCase

pytestmark = [pytest.mark.real_kafka, pytest.mark.timeout(900)]


@pytest.mark.fault_case("workers", "SIGKILL after 0.1–1 s", short=True)
def test_killed_soon_after_each_start_every_change_is_there_once(case: FaultCase) -> None:
    """The time counts from the first step that the worker has published."""
    case.begin()
    for _ in range(case.choose(full=10, short=3)):
        with case.worker() as worker:
            case.until_steps(1, worker)
            time.sleep(case.random.uniform(0.1, 1.0))
            case.assert_mid_stream()
            worker.kill()
            case.injected()
    case.finish()
    case.check()
