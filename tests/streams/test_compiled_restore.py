"""A restore by the compiled core: the states that the Python core makes of the same records, decisions and erasures."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import orjson
import pytest
from aiokafka import ConsumerRecord, TopicPartition

from ebbtide.testing.simulation.record_batches import record_batch
from enrichment.customer.customer import CustomerState
from enrichment.customer.decision import Decision
from enrichment.days import DAY_US, day_of
from enrichment.enricher import Enricher
from enrichment.kernel import DeclinedError, core_of
from enrichment.model import Model
from schemas.timestamps import parse_timestamp
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.checkpoint import Checkpoint, FirstLoad
from streams.kafka.fetched_batch import FetchedBatch
from streams.settings import Settings
from streams.settings.erasure_keys import ErasureKeys
from streams.state.changelog import DecisionTable, Remembered
from streams.state.codec import decode
from streams.worker.compiled_core import CompiledCore
from streams.worker.reading.arrived import record_of
from streams.worker.restoring.compiled_restore import CompiledFold
from streams.worker.restoring.restored_states import Beginnings, Fold, PythonFold
from tests.enrichment.test_compiled_load import HORIZONS, NAMESPACE, comparable, log_of
from tests.oracles.seeded_log import MODEL_OVERRIDES
from tests.streams.test_compiled_replay import model_with

KEYS = ErasureKeys(b"0" * 16, (b"1" * 16,))
GROUP = "group"


@pytest.fixture(autouse=True)
def _built() -> None:
    """Skips where the compiled core is not built."""
    found = core_of("auto")
    if found.compiled is None:
        pytest.skip(found.reason)


class Log:
    """A seeded log as fetched: batches and their records, by topic; and what was decided of its customers."""

    def __init__(self, seed: int, model: Model) -> None:
        self.rng = rng = random.Random(seed)
        self.batches: dict[InputTopic, list[FetchedBatch]] = {topic: [] for topic in INPUT_TOPICS}
        self.ends = dict.fromkeys(INPUT_TOPICS, 0)
        module: Any = core_of("compiled").compiled
        lines = log_of(seed, rng)
        named: dict[str, int] = {}
        at_ms = 0
        for topic in INPUT_TOPICS:
            waiting = [value for own, value in lines if own == topic]
            at_ms = min(map(_occurred_ms, waiting), default=0)
            while waiting:
                part, waiting = waiting[: (size := rng.randint(1, 30))], waiting[size:]
                at_ms = max(at_ms, *map(_occurred_ms, part)) - rng.choice((0, 0, 86_400_000 * 3))
                append_time_ms = rng.choice((at_ms, at_ms, None))
                records = [(_customer_of(value).encode(), value) for value in part]
                data = record_batch(records, base=self.ends[topic], append_time_ms=append_time_ms)
                self.batches[topic].append(
                    FetchedBatch(TopicPartition(topic, 0), module.RecordBatch.read(data), 0)
                )
                self.ends[topic] += len(part) + rng.choice((0, 0, 2))
                for value in part:
                    named[_customer_of(value)] = max(named.get(_customer_of(value), 0), _occurred_ms(value))
        self.newest_day = day_of(max(named.values()) * 1_000)
        self.table = self._decided(named, model)

    def _decided(self, named: dict[str, int], model: Model) -> DecisionTable:
        rng, table = self.rng, DecisionTable(GROUP)
        for customer_id, newest_ms in named.items():
            day, erased_up_to_us = day_of(newest_ms * 1_000), None
            if rng.random() < 0.3:
                erased_up_to_us = newest_ms * 1_000 - rng.choice((-5, 20, 200)) * DAY_US
                as_of_us = rng.choice((None, erased_up_to_us + rng.choice((0, 30)) * DAY_US))
                hashed = rng.choice(KEYS.hashes_of(customer_id))
                table.erased[hashed] = Remembered(rng.randint(1, 3), erased_up_to_us, as_of_us)
            if rng.random() < 0.7:
                table.decisions[customer_id] = Decision(
                    life=rng.randint(0, 2),
                    sequence=rng.randint(0, 9),
                    standing=rng.choice((None, (0, 3, 1), (4, 3, 4))),
                    changed_days=(day, day - 3, day + rng.randint(0, 40)),
                    model=rng.choice((model.fingerprint, "another")),
                    model_day=day - rng.randint(-3, 9),
                    erased_up_to_us=erased_up_to_us,
                )
        return table

    def given(self, *, in_batches: bool) -> dict[InputTopic, list[ConsumerRecord | FetchedBatch]]:
        """What a fetch gives."""
        return {
            topic: [one for fetched in batches for one in ([fetched] if in_batches else _records(fetched))]
            for topic, batches in self.batches.items()
        }


def _records(fetched: FetchedBatch) -> list[ConsumerRecord]:
    return [record_of(fetched.tp, fetched.batch, at) for at in range(len(fetched.batch))]


def _occurred_ms(value: bytes) -> int:
    at = orjson.loads(value).get("occurred_at")
    try:
        return parse_timestamp(at) // 1_000
    except (TypeError, ValueError):
        return 0


def _customer_of(value: bytes) -> str:
    return str(orjson.loads(value).get("customer_id", "?"))


async def fold(log: Log, by: Fold, load: FirstLoad | None, *, in_batches: bool) -> None:
    """Take a log as a restore does: the first load before the rest."""
    given = log.given(in_batches=in_batches)
    for topic in INPUT_TOPICS if load else ():
        await by.take(given[topic], topic, load.ends[topic] if load else 0)
    for topic in INPUT_TOPICS:
        start = load.ends[topic] if load else 0
        rest = [one for one in given[topic] if _end(one) > start]
        if rest and isinstance(rest[0], FetchedBatch):
            rest[0] = rest[0]._replace(first=max(0, rest[0].batch.place_of(start)))
        await by.take(rest, topic, log.ends[topic])


def _end(one: ConsumerRecord | FetchedBatch) -> int:
    return one.batch.offset(len(one.batch) - 1) + 1 if isinstance(one, FetchedBatch) else one.offset + 1


async def check(seed: int, model: Model) -> Counter[str]:
    """Restore a seeded log by both cores; gives how many states there were of which kind."""
    log = Log(seed, model)
    rng = random.Random(seed)
    load = None
    if rng.random() < 0.6:
        ends = {topic: rng.choice((0, end // 2, end)) for topic, end in log.ends.items()}
        load = FirstLoad(
            dict.fromkeys(INPUT_TOPICS, 0), ends, log.newest_day - 30, is_over=rng.random() < 0.5
        )
    clock = rng.choice(("wall", "event"))
    committed = Checkpoint(7, "token", log.newest_day - rng.choice((0, 60)), dict(log.ends), load)
    settings = Settings(group_id=GROUP)
    core = CompiledCore.of(settings, model, NAMESPACE)
    assert core is not None
    own: Any = Beginnings(log.table, KEYS), model, clock, load
    compiled = CompiledFold(core, *own)
    await fold(log, compiled, load, in_batches=True)
    compiled_ids, ids = compiled.known_ids(), sorted(log.table.decisions)
    found = compiled.restored(sorted({*compiled_ids, *ids}), committed)
    python = PythonFold(Enricher(model, NAMESPACE, HORIZONS), *own)
    await fold(log, python, load, in_batches=False)
    assert python.known_ids() == compiled_ids
    assert python.records == compiled.records
    expected = python.restored(sorted({*compiled_ids, *ids}), committed)
    seen: Counter[str] = Counter()
    for made, wanted in zip(found, expected, strict=True):
        assert (made.customer_id, made.due_day) == (wanted.customer_id, wanted.due_day)
        assert states_of(made.state) == states_of(wanted.state), made.customer_id
        seen["undecided" if wanted.due_day == -1 else "decided"] += 1
    seen["erased"] += len(log.table.erased)
    return seen


def states_of(state: bytes) -> CustomerState:
    return comparable(decode(state))


@pytest.mark.parametrize("profiling", ["opt_out", "opt_in"])
@pytest.mark.parametrize("seed", range(6))
async def test_both_cores_restore_the_same_states(seed: int, profiling: str) -> None:
    """With first loads, decisions of before, customers who were erased, times of brokers and of producers."""
    seen = await check(seed, model_with(**{**MODEL_OVERRIDES, "profiling": profiling}))
    assert seen["decided"] > 5


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(100, 200))
async def test_a_hundred_restores(seed: int) -> None:
    """As above."""
    await check(seed, model_with(**MODEL_OVERRIDES))


async def test_a_record_that_does_not_come_in_a_batch_is_for_the_python_core() -> None:
    model = model_with(**MODEL_OVERRIDES)
    log = Log(1, model)
    core = CompiledCore.of(Settings(group_id=GROUP), model, NAMESPACE)
    assert core is not None
    compiled = CompiledFold(core, Beginnings(log.table, KEYS), model, "wall", None)
    with pytest.raises(DeclinedError, match="an unusual batch"):
        await fold(log, compiled, None, in_batches=False)


async def test_what_is_declined_in_the_end_is_finished_by_the_python_core() -> None:
    """A state that it does not take is restored all the same."""
    model = model_with(**MODEL_OVERRIDES)
    log = Log(2, model)
    core = CompiledCore.of(Settings(group_id=GROUP), model, NAMESPACE)
    assert core is not None
    begun = Beginnings(log.table, KEYS)
    committed = Checkpoint(7, "token", log.newest_day, dict(log.ends))
    compiled = CompiledFold(core, begun, model, "wall", None)
    await fold(log, compiled, None, in_batches=True)
    ids = sorted(log.table.decisions)
    expected = compiled.restored(ids, committed)
    damaged = msgspec.structs.replace(log.table.decisions[ids[0]], standing=(9, 9, 9))
    log.table.decisions["c-unknown-standing"] = damaged
    found = compiled.restored([*ids, "c-unknown-standing"], committed)
    assert [states_of(made.state) for made in found[:-1]] == [states_of(made.state) for made in expected]
    assert states_of(found[-1].state).decision.standing == (9, 9, 9)
