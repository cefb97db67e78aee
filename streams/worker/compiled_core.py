"""The compiled core of a worker: made by the settings, fed with records."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from enrichment.kernel import DeclinedError, Exactly, core_of, given_model
from enrichment.model import Model
from schemas.cloudevents import CloudEventHeaders
from schemas.rejection import Rejection
from schemas.topics import INPUT_TOPICS
from streams.kafka.fetched_batch import ReadBatch
from streams.replay.compiled import plain
from streams.settings import Settings
from streams.state.cache import CustomerCache
from streams.state.changelog import decision_headers
from streams.worker.reading.arrived import Arrived, Taken, read

log = logging.getLogger(__name__)

_RANKS: Final = {topic: rank for rank, topic in enumerate(INPUT_TOPICS)}


class PackedState(NamedTuple):
    """A state as `codec.packed` has it; None of a customer of whom nothing is known, an erasure neither.

    `due_day` is the day on which the customer is due, where that may be later than the state says; None where it is not
    known to be, and of a customer of whom nothing but an erasure is known.
    """

    state: bytes | None
    due_day: int | None


@dataclass(slots=True)
class CompiledCore:
    """The compiled core of a worker, and the states that it has read or made lately: what Redis holds, or will.

    `module` is the compiled core, and `compiled` its `Core`, of kernel/src/python/worker.rs.
    """

    module: Any
    compiled: Any
    cache: CustomerCache[PackedState]

    @classmethod
    def of(cls, settings: Settings, model: Model, namespace: str) -> CompiledCore | None:
        """None where the Python core computes: the compiled one is not built, not wanted, or declines the model."""
        module = core_of(settings.core).compiled
        if module is None:
            return None
        exactly = Exactly(model)
        asked = exactly.purchasing, exactly.chance_of_return, exactly.points_of_answer
        try:
            given = given_model(model, namespace, settings.horizons)
            compiled = module.Core(given, model.fingerprint, labels_of(namespace, settings.group_id), *asked)
        except (DeclinedError, module.DeclinedError, OverflowError) as error:
            log.info("the Python core takes all records: %s", error)
            return None
        return cls(module, compiled, CustomerCache(settings.cache_customers))

    @property
    def read_batch(self) -> ReadBatch:
        """Reads a whole batch, for `part`."""
        read: ReadBatch = self.module.RecordBatch.read
        return read

    @property
    def declined(self) -> tuple[type[Exception], ...]:
        """What it raises where the Python core must take something."""
        return DeclinedError, self.module.DeclinedError

    def part(self, records: Taken, model: Model) -> tuple[Any, list[Arrived]]:
        """The records as the core has taken them (`Part` of the same file), and those that are refused."""
        part = self.compiled.part()
        refused: list[Arrived] = []
        for at in _others(part, records):
            arrived = read(records[at], model)
            if isinstance(arrived.event, Rejection):
                refused.append(arrived)
            elif arrived.event is not None:
                part.take_as(at, _RANKS[arrived.topic], plain(arrived.event))
        return part, refused


def _others(part: Any, records: Taken) -> list[int]:
    """Let a part take the records; gives the places of those that are not plainly valid."""
    others: list[int] = []
    single: list[Arrived] = []
    for piece in records.pieces:
        if isinstance(piece, Arrived):
            single.append(piece)
            continue
        others += part.take(list(map(_given, single)))
        single.clear()
        others += part.take_batch(_RANKS[piece.topic], piece.batch, piece.first, piece.end)
    others += part.take(list(map(_given, single)))
    return others


def _given(arrived: Arrived) -> tuple[int, bytes, bytes, int | None]:
    """A record as the compiled core takes it; without a value, so that it leaves it, one that has been refused."""
    record = arrived.record
    value = b"" if isinstance(arrived.event, Rejection) else record.value
    return _RANKS[arrived.topic], record.key or b"", value or b"", arrived.broker_timestamp_us


def labels_of(namespace: str, group_id: str) -> tuple[Any, ...]:
    """What output records have in common, as `Core` takes it."""
    changes, profiles = (
        CloudEventHeaders(topic, namespace) for topic in ("segment-changes", "customer-profiles")
    )
    decisions = list(decision_headers(group_id))
    return namespace, (changes.type, changes.source), (profiles.type, profiles.source), decisions
