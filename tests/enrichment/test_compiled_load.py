"""The first load by the compiled core: after each part of a log the states of the Python core, and its decisions."""

from __future__ import annotations

import json
import random
from itertools import groupby
from typing import Any

import msgspec
import orjson
import pytest

from ebbtide.testing.simulation.record_batches import record_batch
from enrichment.customer.customer import Customer, CustomerState
from enrichment.customer.decision import Decision
from enrichment.customer.validation import Horizons, Seen
from enrichment.days import DAY_US, day_of
from enrichment.deciding.results import Results
from enrichment.enricher import UNDECIDED_DAY, Enricher
from enrichment.kernel import Exactly, core_of, given_model
from enrichment.model import Model
from schemas.decode import decode
from schemas.events import Event
from schemas.rejection import Rejection
from schemas.timestamps import parse_timestamp
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.outbox import BATCH_BYTES, OutputRecord, unpack_outbox
from streams.replay.compiled import plain
from streams.state.changelog import TOPIC as DECISIONS
from streams.state.changelog import changelog_records, decision_headers
from streams.state.codec import packed, unpacked
from streams.worker.compiled_core import labels_of
from streams.worker.outputs import OutputWriter
from tests.oracles.seeded_log import MODEL_OVERRIDES, make_log
from tests.streams.test_compiled_replay import FAMILIES, model_with, with_family

HORIZONS = Horizons()
RANKS = {topic: rank for rank, topic in enumerate(INPUT_TOPICS)}
NAMESPACE, GROUP = "a test", "a group"


@pytest.fixture(autouse=True)
def _built() -> None:
    """Skips where the compiled core is not built."""
    found = core_of("auto")
    if found.compiled is None:
        pytest.skip(found.reason)


class BothCores:
    """Both cores side by side, each with the other's states now and then."""

    def __init__(self, model: Model, midnight_day: int, rng: random.Random) -> None:
        module: Any = core_of("compiled").compiled
        exactly = Exactly(model)
        asked = exactly.purchasing, exactly.chance_of_return, exactly.points_of_answer
        given = given_model(model, NAMESPACE, HORIZONS)
        self.compiled = module.Core(given, model.fingerprint, labels_of(NAMESPACE, GROUP), *asked)
        self.enricher = Enricher(model, NAMESPACE, HORIZONS)
        self.model = model
        self.midnight_day = midnight_day
        self.customers: dict[str, Customer] = {}
        self.states: dict[str, bytes] = {}
        self.outcomes: set[str] = set()
        self._rng = rng

    def load(self, part: list[tuple[InputTopic, bytes]]) -> None:
        """Take some records by both, and compare what became of each, and every state."""
        taken, events = self._fold(part)
        results = Results(self.model)
        for event in events:
            self.customers.setdefault(event.customer_id, Customer.unknown(event.customer_id, self.model))
        self.enricher.load(events, self.customers, self.midnight_day, results)
        (counts, refused), changed, names, rows = taken
        assert refused == [(rows[at], why.message) for at, why in results.rejected]
        told = {(INPUT_TOPICS[rank], outcome): count for (rank, outcome), count in counts}
        assert told == dict(results.outcomes)
        self.outcomes |= {outcome for _, outcome in told}
        assert sorted(names[at] for at, *_ in changed) == sorted(results.touched)
        for at, state, due_day, erased in changed:
            customer = self.customers[names[at]]
            assert comparable(unpacked(state)) == comparable(customer.state)
            assert due_day == (UNDECIDED_DAY if customer.is_known else None)
            assert (erased is not None) == (customer.id in results.erased)
            if erased is not None:
                assert Decision(life=erased[0], erased_up_to_us=erased[1]) == results.erased[customer.id]
            self.states[customer.id] = state

    def _fold(self, part: list[tuple[InputTopic, bytes]]) -> tuple[Any, list[Event]]:
        fold = self.compiled.part()
        read = {at: decode(topic, value) for at, (topic, value) in enumerate(part)}
        events = {at: event for at, event in read.items() if not isinstance(event, Rejection)}
        keys = [events[at].customer_id.encode() if at in events else b"?" for at in range(len(part))]
        for at in self._take(fold, part, keys):
            if at in events:
                fold.take_as(at, RANKS[part[at][0]], plain(events[at]))
        names = fold.customers()
        states = [self._state_of(name) for name in names]
        outcomes, changed = fold.fold(states, self.midnight_day)
        return (outcomes, changed, names, list(events)), list(events.values())

    def _take(self, fold: Any, part: list[tuple[InputTopic, bytes]], keys: list[bytes]) -> list[int]:
        """One by one, or those of a topic as a batch, of which some are left out at both ends."""
        others: list[int] = []
        module: Any = core_of("compiled").compiled
        for topic, group in groupby(zip(part, keys, strict=True), lambda line: line[0][0]):
            lines = [(key, value) for (_, value), key in group]
            if self._rng.random() < 0.5:
                others += fold.take([(RANKS[topic], key, value, None) for key, value in lines])
                continue
            left_out = [(b"?", b"left out")] * self._rng.randint(0, 2)
            batch = module.RecordBatch.read(record_batch([*left_out, *lines, *left_out]))
            others += fold.take_batch(RANKS[topic], batch, len(left_out), len(left_out) + len(lines))
        return others

    def _state_of(self, name: str) -> bytes | None:
        """The state, as either core packs it."""
        if name in self.states and self._rng.random() < 0.3:
            return packed(self.customers[name].state)
        return self.states.get(name)

    def enter(self) -> None:
        """Decide on everybody by both, and compare all that is stored and published."""
        known = sorted(name for name, customer in self.customers.items() if customer.is_known)
        results = Results(self.model)
        self.enricher.enter([self.customers[name] for name in known], self.midnight_day, results)
        out = self.compiled.outgoing()
        held = [(name, self.states[name]) for name in known]
        entered = self.compiled.enter(held, self.midnight_day, out)
        for name, (changes, state, due_day) in zip(known, entered, strict=True):
            customer = self.customers[name]
            assert changes == customer.decision.sequence
            assert comparable(unpacked(state)) == comparable(customer.state)
            assert due_day == customer.state.due_day
        assert results.changes
        writer = OutputWriter(NAMESPACE)
        records = [writer.change(change) for change in results.changes]
        records += writer.ends(results.finish())
        records += changelog_records(results, {}, GROUP)
        packed_outbox, _, _ = out.finish(BATCH_BYTES)
        assert published(unpack_outbox(packed_outbox)) == published(records)


