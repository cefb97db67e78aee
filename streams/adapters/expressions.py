"""The right-hand sides of a mapping: where a field's value comes from, and what is done to it.

| in a mapping | what it gives |
|---|---|
| `properties.order_id` | the value at this path |
| `{path: P, as: decimal}` | the same, through one function or a list of them |
| `{first_of: [A, B]}` | the first that is there |
| `{value: V}` | V itself |
| `{hash: [A, B]}` | 32 digits that depend on these alone |
| `{minus: [A, B, …]}` | an amount less others; absent ones count as 0, and it is never less than 0 |
| `{sum: P}` | the sum of all amounts at this path |
| `{product: [A, B]}` | an amount times a number, which is 1 where it is absent |
| `{corrected: [ORIGINAL, SENT, RECEIVED]}` | the time by the receiver's clock |
| `{any: [A, B]}` | true where one of these is |
| `{entries: P, of: {FIELD: …}}` | a list of objects, for `items` |
| `{flat: P, without: […]}` | texts, numbers and truth values of an object, as texts; `only` names those to take |

Each may have `as`, `zone` (for `time` and `moment`), `currency` (for `minor_units`), `table` (from one text to another
value) and `default`. A table has what is not in it for absent, unless it has the key `else`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

from streams.adapters.functions import (
    FUNCTIONS,
    ValueUnfitError,
    corrected,
    decimal,
    digest,
    from_minor_units,
    is_zone,
    moment,
    number_of,
    text,
    time,
    truth,
)
from streams.adapters.paths import Path, PathError, Scope, compile_path

MODIFIERS: Final = frozenset({"as", "zone", "currency", "table", "default", "without", "only", "of"})
ELSE: Final = "else"
_MISSING: Final = "missing"


class ExpressionError(ValueError):
    """A right-hand side that cannot be used; the message says why."""


class FieldError(ValueError):
    """A value of an event that cannot be taken: where it is, and what is wrong with it."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


class Found(NamedTuple):
    """A value, and the path at which it was."""

    value: Any
    path: str


