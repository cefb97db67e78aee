"""Sweeps and live records share each micro-batch: neither holds up the other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from ebbtide.testing.records import DEFAULT_MODEL
from enrichment.customer.decision import Decision
from streams.settings import Settings
from streams.state.changelog import DECISION, KIND_HEADER
from streams.worker import batch_loop
from streams.worker.batch_loop import FETCH_TIMEOUT_MS
from streams.worker.batch_processor import BatchProcessor
from streams.worker.reading import inputs
from streams.worker.reading.arrived import Taken
from streams.worker.reading.inputs import Inputs
from streams.worker.sweep_pace import SweepPace
from tests.integration.harness import (
    Document,
    Record,
    changes_of,
    check_sequences,
    make_topics,
    produce,
    read_topic,
    record_of,
    run_to_the_end,
    running,
    until,
    until_idle,
    write_model,
)

pytestmark = pytest.mark.real_kafka


@pytest.fixture
def everyone_due(settings: Settings, tmp_path: Path) -> Settings:
    """Another model, with which a worker finds everyone due at its start; small batches make the sweep a long one."""
    model = write_model(tmp_path / "model.yaml", {**DEFAULT_MODEL, "version": "another"})
    return settings.model_copy(update={"model": model, "batch_max_records": 20, "batch_max_customers": 8})


def orders(customer_ids: Iterable[str], name: str = "first") -> list[Record]:
    """An order of this name by each customer."""
    return [
        record_of("purchases", _order(customer_id, f"{customer_id}-{name}")) for customer_id in customer_ids
    ]


def _order(customer_id: str, order_id: str) -> Document:
    return {
        "event_id": order_id,
        "customer_id": customer_id,
        "occurred_at": "2025-01-09T12:00:00Z",
        "kind": "order",
        "order_id": order_id,
        "currency": "USD",
        "total": "20.00",
    }


async def evaluated(settings: Settings) -> list[str]:
    """The customers whom the model of these settings has evaluated, in the order in which that was published."""
    fingerprint = settings.load_model().fingerprint
    records = await read_topic(settings, "ebbtide-decisions")
    ids = [
        record.key.decode()
        for record in records
        if dict(record.headers)[KIND_HEADER] == DECISION
        and msgspec.json.decode(record.value, type=Decision).model == fingerprint
    ]
    return list(dict.fromkeys(ids))


async def test_a_backlog_that_fills_every_micro_batch_keeps_no_due_customer_waiting(
    settings: Settings, everyone_due: Settings
) -> None:
    """The due are all evaluated before the backlog ends; without a share of their own they would come after it."""
    silent, backlog = _names("silent", 40), _names("live", 800)
    await make_topics(settings)
    await produce(settings, orders(silent))
    await run_to_the_end(settings)
    await produce(settings, orders(backlog))
    await run_to_the_end(everyone_due)
    order = await evaluated(everyone_due)
    assert set(order) == {*silent, *backlog}
    assert max(map(order.index, silent)) < order.index(backlog[-1])
    check_sequences(await changes_of(settings))


async def test_records_are_published_while_a_long_sweep_goes_on(
    settings: Settings, everyone_due: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that come when a sweep has begun do not wait for its end."""
    silent, live = _names("silent", 1_000), _names("live", 10)
    await make_topics(settings)
    await produce(settings, orders(silent))
    await run_to_the_end(settings)
    sweep, sweeps = BatchProcessor.sweep, 0

    async def then_records_come(self: BatchProcessor, midnight_day: int) -> None:
        nonlocal sweeps
        sweeps += 1
        if sweeps == 3:
            await produce(settings, orders(live))
        await sweep(self, midnight_day)

    monkeypatch.setattr(BatchProcessor, "sweep", then_records_come)
    await run_to_the_end(everyone_due)
    order = await evaluated(everyone_due)
    assert set(order) == {*silent, *live}
    assert max(map(order.index, live)) < len(order) - 300
    check_sequences(await changes_of(settings))


