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
from enrichment.roster import MONEY
from schemas.dead_letters import MALFORMED, rejection
from schemas.profiles import CustomerProfile
from streams.errors import EbbtideError
from streams.replay_log import read_lines

Field = tuple[str | int, ...]

_DECLARED: Final = ("traits", "declared")
_WORDS: Final = {
    "model_type": "Input should be an object",
    "dict_type": "Input should be an object",
}
"""For the messages of pydantic that name Python's types instead of JSON's."""
_LARGEST_AMOUNT: Final = Decimal(2**63 - 1) / MICROS_PER_UNIT
"""Sums of money are 64-bit integers of micro-units."""


def read_profiles(path: Path) -> Iterator[dict[str, Any]]:
    """The profiles of a file, each checked; blank lines are passed over.

    Raises:
        EbbtideError: A line is no profile, or its customer has been there; with the line and the field.
        OSError: The file cannot be read.
    """
    validate = CustomerProfile.__pydantic_validator__.validate_python
    line_of: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            profile = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise EbbtideError(f"{path}, line {number}: no profile: not JSON: {error}") from error
        if type(profile) is not dict:
            raise EbbtideError(f"{path}, line {number}: no profile: not a JSON object")
        try:
            validate(profile)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise _refused(path, number, *_problem(first)) from error
        _check_together(path, number, profile)
        earlier = line_of.setdefault(profile["customer_id"], number)
        if earlier != number:
            raise _refused(path, number, ("customer_id",), f"the customer of line {earlier} again")
        yield profile


def _check_together(path: Path, number: int, profile: dict[str, Any]) -> None:
    """What a field alone does not show: standings and scores are whole or not there, and money can be added up."""
    for part in ("scores", "standing"):
        fields = profile[part]
        missing = [name for name, value in fields.items() if value is None]
        if missing and len(missing) < len(fields):
            raise _refused(path, number, (part, missing[0]), "null, where others beside it are not")
    for name in MONEY:
        part = "aggregates" if name in profile["aggregates"] else "traits"
        amount = profile[part][name]
        if amount is not None and abs(Decimal(amount)) > _LARGEST_AMOUNT:
            raise _refused(
                path, number, (part, name), f"beyond {_LARGEST_AMOUNT:,.0f}, more than can be added up"
            )


def _problem(details: ErrorDetails) -> tuple[Field, str]:
    """Where a problem is, and what it is."""
    where = details["loc"]
    if where[:2] == _DECLARED and len(where) > len(_DECLARED) + 1:
        # pydantic goes on with each of the types that an answer may have.
        return where[: len(_DECLARED) + 1], "Input should be a string, a number, true or false"
    return where, _WORDS.get(details["type"], details["msg"])


def _refused(path: Path, number: int, where: Field, message: str) -> EbbtideError:
    return EbbtideError(f"{path}, line {number}: no profile: {rejection(MALFORMED, where, message).message}")
