"""`ebbtide replay`: from files of events to the five files of what came of them, on as many processors as there are.

What becomes of a customer depends on no other. So the records are put into order once, each process takes those of its
own customers and writes what came of them in order, and its files are merged: the same bytes, however many they are.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from enrichment.acceptance import TOPICS, Horizons, Topic
from enrichment.days import format_time
from enrichment.model import Model
from enrichment.profile import Document, model_document
from schemas.dead_letters import Rejection, replay_line
from schemas.decode import decode
from schemas.profiles import DIMENSIONS
from schemas.timestamps import parse_timestamp
from streams.errors import EbbtideError
from streams.garbage import expect_long_lives
from streams.replay import Replayed, Report, replay_ordered
from streams.replay_log import Dated, ReplayLog, ordered_log, read_lines

RECORDS_PER_PROCESS: Final = 20_000
"""Fewer are done before another process has started."""
LOOK_S: Final = 0.2
CHANGES, TRIGGERS, PROFILES = FILES = (
    "segment-changes.jsonl",
    "reactivation-triggers.jsonl",
    "customer-profiles.jsonl",
)

Key = tuple[int, str, int] | tuple[str]
"""What the lines of a file are sorted by: time, customer and sequence; or the customer alone."""


@dataclass(slots=True)
class _Part:
    """What came of some customers: three files, in order; and what the summary counts."""

    folder: Path
    keys: dict[str, list[Key]] = field(default_factory=dict)
    """Per file, the key of each of its lines."""
    dead_letters: list[tuple[Topic, bytes, Rejection]] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(topic, outcome) → records."""
    changes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(dimension, direction, trigger) → changes."""
    standings: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(dimension, standing) → customers."""
    triggers_dropped: int = 0


