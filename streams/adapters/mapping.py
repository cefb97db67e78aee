"""Mappings: YAML files that say which field of another system's event is which of ours.

A mapping has these keys; the shipped ones, in `streams/adapters/mappings/`, are the examples.

| key | what it says |
|---|---|
| `mapping` | its name, which dead letters carry |
| `about` | whose events these are, and where they are described |
| `extends` | the shipped mapping that this one changes: `fields` are merged, and its `rules` come first |
| `unwrap` | paths at which a document holds its events: the first that is there (`{path: P, when: C}`: if C holds) |
| `event_name` | what the event is called: rules name it, and events without a rule are counted by it |
| `fields` | what all records have: `event_id`, `customer_id`, `occurred_at`, … |
| `rules` | which events become which records |

Each rule has `event` (names) or `when` (`streams.adapters.conditions`), or both, and one of:

- `to`: a topic, with `set`: more fields, and `each`: a path, to make one record of each entry there (of an object,
  each has `key` and `value`);
- `ignore`: the event makes no record, and is counted by this name; later rules do not see it;
- `refuse`: the event is a dead letter; the text says why, after the path before its first colon.

Every rule that fits makes its records. An event that a rule of a mapping fits is not shown to the rules that it
extends.
"""

from __future__ import annotations

from collections.abc import Mapping as Table
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path as FilePath
from typing import Any, Final, get_args

from enrichment.yaml_text import YamlTextError, read_mapping
from schemas.input_models import RECORD_TYPES
from schemas.topics import InputTopic
from streams.adapters.conditions import Condition, compile_condition
from streams.adapters.expressions import Expression, ExpressionError, compile_expression, plain
from streams.adapters.paths import Path, PathError, compile_path
from streams.errors import EbbtideError, UsageError

KEYS: Final = ("mapping", "about", "extends", "unwrap", "event_name", "fields", "rules")
RULE_KEYS: Final = ("event", "when", "each", "to", "set", "ignore", "refuse")
_SHIPPED: Final = files("streams.adapters") / "mappings"


class MappingError(EbbtideError):
    """A mapping's file that cannot be used; the message names the file, the line and what is wrong."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of some events. `own` is False for a rule of the mapping that is extended."""

    names: frozenset[str]
    when: Condition | None
    each: Path | None
    topic: InputTopic | None
    fields: Table[str, Expression]
    ignore: str | None
    refuse: str | None
    own: bool


@dataclass(frozen=True, slots=True)
class Mapping:
    """A compiled mapping: see the table above."""

    name: str
    about: str
    unwrap: Sequence[tuple[Path, Condition | None]]
    event_name: Expression
    rules: Sequence[Rule]


FIELDS: Final[Table[InputTopic, tuple[str, ...]]] = {
    topic: tuple(one.alias or name for name, one in record.model_fields.items())
    for topic, record in RECORD_TYPES.items()
}
"""The fields that the records of each topic have, in their order."""


def shipped() -> list[str]:
    """The names of the mappings that Ebbtide brings."""
    return sorted(one.name.removesuffix(".yaml") for one in _SHIPPED.iterdir() if one.name.endswith(".yaml"))


def load_mapping(name: str) -> Mapping:
    """A shipped mapping, by its name, or one of a file (`.yaml`, `.yml`).

    Raises:
        UsageError: There is no such mapping.
        MappingError: The file cannot be used.
        OSError: The file cannot be read.
    """
    if name.endswith((".yaml", ".yml")):
        try:
            return _compiled(*_read(FilePath(name).read_text("utf-8"), name))
        except UnicodeDecodeError as error:
            raise MappingError(f"{name}: not UTF-8") from error
    if name not in shipped():
        raise UsageError(
            f"no mapping is called {name!r}; there are {', '.join(shipped())}, and files that end in .yaml"
        )
    return _shipped(name)


@lru_cache(maxsize=32)
def _shipped(name: str) -> Mapping:
    file = _SHIPPED / f"{name}.yaml"
    return _compiled(*_read(file.read_text("utf-8"), file.name))


@dataclass(frozen=True, slots=True)
class _Lines:
    """Where in a file what is wrong stands."""

    file: str
    lines: Table[tuple[str, ...], int]

    def error(self, at: Sequence[str | int], message: str) -> MappingError:
        """The error at a place, by its line."""
        place: tuple[str, ...] = ()
        for part in at:
            if (*place, str(part)) not in self.lines:
                break
            place = (*place, str(part))
        line = self.lines.get(place)
        where = self.file if line is None else f"{self.file}, line {line}"
        key = ".".join(map(str, at))
        return MappingError(f"{where}: {key}: {message}" if key else f"{where}: {message}")


