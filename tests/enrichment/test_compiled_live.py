"""Records and midnights by the compiled core: what the Python core decides, publishes and stores."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import msgspec
import orjson
import pytest

from enrichment.customer.customer import Customer, CustomerState
from enrichment.customer.decision import Decision
from enrichment.days import day_of
from enrichment.deciding.results import Results
from enrichment.deciding.timers import is_due
from enrichment.enricher import Enricher
from enrichment.kernel import Exactly, core_of, given_model
from enrichment.model import Model
from schemas.decode import decode
from schemas.rejection import Rejection
from schemas.timestamps import parse_timestamp
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.replay.compiled import plain
from streams.state.codec import packed, unpacked
from tests.enrichment.test_compiled_load import HORIZONS, NAMESPACE, RANKS, comparable
from tests.oracles.seeded_log import MODEL_OVERRIDES, make_log
from tests.streams.test_compiled_replay import FAMILIES, model_with, with_family

Line = tuple[InputTopic, bytes]


@pytest.fixture(autouse=True)
def _built() -> None:
    """Skips where the compiled core is not built."""
    found = core_of("auto")
    if found.compiled is None:
        pytest.skip(found.reason)


class Told:
    """What a slice of records, or of midnights, has brought: by customer where the order of customers is nobody's."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.refused: list[str] = []
        self.changes: dict[str, list[bytes]] = {}
        self.triggers: dict[str, list[bytes]] = {}
        self.dropped = 0
        self.profiles: dict[str, list[bytes | None]] = {}
        self.decisions: dict[str, Decision | None] = {}
        self.erased: dict[str, tuple[int, int | None]] = {}
        self.change_counts: Counter[tuple[str, str, str]] = Counter()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Told) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return repr(vars(self))


class BothCores:
    """Both cores side by side, each with the other's states now and then."""

    def __init__(self, model: Model, rng: random.Random) -> None:
        module: Any = core_of("compiled").compiled
        exactly = Exactly(model)
        asked = exactly.purchasing, exactly.chance_of_return, exactly.points_of_answer
        given = given_model(model, NAMESPACE, HORIZONS)
        self.compiled = module.Core(given, model.fingerprint, *asked)
        self.enricher = Enricher(model, NAMESPACE, HORIZONS)
        self.model = model
        self.customers: dict[str, Customer] = {}
        self.states: dict[str, bytes] = {}
        self.due_days: dict[str, int | None] = {}
        self.seen: Counter[str] = Counter()
        self._rng = rng

    def take(self, part: list[Line], midnight_day: int) -> None:
        """Take some records by both, and compare all that came of them."""
        compiled = self._by_compiled(part, midnight_day)
        self._compare(self._by_python(part, midnight_day), compiled)

    def pass_midnight(self, midnight_day: int) -> None:
        """Sweep everybody who is due, by each core's own timers, and compare."""
        compiled_part = self.compiled.part()
        days = self.due_days.items()
        compiled_part.name([name for name, day in days if day is not None and day <= midnight_day])
        compiled = self._live(compiled_part, [], midnight_day)
        results = Results(self.model)
        due = [customer for customer in self.customers.values() if is_due(customer, midnight_day)]
        self.enricher.advance(due, midnight_day, results)
        self._compare(self._told(results), compiled)

    def _compare(self, python: Told, compiled: Told) -> None:
        assert compiled == python
        for name, state in self.states.items():
            assert undated(unpacked(state)) == undated(self.customers[name].state), name
        self.seen.update(outcome for _, outcome in python.outcomes.elements())
        self.seen["triggers"] += sum(map(len, python.triggers.values()))
        self.seen["dropped"] += python.dropped
        self.seen.update(trigger for _, _, trigger in python.change_counts.elements())

    def _by_python(self, part: list[Line], midnight_day: int) -> Told:
        results = Results(self.model)
        read = [decode(topic, value) for topic, value in part]
        events = [event for event in read if not isinstance(event, Rejection)]
        for event in events:
            self.customers.setdefault(event.customer_id, Customer.unknown(event.customer_id, self.model))
        self.enricher.process(events, self.customers, midnight_day, results)
        return self._told(results)

    def _told(self, results: Results) -> Told:
        told = Told()
        told.outcomes += results.outcomes
        told.refused = [why.message for _, why in results.rejected]
        for change in results.changes:
            told.changes.setdefault(change["customer_id"], []).append(orjson.dumps(change))
            told.change_counts[change["dimension"], change["direction"], change["reason"]["trigger"]] += 1
        for trigger in results.triggers:
            told.triggers.setdefault(trigger["customer_id"], []).append(orjson.dumps(trigger))
        told.dropped = results.triggers_dropped
        for name, profile in results.finish().profiles:
            own = told.profiles.setdefault(name, [])
            if profile is not None:
                own.append(orjson.dumps(profile))
            elif None not in own:  # of two ends of a profile in a slice the second says nothing
                own.append(None)
        for name in results.decided:
            customer = self.customers[name]
            told.decisions[name] = msgspec.structs.replace(customer.decision) if customer.is_known else None
        told.erased = {name: (own.life, own.erased_up_to_us) for name, own in results.erased.items()}
        return told

    def _by_compiled(self, part: list[Line], midnight_day: int) -> Told:
        compiled_part = self.compiled.part()
        read = [decode(topic, value) for topic, value in part]
        keys = [b"?" if isinstance(event, Rejection) else event.customer_id.encode() for event in read]
        rows = [(RANKS[topic], key, value, None) for (topic, value), key in zip(part, keys, strict=True)]
        for at in compiled_part.take(rows):
            event = read[at]
            if not isinstance(event, Rejection):
                compiled_part.take_as(at, RANKS[part[at][0]], plain(event))
        return self._live(compiled_part, part, midnight_day)

    def _live(self, compiled_part: Any, part: list[Line], midnight_day: int) -> Told:
        names = compiled_part.customers()
        behind = compiled_part.read([self._state_of(name) for name in names], midnight_day)
        filed = [(at, day) for at in behind if (day := self.due_days.get(names[at])) is not None]
        lived = compiled_part.live(filed, midnight_day)
        told = Told()
        outcomes, changes, triggers, told.dropped, change_counts, after = lived
        told.change_counts = Counter(dict(change_counts))
        for place, outcome, why in outcomes:
            told.outcomes[part[place][0], outcome] += 1
            if why is not None:
                told.refused.append(why)
        for at, change_id, as_of, value, brought_by in changes:
            document = json.loads(value)
            assert (document["change_id"], document["as_of"]) == (change_id, as_of)
            assert document["customer_id"] == names[at]
            event_id = document["reason"]["event_id"]
            assert (brought_by is None) == (event_id is None)
            if brought_by is not None:
                record = json.loads(part[brought_by[0]][1])
                assert record["event_id"] == event_id
                assert parse_timestamp(record["occurred_at"]) == brought_by[1]
            told.changes.setdefault(names[at], []).append(value)
        for value in triggers:
            told.triggers.setdefault(json.loads(value)["customer_id"], []).append(value)
        for at, state, due_day, profile, tombstone_us, decision, erased in after:
            name = names[at]
            self.due_days[name] = due_day
            if state is not None:
                self.states[name] = state
            if tombstone_us is not None:
                told.profiles.setdefault(name, []).append(None)
            if profile is not None:
                as_of, sequence, value = profile
                document = json.loads(value)
                assert (document["as_of"], document["sequence"]) == (as_of, sequence)
                told.profiles.setdefault(name, []).append(value)
            if decision is not None:
                read = msgspec.json.decode(decision, type=Decision) if decision else None
                told.decisions[name] = read
            if erased is not None:
                told.erased[name] = erased
        return told

    def _state_of(self, name: str) -> bytes | None:
        """The state, as either core packs it."""
        if name in self.states and self._rng.random() < 0.2:
            own = self.customers[name].state
            self.due_days[name] = own.due_day
            return packed(own)
        return self.states.get(name)


