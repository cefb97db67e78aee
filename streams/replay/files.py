"""`ebbtide replay`: from files of events to the five files of what came of them, on as many processors as there are."""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from enrichment.customer.validation import Horizons
from enrichment.days import format_time
from enrichment.deciding.profile import model_document
from enrichment.kernel import DeclinedError, KernelError, Wanted, core_of
from enrichment.model import Model
from schemas.dead_letters import replay_line
from schemas.documents import Document
from schemas.profiles import DIMENSIONS
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.console.progress import Report
from streams.console.refusals import Refusals
from streams.errors import EbbtideError
from streams.files.bounded_lines import DEFAULT_LIMIT_BYTES
from streams.replay.compiled import processors, replay_compiled
from streams.replay.fared import Fared
from streams.replay.log import Line, Refused, ReplayLog, ordered_log, refusals_of
from streams.replay.parts import FILES, PROFILES, TRIGGERS, Part, merge, write_lines, write_part
from streams.replay.reading import Tables, read_records
from streams.replay.replay import replay_ordered
from streams.replay.shares import Rules, replay_in_shares

_log = logging.getLogger(__name__)

RECORDS_PER_PROCESS: Final = 20_000
"""With fewer it hardly pays: a process takes a second to start, in which two thousand are done."""
MOST_PROCESSES: Final = 8
"""Unless more are asked for: reading, ordering and merging are one process's work, some 6% of all."""
DEAD_LETTERS, SUMMARY = "dead-letters.jsonl", "summary.json"


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
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
    refusals: Refusals | None = None,
    fared: list[Fared] | None = None,
    tables: Tables | None = None,
    core: Wanted = "python",
) -> Document:
    """Replay JSON Lines and tables, write the five files into `out`; gives the summary.

    What was refused is counted in `refusals`, and how the customers of re-activations fared is added to `fared`.

    `core` replays, or the Python core where the compiled one declines: a log line tells why.
    So many `processes`, or threads of the compiled core, share the work: the same bytes come of it. If it is not given,
    as many as there are processors and as it pays to start. The files appear when all of them are whole. No line may
    have more than `limit_bytes`.

    Raises:
        EbbtideError: A file is damaged or of another kind, a line is beyond the limit, a process ended before its work
            was done, or the compiled core is asked for and not built.
        OSError: A file cannot be read or written.
    """
    files: dict[InputTopic, Sequence[Path]] = {
        "consents": consents,
        "purchases": purchases,
        "engagements": engagements,
    }
    started_s = time.perf_counter()
    # All is read before anything is made, so that a file that cannot be read leaves nothing behind.
    compiled, found, log = _compiled(core), None, ReplayLog()
    lines: Iterable[Line] = read_records(files, limit_bytes, tables)
    if compiled is None:
        log = ordered_log(lines, model, until_us)
    else:
        lines = list(lines)  # which may come from standard input, and be wanted again
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".replay-", dir=out) as name:
        folder = Path(name)
        if compiled is not None:
            threads = processes or min(processors(), MOST_PROCESSES)
            try:
                found = replay_compiled(compiled, lines, folder, model, until_us, horizons, threads, report)
            except DeclinedError as error:
                level = logging.WARNING if core == "compiled" else logging.INFO
                _log.log(level, "the Python core replays: %s", error)
                log = ordered_log(lines, model, until_us)
        if found is None:
            rules = Rules(model, log.end_us(until_us), horizons)
            parts = _by_the_python_core(log, folder, rules, report, processes)
        else:
            log, part, end_us = found
            rules, parts = Rules(model, end_us, horizons), [part]
        elapsed_s = time.perf_counter() - started_s
        letters = [*log.dead_letters, *(letter for part in parts for letter in part.dead_letters)]
        _write_dead_letters(folder / DEAD_LETTERS, letters)
        summary = _summary(log, parts, rules, elapsed_s)
        (folder / SUMMARY).write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n")
        for file in (*FILES, DEAD_LETTERS, SUMMARY):
            (folder / file).replace(out / file)
    if fared is not None:
        fared += [each for part in parts for each in part.fared]
    if refusals is not None:
        refusals_of(letters, _outcomes(log, parts), refusals)
    return summary


def _compiled(core: Wanted) -> Any | None:
    """The compiled core's module, if it is to replay."""
    try:
        return core_of(core).compiled
    except KernelError as error:
        raise EbbtideError(f"EBBTIDE_CORE: {error}") from None


def _by_the_python_core(
    log: ReplayLog, folder: Path, rules: Rules, report: Report | None, processes: int | None
) -> list[Part]:
    if processes is None:
        processes = max(min(processors(), MOST_PROCESSES, len(log.records) // RECORDS_PER_PROCESS), 1)
    if processes == 1:
        return [write_part(replay_ordered(ReplayLog(log.records), *rules, report), folder)]
    parts = replay_in_shares(log, folder, processes, rules, report)
    for file in FILES:
        merge(folder / file, file, parts)
    return parts


def _write_dead_letters(path: Path, letters: Iterable[Refused]) -> None:
    in_order = sorted(letters, key=lambda letter: (*letter.line[:2], letter.why.reason, *letter.line[2:]))
    write_lines(
        path,
        (replay_line(line.topic, why, line.value, line.file, line.number) for line, why in in_order),
    )


def _summary(log: ReplayLog, parts: Sequence[Part], rules: Rules, elapsed_s: float) -> Document:
    """The contents of `summary.json`; only `events_per_second` depends on the machine."""
    outcomes = _outcomes(log, parts)
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
        "events": {topic: {name: outcomes[topic, name] for name in names} for topic in sorted(INPUT_TOPICS)},
        "customers": sum(part.lines[PROFILES] for part in parts),
        "changes": changes,
        "reactivation_triggers": sum(part.lines[TRIGGERS] for part in parts),
        "reactivation_triggers_dropped": sum(part.triggers_dropped for part in parts),
        "standings": {
            dimension: {name: number for (of, name), number in sorted(by_standing.items()) if of == dimension}
            for dimension in DIMENSIONS
        },
        "as_of": format_time(rules.end_us),
        "model": model_document(rules.model),
        "events_per_second": round(total / elapsed_s) if elapsed_s > 0 else 0,
    }


def _outcomes(log: ReplayLog, parts: Sequence[Part]) -> Counter[tuple[str, str]]:
    """(topic, outcome) → records, of the log and of what became of it."""
    return _total([log.outcomes, *(part.outcomes for part in parts)])


def _total(counts: Iterable[Counter[Any]]) -> Counter[Any]:
    total = Counter[Any]()
    for count in counts:
        total.update(count)
    return total
