"""The first load: what lies in a partition's inputs when it begins by the wall clock.

Its records are folded without deciding: consents, then purchases, then engagements, each up to the offset noted at the
start. Then everybody known is decided on once. Later records and midnights wait until that is done. Each of its batches
is like any other: persisted, then published; so a crash costs the micro-batch that was under way, no more.
"""

from __future__ import annotations

import asyncio
import logging

from schemas.topics import INPUT_TOPICS
from streams.checkpoint import Checkpoint, FirstLoad
from streams.worker.reading.inputs import Inputs
from streams.worker.reading.waiting import Piece

log = logging.getLogger(__name__)

FETCH_TIMEOUT_MS = 200
DECISION_RECORDS = 5
"""About how many records are folded in the time that a decision on one customer takes."""
LOG_EVERY_S = 30.0


async def next_records(inputs: Inputs, load: FirstLoad, most: int) -> list[Piece]:
    """The next records of the load, all of one input: at most so many.

    Empty where all have been taken, or where none came in time.
    """
    for topic in INPUT_TOPICS:
        end, is_in_vain = load.ends[topic], False
        while True:
            records = inputs.take_before(topic, end, most)
            if records:
                return records
            if inputs.offsets[topic] >= end:
                break
            if is_in_vain:
                return []
            is_in_vain = not await inputs.fill(FETCH_TIMEOUT_MS, (topic,))
    return []


class LoadProgress:
    """How far a partition's first load has come, and how long the rest of it will take at the pace so far.

    A decision on a customer counts as `DECISION_RECORDS` records; how many customers there are is known when all
    records have been folded, so before that the share is a little too high.
    """

    def __init__(self, partition: int) -> None:
        self.share = 0.0
        self.seconds_left: float | None = None
        self._partition = partition
        self._started_s = self._told_s = asyncio.get_running_loop().time()
        self._done_at_start: float | None = None

    def note(self, checkpoint: Checkpoint, customers: int, undecided: int) -> None:
        """The load has come to `checkpoint`; so many customers are known, of whom so many have not been decided on."""
        load = checkpoint.load
        assert load is not None
        done = load.records_before(checkpoint.offsets)
        total = load.records + DECISION_RECORDS * customers
        done += DECISION_RECORDS * (customers - undecided)
        self.share = done / total if total else 1.0
        now_s = asyncio.get_running_loop().time()
        if self._done_at_start is None:
            self._done_at_start = done
            log.info("partition %d: first load of %d records: %s", self._partition, load.records, self)
        elif done > self._done_at_start:
            elapsed_s = now_s - self._started_s
            self.seconds_left = elapsed_s * (total - done) / (done - self._done_at_start)
        if now_s - self._told_s >= LOG_EVERY_S:
            self._told_s = now_s
            log.info("partition %d: %s", self._partition, self)

    def __str__(self) -> str:
        """Such as `42% loaded, about 3 min left`."""
        said = f"{self.share:.0%} loaded"
        if self.seconds_left is None:
            return said
        minutes = self.seconds_left / 60
        return f"{said}, about {f'{minutes:.0f} min' if minutes >= 1 else f'{self.seconds_left:.0f} s'} left"
