"""What must hold after every run, whatever went wrong: computed from the logs, Redis, and a replay of the inputs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import orjson
from aiokafka import TopicPartition

from ebbtide.testing.simulation.clients import Servers, SimulatedRedis, Wires
from ebbtide.testing.simulation.kafka import Entry
from ebbtide.testing.simulation.process import Network, NoFaults, Process
from enrichment.customer.customer import Customer
from enrichment.customer.decision import Decision
from enrichment.days import format_time, midnight_us
from enrichment.enricher import Enricher
from enrichment.model import Model
from schemas.timestamps import parse_timestamp
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.checkpoint import Checkpoint
from streams.kafka.committed_checkpoint import checkpoint_of
from streams.replay.replay import NAMESPACE, Replayed, replay
from streams.state.changelog import DecisionTable
from streams.state.keys import PartitionKeys
from streams.state.store import StateStore
from tests.integration.harness import Document, aggregates, check_sequences
from tests.simulation.world import PARTITIONS, Outcome

UNNOTICED_US = 6 * 3_600 * 1_000_000
"""By how much a clock that was turned may be off unnoticed: the skew allowed, and the time Kafka's answer takes here,
where an hour passes in a fraction of a second."""


def violations(outcome: Outcome) -> list[str]:
    """What does not hold; nothing, if all is well."""
    if outcome.unfinished:
        return [f"unfinished: {said}" for said in outcome.unfinished]
    if outcome.stopped:
        return [f"stopped: {said}" for said in outcome.stopped.values()]
    view = _View(outcome)
    checks: tuple[Callable[[_View], Iterator[str]], ...] = (
        _micro_batches_follow_each_other,
        _midnights_come_behind_their_backlog,
        _changes_form_chains,
        _triggers_come_once,
        _each_bad_record_is_a_dead_letter_once,
        _what_is_stored_is_what_was_published,
        _each_event_counts_once,
        _by_the_event_clock_changes_are_those_of_replay,
        _a_first_load_puts_everyone_where_the_plain_rules_do,
    )
    return [f"{check.__name__[1:].replace('_', ' ')}: {said}" for check in checks for said in check(view)]


class _View:
    """A run's outcome as its readers see it."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.checkpoints: list[list[tuple[Checkpoint, int]]] = [
            list(self._checkpoints(p)) for p in range(PARTITIONS)
        ]
        self.stored: list[dict[str, Customer]] = [
            asyncio.run(_stored(outcome, partition)) for partition in range(PARTITIONS)
        ]
        values = [(record.topic, record.value) for record in outcome.inputs if not record.is_poison]
        self.oracle: Replayed = replay(((t, v) for t, v in values if v is not None), outcome.model)

    def entries(self, name: str, partition: int) -> list[Entry]:
        return self.outcome.kafka.logs[
            TopicPartition(self.outcome.settings.topic(name), partition)
        ].committed()

    def documents(self, name: str, partition: int) -> list[Document]:
        return [orjson.loads(entry.value) for entry in self.entries(name, partition) if entry.value]

    def end_us(self, partition: int) -> int:
        """Up to where the partition's midnights have passed."""
        return midnight_us(self.checkpoints[partition][-1][0].midnight_day + 1)

    def _checkpoints(self, partition: int) -> Iterator[tuple[Checkpoint, int]]:
        """What each committed transaction says of the partition, and when."""
        settings = self.outcome.settings
        tps = {topic: TopicPartition(settings.topic(topic), partition) for topic in INPUT_TOPICS}
        for commit in self.outcome.kafka.commits:
            found = {topic: commit.offsets.get(tp) for topic, tp in tps.items()}
            checkpoint = checkpoint_of(found, settings.group_id, partition)
            if checkpoint is not None:
                yield checkpoint, commit.at_us


async def _stored(outcome: Outcome, partition: int) -> dict[str, Customer]:
    """Every customer that Redis holds, read as `ebbtide profiles` would."""
    rng = Random(0)
    process = Process("reader", rng, Network(delay_s=0), NoFaults())
    wires = Wires(process, outcome.kafka, outcome.redis, rng, Servers())
    keys = PartitionKeys.of(outcome.settings, partition)
    store = StateStore(SimulatedRedis(wires, lambda: 0), keys, outcome.model, outcome.settings.erasure_keys)
    return await store.load(await store.all_ids())


def _micro_batches_follow_each_other(view: _View) -> Iterator[str]:
    """Each transaction is the micro-batch after the one before, and goes back behind no offset and no midnight."""
    for partition, said in enumerate(view.checkpoints):
        batches = [checkpoint.batch_id for checkpoint, _ in said]
        if batches != list(range(len(batches))):
            yield f"partition {partition}: micro-batches {batches}"
        for (before, _), (after, _) in pairwise(said):
            if after.midnight_day < before.midnight_day or any(
                after.offsets[topic] < before.offsets[topic] for topic in INPUT_TOPICS
            ):
                yield f"partition {partition}: {after} after {before}"
    numbers = {commit.number for commit in view.outcome.kafka.commits if commit.offsets}
    inputs = {view.outcome.settings.topic(topic) for topic in INPUT_TOPICS}
    for tp, log in view.outcome.kafka.logs.items():
        if tp.topic in inputs:
            continue  # others write there, some of them in transactions
        alone = {entry.transaction for entry in log.committed()} - numbers - {None}
        if alone:
            yield f"{tp}: records without offsets"