def undated(state: CustomerState) -> CustomerState:
    """A state without its due day: each core looks ahead in its own way."""
    return msgspec.structs.replace(comparable(state), due_day=None)


def check(seed: int, model: Model) -> Counter[str]:
    """A seeded log by both cores, in slices of any size between midnights; gives what happened how often."""
    rng = random.Random(seed)
    log = make_log(seed)
    dated = []
    for topic in INPUT_TOPICS:
        for record in log[topic]:
            at = record.get("occurred_at")
            at_us = parse_timestamp(at) if isinstance(at, str) else 0
            # Some come late, a few of them very late, and some twice.
            delay_us = int(abs(rng.gauss(0, 1)) * rng.choice((0, 0, 3_600_000_000, 86_400_000_000 * 20)))
            value = json.dumps(record, ensure_ascii=False).encode()
            dated += [(at_us + delay_us, topic, value)] * (1 + (rng.random() < 0.05))
    dated.sort(key=lambda line: line[0])
    both = BothCores(model, rng)
    midnight_day = day_of(dated[0][0])
    waiting: list[Line] = []
    for arrived_us, topic, value in dated:
        if day_of(arrived_us) > midnight_day:
            both.take(waiting, midnight_day)
            waiting = []
            midnight_day = day_of(arrived_us)
            if rng.random() < 0.7:
                both.pass_midnight(midnight_day)
        waiting.append((topic, value))
        if rng.random() < 0.1:
            both.take(waiting, midnight_day)
            waiting = []
    both.take(waiting, midnight_day)
    for _ in range(15):
        midnight_day += rng.randint(1, 20)
        both.pass_midnight(midnight_day)
    return both.seen


@pytest.mark.parametrize("profiling", ["opt_out", "opt_in"])
@pytest.mark.parametrize("seed", range(2))
def test_records_and_midnights_bring_the_same(seed: int, profiling: str) -> None:
    """Of a log with every difficulty that the contract names, which comes late and in disorder."""
    seen = check(seed, model_with(**{**MODEL_OVERRIDES, "profiling": profiling}))
    assert {"accepted", "duplicate", "event", "time"} <= set(seen)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_decides_the_same(name: str) -> None:
    assert check(sum(map(ord, name)), with_family(name))["event"]


def test_everybody_is_looked_at_anew_by_another_model() -> None:
    """As of now, with trigger `model`, before any midnight and any record."""
    rng = random.Random(5)
    first, second = (model_with(**{**MODEL_OVERRIDES, "version": version}) for version in ("1", "2"))
    lines = [
        (topic, json.dumps(record, ensure_ascii=False).encode())
        for topic in INPUT_TOPICS
        for record in make_log(5)[topic]
        if str(record.get("occurred_at")).startswith("20")
    ]
    both, day = BothCores(first, rng), day_of(parse_timestamp("2027-01-01T00:00:00Z"))
    both.take(lines, day)
    other = BothCores(second, rng)
    other.states = both.states
    for name, customer in both.customers.items():
        other.customers[name] = Customer(name, customer.state, second)
        other.due_days[name] = customer.state.due_day
    other.take(lines[-40:], day + 3)
    other.pass_midnight(day + 400)
    assert other.seen["model"]


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(100, 200))
def test_a_hundred_logs(seed: int) -> None:
    check(seed, model_with(**MODEL_OVERRIDES))
