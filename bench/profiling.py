"""What the worker's time is spent on, by py-spy: stacks of a worker at work, counted by the stage that they are in.

A sample belongs to the innermost of its frames that is in a stage's files: what numpy, msgspec or the event loop do on
behalf of a stage is that stage's. Threads that only wait are left out.
"""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import contenders, latency, sweep
from bench.drain import Services, drain, running
from bench.pipeline import Logs, Sizes
from bench.probes import probing
from bench.processes import cpu_s
from bench.report import Cell, Part, Table

RATE_HZ, LOAD_RATE_HZ = 200, 50
"""Stacks a second; fewer under a load, which goes on while the worker stands still to be looked at."""
STOP_S = 60.0
READY_TIMEOUT_S = 600.0
OTHER = "event loop and the rest"
STAGES: Mapping[str, Sequence[str]] = {
    "fetch (aiokafka)": ("aiokafka/consumer/", "aiokafka/record/default_records"),
    "produce, transactions, requests (aiokafka)": (
        "aiokafka/",
        "streams/worker/publisher.py",
        "streams/kafka/transactions.py",
    ),
    "requests to Redis (redis-py)": ("redis/", "streams/state/store.py"),
    "encode and decode states": ("streams/state/codec.py",),
    "write output records": (
        "streams/worker/outputs.py",
        "streams/outbox.py",
        "streams/state/changelog.py",
    ),
    "batches, clocks, turns": ("streams/",),
    "decode and check records": ("schemas/", "enrichment/customer/validation.py"),
    "documents of profiles": ("enrichment/deciding/profile.py", "enrichment/deciding/results.py"),
    "decide, documents of changes": (
        "enrichment/deciding/decider.py",
        "enrichment/deciding/changes.py",
        "enrichment/scoring/standing.py",
        "enrichment/identity.py",
        "enrichment/deciding/drivers.py",
        "enrichment/customer/decision.py",
        "enrichment/deciding/reactivation.py",
        "enrichment/deciding/timers.py",
    ),
    "scores": (
        "enrichment/scoring/scores.py",
        "enrichment/lifetime/lifetime_value.py",
        "enrichment/lifetime/empirical_hazard.py",
    ),
    "features": ("enrichment/scoring/features.py",),
    "records to customers' states, views of them": ("enrichment/",),
}
"""Stage → beginnings of the paths of its files; of several stages that match, the one with the longest counts."""
WAITING = ("_worker (concurrent/futures/thread.py", "select (selectors.py", "wait (threading.py")
"""Innermost frames of threads that wait, where the system says that they run."""
NOTES = """\
{what} Stacks by py-spy, {rate} a second, {samples:,} of them. {cpu_us:,.0f} µs of CPU {each}, of all threads and with
what it costs the worker to be looked at, are divided among the stages by their samples."""


Stacks = Counter[tuple[str, ...]]
"""Stacks, innermost frame last, and how often each was seen."""


class NoSamplesError(RuntimeError):
    """py-spy is not there, or may not look at another process."""


@dataclass(frozen=True)
class Sizing:
    """How much is done while samples are taken."""

    events: int = 100_000
    sweep_customers: int = 200_000
    load: latency.Rates = field(default_factory=latency.Rates)
    load_per_s: float = latency.TARGET_PER_S


def run(services: Services, sizes: Sizes, sizing: Sizing, logs: Logs, say: Callable[[str], None]) -> Part:
    """A drain, a load, and a sweep without one. Where py-spy may not look, the tables are empty and say so."""
    tables = []
    load = f"{sizing.load_per_s:,.0f} events/s"
    for name, profile in (("draining a log", _drained), (load, _loaded), ("a sweep", _swept)):
        title = f"Where the worker's time goes: {name}"
        try:
            tables.append(profile(title, services, sizes, sizing, logs))
        except NoSamplesError as error:
            tables.append(Table(title, ("stage", "share"), [], f"Not measured: {error}"))
        say(title)
    return Part(tables)


def _drained(title: str, services: Services, sizes: Sizes, sizing: Sizing, logs: Logs) -> Table:
    records, found = logs.records[: sizing.events], Stacks()
    with running(contenders.ebbtide("exactly_once"), services, sizes.warm_up) as worker:
        beside = sampling(worker.processes[0].pid, found)
        drained = drain(worker, logs.warm_up, records, sizes.timeout_s, beside)
    what = f"exactly_once, one process, {len(records):,} events."
    return table_of(title, found, drained.worker_cpu_s / len(records) * 1e6, what, "event")