def _midnights_come_behind_their_backlog(view: _View) -> Iterator[str]:
    """By the wall clock, none passes before its time, nor before the records that the broker took until then."""
    if view.outcome.scenario.clock == "event":
        return
    unnoticed_us = UNNOTICED_US if "turn_clock" in view.outcome.faults else 0
    for partition, said in enumerate(view.checkpoints):
        for (before, _), (after, at_us) in pairwise(said):
            if after.midnight_day == before.midnight_day:
                continue
            passed_us = midnight_us(after.midnight_day)
            if passed_us > at_us + unnoticed_us:
                yield f"partition {partition}: {after} passes a midnight too early"
            for topic in INPUT_TOPICS:
                late = [
                    entry.offset
                    for entry in view.entries(topic, partition)
                    if entry.timestamp_ms * 1_000 < passed_us - unnoticed_us
                    and entry.offset >= after.offsets[topic]
                ]
                if late:
                    yield f"partition {partition}: {after} passes a midnight before {topic} {late}"


def _changes_form_chains(view: _View) -> Iterator[str]:
    for partition in range(PARTITIONS):
        try:
            check_sequences(view.documents("segment-changes", partition))
        except AssertionError as error:
            yield f"partition {partition}: {str(error)[:300]}"


def _triggers_come_once(view: _View) -> Iterator[str]:
    ids = [
        trigger["trigger_id"]
        for partition in range(PARTITIONS)
        for trigger in view.documents("reactivation-triggers", partition)
    ]
    yield from (f"{name} came {count} times" for name, count in Counter(ids).items() if count > 1)


def _each_bad_record_is_a_dead_letter_once(view: _View) -> Iterator[str]:
    for partition in range(PARTITIONS):
        bad = Counter(
            (entry.key, entry.value)
            for topic in INPUT_TOPICS
            for entry in view.entries(topic, partition)
            if entry.key == b"poison"
        )
        letters = Counter((letter.key, letter.value) for letter in view.entries("dead-letters", partition))
        if bad != letters:
            yield f"partition {partition}: {letters} for {bad}"


def _what_is_stored_is_what_was_published(view: _View) -> Iterator[str]:
    """Standing and sequence in Redis are those of the last change; `ebbtide-decisions` holds the same decisions."""
    outcome = view.outcome
    enricher = Enricher(outcome.model, NAMESPACE, outcome.settings.horizons)
    for partition, stored in enumerate(view.stored):
        last: dict[tuple[str, int], dict[str, Any]] = {}
        for change in view.documents("segment-changes", partition):
            of = last.setdefault((change["customer_id"], change["life"]), {})
            of[change["dimension"]] = change["current"]
            of["sequence"] = change["sequence"]
        table = DecisionTable(outcome.settings.group_id)
        for entry in view.entries("ebbtide-decisions", partition):
            table.put(entry.key or b"", entry.value, entry.headers)
        known = {name: customer for name, customer in stored.items() if customer.is_known}
        if known.keys() != table.decisions.keys():
            yield f"partition {partition}: {sorted(known.keys() ^ table.decisions.keys())} are known on one side"
        profiles = enricher.profiles(list(known.values()), [view.oracle.end_us] * len(known))
        for (name, customer), profile in zip(known.items(), profiles, strict=True):
            said = dict(last.get((name, customer.decision.life), {}))
            if said.pop("sequence", 0) != customer.decision.sequence:
                yield f"{name}: the stored sequence is {customer.decision.sequence}"
            standing: Any = profile["standing"]
            if {key: value for key, value in standing.items() if value is not None} != {
                key: value for key, value in said.items() if value is not None
            }:
                yield f"{name}: stored {standing}, published {said}"
            if _packed(customer.decision) != _packed(table.decisions.get(name)):
                yield f"{name}: stored {customer.decision}, published {table.decisions.get(name)}"


def _packed(decision: Decision | None) -> bytes:
    return msgspec.json.encode(decision)


def _each_event_counts_once(view: _View) -> Iterator[str]:
    """The aggregates of every customer are those of the inputs, each record of them taken once.

    By the wall clock the inputs are not merged: whether engagement is kept depends on which came first, it or a word on
    profiling. Customers with such a word are left out there.
    """
    outcome = view.outcome
    guarded = _who_has_a_say(outcome) if outcome.scenario.clock == "wall" else set()
    enricher = Enricher(outcome.model, NAMESPACE, outcome.settings.horizons)
    customers = [customer for stored in view.stored for customer in stored.values() if customer.is_known]
    found = _plain(enricher.profiles(customers, [view.oracle.end_us] * len(customers)))
    expected = _plain(view.oracle.profiles)
    if (found.keys() ^ expected.keys()) - guarded:
        yield f"customers {sorted(found.keys() ^ expected.keys())}"
    for name in sorted((found.keys() & expected.keys()) - guarded):
        if found[name] != expected[name]:
            yield f"{name}: {_difference(found[name], expected[name])}"


