"""One case: events in, faults in mid-stream, and a verdict of what came out."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from ebbtide.testing.services.ports import lasting_port
from streams.settings import Settings
from tests.faults.progress import Progress
from tests.faults.reader import CommittedReader, Seen
from tests.faults.table import Row
from tests.faults.verdict import Verdict, judge
from tests.faults.workload import Expected, Workload
from tests.integration.damage import admin
from tests.integration.harness import (
    WorkerProcess,
    input_ends,
    make_topics,
    paused,
    produce,
    stored_profiles,
    worker_process,
)

LEAST_BACKLOG_SHARE = 0.02
"""Of all records, how many must still be to come for a fault to be in mid-stream."""
FED_SHARE, FED_AHEAD = 0.05, 3
"""Of all records, how many are put into the inputs at once where a case feeds them, and how often that lies ready."""
PATIENCE_S = 300.0
POLL_S = 0.05

T = TypeVar("T")


class FaultCase:
    """Its `settings` are the workers'; `own_settings`, those of this process, may reach Kafka by another way."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        workload: Workload,
        folder: Path,
        *,
        is_full: bool,
        seed: int,
        reader_servers: str | None = None,
        replication_factor: int = 1,
    ) -> None:
        self.name = name
        self.settings = settings
        servers = reader_servers or settings.kafka_bootstrap_servers
        self.own_settings = settings.model_copy(update={"kafka_bootstrap_servers": servers})
        self.workload = workload
        self.is_full = is_full
        self.random = random.Random(f"{name}/{seed}")
        self.folder = folder
        self.log = folder / "worker.log"
        self.faults = 0
        self.row: Row | None = None
        self.verdict: Verdict | None = None
        self.progress = Progress(self.own_settings, workload.partitions, len(workload.records))
        self._reader = CommittedReader(self.own_settings, workload.partitions)
        self._replication_factor = replication_factor
        self._last_fault_ended_at_s = 0.0
        self._waiting: set[int] = set()
        self._fed: int | None = None
        self._sent: Counter[tuple[str, int]] = Counter()
        self._not_events: Counter[tuple[str, int]] = Counter()

    def choose(self, *, full: T, short: T) -> T:
        """One value for the full form of a case, another for the short one."""
        return full if self.is_full else short

    def begin(self, first: int | None = None, *, feeds: bool = False) -> None:
        """Make the topics, start the reader, and put all events into the inputs, or so many of them.

        With `feeds` they are put there as they are taken, while something is waited for, until `finish`: so they are
        not all taken before the case is through, however fast the workers are beside it.
        """
        asyncio.run(make_topics(self.own_settings, self.workload.partitions, self._replication_factor))
        self._reader.start()
        if feeds:
            self._fed = 0
            self._feed()
        else:
            self.send(0, first)

    def _feed(self, *workers: WorkerProcess) -> None:
        """Put the next portion of the events into the inputs where little is left to take; the last one stays.

        Workers that had nothing left would take the first input's events before older ones of the others.
        """
        total = len(self.workload.records)
        portion = math.ceil(FED_SHARE * total)
        if self._fed is None or self._fed >= total - portion:
            return
        if self._fed - (total - self.progress.backlog()) < FED_AHEAD * portion:
            with all_paused(workers):
                self.send(self._fed, self._fed + portion)
            self._fed += portion

    def send(self, start: int, end: int | None = None) -> None:
        """Put events into the inputs, from one place in the workload up to another or its end."""
        records = self.workload.records[start:end]
        asyncio.run(produce(self.own_settings, records))
        self._sent.update((record.topic, record.partition) for record in records)
        if end is None:
            assert asyncio.run(input_ends(self.own_settings)) == self._ends, "an input holds a record twice"

    def sent_by_others(self, start: int, end: int) -> None:
        """Note that somebody else has put these events into the inputs, and what else has taken offsets there."""
        self._sent.update((record.topic, record.partition) for record in self.workload.records[start:end])
        self._not_events = Counter(asyncio.run(input_ends(self.own_settings)))
        self._not_events.subtract(self._sent)

    def create_output_anew(self, name: str) -> None:
        """Delete an output topic and make it again, empty; the reader goes on at its new beginning."""

        def create() -> None:
            with admin(self.own_settings) as client:
                client.delete_topics([self.own_settings.topic(name)])
            asyncio.run(make_topics(self.own_settings, self.workload.partitions, self._replication_factor))

        self._reader.begin_anew(name, create)

    @contextmanager
    def worker(self, log: Path | None = None) -> Iterator[WorkerProcess]:
        """A worker process on a web port of its own, which does not outlive the block."""
        settings = self.settings.model_copy(update={"web_port": lasting_port()})
        with worker_process(settings, log or self.log) as worker:
            yield worker

    def until(
        self, condition: Callable[[], bool], what: str, *workers: WorkerProcess, poll_s: float = POLL_S
    ) -> None:
        """Wait while the workers live; fail with the end of their logs if it does not come."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            self._feed(*workers)
            for worker in workers:
                assert worker.process.poll() is None, f"ended before: {what}\n{worker.log_text()[-6_000:]}"
            if time.monotonic() > deadline:
                logs = "\n".join(worker.log_text()[-6_000:] for worker in workers)
                said = [worker.readiness() for worker in workers]
                offsets, problem = self.progress.offsets(), self.progress.problem
                at = f"committed {offsets} of {self._ends} (asked: {problem or 'answered'}); workers say {said}"
                raise AssertionError(f"not within {PATIENCE_S:g} s: {what}\n{at}\n{logs}")
            time.sleep(poll_s)

    def until_batches(self, more: int, *workers: WorkerProcess) -> None:
        """Wait until so many more micro-batches are published than at this moment."""
        before = self.progress.batches()
        self.until(lambda: self.progress.batches() >= before + more, f"{more} more micro-batches", *workers)

    def until_backlog(self, share: float, *workers: WorkerProcess) -> None:
        """Wait until no more than this share of all records is still to come."""
        due = share * len(self.workload.records)
        self.until(lambda: self.progress.backlog() <= due, f"a backlog of {due:.0f} records", *workers)

    @property
    def is_mid_stream(self) -> bool:
        """Whether enough records are still to come for a fault to mean something."""
        return self.progress.backlog() >= LEAST_BACKLOG_SHARE * len(self.workload.records)

    @property
    def has_half_to_feed(self) -> bool:
        """Whether half of the events have not been fed yet: of later ones a partition may have none left."""
        return self._fed is None or self._fed <= len(self.workload.records) / 2

    def is_through(self, partition: int) -> bool:
        """Whether a partition has nothing to come any more."""
        offsets = self.progress.offsets()
        return all(
            offsets.get((topic, place), 0) >= end
            for (topic, place), end in self._ends.items()
            if place == partition
        )

    def assert_mid_stream(self) -> None:
        """Fail if a fault now would prove nothing, because the work is done."""
        assert self.is_mid_stream, f"a fault with only {self.progress.backlog()} records to come"

    def seen(self) -> Seen:
        """What the reader saw, of all that is committed by now."""
        self._reader.drain()
        return self._reader.seen

    def injected(self, faults: int = 1) -> None:
        """Count faults that are known to have happened in mid-stream; the last of them ends now."""
        self.faults += faults
        self.fault_ended()

    def fault_ended(self) -> None:
        """Measure the time to recover from this moment, in the partitions that have records to come."""
        self._last_fault_ended_at_s = time.time()
        offsets = self.progress.offsets()
        self._waiting = {
            place for (topic, place), end in self._sent.items() if offsets.get((topic, place), 0) < end
        }

    def logged(self, text: str) -> int:
        """How often a text is in the workers' logs."""
        return sum(log.read_text("utf-8", errors="replace").count(text) for log in self.folder.glob("*.log"))

    def failures(self, partition: int, error: str = "") -> int:
        """How often a partition was taken over again after an error, or after one that says this."""
        lines = [
            line
            for log in self.folder.glob("*.log")
            for line in log.read_text("utf-8", errors="replace").splitlines()
            if f"partition {partition}: " in line and "; taking over again in " in line
        ]
        return sum(error in line for line in lines)

    def failures_due(self, error: str = "", more: int = 1) -> dict[int, int]:
        """How many failures each partition will have once it has failed so often more, by errors that say this.

        To be asked before what they fail by, which a quick partition meets at once.
        """
        return {place: self.failures(place, error) + more for place in range(self.workload.partitions)}

    def until_all_fail(
        self,
        *workers: WorkerProcess,
        error: str = "",
        more: int = 1,
        due: Mapping[int, int] | None = None,
    ) -> None:
        """Wait until every partition has failed so often more, by errors that say this, or as often as was `due`."""
        due = due or self.failures_due(error, more)

        def have_failed() -> bool:
            return all(self.failures(place, error) >= times for place, times in due.items())

        self.until(have_failed, f"{more} more failures of every partition: {error}", *workers)

    def finish(self, *workers: WorkerProcess) -> None:
        """Let these workers, or a new one, publish all that is left, and end them in good order."""
        if not workers:
            with self.worker() as worker:
                self.finish(worker)
            return
        if self._fed is not None:
            with all_paused(workers):
                self.send(self._fed)
            self._fed = None
        self.until(lambda: self.progress.offsets() == self._ends, "the end of the inputs", *workers)
        self.until(lambda: self._are_idle(workers), "idle workers that hold every partition", *workers)
        for worker in workers:
            assert worker.terminate() == 0, worker.log_text()[-6_000:]

    def _are_idle(self, workers: Sequence[WorkerProcess]) -> bool:
        """Whether each partition is held by one of these workers, and idle; some of them may hold none."""
        held = [state for worker in workers for state in worker.partitions().values()]
        return len(held) == self.workload.partitions and all(state["idle"] for state in held)

    def check(self, expected: Expected | None = None) -> None:
        """Compute the verdict, put a row into the table, and fail unless all is well.

        What is expected is what replay says of the workload, unless it is given.
        """
        assert self.progress.offsets() == self._ends, "not all records were taken"
        seen = self.seen()
        expected = expected or self.workload.expected
        stored = asyncio.run(stored_profiles(self.own_settings, expected.end_us))
        self.verdict = judge(expected, seen, stored)
        self.row = Row(
            self.name,
            self.faults,
            len(self.workload.records),
            len(self.verdict.lost),
            len(self.verdict.doubled),
            len(self.verdict.chain_breaks),
            recovered_s(self._last_fault_ended_at_s, [seen.news.get(place, []) for place in self._waiting]),
        )
        assert self.faults > 0, "no fault was injected"
        assert seen.changes, "nothing was published"
        assert self.verdict.is_clean, str(self.verdict)

    def close(self) -> None:
        """Let go of all connections."""
        self._reader.stop()
        self.progress.close()

    @property
    def _ends(self) -> dict[tuple[str, int], int]:
        return {place: end + self._not_events[place] for place, end in self.workload.input_ends.items()}


@contextmanager
def all_paused(workers: Iterable[WorkerProcess]) -> Iterator[None]:
    """Workers that do nothing inside the block."""
    with ExitStack() as pauses:
        for worker in workers:
            pauses.enter_context(paused(worker.process.pid))
        yield


def recovered_s(ended: float, news: Iterable[Sequence[tuple[float, float]]]) -> float | None:
    """From the end of a fault until every partition that published anew had done so; None where none did.

    `news` are, per partition, when records were made and when they were seen.
    """
    first = [min((seen for made, seen in of if made > ended), default=None) for of in news]
    return max((seen - ended for seen in first if seen is not None), default=None)
