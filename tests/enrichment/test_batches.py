"""Output does not depend on how records fall into batches, nor on when the sweeps of a midnight run."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbtide.testing.local_stream import Item, LocalStream, with_midnights
from enrichment.customer.customer import Customer
from enrichment.days import day_of
from enrichment.deciding import timers
from enrichment.model import Model
from tests.enrichment.driver import SEEDED_MODEL, WorkerLikeStream, in_arrival_order, in_replay_order
from tests.oracles.seeded_log import make_log

Document = dict[str, Any]

LIVELY: Document = {
    **SEEDED_MODEL,
    "hysteresis": {"score_margin": 0, "churn_risk_margin": 0, "dwell_days": 0},
    "reactivation": {
        **SEEDED_MODEL["reactivation"],
        "triggers": ["time", "event", "correction", "consent"],
        "delay_days": {"high": 1, "medium": 1, "emerging": 2, "low": 3, "prospect": 4},
    },
}
MODELS = {
    "default": Model.model_validate(SEEDED_MODEL),
    "opt_in": Model.model_validate({**SEEDED_MODEL, "profiling": "opt_in"}),
    "lively": Model.model_validate(LIVELY),
    "lively opt_in": Model.model_validate(
        {
            **LIVELY,
            "profiling": "opt_in",
            "reactivation": {**LIVELY["reactivation"], "own_return": {"within_days": 14, "above": 0.15}},
        }
    ),
}


SHORT, LONG = (140, 230), (250, 330)
"""Events and days of a log, in `make test` and in `make test-deep`."""


def some_log(seed: int, late: bool, events: int, days: int) -> list[Item]:
    """Records with midnights in between, in replay order or with some of them late.

    Profiling is granted to everyone at first, to every other customer for a while: opt-in needs it.
    """
    log = make_log(seed, customers=8, days=days, events=events)
    customers = sorted({record["customer_id"] for of_topic in log.values() for record in of_topic})
    for number, customer in enumerate(customers):
        grant = {"event_id": "grant", "customer_id": customer, "occurred_at": "2023-03-01T00:00:00Z"}
        ends = {"expires_at": f"2023-{3 + number:02d}-17T08:00:00Z"} if number % 2 else {}
        log["consents"].append({**grant, "kind": "consent", "purpose": "profiling", "granted": True, **ends})
    return in_arrival_order(log, seed) if late else with_midnights(in_replay_order(log))


@pytest.mark.parametrize(
    ("name", "late"), [("default", True), ("opt_in", False), ("lively", True), ("lively opt_in", False)]
)
def test_batches_of_one_and_of_ten_thousand_give_the_same_output(
    name: str, late: bool, random_seed: int, is_deep: bool
) -> None:
    """Changes, triggers, dead letters and last profiles, also with every state read back from its stored form."""
    items = some_log(random_seed, late, *(LONG if is_deep else SHORT))
    whole = LocalStream(MODELS[name]).play(items, itertools.repeat(10_000)).by_customer()
    for size, stored in ((1, True), (7, False)):
        split = (
            WorkerLikeStream(MODELS[name], stored=stored).play(items, itertools.repeat(size)).by_customer()
        )
        assert split == whole
    assert whole["changes"]


@settings(max_examples=6)
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=12))
def test_any_batch_split_gives_the_same_output(seed: int, sizes: list[int]) -> None:
    """Random logs with late records, cut at random."""
    items = some_log(seed, late=True, events=90, days=150)
    whole = LocalStream(MODELS["lively"]).play(items).by_customer()
    split = WorkerLikeStream(MODELS["lively"], stored=True).play(items, itertools.cycle(sizes)).by_customer()
    assert split == whole


@pytest.mark.parametrize("name", MODELS)
def test_the_look_ahead_finds_what_looking_at_everyone_on_every_midnight_finds(
    name: str, random_seed: int, is_deep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep that comes late and skips quiet days; oracle: every customer evaluated on every midnight."""
    items = some_log(random_seed, True, *(LONG if is_deep else SHORT))
    rng = random.Random(random_seed)

    def now_and_then(customers: list[Customer]) -> Iterable[Customer]:
        return [customer for customer in customers if rng.random() < 0.02]

    lazy = WorkerLikeStream(MODELS[name], sweep=now_and_then).play(items)
    monkeypatch.setattr(
        timers,
        "_unchanged_rows",
        lambda customers, table, dwell_days: np.zeros(len(table.features), dtype=np.bool_),
    )
    monkeypatch.setattr(timers, "MIN_DAYS", 1)
    brute = WorkerLikeStream(MODELS[name])

    def all_of_them(customers: list[Customer]) -> Iterator[Customer]:
        for customer in customers:
            if customer.state.latest_us is not None:
                first_day = day_of(customer.state.latest_us) + 1
                customer.state.due_day = max(first_day, brute.midnight_day)
                yield customer

    brute.sweep = all_of_them
    brute.play(items)
    assert lazy.by_customer() == brute.by_customer()
    assert any(change["reason"]["trigger"] == "time" for change in lazy.changes)


def test_many_customers_are_scored_in_parts_without_a_difference(
    random_seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound on rows at once bounds memory, and changes nothing."""
    items = some_log(random_seed, False, *SHORT)
    whole = LocalStream(MODELS["default"]).play(items).by_customer()
    monkeypatch.setattr(timers, "MAX_ROWS", 20)
    assert LocalStream(MODELS["default"]).play(items).by_customer() == whole