def run_replay(
    purchases: Sequence[Path],
    engagements: Sequence[Path],
    consents: Sequence[Path],
    out: Path,
    model: Model,
    until_us: int | None,
    horizons: Horizons | None = None,
    report: Report | None = None,
    processes: int | None = None,
) -> Document:
    """Replay JSON Lines (`.jsonl`, `.jsonl.gz`), write the five files into `out`; gives the summary.

    `processes` share the work; if it is not given, as many as there are processors and it pays to start.

    Raises:
        EbbtideError: A compressed file is damaged, or a process was ended from outside.
        OSError: A file cannot be read or written.
    """
    files: dict[Topic, Sequence[Path]] = {
        "consents": consents,
        "purchases": purchases,
        "engagements": engagements,
    }
    started_s = time.perf_counter()
    values = ((topic, value) for topic in TOPICS for path in files[topic] for value in read_lines(path))
    log = ordered_log(values, model, until_us)
    end_us = log.end_us(until_us)
    if processes is None:
        processes = min(_processors(), max(len(log.records) // RECORDS_PER_PROCESS, 1))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".replay-", dir=out) as folder:
        refused = _Part(Path(folder), dead_letters=log.dead_letters, outcomes=log.outcomes)
        if processes == 1:
            taken = ReplayLog(log.records)
            parts = [_part_of(replay_ordered(taken, model, end_us, horizons, report), Path(folder))]
        else:
            parts = _shared(log, Path(folder), processes, (model, end_us, horizons), report)
        elapsed_s = time.perf_counter() - started_s
        for name in FILES:
            _merge(out / name, name, parts)
    letters = sorted(
        (letter for part in (refused, *parts) for letter in part.dead_letters),
        key=lambda letter: (letter[0], letter[1], letter[2].reason),
    )
    _write(out / "dead-letters.jsonl", [replay_line(topic, why, value) for topic, value, why in letters])
    summary = _summary([refused, *parts], model, end_us, elapsed_s)
    (out / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n")
    return summary


def _processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# ------------------------------------------------------------- sharing the work

_taken: Any = None
"""In a process that shares the work: how many records all have taken so far."""


def _shared(
    log: ReplayLog,
    folder: Path,
    processes: int,
    settings: tuple[Model, int, Horizons | None],
    report: Report | None,
) -> list[_Part]:
    """Have each customer's records taken by one of so many processes; the log's records are let go."""
    shares: list[list[tuple[int, bytes]]] = [[] for _ in range(processes)]
    for record in log.records:
        shares[zlib.crc32(record.customer_id.encode()) % processes].append((record.topic_rank, record.value))
    records = len(log.records)
    log.records = []
    # Not a fork: libraries may have threads, and other systems than Linux have none.
    context = multiprocessing.get_context("spawn")
    taken = context.Value("q", 0)
    try:
        with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(taken,)) as pool:
            futures: list[Future[_Part]] = []
            for number, share in enumerate(shares):
                own = folder / str(number)
                own.mkdir()
                futures.append(pool.submit(_take_share, share, own, *settings))
            shares.clear()
            while wait(futures, LOOK_S).not_done:
                if report is not None:
                    report(taken.value, records)
            return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise EbbtideError(
            "a process of the replay was ended from outside, perhaps for want of memory: try --processes 1"
        ) from error


def _begin(taken: Any) -> None:
    global _taken
    _taken = taken
    expect_long_lives()


def _take_share(
    values: Sequence[tuple[int, bytes]], folder: Path, model: Model, end_us: int, horizons: Horizons | None
) -> _Part:
    """In a process of its own: records in order, none of which is refused for itself."""
    records = []
    for rank, value in values:
        event = decode(TOPICS[rank], value)
        assert not isinstance(event, Rejection)
        records.append(Dated.of(TOPICS[rank], value, event))
    so_far = 0

    def report(done: int, _: int) -> None:
        nonlocal so_far
        with _taken.get_lock():
            _taken.value += done - so_far
        so_far = done

    return _part_of(replay_ordered(ReplayLog(records), model, end_us, horizons, report), folder)


# ---------------------------------------------------------------------- writing


def _part_of(replayed: Replayed, folder: Path) -> _Part:
    """Write what came of some customers into a folder."""
    results = replayed.results
    part = _Part(
        folder,
        dead_letters=replayed.log.dead_letters,
        outcomes=results.outcomes,
        triggers_dropped=results.triggers_dropped,
    )
    documents: Mapping[str, list[tuple[Key, Document]]] = {
        CHANGES: _in_order(results.changes),
        TRIGGERS: _in_order(results.triggers),
        PROFILES: [((str(profile["customer_id"]),), profile) for profile in replayed.profiles],
    }
    for name, keyed in documents.items():
        part.keys[name] = [key for key, _ in keyed]
        _write(folder / name, (document for _, document in keyed))
    for change in results.changes:
        reason = change["reason"]
        assert isinstance(reason, dict)
        part.changes[str(change["dimension"]), str(change["direction"]), reason["trigger"]] += 1
    for profile in replayed.profiles:
        standing = profile["standing"]
        assert isinstance(standing, dict)
        part.standings.update((dimension, standing[dimension] or "none") for dimension in DIMENSIONS)
    return part


def _in_order(documents: Iterable[Document]) -> list[tuple[Key, Document]]:
    keyed: list[tuple[Key, Document]] = [(_published_at(document), document) for document in documents]
    return sorted(keyed, key=lambda pair: pair[0])


def _published_at(document: Document) -> tuple[int, str, int]:
    sequence = document.get("sequence", 0)
    assert isinstance(sequence, int)
    return parse_timestamp(str(document["as_of"])), str(document["customer_id"]), sequence


def _merge(path: Path, name: str, parts: Sequence[_Part]) -> None:
    """One file of those that the parts have of this name."""
    if len(parts) == 1:
        (parts[0].folder / name).replace(path)
        return
    with ExitStack() as stack:
        whole = stack.enter_context(path.open("wb"))
        lines = [stack.enter_context((part.folder / name).open("rb")) for part in parts]
        # Each part is in order, and sorting what consists of a few runs is merging them.
        places = [(key, at) for at, part in enumerate(parts) for key in part.keys[name]]
        for _, at in sorted(places):
            whole.write(next(lines[at]))


def _write(path: Path, documents: Iterable[Document] | Iterable[dict[str, str]]) -> None:
    with path.open("wb") as lines:
        for document in documents:
            lines.write(orjson.dumps(document) + b"\n")


def _summary(parts: Sequence[_Part], model: Model, end_us: int, elapsed_s: float) -> Document:
    """The contents of `summary.json`; only `events_per_second` depends on the machine."""
    outcomes = _total(part.outcomes for part in parts)
    by_change = _total(part.changes for part in parts)
    by_standing = _total(part.standings for part in parts)
    names = ("accepted", "duplicate", "dead_letter", "after_until", "erased")
    changes: dict[str, dict[str, dict[str, int]]] = {}
    for dimension in DIMENSIONS:
        for (of, direction, trigger), number in sorted(by_change.items()):
            if of == dimension:
                changes.setdefault(dimension, {}).setdefault(direction, {})[trigger] = number
    total = sum(outcomes.values())
    return {
        "events": {topic: {name: outcomes[topic, name] for name in names} for topic in sorted(TOPICS)},
        "customers": sum(len(part.keys.get(PROFILES, ())) for part in parts),
        "changes": changes,
        "reactivation_triggers": sum(len(part.keys.get(TRIGGERS, ())) for part in parts),
        "reactivation_triggers_dropped": sum(part.triggers_dropped for part in parts),
        "standings": {
            dimension: {name: number for (of, name), number in sorted(by_standing.items()) if of == dimension}
            for dimension in DIMENSIONS
        },
        "as_of": format_time(end_us),
        "model": model_document(model),
        "events_per_second": round(total / elapsed_s) if elapsed_s > 0 else 0,
    }


def _total(counts: Iterator[Counter[Any]]) -> Counter[Any]:
    total = Counter[Any]()
    for count in counts:
        total.update(count)
    return total
