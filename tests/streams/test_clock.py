"""Both clocks take runs of records at once; the oracle takes one record after the other (Hypothesis)."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from enrichment.days import DAY_US, day_of, midnight_us
from enrichment.model import load_model
from schemas.events import Engagement, Event
from schemas.rejection import MALFORMED, Rejection
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.settings import Settings
from streams.worker import clock as clocks
from streams.worker.clock import Clock, EventClock, WallClock
from streams.worker.reading.arrived import Arrived
from streams.worker.reading.inputs import Inputs

NOW_US = 2 * DAY_US + 5
MOMENTS_US = [0, 1, 2, DAY_US - 1, DAY_US, DAY_US + 1, 2 * DAY_US, 2 * DAY_US + 1, 3 * DAY_US]
MODEL = load_model()


class Said(NamedTuple):
    """What one generated record says: None is nothing, and a broker without a time."""

    occurred_at_us: int | None
    broker_timestamp_us: int | None
    value_bytes: int


class _Consumer:
    """Knows the end of each input."""

    def __init__(self, end: int) -> None:
        self._end = end

    def last_stable_offset(self, tp: object) -> int:
        return self._end


class _Clients:
    def consumer(self, **settings: Any) -> _Consumer:
        return _Consumer(100)


def arrived(topic: InputTopic, offset: int, said: Said) -> Arrived:
    value = b"x" * said.value_bytes
    record = ConsumerRecord(topic, 0, offset, 0, 1, b"", value, None, 0, len(value), ())
    event: Event | Rejection = (
        Rejection(MALFORMED, "$: nothing")
        if said.occurred_at_us is None
        else Engagement(
            event_id=f"{offset}", customer_id=topic, occurred_at_us=said.occurred_at_us, kind="opened"
        )
    )
    return Arrived(topic, record, event, said.broker_timestamp_us)


def inputs_of(
    log: dict[InputTopic, list[Said]], is_at_end: dict[InputTopic, bool], high_asked_at_us: int
) -> Inputs:
    """Buffers that hold a log, of inputs that reach up to their end or not."""
    inputs = Inputs(Settings(), cast(Any, _Clients()), 0, MODEL)
    for topic, records in log.items():
        inputs.buffers[topic].extend(arrived(topic, at, said) for at, said in enumerate(records))
        inputs._next[topic] = 0
        inputs._fetched[topic] = 100 if is_at_end[topic] else 50
        inputs._ends[topic] = 100
        inputs._high[topic] = 100
    inputs._ends_are_fresh = True
    inputs.high_asked_at_us = high_asked_at_us
    return inputs


def one_by_one(clock: Clock, inputs: Inputs, midnight_day: int, limit: int) -> tuple[int, list[Arrived]]:
    """What a clock takes, by the definition of its order."""
    taken: list[Arrived] = []
    day = midnight_day
    if isinstance(clock, WallClock) and clock._passes(inputs, day + 1, NOW_US):
        day += 1
    while len(taken) < limit and sum(map(bytes_of, taken)) < clocks.TIME_SLICE_BYTES:
        first = (
            first_by_wall(inputs, day)
            if isinstance(clock, WallClock)
            else first_by_events(inputs, day, bool(taken))
        )
        if first is None:
            break
        assert first.event is not None
        if isinstance(clock, EventClock) and not isinstance(first.event, Rejection):
            day = max(day, day_of(first.event.occurred_at_us))
        taken.append(inputs.buffers[first.topic].popleft())
    return day, taken


def first_by_wall(inputs: Inputs, day: int) -> Arrived | None:
    """The first that the broker took, before the next midnight; those without a time came before all others."""
    heads = [(broker_us(head), rank, head) for rank, head in heads_of(inputs) if head]
    first = min(heads, key=lambda ranked: ranked[:2], default=None)
    return first[2] if first is not None and first[0] < midnight_us(day + 1) else None


def first_by_events(inputs: Inputs, day: int, has_taken: bool) -> Arrived | None:
    """The first that occurred, if no input must be waited for; a later day's begins a time slice of its own."""
    best: tuple[int, int, Arrived] | None = None
    for rank, head in heads_of(inputs):
        if head is None or head.event is None:
            if not inputs.is_behind_nothing(INPUT_TOPICS[rank]):
                return None
        elif isinstance(head.event, Rejection):
            return head
        elif best is None or (head.event.occurred_at_us, rank) < best[:2]:
            best = (head.event.occurred_at_us, rank, head)
    if best is None or (has_taken and day_of(best[0]) > day):
        return None
    return best[2]


def heads_of(inputs: Inputs) -> list[tuple[int, Arrived | None]]:
    return [
        (rank, inputs.buffers[topic][0] if inputs.buffers[topic] else None)
        for rank, topic in enumerate(INPUT_TOPICS)
    ]


def broker_us(record: Said | Arrived) -> int:
    return -1 if record.broker_timestamp_us is None else record.broker_timestamp_us


def bytes_of(record: Arrived) -> int:
    return len(record.record.value or b"")


LOGS = st.fixed_dictionaries(
    {
        topic: st.lists(
            st.builds(
                Said,
                st.one_of(st.none(), *[st.sampled_from(MOMENTS_US)] * 4),
                st.one_of(st.none(), *[st.sampled_from(MOMENTS_US)] * 4),
                st.sampled_from([0, 1, 1, 400_000, 1_048_576]),
            ),
            max_size=12,
        )
        for topic in INPUT_TOPICS
    }
)


@given(
    clock=st.sampled_from([WallClock(), EventClock()]),
    log=LOGS,
    in_order=st.booleans(),
    is_at_end=st.fixed_dictionaries({topic: st.booleans() for topic in INPUT_TOPICS}),
    high_asked_at_us=st.sampled_from([-1, DAY_US, NOW_US]),
    limit=st.integers(1, 12),
)
def test_taking_runs_is_taking_record_by_record(
    clock: Clock,
    log: dict[InputTopic, list[Said]],
    in_order: bool,
    is_at_end: dict[InputTopic, bool],
    high_asked_at_us: int,
    limit: int,
) -> None:
    """Time slice after time slice: the same midnights, the same records in the same order, and the same offsets."""
    if in_order:
        log = {topic: sorted(said, key=broker_us) for topic, said in log.items()}
    inputs, oracle = (inputs_of(log, is_at_end, high_asked_at_us) for _ in range(2))
    day = 0 if isinstance(clock, WallClock) else -1
    while True:
        time_slice = clock.take(inputs, day, NOW_US, limit)
        expected_day, expected = one_by_one(clock, oracle, day, limit)
        assert (time_slice.midnight_day, time_slice.arrived) == (expected_day, expected)
        assert time_slice.value_bytes == sum(map(bytes_of, expected))
        assert {topic: list(buffer) for topic, buffer in inputs.buffers.items()} == {
            topic: list(buffer) for topic, buffer in oracle.buffers.items()
        }
        for topic, buffer in inputs.buffers.items():
            assert inputs.offsets[topic] == (buffer[0].record.offset if buffer else len(log[topic]))
        if not time_slice.arrived and time_slice.midnight_day == day:
            break
        day = time_slice.midnight_day