def _by_the_event_clock_changes_are_those_of_replay(view: _View) -> Iterator[str]:
    """From inputs in order, up to each partition's last midnight, ids included."""
    scenario = view.outcome.scenario
    if scenario.clock == "wall" or not scenario.is_ordered:
        return
    partition_of = {
        (record.key or b"").decode(): record.partition
        for record in view.outcome.inputs
        if not record.is_poison
    }

    def happened(documents: Sequence[Any], key: str) -> dict[str, Document]:
        return {
            document[key]: orjson.loads(orjson.dumps(document))
            for document in documents
            if parse_timestamp(document["as_of"]) < view.end_us(partition_of[document["customer_id"]])
        }

    for name, key, made in (
        ("segment-changes", "change_id", view.oracle.results.changes),
        ("reactivation-triggers", "trigger_id", view.oracle.results.triggers),
    ):
        published = [entry for partition in range(PARTITIONS) for entry in view.documents(name, partition)]
        found, expected = happened(published, key), happened(made, key)
        if found != expected:
            lost, more = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
            yield f"{name}: {len(lost)} lost, {len(more)} too many, of {len(expected)}: {(lost + more)[:3]}"


def _a_first_load_puts_everyone_where_the_plain_rules_do(view: _View) -> Iterator[str]:
    """Once, in all dimensions, and whatever else came first of those records, or was done to the worker.

    The oracle is replay, which takes records by their dates, as the plain rules go. Customers with a word on profiling
    are left out: what is then deleted depends on what came first.
    """
    outcome = view.outcome
    has_said = {
        consent["customer_id"] for consent in _consents(outcome) if consent.get("purpose") == "profiling"
    }
    for partition in range(PARTITIONS):
        found: dict[str, dict[str, Any]] = {}
        for change in view.documents("segment-changes", partition):
            if change["reason"]["trigger"] == "load":
                place = {"as_of": change["as_of"], "life": change["life"]}
                found.setdefault(change["customer_id"], place)[change["dimension"]] = change["current"]
        expected = _placed_by_plain_rules(view, partition)
        for name in sorted((found.keys() | expected.keys()) - has_said):
            if found.get(name) != expected.get(name):
                yield f"{name}: {found.get(name)} for {expected.get(name)}"


def _placed_by_plain_rules(view: _View, partition: int) -> dict[str, dict[str, Any]]:
    """Where everyone is put of whom the records of the first load tell: each replayed alone, without hysteresis."""
    load = view.checkpoints[partition][0][0].load
    if load is None:
        return {}
    outcome = view.outcome
    hysteresis = {"score_margin": 0, "churn_risk_margin": 0, "dwell_days": 0}
    model = Model.model_validate({**outcome.model.model_dump(mode="json"), "hysteresis": hysteresis})
    poison = {record.value for record in outcome.inputs if record.is_poison}
    by_customer: dict[str, list[tuple[InputTopic, bytes]]] = {}
    for topic in INPUT_TOPICS:
        for entry in view.entries(topic, partition):
            if entry.offset < load.ends[topic] and entry.value is not None and entry.value not in poison:
                by_customer.setdefault((entry.key or b"").decode(), []).append((topic, entry.value))
    placed = {}
    for name, values in by_customer.items():
        customer = replay(iter(values), model).customers[name]
        if customer.is_known:
            as_of_us = customer.as_of_us(midnight_us(load.midnight_day))
            (profile,) = replay(iter(values), model, as_of_us).profiles
            standing = profile["standing"]
            assert isinstance(standing, dict)
            placed[name] = {"as_of": format_time(as_of_us), "life": customer.decision.life, **standing}
    return placed


def _consents(outcome: Outcome) -> list[Document]:
    return [
        orjson.loads(record.value or b"")
        for record in outcome.inputs
        if record.topic == "consents" and not record.is_poison
    ]


def _who_has_a_say(outcome: Outcome) -> set[str]:
    """Customers with an erasure, or a consent or denial of profiling."""
    said = [c for c in _consents(outcome) if c["kind"] == "erasure" or c.get("purpose") == "profiling"]
    return {consent["customer_id"] for consent in said}


def _plain(profiles: Sequence[Any]) -> dict[str, Any]:
    plain: dict[str, Any] = orjson.loads(orjson.dumps(aggregates(profiles)))
    return plain


def _difference(found: Any, expected: Any) -> str:
    pairs = [
        f"{part}.{key} {found[part].get(key)} for {value}"
        for part in expected
        for key, value in expected[part].items()
        if found[part].get(key) != value
    ]
    return ", ".join(pairs)[:300]
