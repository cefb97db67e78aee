"""A replay by several processes: each takes the records of customers of its own, since none depends on another."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, NamedTuple

from enrichment.customer.validation import Horizons
from enrichment.model import Model
from schemas.decode import decode
from schemas.rejection import Rejection
from schemas.topics import INPUT_TOPICS
from streams.console.progress import Report
from streams.errors import EbbtideError
from streams.garbage import expect_long_lives
from streams.replay.log import Dated, Line, ReplayLog
from streams.replay.parts import Part, write_part
from streams.replay.replay import replay_ordered

LOOK_S: Final = 0.2
"""How often is looked how far all have come."""
_SHARE, _OUTCOME = "share", "outcome"


class Rules(NamedTuple):
    """What is the same for all; `end_us` is the time that every profile is as of."""

    model: Model
    end_us: int
    horizons: Horizons | None


def replay_in_shares(
    log: ReplayLog, folder: Path, processes: int, rules: Rules, report: Report | None
) -> list[Part]:
    """What each of so many processes makes of its share, in folders of this one. The log's records are let go.

    Raises:
        EbbtideError: A process ended before its work was done.
        OSError: There is no room for the files.
    """
    folders = [folder / str(number) for number in range(processes)]
    files = _write_shares(log.records, folders)
    records = len(log.records)
    log.records = []
    # Not a fork: libraries may have threads, and other systems than Linux have none.
    context = multiprocessing.get_context("spawn")
    taken = [context.Value("q", 0, lock=False) for _ in folders]
    running: list[BaseProcess] = [
        context.Process(target=_work, args=(own, files, rules, of_own))
        for own, of_own in zip(folders, taken, strict=True)
    ]
    parts: dict[Path, Part] = {}
    try:
        for process in running:
            _start(process)
        while len(parts) < processes:
            at_work = {own: one for own, one in zip(folders, running, strict=True) if own not in parts}
            wait([process.sentinel for process in at_work.values()], LOOK_S)
            for own, process in at_work.items():
                if process.exitcode is not None:
                    parts[own] = _outcome_of(own, process.exitcode)
            if report is not None:
                report(sum(of_one.value for of_one in taken), records)
    finally:
        for process in running:
            if process.pid is not None:
                process.terminate()
                process.join()
    return [parts[own] for own in folders]


def _start(process: BaseProcess) -> None:
    """Interrupts are for this process: the other inherits that they are held back, and one that comes now waits.

    Starting the first process would also start a tracker of resources, and then hold nothing back any more.
    """
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _outcome_of(folder: Path, exit_code: int) -> Part:
    """What a process that has ended made; raises the error that it ended by."""
    if exit_code:
        raise EbbtideError(
            f"a process of the replay ended before its work was done (exit code {exit_code}); "
            "where memory is short, try --processes 1"
        )
    found = pickle.loads((folder / _OUTCOME).read_bytes())
    if isinstance(found, Exception):
        raise found
    assert isinstance(found, Part)
    return found


def _write_shares(records: Iterable[Dated], folders: Sequence[Path]) -> list[str]:
    """Each customer's records to one of the folders, in order; gives the files that they were read from.

    A line is: the number of the topic, that of the file, that of the line in it, and the value.
    """
    files: dict[str, int] = {}
    with ExitStack() as stack:
        shares = []
        for folder in folders:
            folder.mkdir()
            shares.append(stack.enter_context((folder / _SHARE).open("wb")))
        for record in records:
            share = shares[zlib.crc32(record.customer_id.encode()) % len(shares)]
            file = files.setdefault(record.file, len(files))
            share.write(b"%d %d %d %b\n" % (record.topic_rank, file, record.number, record.value))
    return list(files)


def _read_share(folder: Path, files: Sequence[str]) -> Iterator[Dated]:
    """Records none of which is refused for itself."""
    with (folder / _SHARE).open("rb") as lines:
        for written in lines:
            topic, file, number, value = written[:-1].split(b" ", 3)
            line = Line(INPUT_TOPICS[int(topic)], value, files[int(file)], int(number))
            event = decode(line.topic, value)
            assert not isinstance(event, Rejection)
            yield Dated.of(line, event)


# ------------------------------------------------- in a process of the replay's


def _work(folder: Path, files: Sequence[str], rules: Rules, taken: Any) -> None:
    """Take a share, and leave what came of it, or an error, in its folder."""
    _follow_the_parent()
    expect_long_lives()
    found: Part | Exception

    def report(done: int, _: int) -> None:
        taken.value = done

    try:
        log = ReplayLog(list(_read_share(folder, files)))
        replayed = replay_ordered(log, rules.model, rules.end_us, rules.horizons, report)
        found = write_part(replayed, folder)
    except Exception as error:
        found = error
    (folder / _OUTCOME).write_bytes(pickle.dumps(found))


def _follow_the_parent() -> None:
    """End where it has ended, however that was."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