def published(records: list[OutputRecord]) -> list[OutputRecord]:
    """Records with decisions by customer, in whose order they come by none of the cores."""
    decisions = [record for record in records if record.topic == DECISIONS]
    decided = {
        record.key: None if record.value is None else msgspec.json.decode(record.value)
        for record in decisions
    }
    told = [
        OutputRecord("ebbtide-decisions", key, orjson.dumps(value), decision_headers(GROUP))
        for key, value in sorted(decided.items(), key=lambda item: item[0] or b"")
    ]
    assert all(tuple(map(tuple, record.headers)) == decision_headers(GROUP) for record in decisions)
    return [record for record in records if record.topic != DECISIONS] + told


def comparable(state: CustomerState) -> CustomerState:
    """A state without ids that are remembered no longer: they are dropped now and then, and told again by orders."""
    seen = state.purchases_seen
    from_us = (seen.newest_us or 0) - HORIZONS.purchases_days * DAY_US
    kept = {digest: at_us for digest, at_us in seen.time_us_by_digest.items() if at_us >= from_us}
    return msgspec.structs.replace(state, purchases_seen=Seen(seen.newest_us, kept))


def log_of(seed: int, rng: random.Random) -> list[tuple[InputTopic, bytes]]:
    """A seeded log as a first load takes it: topic after topic, in disorder, with repeats."""
    log = make_log(seed)
    lines: list[tuple[InputTopic, bytes]] = []
    for topic in INPUT_TOPICS:
        values = [json.dumps(record, ensure_ascii=False).encode() for record in log[topic]]
        values += rng.sample(values, len(values) // 10)
        # Near their places, so that most are not too late.
        order = sorted(range(len(values)), key=lambda at: at + rng.gauss(0, len(values) / 20))
        lines += [(topic, values[at]) for at in order]
    return lines


def check(seed: int, model: Model) -> set[str]:
    """Load a seeded log by both cores, in parts of any size; gives what became of its records."""
    rng = random.Random(seed)
    lines = log_of(seed, rng)
    newest_us = max(
        parse_timestamp(at)
        for _, value in lines
        if isinstance(at := json.loads(value).get("occurred_at"), str)
    )
    both = BothCores(model, day_of(newest_us) - rng.choice((0, 20, 200)), rng)
    while lines:
        size = rng.randint(1, 400)
        part, lines = lines[:size], lines[size:]
        both.load(part)
    both.enter()
    return both.outcomes


@pytest.mark.parametrize("profiling", ["opt_out", "opt_in"])
@pytest.mark.parametrize("seed", range(4))
def test_a_load_makes_the_same_states_and_decisions(seed: int, profiling: str) -> None:
    """Of a log with every difficulty that the contract names, in disorder."""
    outcomes = check(seed, model_with(**{**MODEL_OVERRIDES, "profiling": profiling}))
    assert {"accepted", "duplicate"} <= outcomes


@pytest.mark.parametrize("name", FAMILIES)
def test_a_load_decides_the_same_by_every_family(name: str) -> None:
    check(sum(map(ord, name)), with_family(name))


def test_what_is_refused_is_refused_in_the_same_words() -> None:
    """A purchase and an engagement beyond their horizons, and one record that is too late after another was taken."""
    days = ("2025-06-01", "2024-04-26", "2024-04-27", "2026-08-01", "2025-06-02")
    orders = [
        {
            **{"event_id": f"o{at}", "customer_id": "c", "occurred_at": f"{day}T12:00:00Z", "kind": "order"},
            **{"order_id": f"o{at}", "currency": "USD", "total": "1"},
        }
        for at, day in enumerate(days)
    ]
    touches = [
        {"event_id": f"e{at}", "customer_id": "c", "occurred_at": f"{day}T12:00:00.25Z", "kind": "opened"}
        for at, day in enumerate(("2025-06-01", "2025-05-02", "2025-05-01"))
    ]
    part: list[tuple[InputTopic, bytes]] = [("purchases", orjson.dumps(order)) for order in orders]
    part += [("engagements", orjson.dumps(touch)) for touch in touches]
    both = BothCores(model_with(), day_of(parse_timestamp("2026-09-01T00:00:00Z")), random.Random(1))
    both.load(part)
    assert both.outcomes == {"accepted", "dead_letter"}


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(100, 200))
def test_a_hundred_loads(seed: int) -> None:
    check(seed, model_with(**MODEL_OVERRIDES))