def _loaded(title: str, services: Services, sizes: Sizes, sizing: Sizing, logs: Logs) -> Table:
    found, rates = Stacks(), sizing.load
    with latency.warmed_up(services, logs) as worker:
        before_s = cpu_s(worker.trees)
        options = latency.load_of(rates, sizing.load_per_s)
        with (
            probing(worker.settings, worker.folder, worker.partitions, **options) as probes,
            sampling(worker.processes[0].pid, found, LOAD_RATE_HZ),
        ):
            sent, _ = probes.results(rates.seconds + latency.ANSWER_S)
        used_s = cpu_s(worker.trees) - before_s
    what = f"exactly_once, one process, 8 partitions, {sent.records:,} events in {sent.seconds:.0f} s."
    return table_of(title, found, used_s / sent.records * 1e6, what, "event", LOAD_RATE_HZ)


def _swept(title: str, services: Services, sizes: Sizes, sizing: Sizing, logs: Logs) -> Table:
    options, found = sweep.Options(customers=sizing.sweep_customers), Stacks()
    contender = contenders.ebbtide("exactly_once")
    with running(contender, services, 0, options.partitions, sweep.filling(options)) as worker:
        worker.wait_until_ready(READY_TIMEOUT_S)
        with sampling(worker.processes[0].pid, found):
            before_s = cpu_s(worker.trees)
            due = sweep.watch(worker, options).due
            used_s = cpu_s(worker.trees) - before_s
    what = f"exactly_once, one process, the last {due:,} of {options.customers:,} due customers; nothing else flows."
    return table_of(title, found, used_s / due * 1e6 if due else math.nan, what, "customer")


@contextmanager
def sampling(pid: int, into: Stacks, rate_hz: int = RATE_HZ) -> Iterator[subprocess.Popen[bytes]]:
    """Take samples of a process for the length of the block; raises `NoSamplesError` where that can't be.

    Gives py-spy's own process, which ends before the block does where the other one has ended.
    """
    program = Path(sys.executable).with_name("py-spy")
    if not program.exists():
        raise NoSamplesError(f"{program.name} is not installed")
    with tempfile.TemporaryDirectory(prefix="ebbtide-bench-") as folder:
        out, log = Path(folder) / "stacks", Path(folder) / "log"
        command = [str(program), "record", "--pid", str(pid), "--rate", str(rate_hz)]
        with log.open("wb") as said:
            spy = subprocess.Popen(
                [*command, "--format", "raw", "--output", str(out)], stdout=said, stderr=said
            )
        try:
            yield spy
        finally:
            spy.send_signal(signal.SIGINT)
            try:
                spy.wait(STOP_S)
            finally:
                spy.kill()
        if not out.exists():
            (first, *_) = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""]
            raise NoSamplesError(f"py-spy gave no stacks of process {pid}: {first}")
        into.update(stacks_of(out.read_text(encoding="utf-8").splitlines()))


def stacks_of(lines: Iterable[str]) -> Stacks:
    """py-spy's raw format: frames `function (file:line)` with semicolons, outermost first, a blank, and a number."""
    found = Stacks()
    for line in lines:
        stack, _, number = line.rpartition(" ")
        found[tuple(stack.split(";"))] += int(number)
    return found


def stage_of(stack: Sequence[str]) -> str | None:
    """The stage that a stack is in; None for a thread that waits."""
    if stack[-1].startswith(WAITING):
        return None
    for frame in reversed(stack):
        path = frame.rpartition(" (")[2]
        matches = [
            (len(beginning), stage)
            for stage, beginnings in STAGES.items()
            for beginning in beginnings
            if path.startswith(beginning)
        ]
        if matches:
            return max(matches)[1]
    return OTHER


def table_of(title: str, found: Stacks, cpu_us: float, what: str, each: str, rate_hz: int = RATE_HZ) -> Table:
    """The stages, largest first, with their shares and what that is in microseconds of CPU per event or customer."""
    counts: Counter[str] = Counter()
    for stack, number in found.items():
        if (stage := stage_of(stack)) is not None:
            counts[stage] += number
    samples = counts.total()
    rows: list[list[Cell]] = [
        [stage, f"{100 * number / samples:.0f}%", number / samples * cpu_us]
        for stage, number in counts.most_common()
    ]
    notes = NOTES.format(what=what, rate=rate_hz, samples=samples, cpu_us=cpu_us, each=f"per {each}")
    return Table(title, ("stage", "share", f"µs per {each}"), rows, notes)
