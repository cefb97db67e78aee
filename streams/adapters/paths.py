"""Where a value is in a JSON document: `properties.products[0].sku`.

A path is keys with dots between them. What differs from the usual is small:

| path | what it finds |
|---|---|
| `properties.revenue` | a key of a key |
| `"smtp.id"`, `a."b.c"` | keys with dots in them, in quotes |
| `items[0].sku` | an entry of a list, counted from 0 |
| `items[].price` | every entry |
| `included[type=metric].name` | the entries whose key has this value |
| `/sessionId` | from the whole document, where an event is only a part of it |
| `@.sku` | from the entry at hand, where a rule goes through entries |
| `.` | the event itself |

Null is the same as absent. Expression languages such as JMESPath take 0 and false for absent and forget where a value
was found; here zero totals and denied consents are values, and every error names its path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

_STEP: Final = re.compile(r'(?:"([^"]+)"|([^."\[\]]+))|\[(\d*)\]|\[([^=\]]+)=([^\]]*)\]')


class PathError(ValueError):
    """Text that is no path."""


class Scope(NamedTuple):
    """What paths start from: an event, the document that it is a part of, and the entry at hand."""

    event: Any
    document: Any
    entry: Any = None


class Key(NamedTuple):
    """A key of an object."""

    name: str


class Entry(NamedTuple):
    """An entry of a list, or every one where `at` is None."""

    at: int | None


class Where(NamedTuple):
    """The entries of a list whose key has this text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Path:
    """A compiled path."""

    text: str
    start: Literal["event", "document", "entry"]
    steps: tuple[Key | Entry | Where, ...]

    @property
    def is_many(self) -> bool:
        """Whether it goes through every entry of a list."""
        return Entry(None) in self.steps

    def find_all(self, scope: Scope) -> list[Any]:
        """All values that are there, in order; nulls are not."""
        found = [getattr(scope, self.start)]
        for step in self.steps:
            found = [inner for value in found for inner in _within(value, step)]
        return [value for value in found if value is not None]

    def find(self, scope: Scope) -> Any:
        """The first value, or None."""
        found = self.find_all(scope)
        return found[0] if found else None


def compile_path(text: str) -> Path:
    """The path that a text describes.

    Raises:
        PathError: It describes none.
    """
    start: Literal["event", "document", "entry"] = "event"
    rest = text
    if text.startswith("/"):
        start, rest = "document", text[1:]
    elif text.startswith("@"):
        start, rest = "entry", text[1:].removeprefix(".")
    if rest in ("", ".") and text:
        return Path(text, start, ())
    steps: list[Key | Entry | Where] = []
    at = 0
    while at < len(rest):
        step = _STEP.match(rest, at)
        if step is None:
            raise PathError(f"{text!r} is no path")
        quoted, plain, place, name, value = step.groups()
        if place is not None:
            steps.append(Entry(int(place) if place else None))
        elif name is not None:
            steps.append(Where(name, value))
        else:
            steps.append(Key(quoted or plain))
        at = step.end()
        if at < len(rest) and rest[at] == ".":
            at += 1
            if at == len(rest):
                raise PathError(f"{text!r} is no path: it ends with a dot")
    if not steps:
        raise PathError("an empty text is no path")
    return Path(text, start, tuple(steps))


def _within(value: Any, step: Key | Entry | Where) -> list[Any]:
    if isinstance(step, Key):
        return [value.get(step.name)] if isinstance(value, dict) else []
    if isinstance(step, Where):
        entries = value if isinstance(value, list) else [value]
        return [one for one in entries if isinstance(one, dict) and str(one.get(step.name)) == step.text]
    if not isinstance(value, list):
        return []
    return value if step.at is None else value[step.at : step.at + 1]
