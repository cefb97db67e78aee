"""The benchmarks in their small form, so that they go on working: what they find is compared, how fast is not."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from bench import contenders, latency, replay, scale
from bench import drain as drain_module
from bench.contenders import Contender
from bench.drain import Drained, Services, drain, running
from bench.latency import Rates
from bench.pipeline import Logs, Sizes, make_logs
from bench.scale import Scales
from enrichment.days import DAY_US, day_of, midnight_us
from streams.worker.clock_check import wall_clock_us
from tests.bench.outcomes import Outcome, outcome_of
from tests.integration.harness import Document, aggregates, check_sequences
from tests.services import KafkaService, start_own_redis

pytestmark = [pytest.mark.real_kafka, pytest.mark.timeout(1200), pytest.mark.xdist_group("bench")]

SIZES = Sizes(events=1_200, customers=600, prefix=1_200, warm_up=200, runs=1, timeout_s=120.0)
ROOM_S = 300.0
"""No run begins so shortly before midnight, since other stream processors know of none."""
CONTENDERS = {
    "exactly_once": contenders.ebbtide("exactly_once"),
    "at_least_once, two processes": contenders.ebbtide("at_least_once", processes=2),
    "quix": contenders.quix(),
    "faust": contenders.faust(),
}


@pytest.fixture(scope="module")
def services(kafka: KafkaService) -> Iterator[Services]:
    """The tests' broker, and a Redis that may be flushed."""
    with start_own_redis() as redis:
        yield Services(kafka, redis)


@pytest.fixture(scope="module")
def logs() -> Logs:
    """The same for every contender."""
    rest_s = (DAY_US - wall_clock_us() % DAY_US) / 1e6
    if rest_s < ROOM_S:
        time.sleep(rest_s + 1)
    return make_logs(SIZES)


@pytest.fixture(scope="module")
def found(services: Services, logs: Logs, pytestconfig: pytest.Config) -> dict[str, tuple[Drained, Outcome]]:
    """What each contender measures and makes of the log; the slowest takes part with `--deep` only."""
    left_out = set() if pytestconfig.getoption("--deep") else {"faust"}
    return {
        name: _measured(services, logs, contender)
        for name, contender in CONTENDERS.items()
        if name not in left_out
    }


def _measured(services: Services, logs: Logs, contender: Contender) -> tuple[Drained, Outcome]:
    with pytest.MonkeyPatch.context() as patched, running(contender, services, SIZES.warm_up) as run:
        # The counts lack nothing, whatever is slow.
        patched.setattr(drain_module, "SETTLED_S", 2.0)
        if contender.processes > 1:
            run.wait_until_ready(SIZES.timeout_s)
        drained = drain(run, logs.warm_up, logs.records, SIZES.timeout_s)
        return drained, outcome_of(run, midnight_us(day_of(wall_clock_us())))


def of_one_topic(logs: Logs) -> set[str]:
    """Customers all of whose records are in one topic, so that everyone takes them in the same order."""
    topics: dict[str, set[str]] = defaultdict(set)
    for record in [*logs.warm_up, *logs.records]:
        assert record.key is not None
        topics[record.key.decode()].add(record.topic)
    return {customer for customer, own in topics.items() if len(own) == 1}


def chosen(documents: dict[str, Document] | dict[str, list[Document]], which: set[str]) -> object:
    return {customer: document for customer, document in documents.items() if customer in which}


@pytest.mark.deep
def test_contenders_end_with_the_same_aggregates(found: dict[str, tuple[Drained, Outcome]]) -> None:
    """Every contender ends with the same aggregates and consents; the oracle is `exactly_once`."""
    expected = aggregates(found["exactly_once"][1].profiles)
    assert len(expected) > SIZES.customers // 2
    for name, (_, outcome) in found.items():
        assert aggregates(outcome.profiles) == expected, name
        assert outcome.dead_letters == 0, name


@pytest.mark.deep
def test_contenders_publish_the_same_changes(found: dict[str, tuple[Drained, Outcome]], logs: Logs) -> None:
    """Changes and standings are equal where the order of arrival is defined; elsewhere sequences have no gap.

    The order between two topics is nobody's promise, and what is decided on the way depends on it.
    """
    which = of_one_topic(logs)
    expected = found["exactly_once"][1]
    assert len(chosen(expected.changes, which)) > 100  # type: ignore[arg-type]  # a dictionary
    for name, (_, outcome) in found.items():
        assert chosen(outcome.changes, which) == chosen(expected.changes, which), name
        assert chosen(outcome.profiles, which) == chosen(expected.profiles, which), name
        check_sequences([change for own in outcome.changes.values() for change in own])


@pytest.mark.deep
def test_a_drain_measures_what_it_says(found: dict[str, tuple[Drained, Outcome]], logs: Logs) -> None:
    """A drain counts the log's events and its customers' changes, and sees processor time and memory."""
    measured = {record.key.decode() for record in logs.records if record.key}
    for name, (drained, outcome) in found.items():
        assert drained.events == SIZES.events, name
        assert drained.changes == sum(map(len, (outcome.changes.get(who, []) for who in measured))), name
        assert drained.worker_cpu_s > 0, name
        assert drained.peak_mib > 10, name


def test_replay_takes_the_same_records_from_files(logs: Logs, tmp_path: Path) -> None:
    """The files hold every record of the log, and replay refuses none."""
    replay.write_files(logs.records, tmp_path)
    wall_s, used_s = replay.replayed(tmp_path, SIZES.timeout_s, processes=2)
    assert wall_s > 0
    assert used_s > 0
    events = orjson.loads((tmp_path / "out" / "summary.json").read_bytes())["events"]
    assert sum(sum(outcomes.values()) for outcomes in events.values()) == SIZES.events
    assert all(outcomes["dead_letter"] == 0 for outcomes in events.values())


def test_every_probe_of_a_load_is_seen(services: Services, logs: Logs) -> None:
    """A steady load has its latencies measured, and none of its changes is lost."""
    part = latency.run(services, Rates((100.0,), 6.0, 0.5, 300, broker_warm_up_s=1.0), logs, print)
    (row,) = part.tables[0].rows
    probes, slowest_ms = row[2], row[6]
    assert isinstance(probes, int)
    assert probes > 100
    assert isinstance(slowest_ms, float)
    assert 0 <= slowest_ms < float("inf")


def test_a_worker_meets_the_customers_that_redis_is_filled_with(services: Services, logs: Logs) -> None:
    """A fill counts its bytes, and a worker takes it over as if it had been its own."""
    held = scale.over_customers(services, SIZES, Scales(customers=(300,), events=500), logs, print)
    assert held.figures["redis_bytes_per_customer"] > 100
