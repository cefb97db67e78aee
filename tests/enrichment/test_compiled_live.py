"""Records and midnights by the compiled core: what the Python core decides, publishes and stores."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import msgspec
import orjson
import pytest
from aiokafka.record.memory_records import MemoryRecords

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
from streams.kafka.written_batch import WrittenBatch
from streams.outbox import OutputRecord, unpack_outbox
from streams.replay.compiled import plain
from streams.state.changelog import TOPIC as DECISIONS
from streams.state.changelog import decision_headers
from streams.state.codec import packed, unpacked
from streams.worker.compiled_core import labels_of
from streams.worker.outputs import OutputWriter
from tests.enrichment.test_compiled_load import GROUP, HORIZONS, NAMESPACE, RANKS, comparable
from tests.oracles.seeded_log import MODEL_OVERRIDES, make_log
from tests.streams.test_compiled_replay import FAMILIES, model_with, with_family

Line = tuple[InputTopic, bytes]
LONG_AFTER_US = parse_timestamp("2200-01-01T00:00:00Z")
"""When a broker takes the first record of a slice; so each of them can be told by its stamp."""


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
        self.changes: dict[str, list[OutputRecord]] = {}
        self.triggers: dict[str, list[bytes]] = {}
        self.dropped = 0
        self.profiles: dict[str, list[OutputRecord | None]] = {}
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
        self.compiled = module.Core(given, model.fingerprint, labels_of(NAMESPACE, GROUP), *asked)
        self.writer = OutputWriter(NAMESPACE)
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
            told.changes.setdefault(change["customer_id"], []).append(self.writer.change(change))
            told.change_counts[change["dimension"], change["direction"], change["reason"]["trigger"]] += 1
        for trigger in results.triggers:
            told.triggers.setdefault(trigger["customer_id"], []).append(orjson.dumps(trigger))
        told.dropped = results.triggers_dropped
        for name, profile in results.finish().profiles:
            own = told.profiles.setdefault(name, [])
            if profile is not None:
                own.append(self.writer.profile(profile))
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
        rows = [
            (RANKS[topic], key, value, LONG_AFTER_US + at)
            for at, ((topic, value), key) in enumerate(zip(part, keys, strict=True))
        ]
        for at in compiled_part.take(rows):
            event = read[at]
            if not isinstance(event, Rejection):
                compiled_part.take_as(at, RANKS[part[at][0]], plain(event))
        return self._live(compiled_part, part, midnight_day)

    def _live(self, compiled_part: Any, part: list[Line], midnight_day: int) -> Told:
        names = compiled_part.customers()
        behind = compiled_part.read([self._state_of(name) for name in names], midnight_day)
        filed = [(at, day) for at in behind if (day := self.due_days.get(names[at])) is not None]
        out = self.compiled.outgoing()
        outcomes, brought, triggers, dropped, changed, after = compiled_part.live(filed, midnight_day, out)
        told = Told()
        told.dropped, told.change_counts = dropped, Counter(dict(changed))
        counts, refused = outcomes
        told.outcomes = Counter({(INPUT_TOPICS[rank], outcome): count for (rank, outcome), count in counts})
        told.refused = [why for _, why in refused]
        for value in triggers:
            told.triggers.setdefault(json.loads(value)["customer_id"], []).append(value)
        for at, state, due_day, tombstone_us, erased in after:
            name = names[at]
            self.due_days[name] = due_day
            if state is not None:
                self.states[name] = state
            if tombstone_us is not None:
                told.profiles.setdefault(name, []).append(None)
            if erased is not None:
                told.erased[name] = erased
        self._note_published(told, out)
        records = [json.loads(part[stamped_us - LONG_AFTER_US][1]) for stamped_us, _ in brought]
        assert [parse_timestamp(record["occurred_at"]) for record in records] == [at for _, at in brought]
        changes = [json.loads(change.value or b"") for own in told.changes.values() for change in own]
        causes = {(change["customer_id"], change["reason"]["event_id"]) for change in changes}
        by_records = {(name, event_id) for name, event_id in causes if event_id is not None}
        assert {(record["customer_id"], record["event_id"]) for record in records} == by_records
        return told

    def _note_published(self, told: Told, out: Any) -> None:
        """What goes to Redis' outbox, which is what goes to Kafka."""
        packed_outbox, batches, of_topics = out.finish(20_000)
        records = unpack_outbox(packed_outbox)
        for topic, count, largest in of_topics:
            own = [record for record in records if record.topic == topic]
            assert (len(own), max(record.size_bytes for record in own)) == (count, largest)
            sent = [
                read
                for name, number, written in batches
                if name == topic
                for read in read_batch(written, number)
            ]
            assert sent == [(record.key, record.value, record.headers) for record in own]
        for record in records:
            assert record.key is not None
            name = record.key.decode()
            if record.topic == "segment-changes":
                told.changes.setdefault(name, []).append(record)
            elif record.topic == "customer-profiles":
                told.profiles.setdefault(name, []).append(record)
            else:
                assert (record.topic, record.headers) == (DECISIONS, decision_headers(GROUP))
                read = None if record.value is None else msgspec.json.decode(record.value, type=Decision)
                told.decisions[name] = read

    def _state_of(self, name: str) -> bytes | None:
        """The state, as either core packs it."""
        if name in self.states and self._rng.random() < 0.2:
            own = self.customers[name].state
            self.due_days[name] = own.due_day
            return packed(own)
        return self.states.get(name)


def read_batch(
    written: bytes, count: int
) -> list[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]]:
    """The records as aiokafka reads them from a batch that was sent."""
    built = WrittenBatch(written, count, is_transactional=True)
    built._set_producer_state(7, 1, 3)
    (batch,) = [MemoryRecords(bytes(built._build())).next_batch()]
    assert batch.validate_crc()
    return [(record.key, record.value, tuple(record.headers)) for record in batch]


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
