"""What the demo prints: tables of standings and changes, a few changes in words, and how it went."""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from rich import box
from rich.columns import Columns
from rich.console import Console
from rich.table import Table

from schemas.changes import DIRECTIONS, LEVELS, TRIGGERS
from schemas.documents import Document
from schemas.triggers import GROUPS
from streams.replay.fared import WITHIN_DAYS, Fared

DeadLetter = tuple[str, str, bytes]
"""Reason, message and value of a record that was refused."""

PLAIN_WIDTH: Final = 100
"""Columns of text where there is no terminal to tell."""
NONE: Final = "(none)"


@dataclass(slots=True)
class Published:
    """What was read back from the output topics, without repeats; the profiles are each customer's last."""

    changes: list[Document] = field(default_factory=list)
    triggers: list[Document] = field(default_factory=list)
    profiles: list[Document] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class Streamed:
    """How the worker fared: each partition's last midnight, and the time from its first look at the log."""

    midnight_days: dict[int, int]
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Compared:
    """The stream's changes against replay's; `beyond` are replay's after the partitions' last midnights."""

    equal: int
    only_streamed: int
    only_replayed: int
    beyond: int

    @property
    def is_equal(self) -> bool:
        """Whether there are changes, and every one is on both sides."""
        return self.equal > 0 and self.only_streamed == self.only_replayed == 0


