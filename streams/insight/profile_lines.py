"""Files of profiles, as `ebbtide profiles` and `ebbtide replay` write them: one a line, and one a customer."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from enrichment.money import MICROS_PER_UNIT
from enrichment.tiers.population import MONEY
from schemas.profiles import ADDED_TRAITS, CustomerProfile
from schemas.rejection import MALFORMED, rejection
from streams.console.refusals import Example, Refusals
from streams.errors import EbbtideError
from streams.replay.reading import read_lines

Field = tuple[str | int, ...]

_DECLARED: Final = ("traits", "declared")
_WORDS: Final = {
    "model_type": "Input should be an object",
    "dict_type": "Input should be an object",
}
"""For the messages of pydantic that name Python's types instead of JSON's."""
_validate: Final = CustomerProfile.__pydantic_validator__.validate_python
_LARGEST_AMOUNT: Final = Decimal(2**63 - 1) / MICROS_PER_UNIT
"""Sums of money are 64-bit integers of micro-units."""


class _Refusal(Exception):
    """A line that is no profile: why, and in which field of it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def read_profiles(path: Path, refusals: Refusals | None = None) -> Iterator[dict[str, Any]]:
    """The profiles of a file, each checked; blank lines are passed over.

    Lines that are no profile are counted in `refusals`. Unless it allows some, one of them is one too many.

    Raises:
        EbbtideError: Lines are no profiles, or their customers have been there, and no or too many of them are allowed;
            with the line and the field.
        OSError: The file cannot be read.
    """
    refusals = refusals or Refusals("profiles")
    name, line_of = str(path), dict[str, int]()
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        refusals.read += 1
        try:
            profile = _profile(line, number, line_of)
        except _Refusal as refused:
            refusals.add(refused.reason, Example(name, number, str(refused)))
        else:
            refusals.accepted += 1
            yield profile
    if refusals.refused and refusals.fail_over is None:
        raise EbbtideError(_told(refusals))
    refusals.check()


def _told(refusals: Refusals) -> str:
    """The first line that was refused, and where it was not the only one, all of them."""
    first = min(refusals.examples.values())
    told = f"{first.where}, line {first.line}: no profile: {first.message}"
    return told if refusals.refused == 1 else f"{told}; {refusals.in_one_line()}"


def _profile(line: bytes, number: int, line_of: dict[str, int]) -> dict[str, Any]:
    """The profile in a line; `line_of` has the customers before it."""
    try:
        profile: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _Refusal("not JSON", f"not JSON: {error}") from error
    if type(profile) is not dict:
        raise _Refusal("not a JSON object", "not a JSON object")
    traits = profile.get("traits")
    if isinstance(traits, dict) and not any(name in traits for name in ADDED_TRAITS):
        profile["traits"] = dict.fromkeys(ADDED_TRAITS) | traits
    try:
        _validate(profile)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _refused(*_problem(first)) from error
    _check_together(profile)
    earlier = line_of.setdefault(profile["customer_id"], number)
    if earlier != number:
        raise _refused(("customer_id",), f"the customer of line {earlier} again", "a customer again")
    return profile


def _check_together(profile: dict[str, Any]) -> None:
    """What a field alone does not show: standings and scores are whole or not there, and money can be added up."""
    for part in ("scores", "standing"):
        fields = profile[part]
        missing = [name for name, value in fields.items() if value is None]
        if missing and len(missing) < len(fields):
            raise _refused((part, missing[0]), "null, where others beside it are not")
    for name in MONEY:
        part = "aggregates" if name in profile["aggregates"] else "traits"
        amount = profile[part][name]
        if amount is not None and abs(Decimal(amount)) > _LARGEST_AMOUNT:
            raise _refused((part, name), f"beyond {_LARGEST_AMOUNT:,.0f}, more than can be added up")


def _problem(details: ErrorDetails) -> tuple[Field, str]:
    """Where a problem is, and what it is."""
    where = details["loc"]
    if where[:2] == _DECLARED and len(where) > len(_DECLARED) + 1:
        # pydantic goes on with each of the types that an answer may have.
        return where[: len(_DECLARED) + 1], "Input should be a string, a number, true or false"
    return where, _WORDS.get(details["type"], details["msg"])


def _refused(where: Field, message: str, reason: str | None = None) -> _Refusal:
    """Profiles are told apart by field and message, since all of them are malformed."""
    told = rejection(MALFORMED, where, message).message
    return _Refusal(reason or told, told)
