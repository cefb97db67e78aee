"""Midnights: sweeping those who are due gives what looking at everyone on every midnight gives, on any calendar."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import consent, day, engagement, erasure, model, order
from enrichment.customer.customer import Customer
from enrichment.days import day_of, midnight_us
from enrichment.deciding.changes import Cause
from enrichment.deciding.results import Results
from enrichment.model import Model
from enrichment.scoring.evaluate import Table, evaluate
from schemas.documents import Document
from schemas.events import Event
from streams.state.codec import encode
from tests.enrichment.driver import WorkerLikeStream
from tests.enrichment.test_batches import LIVELY
from tests.enrichment.test_batches import MODELS as OTHERS

DWELLING = {
    **LIVELY,
    "hysteresis": {**LIVELY["hysteresis"], "dwell_days": 45},
    "reactivation": {**LIVELY["reactivation"], "own_return": {"within_days": 14, "above": 0.15}},
}
MODELS = {**OTHERS, "dwelling": Model.model_validate(DWELLING)}
SILENT_DAYS = 200
"""After the last event: long enough for most to lapse."""
BUSY_DAYS = 90
STARTS = ["2023-12-20", "2024-01-30", "2024-12-05", "2025-01-15", "2027-11-20", "2028-01-15", "2099-12-10"]
"""29 February 2024 and 2028, one that is none (2025, 2100), and ends of years lie in the days that follow."""


class EveryMidnight(LocalStream):
    """Brute force: everyone is evaluated on every midnight, one row at a time, with no due day and no look ahead."""

    def __init__(self, chosen: Model) -> None:
        super().__init__(chosen)
        self._look_at_nobody()

    def restart(self, model: Model) -> None:
        """Go on with another model."""
        super().restart(model)
        self._look_at_nobody()

    def pass_midnight(self, date: str | int, catch_up: bool = False) -> list[Document]:
        """The midnight with which a day begins."""
        self.midnight_day = today = day(date) if isinstance(date, str) else date
        results = Results(self.model)
        for customer in self.customers.values():
            latest_us = customer.state.latest_us
            if latest_us is None:
                continue
            if customer.decision.model not in (None, self.model.fingerprint):
                self.enricher._reconsider([customer], today, results)
            elif today > day_of(latest_us) and not catch_up:
                self._evaluate(customer, today, results)
        return self._publish(results)

    def _look_at_nobody(self) -> None:
        """Records are processed without bringing anyone up to a midnight: they have been brought there."""
        self.enricher.advance = lambda *_: None  # type: ignore[method-assign]

    def _evaluate(self, customer: Customer, today: int, results: Results) -> None:
        decision, decider = customer.decision, self.enricher._decider
        table = self._row(customer, today)
        leaves = decision.standing is not None and not table.features.profiling_allowed[0]
        if leaves:
            customer.forget_unallowed(today)
            table = self._row(customer, today)
        cause = Cause("consent" if leaves else "time")
        decider.decide(customer, decision, table, 0, midnight_us(today), cause, results)
        if decision.pending is not None and decision.pending.due_day <= today:
            decider.fire(customer, table, 0, midnight_us(today), results)
        results.touched[customer.id] = customer

    def _row(self, customer: Customer, today: int) -> Table:
        return evaluate(
            [customer.snapshot()],
            np.zeros(1, dtype=np.int64),
            np.array([today], dtype=np.int64),
            self.enricher.model,
        )


class Life(NamedTuple):
    """What happens from a day on: events in order, and the day from which another model holds, if one does."""

    start: int
    events: list[Event]
    before: str
    after: str
    changes_on: int | None


def _at(start: str, days: int, minute: int) -> str:
    moment = datetime.fromisoformat(start).replace(tzinfo=UTC) + timedelta(days=days, minutes=minute)
    return moment.isoformat().replace("+00:00", "Z")


@st.composite
def lives(draw: st.DrawFn) -> Life:
    """A few customers over some months, with orders, engagement, consents that end, and erasures."""
    start = draw(st.sampled_from(STARTS))
    moments = st.tuples(st.integers(0, BUSY_DAYS), st.integers(0, 1_439))
    customers = st.sampled_from(["ann", "bob"])
    kinds = st.sampled_from(
        ["order", "order", "order", "opened", "clicked", "grant", "deny", "until", "erase"]
    )
    happened = draw(st.lists(st.tuples(moments, customers, kinds, st.integers(0, 120)), max_size=14))
    events = []
    for number, ((days, minute), who, kind, number_of) in enumerate(sorted(happened)):
        when, more = _at(start, days, minute), {"customer_id": who, "event_id": str(number)}
        if kind == "order":
            events.append(order(when, f"{5 + number_of}.00", f"o{number}", **more))
        elif kind in ("grant", "deny"):
            events.append(consent(when, "profiling", kind == "grant", **more))
        elif kind == "until":
            ends = {"expires_at": _at(start, days + number_of, minute)}
            events.append(consent(when, "profiling" if number_of % 2 else "email", True, **ends, **more))
        elif kind == "erase":
            events.append(erasure(when, **more))
        else:
            events.append(engagement(kind, when, channel="email", **more))
    before, after = draw(st.sampled_from(list(MODELS))), draw(st.sampled_from(list(MODELS)))
    changes_on = draw(st.none() | st.integers(1, BUSY_DAYS + SILENT_DAYS))
    return Life(day(start), events, before, after, changes_on)


def live(partition: LocalStream, life: Life) -> dict[str, Any]:
    """Every midnight in order, with the events of the day after it; gives everything published."""
    waiting = list(life.events)
    for number in range(BUSY_DAYS + SILENT_DAYS):
        today = life.start + number
        partition.pass_midnight(today)
        if number == life.changes_on:
            partition.pass_midnight(today, catch_up=True)
            partition.restart(MODELS[life.after])
            partition.pass_midnight(today, catch_up=True)
        while waiting and day_of(waiting[0].occurred_at_us) == today:
            partition.take(waiting.pop(0))
    partition.pass_midnight(partition.midnight_day, catch_up=True)
    return partition.by_customer()


@settings(max_examples=25)
@given(life=lives(), seed=st.integers(0, 2**32))
@example(Life(day("2024-02-01"), [order("2024-02-01", "90.00")], "dwelling", "dwelling", None), 1)
@example(Life(day("2024-02-01"), [order("2024-02-01", "90.00")], "lively", "default", 27), 1)
def test_sweeps_give_what_looking_at_everyone_on_every_midnight_gives(life: Life, seed: int) -> None:
    """Sweeps that come late and leave out most; oracle: everyone on every midnight, one row at a time."""
    rng = random.Random(seed)

    def now_and_then(customers: list[Customer]) -> Iterable[Customer]:
        return [customer for customer in customers if rng.random() < 0.05]

    model_before = MODELS[life.before]
    everything = live(EveryMidnight(model_before), life)
    assert live(WorkerLikeStream(model_before, stored=True, sweep=now_and_then), life) == everything
    assert (
        live(WorkerLikeStream(model_before, stored=True, stale=True, sweep=now_and_then), life) == everything
    )


def test_who_is_put_off_is_not_touched() -> None:
    """A quiet customer's state stays as it is, but for the day; on the day of a change it is the other way round."""
    partition = LocalStream(MODELS["lively"])
    partition.pass_midnight("2024-02-01")
    partition.take(order("2024-02-01", "90.00"))
    seen = set()
    for number in range(1, SILENT_DAYS):
        today, results = day("2024-02-01") + number, Results(partition.model)
        before = encode(partition.customers["c"].state)
        was_due = partition.customers["c"].state.due_day
        partition.enricher.advance(partition.customers.values(), today, results)
        state = partition.customers["c"].state
        assert was_due is not None
        assert set(results.rescheduled) == ({"c"} if was_due <= today else set())
        assert bool(results.changes) <= bool(results.touched)
        if not results.touched:
            assert encode(msgspec.structs.replace(state, due_day=was_due)) == before
        seen.add((bool(results.rescheduled), bool(results.touched)))
    assert seen == {(False, False), (True, False), (True, True)}