async def test_a_record_finds_what_the_sweep_of_its_own_micro_batch_has_made_of_its_customer(
    settings: Settings, everyone_due: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis does not know of it before the batch ends: from there, the same would be decided and published again."""
    tiers = {**DEFAULT_MODEL["tiers"], "by_value": {"strategic": 3, "named": 2, "field": 1}}
    hysteresis = {"score_margin": 0, "churn_risk_margin": 0, "dwell_days": 0}
    generous = {**DEFAULT_MODEL, "version": "generous", "tiers": tiers, "hysteresis": hysteresis}
    everyone_rises = everyone_due.model_copy(
        update={"model": write_model(tmp_path / "generous.yaml", generous)}
    )
    silent = _names("silent", 40)
    await make_topics(settings)
    await produce(settings, orders(silent))
    await run_to_the_end(settings)
    before = await changes_of(settings)
    sweep, process = BatchProcessor.sweep, BatchProcessor.process
    swept: list[str] = []
    met: list[str] = []

    async def then_their_records_come(self: BatchProcessor, midnight_day: int) -> None:
        await sweep(self, midnight_day)
        if not swept:
            swept.extend(self.touched)
            await produce(settings, orders(swept, "second"))

    async def noted(self: BatchProcessor, records: Taken, midnight_day: int) -> None:
        met.extend(str(arrived.record.key.decode()) for arrived in records if self.swept)
        await process(self, records, midnight_day)

    monkeypatch.setattr(BatchProcessor, "sweep", then_their_records_come)
    monkeypatch.setattr(BatchProcessor, "process", noted)
    monkeypatch.setattr(
        inputs, "LOOK_MS", 1_000
    )  # else a slow broker's answer would come in a later micro-batch
    await run_to_the_end(everyone_rises)
    changes = await changes_of(settings)
    assert swept
    assert met == swept
    assert {change["customer_id"] for change in changes[len(before) :]} == set(silent)
    check_sequences(changes)


async def test_a_sweep_that_never_gets_a_turn_takes_one(
    settings: Settings, everyone_due: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where records of other partitions are always under way."""
    silent = _names("silent", 40)
    await make_topics(settings)
    await produce(settings, orders(silent))
    await run_to_the_end(settings)
    monkeypatch.setattr(SweepPace, "wait_s", lambda _: 0.02)
    monkeypatch.setattr(batch_loop, "LONGEST_PAUSE_S", 0.1)
    await run_to_the_end(everyone_due)
    assert set(await evaluated(everyone_due)) == set(silent)


async def test_a_sweep_fills_no_memory(settings: Settings, everyone_due: Settings) -> None:
    """Whom a sweep has looked at is not kept in the cache, nor does anyone leave it for them."""
    silent = _names("silent", 40)
    await make_topics(settings)
    await produce(settings, orders(silent))
    await run_to_the_end(settings)
    await produce(settings, orders(["live"]))
    async with running(everyone_due) as worker:
        await until_idle(everyone_due, worker)
        assert set(await evaluated(everyone_due)) == {*silent, "live"}
        assert worker.tasks[0].cached_customers == 1


async def test_an_empty_partition_is_waited_for_and_not_asked_again_and_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the event clock no midnight has passed before the first event, so there is nobody to look for."""
    fill = Inputs.fill
    waited_ms = []

    async def noted(self: Inputs, timeout_ms: int) -> int:
        waited_ms.append(timeout_ms)
        return await fill(self, timeout_ms)

    monkeypatch.setattr(Inputs, "fill", noted)
    settings = settings.model_copy(update={"clock": "event"})
    await make_topics(settings)
    async with running(settings) as worker:
        await until_idle(settings, worker)
        await until(lambda: FETCH_TIMEOUT_MS in waited_ms, "a fetch that waits for records")


def _names(what: str, count: int) -> list[str]:
    return [f"{what}-{number:04d}" for number in range(count)]
