"""Processes as the system accounts for them: their CPU time and their peak memory, children included."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessTree:
    """A process with all those that it has started."""

    pid: int

    def pids(self) -> list[int]:
        """Those that live, parents first."""
        children: dict[int, list[int]] = {}
        for entry in _PROC.iterdir():
            if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        found = [self.pid]
        for pid in found:
            found += children.get(pid, [])
        return found

    def send(self, number: signal.Signals) -> None:
        """Send a signal to each; those that have ended meanwhile miss nothing."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def cpu_s(self) -> float:
        """Seconds of processor time, of the living and of those who were waited for."""
        ticks = 0
        for pid in self.pids():
            if (fields := _stat(pid)) is not None:
                ticks += sum(map(int, fields[11:15]))
        return ticks / _TICKS_PER_S

    def peak_mib(self) -> float:
        """The most memory that each has had resident, added up."""
        return sum(_peak_kib(pid) for pid in self.pids()) / 1024


def cpu_s(trees: Iterable[ProcessTree]) -> float:
    """Seconds of processor time of several; NaN where there is none to look at, as in a container."""
    seconds = [tree.cpu_s() for tree in trees]
    return sum(seconds) if seconds else float("nan")


def _stat(pid: int) -> list[str] | None:
    """The fields of `/proc/PID/stat` after the name, which may hold blanks; None for a process that is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _peak_kib(pid: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
