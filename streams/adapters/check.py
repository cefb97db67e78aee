"""`ebbtide convert --check`: field by field, what became of the first events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson

from streams.adapters.conversion import Converted
from streams.adapters.converter import Made

_LONGEST: Final = 48


def check_text(events: Iterable[Converted]) -> str:
    """For each event the records made of it, with each field, its value and where that was; or why there is none."""
    return "\n".join(line for one in events for line in _lines(one))


def _lines(one: Converted) -> Iterator[str]:
    place = f"{one.place.file}:{one.place.line}"
    name = one.outcome.event_name or "an event without a name"
    for made in one.outcome.made:
        yield f"{place}  {name} → {made.topic}"
        yield from _fields(made)
    for why in one.outcome.unmapped:
        to = f" → {why.topic}" if why.topic is not None else ""
        yield f"{place}  {name}{to}: dead letter {why.reason}, {why.message}"
    if one.outcome.ignored is not None:
        yield f"{place}  {name}: ignored, counted as {one.outcome.ignored}"


def _fields(made: Made) -> Iterator[str]:
    shown = {of: _shown(value) for of, value in made.record.items()}
    widths = max(map(len, shown)), max(map(len, shown.values()))
    for of, value in shown.items():
        yield f"  {of:<{widths[0]}}  {value:<{widths[1]}}  {made.paths[of]}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
