"""A replay by the compiled core: the same files and counters as by the Python core, or the reason why it declines."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson

from enrichment.customer.validation import Horizons
from enrichment.days import day_of, format_time
from enrichment.kernel import DeclinedError, Exactly, given_model
from enrichment.model import Model
from schemas.events import Consent, Event, Purchase
from schemas.topics import INPUT_TOPICS
from streams.console.progress import Report
from streams.replay.fared import WITHIN_DAYS, Fared
from streams.replay.log import Line, ReplayLog, accepted
from streams.replay.parts import FILES, Part
from streams.replay.replay import NAMESPACE

LINES_AT_ONCE: Final = 4_096


def replay_compiled(
    module: Any,
    lines: Iterable[Line],
    folder: Path,
    model: Model,
    until_us: int | None,
    horizons: Horizons | None,
    threads: int,
    report: Report | None = None,
) -> tuple[ReplayLog, Part, int]:
    """Replay lines in any order, and write the three files of a part; gives what was refused, the part, and its end.

    `module` is the compiled core; the log that comes back holds no records.

    Raises:
        DeclinedError: The Python core must take this model or this log. No file is written then.
        OSError: A file cannot be written.
    """
    log, exactly = ReplayLog(), Exactly(model)
    try:
        replay = module.Replay(given_model(model, NAMESPACE, horizons or Horizons()), until_us)
        for topic, part in _in_parts(lines):
            # A row that was refused already holds nothing that could be read, and is refused with the others.
            others = replay.take(topic, [b"" if line.why is not None else line.value for line in part])
            for at in others:
                line = part[at]
                event = accepted(log, line, model, until_us)
                if event is not None:
                    replay.take_as(topic, line.value, plain(event))
        found = replay.run(
            folder, threads, exactly.purchasing, exactly.chance_of_return, exactly.points_of_answer
        )
    except module.DeclinedError as error:
        raise DeclinedError(f"the compiled core does not take {error}") from None
    except OverflowError:
        raise DeclinedError("the compiled core does not take a model with numbers beyond 64 bits") from None
    made = _part(found, folder)
    if report is not None:
        replayed = sum(count for (_, outcome), count in made.outcomes.items() if outcome != "after_until")
        report(replayed, replayed)
    return log, made, found["end_us"]


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def plain(event: Event) -> bytes:
    """A record that says what an event says, in the words that the compiled core reads."""
    document: dict[str, Any] = {
        "event_id": event.event_id,
        "customer_id": event.customer_id,
        "occurred_at": format_time(event.occurred_at_us),
        "attributes": event.attributes,
        "kind": event.kind,
    }
    if isinstance(event, Purchase):
        document |= {
            "order_id": event.order_id,
            "currency": event.currency,
            "total": _amount(event.total_micros),
            "cost_of_goods": _amount(event.cost_of_goods_micros),
            "items": [{"category": item.category} for item in event.items],
        }
    elif isinstance(event, Consent):
        document |= {"purpose": event.purpose, "granted": event.granted}
        if event.expires_at_us is not None:
            document["expires_at"] = format_time(event.expires_at_us)
    else:
        document |= {
            "channel": event.channel,
            "automated": event.automated,
            "cost": _amount(event.cost_micros),
            "currency": event.currency,
            "declared": event.declared,
        }
    return orjson.dumps(document)


def _amount(micros: int | None) -> str | None:
    return None if micros is None else f"{micros // 1_000_000}.{micros % 1_000_000:06d}"


def _in_parts(lines: Iterable[Line]) -> Iterator[tuple[int, list[Line]]]:
    """Some lines of one topic at a time, with the number that the topic has in the order of replay."""
    rank_of = {topic: rank for rank, topic in enumerate(INPUT_TOPICS)}
    rest = iter(lines)
    while part := list(islice(rest, LINES_AT_ONCE)):
        start = 0
        for end in range(1, len(part) + 1):
            if end == len(part) or part[end].topic != part[start].topic:
                yield rank_of[part[start].topic], part[start:end]
                start = end


def _part(found: Any, folder: Path) -> Part:
    part = Part(folder)
    part.lines.update({name: found[name] for name in FILES})
    part.outcomes.update(found["outcomes"])
    part.changes.update(found["change_counts"])
    part.standings.update(found["standings"])
    part.triggers_dropped = found["triggers_dropped"]
    end_day = day_of(found["end_us"])
    part.fared = [
        Fared(
            day,
            group,
            segment,
            float(value_at_stake or 0),
            day + WITHIN_DAYS - 1 <= end_day,
            bought,
            revenue_micros / 1e6,
        )
        for day, group, segment, value_at_stake, bought, revenue_micros in found["fared"]
    ]
    return part
