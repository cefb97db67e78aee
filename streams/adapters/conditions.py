"""When a rule of a mapping applies: what must stand at which path.

```yaml
when: {properties.test: true}                        # this value; names are compared without case, dashes, underscores
when: {action: [add, change]}                        # one of these
when: {context.consent: {exists: true}}              # anything at all, or nothing with false
when: {sessionId: {matches: '[a-z]+'}}               # the whole text fits a pattern; `lacks` for one that does not
when: {updated_at: {differs: created_at}}            # both are there, and are not the same
when: [{a: 1}, {b: 1}]                               # the one or the other
```

All tests of an object must hold. A path that finds several values holds where one of them does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from streams.adapters.expressions import ExpressionError, plain
from streams.adapters.paths import Path, PathError, Scope, compile_path

Condition = Callable[[Scope], bool]
Test = Callable[[list[Any], Scope], bool]

_TESTS: Final = ("exists", "matches", "lacks", "differs")


def compile_condition(said: Any) -> Condition:
    """Whether an event meets what a mapping says.

    Raises:
        ExpressionError: It says nothing that can be tested.
    """
    if isinstance(said, list) and said:
        alternatives = [compile_condition(one) for one in said]
        return lambda scope: any(one(scope) for one in alternatives)
    if not isinstance(said, Mapping) or not said:
        raise ExpressionError("a condition is an object, from paths to what must stand there")
    tests = [_compile_test(str(path), wanted) for path, wanted in said.items()]
    return lambda scope: all(test(scope) for test in tests)


def _path(text: str) -> Path:
    try:
        return compile_path(text)
    except PathError as error:
        raise ExpressionError(str(error)) from None


def _compile_test(text: str, wanted: Any) -> Condition:
    path = _path(text)
    test = _special(wanted) if isinstance(wanted, Mapping) else _equal(wanted)
    return lambda scope: test(path.find_all(scope), scope)


def _equal(wanted: Any) -> Test:
    names = {plain(one) for one in (wanted if isinstance(wanted, list) else [wanted])}
    return lambda values, _: any(not isinstance(one, (dict, list)) and plain(one) in names for one in values)


def _special(wanted: Mapping[str, Any]) -> Test:
    if len(wanted) != 1 or next(iter(wanted)) not in _TESTS:
        raise ExpressionError(f"a test is a value, a list of values, or one of {', '.join(_TESTS)}")
    ((name, argument),) = wanted.items()
    if name == "exists":
        if not isinstance(argument, bool):
            raise ExpressionError("exists is true or false")
        return lambda values, _: bool(values) is argument
    if name == "differs":
        other = _path(str(argument))
        return lambda values, scope: (
            bool(values) and other.find(scope) is not None and values[0] != other.find(scope)
        )
    try:
        pattern = re.compile(str(argument), re.IGNORECASE)
    except re.error as error:
        raise ExpressionError(f"{argument!r} is no pattern: {error}") from None

    def fits(value: Any) -> bool:
        return not isinstance(value, (dict, list)) and pattern.fullmatch(str(value)) is not None

    if name == "matches":
        return lambda values, _: any(fits(one) for one in values)
    return lambda values, _: bool(values) and not all(fits(one) for one in values)
