"""What all partitions of a worker share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from enrichment.model import Model
from streams.kafka.size_limits import SizeLimits
from streams.metrics.metrics import Metrics
from streams.settings import Settings
from streams.worker.clients import Clients
from streams.worker.clock_check import ClockCheck, wall_clock_us
from streams.worker.sweep_pace import SweepPace


@dataclass(frozen=True, slots=True)
class Runtime:
    """Settings, model, clients and clocks of one worker, and what its partitions note and share out among themselves.

    `now_us` gives the time of this machine, in microseconds since the epoch.
    """

    settings: Settings
    model: Model
    clients: Clients
    limits: SizeLimits
    now_us: Callable[[], int]
    clock_check: ClockCheck
    metrics: Metrics
    pace: SweepPace

    @classmethod
    def of(
        cls,
        settings: Settings,
        clients: Clients,
        *,
        model: Model | None = None,
        limits: SizeLimits | None = None,
        now_us: Callable[[], int] | None = None,
        elapsed_us: Callable[[], int] | None = None,
    ) -> Runtime:
        """A runtime by settings and clients; without `model` it is the one that the settings name.

        `elapsed_us` is a clock that nobody can set, which the clock check holds the others against.
        """
        return cls(
            settings,
            settings.load_model() if model is None else model,
            clients,
            limits or SizeLimits(),
            now_us or wall_clock_us,
            ClockCheck(settings.max_clock_skew_s, now_us, elapsed_us),
            Metrics(),
            SweepPace(),
        )
