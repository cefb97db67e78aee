"""What the outside may know of a partition: where its task is, and what it has done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from streams.checkpoint import Checkpoint
from streams.worker.first_load import LoadProgress


class Status(Enum):
    """Where a partition task is."""

    TAKING_OVER = "taking over"
    LOADING = "loading"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    STOPPED = "stopped"


@dataclass(slots=True)
class PartitionState:
    """What the outside may know of a partition task; `is_tried` once its first recovery has ended, well or not."""

    status: Status = Status.TAKING_OVER
    reason: str = ""
    batches: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    changes: int = 0
    is_idle: bool = False
    is_tried: bool = False
    is_clock_trusted: bool | None = None
    failing_since_s: float | None = None
    """Since when, by the event loop's clock, it fails again and again; None while it does not."""
    checkpoint: Checkpoint | None = None
    loading: LoadProgress | None = None
    """While the first load is under way."""
