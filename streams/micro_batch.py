"""A micro-batch of a partition, as it is written to Redis and then to Kafka."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from streams.checkpoint import Checkpoint, Skipped
from streams.outbox import Outbox


class StoredState(NamedTuple):
    """One customer's state as stored. Empty bytes delete it; without a due day the customer leaves the timer index."""

    customer_id: str
    state: bytes
    due_day: int | None


@dataclass(slots=True)
class MicroBatch:
    """Everything that changes from `before` to `after`: persisted in one script, published in one transaction."""

    before: Checkpoint
    after: Checkpoint
    model: str
    states: list[StoredState] = field(default_factory=list)
    rescheduled: list[tuple[str, int]] = field(default_factory=list)
    """Customers of whom nothing changes but the day on which they are due: (id, day)."""
    erased: list[tuple[str, bytes]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    obeys_request: bool = False
    """Whether the micro-batch skips what `ebbtide skip` asked for."""
    outbox: Outbox = field(default_factory=list)
    is_everyone_due: bool = False
