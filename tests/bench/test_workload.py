"""The workload of the benchmarks is what it says: its shares, its repeats, and the same for the same seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import orjson
import pytest

from bench.workload import DUPLICATE_SHARE, SHARES, Shape, make_workload, spread
from enrichment.customer.validation import check_against_model
from enrichment.days import midnight_us
from enrichment.model import load_model
from schemas.decode import decode
from schemas.rejection import Rejection
from schemas.timestamps import parse_timestamp
from tests.integration.harness import partition_of

SHAPE = Shape(events=10_000, customers=2_000, seed=1, end_day=20_000)


def test_a_workload_is_the_same_for_the_same_seed() -> None:
    """Shapes decide every byte: equal ones alike, others otherwise."""
    records = make_workload(SHAPE)
    assert len(records) == SHAPE.events
    assert records == make_workload(SHAPE)
    assert records != make_workload(replace(SHAPE, seed=2))


def test_every_record_of_a_workload_is_acceptable() -> None:
    """All are well-formed, of kinds that the built-in model knows, keyed, and before the end."""
    model = load_model(None)
    for topic, key, value, partition in make_workload(SHAPE):
        event = decode(topic, value, key)
        assert not isinstance(event, Rejection)
        assert check_against_model(event, model) is None
        assert event.occurred_at_us < midnight_us(SHAPE.end_day)
        assert partition == partition_of(event.customer_id.encode(), SHAPE.partitions)


def test_a_workload_has_the_shares_that_it_promises() -> None:
    """30% purchases, 65% engagement, 5% consents, 2% of all a second time; within 2 points of each."""
    records = make_workload(SHAPE)
    counts = Counter(record.topic for record in records)
    for topic, share in SHARES:
        assert counts[topic] / len(records) == pytest.approx(share, abs=0.02)
    ids = Counter(orjson.loads(record.value or b"")["event_id"] for record in records)
    assert len(ids) == SHAPE.events * (1 - DUPLICATE_SHARE)
    assert max(ids.values()) == 2


def test_few_records_arrive_late_and_only_by_days() -> None:
    """About one record in a hundred is dated up to seven days before those around it."""
    records = make_workload(replace(SHAPE, events=9_800))
    newest_us, late_days = 0, []
    for record in records:
        time_us = parse_timestamp(orjson.loads(record.value or b"")["occurred_at"])
        newest_us = max(newest_us, time_us)
        late_days.append((newest_us - time_us) / 86_400e6)
    late = [days for days in late_days if days > 0.9]
    assert max(late) < 30
    assert 0.002 < len(late) / len(records) < 0.3


def test_partitions_of_a_workload_keep_the_order_of_arrival() -> None:
    """Spread over partitions, every record is there once, in its order."""
    records = make_workload(SHAPE)
    places = spread(records)
    assert sum(map(len, places.values())) == len(records)
    place = records[0].topic, records[0].partition
    assert places[place] == [record for record in records if (record.topic, record.partition) == place]