def print_report(
    published: Published,
    streamed: Streamed,
    compared: Compared,
    events: Mapping[str, int],
    fared: Sequence[Fared],
    fitted: Document | None = None,
    console: Console | None = None,
) -> None:
    """Print everything; to stdout unless another console is given.

    `fared` are the re-activations to be told of; `fitted` is the report on the model, if the demo has fitted it.
    """
    out = console or _console()
    out.print()
    out.print(Columns([_customers(published.profiles, name) for name in LEVELS], padding=(0, 4)))
    out.print(_changes(published.changes))
    out.print(_flows(published.changes))
    out.print(_reactivations(fared, "" if fitted is None else f" after {fitted['history']['until']}"))
    told = [sentence(change) for change in _told(published.changes)]
    since = "" if fitted is None else fitted["history"]["until"]
    due = [trigger for trigger in published.triggers if trigger["as_of"][:10] > since]
    if due:
        told.append(trigger_sentence(due[len(due) // 2]))
    _print_list(out, "Some changes in words", told)
    if fitted is not None:
        _print_list(out, "The model", _model_lines(fitted))
    _print_list(out, "How it went", _summary(published, streamed, compared, events))


def _print_list(out: Console, title: str, lines: Iterable[str]) -> None:
    out.print(f"[bold]{title}[/bold]")
    for line in lines:
        told = textwrap.fill(line, out.width - 1, initial_indent="- ", subsequent_indent="  ")
        out.print(told, markup=False, highlight=False, soft_wrap=True)
    out.print()


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def _table(title: str, first: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _customers(profiles: Sequence[Document], dimension: str) -> Table:
    counts = Counter(profile["standing"][dimension] or NONE for profile in profiles)
    table = _table(f"Customers per {dimension}", dimension, ["customers"])
    for level in (*_levels(dimension), NONE):
        table.add_row(level, f"{counts[level]:,}", end_section=level == NONE)
    table.add_row("all", f"{len(profiles):,}")
    return table


def _changes(changes: Sequence[Document]) -> Table:
    triggers = [
        trigger for trigger in TRIGGERS if any(change["reason"]["trigger"] == trigger for change in changes)
    ]
    counts = Counter((c["dimension"], c["direction"], c["reason"]["trigger"]) for c in changes)
    table = _table(
        "Changes by direction and by what triggered them", "dimension", ["direction", *triggers, "all"]
    )
    table.columns[1].justify = "left"
    for dimension in LEVELS:
        for at, direction in enumerate(DIRECTIONS):
            row = [counts[dimension, direction, trigger] for trigger in triggers]
            last = at == len(DIRECTIONS) - 1
            table.add_row(dimension, direction, *map(_count, row), _count(sum(row)), end_section=last)
    totals = [sum(counts[key] for key in counts if key[2] == trigger) for trigger in triggers]
    table.add_row("all", "", *map(_count, totals), _count(len(changes)))
    return table


def _flows(changes: Sequence[Document]) -> Table:
    counts = Counter(
        (c["previous"] or NONE, c["current"] or NONE) for c in changes if c["dimension"] == "segment"
    )
    levels = (*_levels("segment"), NONE)
    table = _table("Flows between segments: changes from (rows) to (columns)", "from", levels)
    for previous in levels:
        table.add_row(previous, *(_count(counts[previous, current]) for current in levels))
    return table


def _reactivations(fared: Sequence[Fared], since: str) -> Table:
    """By group: how many fell due, with what at stake, and how many customers then bought though nothing was sent."""
    bought = f"bought within {WITHIN_DAYS} days anyway"
    table = _table(f"Re-activations that fell due{since}", "group", ["due", "value at stake", bought])
    for group in GROUPS:
        own = [each for each in fared if each.group == group]
        seen = [each for each in own if each.is_seen_whole]
        stake = sum(each.value_at_stake for each in own)
        share = f"{sum(each.bought for each in seen) / len(seen):.0%}" if seen else "·"
        table.add_row(group, _count(len(own)), f"{stake:,.2f}", share)
    return table


def _model_lines(fitted: Document) -> Iterator[str]:
    """To what the demo's model was fitted, and from when on it warns."""
    history, silence = fitted["history"], fitted["silence"]
    yield (
        f"Fitted to the {history['customers']:,} households of the time up to {history['until']}; it knows nothing of "
        "what came later."
    )
    if silence["action"] == "fitted":
        yield (
            f"A household is at_risk from a risk of {silence['at_risk_silence_risk']:.0%} on to buy nothing for "
            f"{silence['window_days']} days, and lapsed from {silence['lapsed_silence_risk']:.0%} on."
        )


def _summary(
    published: Published, streamed: Streamed, compared: Compared, events: Mapping[str, int]
) -> Iterator[str]:
    total = sum(events.values())
    parts = ", ".join(f"{count:,} {topic}" for topic, count in events.items())
    households = f"{len(published.profiles):,} households"
    yield f"{total:,} events ({parts}) of {households}; {len(published.dead_letters):,} dead letters."
    yield (
        f"{total / streamed.elapsed_s:,.0f} events/s end to end ({streamed.elapsed_s:.1f} s), by one worker process "
        f"through the embedded broker and Redis, all of them on {os.cpu_count()} cores."
    )
    weeks = silent_weeks(published.changes)
    yield f"Downgrades triggered by time alone, in {len(weeks)} different weeks."
    if published.repeats:
        yield f"{published.repeats:,} records came more than once (at least once) and were dropped by their ids."
    yield _verdict(compared)


def _verdict(compared: Compared) -> str:
    if compared.is_equal:
        more = f" (replay goes on for {compared.beyond:,} changes more)" if compared.beyond else ""
        return f"{compared.equal:,} changes, equal to replay's, ids apart, up to each partition's last midnight{more}."
    return (
        f"NOT equal to replay's: {compared.equal:,} changes are, {compared.only_streamed:,} are in the stream only, "
        f"{compared.only_replayed:,} in replay only."
    )


def silent_weeks(changes: Sequence[Mapping[str, Any]]) -> set[tuple[int, int]]:
    """The ISO weeks, as (year, week), that hold a downgrade triggered by time."""
    return {
        date.fromisoformat(change["as_of"][:10]).isocalendar()[:2]
        for change in changes
        if change["direction"] == "downgrade" and change["reason"]["trigger"] == "time"
    }


_STORIES: Final[tuple[Callable[[Document], bool], ...]] = (
    lambda c: c["dimension"] == "segment" and _is(c, "downgrade", "time") and c["previous"] == "high",
    lambda c: c["dimension"] == "lifecycle" and _is(c, "downgrade", "time") and c["current"] == "lapsed",
    lambda c: c["dimension"] == "tier" and _is(c, "downgrade", "time"),
    lambda c: c["dimension"] == "segment" and _is(c, "upgrade", "event") and c["current"] == "high",
    lambda c: c["dimension"] == "segment" and _is(c, "left", "consent"),
)
"""One change of each kind is told."""


def _is(change: Document, direction: str, trigger: str) -> bool:
    return bool(change["direction"] == direction and change["reason"]["trigger"] == trigger)


def _told(changes: Sequence[Document]) -> Iterator[Document]:
    """Of each kind of story the one that recency moved most; of equals, the earliest."""
    for is_one in _STORIES:
        found = [change for change in changes if is_one(change)]
        if found:
            yield min(found, key=lambda c: (-_moved_by_recency(c), c["as_of"], c["customer_id"]))


def _moved_by_recency(change: Document) -> float:
    drivers = change["reason"]["drivers"]
    return max((abs(d["effect_on_value"]) for d in drivers if d["metric"] == "recency_days"), default=0.0)


def sentence(change: Document) -> str:
    """A change of a household, told in a sentence."""
    who, day = f"Household {change['customer_id']}", change["as_of"][:10]
    dimension, previous, current = change["dimension"], change["previous"], change["current"]
    if change["direction"] == "left":
        return (
            f"{who}, {dimension} {previous} until then, withdrew from profiling on {day}: no standing since."
        )
    if change["direction"] == "entered":
        return f"{who} entered on {day}: {dimension} {current}."
    because = {"time": "by time alone", "event": "by a new event", "consent": "by a consent"}
    moved = "downgraded" if change["direction"] == "downgrade" else "upgraded"
    cause = because.get(change["reason"]["trigger"], f"by a {change['reason']['trigger']}")
    why = ": " + "; ".join(_why(change)) if any(_why(change)) else ""
    return f"{who}, {dimension} {previous} until then, was {moved} to {current} on {day} {cause}{why}."


def _why(change: Document) -> Iterator[str]:
    """Since when the household has been silent, where that is why, and its strongest driver."""
    recency_days = change["traits"]["recency_days"]
    if change["reason"]["trigger"] == "time" and recency_days is not None:
        yield f"{recency_days} days since the last order"
    for driver in change["reason"]["drivers"][:1]:
        before, after = _value(driver["before"]), _value(driver["after"])
        yield f"{driver['metric']} {before} → {after}, {driver['effect_on_value']:+.1f} points of value"


def trigger_sentence(trigger: Document) -> str:
    """A re-activation of a household, told in a sentence."""
    channels = " or ".join(trigger["channels"])
    who = f"household {trigger['customer_id']} ({trigger['segment']}, {trigger['lifecycle']})"
    told = f"On {trigger['due_at'][:10]} a re-activation of {who} fell due"
    if trigger["group"] == "control":
        return f"{told}: left alone, as one of the control group."
    return f"{told}, by {channels}."


def _value(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _levels(dimension: str) -> tuple[str, ...]:
    return dict(LEVELS.items())[dimension]  # type: ignore[index]


def _count(count: int) -> str:
    return f"{count:,}" if count else "·"
