"""Replay by the Python core and by the compiled one: events per CPU second, on one processor.

    python -m bench.cores [EVENTS] [RUNS]

Twice the same work: two months with 6 events per customer, most of whom come for the first time, and a year with 30.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.replay import write_files
from bench.root import ROOT
from bench.workload import Shape, make_workload

CORES: Final = ("python", "compiled")
END_DAY: Final = 20_000
TIMEOUT_S: Final = 3_600.0


def shapes(events: int) -> dict[str, Shape]:
    """The two logs of so many events."""
    return {
        "6 per customer, 60 days": Shape(events, events // 6, 1, END_DAY, is_uniform=True, days=60),
        "30 per customer, 365 days": Shape(events, events // 30, 1, END_DAY, is_uniform=True, days=365),
    }


def main() -> None:
    """Measure as the command line says; the cores take turns, and medians are shown."""
    given = [int(number) for number in sys.argv[1:]]
    events, runs = (*given, *(60_000, 3)[len(given) :])
    for name, shape in shapes(events).items():
        with tempfile.TemporaryDirectory() as folder:
            write_files(make_workload(shape), Path(folder))
            used_s: dict[str, list[float]] = {core: [] for core in CORES}
            for _ in range(runs):
                for core in CORES:
                    used_s[core].append(_replayed(Path(folder), core))
        rates = {core: events / statistics.median(of) for core, of in used_s.items()}
        told = ", ".join(f"{core} {rate:,.0f}" for core, rate in rates.items())
        ratio = rates["compiled"] / rates["python"]
        print(f"{name}: events per CPU second: {told}; {ratio:.1f} ×", flush=True)


def _replayed(folder: Path, core: str) -> float:
    """Seconds of CPU of one replay, by a process of its own."""
    command = [sys.executable, "-m", "bench.replay_once", str(folder), "1", core]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=TIMEOUT_S, check=True)
    return float(json.loads(done.stdout)[1])


if __name__ == "__main__":
    main()