Function = Callable[[Any, Scope], Any]


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled right-hand side; `paths` are all that it looks at, for the message where nothing is there."""

    find: Callable[[Scope], Found | None]
    paths: tuple[str, ...]
    functions: tuple[Function, ...] = ()
    default: Any = field(default=None)

    def evaluate(self, scope: Scope) -> Found | None:
        """The value in an event, or None where there is none.

        Raises:
            FieldError: A function cannot take what is there.
        """
        found = self.find(scope)
        if found is not None:
            value = found.value
            try:
                for function in self.functions:
                    value = function(value, scope)
                    if value is None:
                        break
            except ValueUnfitError as error:
                raise FieldError(found.path, str(error)) from None
            found = None if value is None or value == "" else Found(value, found.path)
        if found is None and self.default is not None:
            return Found(self.default, "default")
        return found

    def missing(self) -> str:
        """The paths, for a message."""
        return ", ".join(dict.fromkeys(self.paths)) or "$"


def compile_expression(said: Any) -> Expression:
    """The expression that a mapping's text or object describes.

    Raises:
        ExpressionError: It describes none.
    """
    if isinstance(said, str):
        return _of_path(said)
    if not isinstance(said, Mapping):
        raise ExpressionError("a path (text) or an object such as {first_of: [...]} is needed")
    kinds = [key for key in said if key not in MODIFIERS]
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        raise ExpressionError(
            f"exactly one of {', '.join(_KINDS)} is needed, not {', '.join(map(str, kinds)) or 'none'}"
        )
    base = _KINDS[kinds[0]](said[kinds[0]], said)
    return Expression(base.find, base.paths, tuple(_functions(said)), said.get("default"))


# ---------------------------------------------------------------- where a value comes from


def _path(said: Any) -> Path:
    try:
        return compile_path(said) if isinstance(said, str) else _refuse("a path is text")
    except PathError as error:
        raise ExpressionError(str(error)) from None


def _refuse(message: str) -> Any:
    raise ExpressionError(message)


def _of_path(said: Any, _: Mapping[str, Any] | None = None) -> Expression:
    path = _path(said)

    def find(scope: Scope) -> Found | None:
        value = path.find_all(scope) if path.is_many else path.find(scope)
        return None if value is None or value in ("", []) else Found(value, path.text)

    return Expression(find, (path.text,))


def _inner(said: Any) -> list[Expression]:
    if not isinstance(said, Sequence) or isinstance(said, str) or not said:
        raise ExpressionError("a list is needed")
    return [compile_expression(one) for one in said]


def _paths_of(inner: Sequence[Expression]) -> tuple[str, ...]:
    return tuple(path for one in inner for path in one.paths)


def _first_of(said: Any, _: Mapping[str, Any]) -> Expression:
    inner = _inner(said)

    def find(scope: Scope) -> Found | None:
        return next((found for one in inner if (found := one.evaluate(scope)) is not None), None)

    return Expression(find, _paths_of(inner))


def _value(said: Any, _: Mapping[str, Any]) -> Expression:
    return Expression(lambda _: Found(said, "the mapping"), ())


def _hash(said: Any, _: Mapping[str, Any]) -> Expression:
    inner = _inner(said)

    def find(scope: Scope) -> Found | None:
        values = [found and found.value for found in (one.evaluate(scope) for one in inner)]
        if all(value is None for value in values):
            return None
        return Found(digest(values), f"hash of {', '.join(_paths_of(inner))}")

    return Expression(find, _paths_of(inner))


def _minus(said: Any, _: Mapping[str, Any]) -> Expression:
    first, *others = _inner(said)

    def find(scope: Scope) -> Found | None:
        found = first.evaluate(scope)
        if found is None:
            return None
        rest, paths = _amount(found), [found.path]
        for one in others:
            if (less := one.evaluate(scope)) is not None:
                rest -= _amount(less)
                paths.append(less.path)
        return Found(decimal(max(rest, Decimal(0))), " − ".join(paths))

    return Expression(find, first.paths)


def _product(said: Any, _: Mapping[str, Any]) -> Expression:
    first, *others = _inner(said)

    def find(scope: Scope) -> Found | None:
        found = first.evaluate(scope)
        if found is None:
            return None
        total, paths = _amount(found), [found.path]
        for one in others:
            if (factor := one.evaluate(scope)) is not None:
                total *= _amount(factor)
                paths.append(factor.path)
        return Found(decimal(total), " × ".join(paths))

    return Expression(find, first.paths)


def _sum(said: Any, _: Mapping[str, Any]) -> Expression:
    path = _path(said)

    def find(scope: Scope) -> Found | None:
        values = path.find_all(scope)
        if not values:
            return None
        return Found(decimal(sum((_amount(Found(one, path.text)) for one in values), Decimal(0))), path.text)

    return Expression(find, (path.text,))


def _amount(found: Found) -> Decimal:
    try:
        return number_of(found.value)
    except ValueUnfitError as error:
        raise FieldError(found.path, str(error)) from None


def _corrected(said: Any, _: Mapping[str, Any]) -> Expression:
    inner = _inner(said)
    if len(inner) != 3:
        raise ExpressionError("corrected takes three times: original, sent, received")

    def find(scope: Scope) -> Found | None:
        there = [found for one in inner if (found := one.evaluate(scope)) is not None]
        if len(there) < len(inner):
            return None
        original, sent, received = there
        try:
            at = corrected(*(time(one.value) for one in there))
        except ValueUnfitError as error:
            raise FieldError(", ".join(one.path for one in there), str(error)) from None
        return Found(at, f"{received.path} − ({sent.path} − {original.path})")

    return Expression(find, _paths_of(inner))


def _any(said: Any, _: Mapping[str, Any]) -> Expression:
    inner = _inner(said)

    def find(scope: Scope) -> Found | None:
        there = [found for one in inner if (found := one.evaluate(scope)) is not None]
        try:
            told = [found for found in there if truth(found.value)]
        except ValueUnfitError as error:
            raise FieldError(", ".join(one.path for one in there), str(error)) from None
        return Found(bool(told), (told or there)[0].path) if there else None

    return Expression(find, _paths_of(inner))


def _entries(said: Any, options: Mapping[str, Any]) -> Expression:
    path, of = _path(said), options.get("of")
    if not isinstance(of, Mapping) or not of:
        raise ExpressionError("entries need `of`: the fields of each entry")
    fields = {str(name): compile_expression(one) for name, one in of.items()}

    def find(scope: Scope) -> Found | None:
        entries = path.find_all(scope)
        if not path.is_many:
            entries = [one for value in entries for one in (value if isinstance(value, list) else [value])]
        made = [
            {
                name: found.value
                for name, one in fields.items()
                if (found := one.evaluate(scope._replace(entry=entry))) is not None
            }
            for entry in entries
            if isinstance(entry, dict)
        ]
        return Found(made, path.text) if made else None

    return Expression(find, (path.text,))


def _flat(said: Any, options: Mapping[str, Any]) -> Expression:
    path, without, only = _path(said), {*options.get("without", ())}, options.get("only")

    def find(scope: Scope) -> Found | None:
        value = path.find(scope)
        if not isinstance(value, dict):
            return None
        flat = {
            name: str(one).lower() if isinstance(one, bool) else text(one)
            for name, one in value.items()
            if isinstance(one, (str, bool, int, Decimal))
            and one != ""
            and name not in without
            and (only is None or name in only)
        }
        return Found(flat, path.text) if flat else None

    return Expression(find, (path.text,))


_KINDS: Final[Mapping[str, Callable[[Any, Mapping[str, Any]], Expression]]] = {
    "path": _of_path,
    "first_of": _first_of,
    "value": _value,
    "hash": _hash,
    "minus": _minus,
    "sum": _sum,
    "product": _product,
    "corrected": _corrected,
    "any": _any,
    "entries": _entries,
    "flat": _flat,
}


# ---------------------------------------------------------------- what is done to it


def _functions(said: Mapping[str, Any]) -> list[Function]:
    names = said.get("as", [])
    functions = [_function(name, said) for name in ([names] if isinstance(names, str) else names)]
    if "table" in said:
        functions.append(_table(said["table"]))
    return functions


def _function(name: Any, said: Mapping[str, Any]) -> Function:
    zone = said.get("zone")
    if zone is not None and not is_zone(zone):
        raise ExpressionError(f"no time zone is called {zone!r}; one is called Europe/Berlin")
    if name == "time":
        return lambda value, _: time(value, zone)
    if name == "moment":
        return lambda value, _: moment(value, zone)
    if name == "minor_units":
        currency = compile_expression(said.get("currency") or _refuse("minor_units needs `currency`: a path"))
        return lambda value, scope: from_minor_units(value, _currency(currency, scope))
    function = FUNCTIONS.get(name) if isinstance(name, str) else None
    if function is None:
        known = ", ".join(sorted({*FUNCTIONS, "time", "moment", "minor_units"}))
        raise ExpressionError(f"no function is called {name!r}; there are {known}")
    return lambda value, _: function(value)


def _currency(of: Expression, scope: Scope) -> str:
    found = of.evaluate(scope)
    if found is None:
        raise FieldError(of.missing(), _MISSING)
    return text(found.value)


def _table(said: Any) -> Function:
    if not isinstance(said, Mapping):
        raise ExpressionError("a table is an object: from a text to a value")
    rows = {plain(name): value for name, value in said.items()}
    otherwise = said.get(ELSE)
    return lambda value, _: rows.get(plain(value), otherwise)


def plain(value: Any) -> str:
    """A name as names are compared: in lower case, with one space for any spaces, dashes and underscores."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join(str(value).lower().replace("_", " ").replace("-", " ").split())