def _read(text: str, file: str) -> tuple[dict[str, Any], _Lines]:
    try:
        read = read_mapping(text)
    except YamlTextError as error:
        raise MappingError(f"{file}: {error}") from None
    where = _Lines(file, read.lines)
    for key in read.values:
        if key not in KEYS:
            raise where.error((key,), f"no such key; there are {', '.join(KEYS)}")
    return read.values, where


def _compiled(said: dict[str, Any], where: _Lines) -> Mapping:
    base: dict[str, Any] = {}
    rules: list[Rule] = []
    fields = dict(said.get("fields") or {})
    if "extends" in said:
        name = said["extends"]
        if name not in shipped():
            raise where.error(("extends",), f"no shipped mapping is called {name!r}")
        base, inner = _read((_SHIPPED / f"{name}.yaml").read_text("utf-8"), f"{name}.yaml")
        fields = {**base["fields"], **fields}
        rules = _rules(base, fields, inner, own=False)
    whole = {**base, **{key: value for key, value in said.items() if value is not None}}
    for key in ("mapping", "event_name", "fields"):
        if key not in whole:
            raise where.error((), f"the key {key} is missing")
    try:
        unwrap = [_unwrap(one) for one in whole.get("unwrap", ["."])]
    except (PathError, ExpressionError, AttributeError, TypeError, KeyError) as error:
        raise where.error(("unwrap",), f"a list of paths is needed: {error}") from None
    return Mapping(
        str(whole["mapping"]),
        " ".join(str(whole.get("about", "")).split()),
        unwrap,
        _expression(whole["event_name"], where, ("event_name",)),
        _rules(said, fields, where, own=True) + rules,
    )


def _unwrap(said: Any) -> tuple[Path, Condition | None]:
    if isinstance(said, dict):
        return compile_path(said["path"]), compile_condition(said["when"])
    return compile_path(said), None


def _rules(said: dict[str, Any], fields: Table[str, Any], where: _Lines, *, own: bool) -> list[Rule]:
    rules = said.get("rules") or []
    if not isinstance(rules, list):
        raise where.error(("rules",), "a list is needed")
    return [_rule(one, fields, where, ("rules", number), own=own) for number, one in enumerate(rules)]


def _rule(said: Any, common: Table[str, Any], where: _Lines, at: tuple[str | int, ...], *, own: bool) -> Rule:
    if not isinstance(said, dict):
        raise where.error(at, "a rule is an object")
    for key in said:
        if key not in RULE_KEYS:
            raise where.error((*at, key), f"no such key; there are {', '.join(RULE_KEYS)}")
    if sum(key in said for key in ("to", "ignore", "refuse")) != 1:
        raise where.error(at, "a rule needs exactly one of to, ignore and refuse")
    if "event" not in said and "when" not in said:
        raise where.error(at, "a rule needs event or when")
    topic = said.get("to")
    if topic is not None and topic not in get_args(InputTopic):
        raise where.error((*at, "to"), f"{topic!r} is none of {', '.join(get_args(InputTopic))}")
    names = said.get("event", [])
    try:
        return Rule(
            frozenset(plain(name) for name in ([names] if isinstance(names, str) else names)),
            compile_condition(said["when"]) if "when" in said else None,
            compile_path(said["each"]) if "each" in said else None,
            topic,
            {} if topic is None else _fields(topic, common, said.get("set") or {}, where, at),
            said.get("ignore"),
            said.get("refuse"),
            own,
        )
    except (ExpressionError, PathError) as error:
        raise where.error(at, str(error)) from None


def _fields(
    topic: InputTopic,
    common: Table[str, Any],
    own: Table[str, Any],
    where: _Lines,
    at: tuple[str | int, ...],
) -> dict[str, Expression]:
    for name in own:
        if name not in FIELDS[topic]:
            raise where.error(
                (*at, "set", name), f"no field of {topic}; there are {', '.join(FIELDS[topic])}"
            )
    return {
        name: _expression(own[name], where, (*at, "set", name))
        if name in own
        else _expression(common[name], where, ("fields", name))
        for name in FIELDS[topic]
        if name in own or name in common
    }


def _expression(said: Any, where: _Lines, at: tuple[str | int, ...]) -> Expression:
    try:
        return compile_expression(said)
    except ExpressionError as error:
        raise where.error(at, str(error)) from None