def test_brute_force_is_no_empty_oracle() -> None:
    """In half a year of silence it publishes demotions by time, and a re-activation."""
    life = Life(
        day("2024-01-30"), [order("2024-02-01", "90.00"), order("2024-02-20")], "lively", "lively", None
    )
    published = live(EveryMidnight(MODELS["lively"]), life)
    assert {change["reason"]["trigger"] for change in published["changes"]["c"]} == {"event", "time"}


@pytest.mark.parametrize(
    ("ordered_on", "ends_on"),
    [
        ("2024-01-29", "2024-02-29"),
        ("2024-01-30", "2024-03-01"),
        ("2024-02-29", "2024-03-31"),
        ("2025-01-29", "2025-03-01"),
        ("2028-01-29", "2028-02-29"),
        ("2100-01-29", "2100-03-01"),
        ("2024-12-01", "2025-01-01"),
        ("2027-12-15", "2028-01-15"),
    ],
)
@pytest.mark.parametrize("late", [False, True], ids=["on the day", "caught up with"])
def test_days_are_those_of_the_calendar(ordered_on: str, ends_on: str, late: bool) -> None:
    """A customer is new for 30 days after the first order; oracle: a calendar, with its leap days and years' ends."""
    assert date.fromisoformat(ordered_on) + timedelta(days=31) == date.fromisoformat(ends_on)
    partition = LocalStream(
        model(
            lifecycle={"at_risk_churn_risk": 1, "lapsed_churn_risk": 1, "new_days": 30},
            hysteresis={"dwell_days": 60, "churn_risk_margin": 0},
        )
    )
    partition.midnight_day = day(ordered_on)
    partition.take(order(ordered_on, "80.00"))
    midnights = [day(ordered_on) + 90] if late else range(day(ordered_on) + 1, day(ordered_on) + 91)
    for midnight in midnights:
        partition.pass_midnight(midnight)
    ends = [change for change in partition.changes if change["previous"] == "new"]
    assert [(change["current"], change["as_of"]) for change in ends] == [("active", f"{ends_on}T00:00:00Z")]
