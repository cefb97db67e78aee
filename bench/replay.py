"""Replay from files against live, on the same events: both by the time of the events, and live by the wall clock."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from bench import contenders
from bench.contenders import Contender
from bench.drain import Services
from bench.pipeline import Entry, Logs, Sizes, measure
from bench.report import Cell, Part, Table
from bench.root import ROOT
from ebbtide.testing.services.worker import Record
from enrichment.kernel import Wanted
from schemas.topics import INPUT_TOPICS

NOTES = """\
The same {events:,} events. Replay reads three files, puts them into the order of time, and writes its five files, on as
many processors as there are; the start of Python is left out, but for those of the processes that share the work. It is
by the compiled core, where that is built, unless another is named. Live is one process, exactly_once, by the clock of
the events as replay is, with every midnight of two months, and by the wall clock. Medians of {runs} run(s)."""


def run(services: Services, sizes: Sizes, logs: Logs, say: Callable[[str], None]) -> Part:
    """Replay and live in turn."""
    replays: dict[str, tuple[int, Wanted]] = {
        "replay from files": (0, "auto"),
        "replay from files, one process": (1, "auto"),
        "replay from files, Python core": (0, "python"),
    }
    live = {
        "live, event clock": contenders.ebbtide("exactly_once", clock="event"),
        "live, wall clock": contenders.ebbtide("exactly_once"),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in (*replays, *live)}
    with tempfile.TemporaryDirectory(prefix="ebbtide-bench-") as folder:
        write_files(logs.records, Path(folder))
        for _ in range(sizes.runs):
            for name, (processes, core) in replays.items():
                taken[name].append(replayed(Path(folder), sizes.timeout_s, processes, core))
            for name, contender in live.items():
                taken[name].append(_lived(services, sizes, logs, contender))
            say("; ".join(f"{name}: {sizes.events / of[-1][0]:,.0f} events/s" for name, of in taken.items()))
    return _part(sizes, taken)


def write_files(records: Iterable[Record], folder: Path) -> None:
    """One file of lines for each topic."""
    files = {topic: (folder / f"{topic}.jsonl").open("wb") for topic in INPUT_TOPICS}
    for topic, _, value, _ in records:
        files[topic].write((value or b"") + b"\n")
    for file in files.values():
        file.close()


def replayed(
    folder: Path, timeout_s: float, processes: int = 0, core: Wanted = "auto"
) -> tuple[float, float]:
    """Replay the files of a folder by a process of its own and by those that it starts: (seconds, seconds of CPU).

    They are as many as `ebbtide replay` takes for them, if no number is given.
    """
    command = [sys.executable, "-m", "bench.replay_once", str(folder), str(processes), core]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=timeout_s, check=True)
    wall_s, used_s = json.loads(done.stdout)
    return wall_s, used_s


def _lived(services: Services, sizes: Sizes, logs: Logs, contender: Contender) -> tuple[float, float]:
    drained = measure(services, sizes, logs, Entry(contender, sizes.events))
    return drained.wall_s, drained.worker_cpu_s


def _part(sizes: Sizes, taken: dict[str, list[tuple[float, float]]]) -> Part:
    rates: dict[str, float] = {}
    rows: list[list[Cell]] = []
    for name, runs in taken.items():
        wall_s, used_s = sorted(runs)[len(runs) // 2]
        rates[name] = sizes.events / wall_s
        rows.append([name, rates[name], sizes.events / used_s, rates["replay from files"] / rates[name]])
    header = ("", "events/s", "events per CPU s", "replay is faster by ×")
    notes = NOTES.format(events=sizes.events, runs=sizes.runs)
    figures = {
        "replay_events_per_s": rates["replay from files"],
        "replay_vs_live": rates["replay from files"] / rates["live, event clock"],
    }
    return Part([Table("Replay from files", header, rows, notes)], figures)
