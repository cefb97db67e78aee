"""What a mapping may do to a value on its way: amounts, times, texts.

Each takes one value as JSON has it, with numbers as `int` and `Decimal`, and gives the value of a record. None of them
is ever given null.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation, localcontext
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from enrichment.money import minor_unit_digits
from schemas.amounts import MICROS_DIGITS
from schemas.timestamps import parse_timestamp

MOST_DIGITS: Final = 40
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_US: Final = 1_000_000
_TRUTH: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "yes", "1", "t", "y"), True),
    **dict.fromkeys(("false", "no", "0", "f", "n", ""), False),
}
_SPACED_OFFSET: Final = re.compile(r"\s+(?=[+-]\d\d:?\d\d$|Z$|UTC$|GMT$)", re.IGNORECASE)
_OFFSET_WITHOUT_COLON: Final = re.compile(r"([+-]\d\d)(\d\d)$")
_ZULU: Final = re.compile(r"\s*(?:UTC|GMT)$", re.IGNORECASE)
_HAS_OFFSET: Final = re.compile(r"(?:Z|[+-]\d\d:\d\d)$", re.IGNORECASE)
_NO_SECONDS: Final = re.compile(r"([T ]\d\d:\d\d)(?=$|Z|[+-])", re.IGNORECASE)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_NUMBER: Final = re.compile(r"\s*\d+(\.\d+)?\s*")
_PROXY_AGENT: Final = re.compile(
    r"GoogleImageProxy|ggpht\.com|YahooMailProxy|YahooCacheSystem|OutlookImageProxy|^Mozilla/5\.0$",
    re.IGNORECASE,
)
"""Proxies of mail readers fetch pictures for people, or in their place. Apple's gives `Mozilla/5.0` and no more."""


class ValueUnfitError(ValueError):
    """A value that a function cannot take; the message says what it takes."""


def number_of(value: Any) -> Decimal:
    """A number, or the number that a text is.

    Raises:
        ValueUnfitError: It is neither, or has more than `MOST_DIGITS` digits.
    """
    if isinstance(value, bool) or not isinstance(value, (int, Decimal, str)):
        raise ValueUnfitError("not a number")
    try:
        number = Decimal(value.strip() if isinstance(value, str) else value)
    except InvalidOperation:
        raise ValueUnfitError("not a number") from None
    if not number.is_finite() or abs(number.adjusted()) > MOST_DIGITS:
        raise ValueUnfitError("not a number that an amount can be")
    return number


def decimal(value: Any) -> str:
    """A decimal text, without exponent, of at most 6 decimals (half-even): `Decimal("22.50")` → `"22.50"`.

    More decimals are what a program's binary fractions leave behind, such as 0.30000000000000004.
    """
    number = number_of(value)
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -MICROS_DIGITS:
        with localcontext(prec=3 * MOST_DIGITS):
            number = number.quantize(Decimal(1).scaleb(-MICROS_DIGITS), ROUND_HALF_EVEN)
    return f"{number:f}"


def absolute(value: Any) -> str:
    """The decimal text of an amount without its sign: some write what they paid back as negative."""
    return decimal(abs(number_of(value)))


def from_minor_units(value: Any, currency: str) -> str:
    """The decimal text of an amount in cents, or whatever is the minor unit of `currency`: `(1999, "EUR")` → `"19.99"`.

    Raises:
        ValueUnfitError: It is no whole number.
    """
    number = number_of(value)
    if number != number.to_integral_value():
        raise ValueUnfitError("minor units are whole numbers")
    return f"{number.scaleb(-minor_unit_digits(currency.upper())):f}"


def time(value: Any, zone: str | None = None) -> str:
    """RFC 3339 in UTC, of a text with date and time; one without an offset is in `zone` (`Europe/Paris`).

    Raises:
        ValueUnfitError: No time, or without an offset where the mapping names no zone.
    """
    if not isinstance(value, str):
        raise ValueUnfitError("a time is text here")
    text = _SPACED_OFFSET.sub("", value.strip())
    text = _NO_SECONDS.sub(r"\1:00", _OFFSET_WITHOUT_COLON.sub(r"\1:\2", _ZULU.sub("Z", text)))
    if _DATE.fullmatch(text):
        text += "T00:00:00"
    if not _HAS_OFFSET.search(text[10:]):
        if zone is None:
            raise ValueUnfitError("a time without an offset, and the mapping names no zone")
        try:
            local = datetime.fromisoformat(text)
        except ValueError:
            raise ValueUnfitError("not a time") from None
        return _rfc_3339((local.replace(tzinfo=ZoneInfo(zone)) - _EPOCH) // timedelta(microseconds=1))
    return _rfc_3339(microseconds(text))


def is_zone(name: Any) -> bool:
    """Whether this names a time zone."""
    try:
        return bool(ZoneInfo(name).key)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        return False


def microseconds(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time.

    Raises:
        ValueUnfitError: It is none.
    """
    try:
        return parse_timestamp(text)
    except ValueError as error:
        raise ValueUnfitError(str(error)) from None


def unix(value: Any) -> str:
    """RFC 3339 in UTC, of seconds, milliseconds or microseconds since 1970, told apart by their size.

    Below 10¹¹ they are seconds (up to the year 5138), below 10¹⁴ milliseconds (from 1973 on).
    """
    number = number_of(value)
    scale = _SECOND_US if abs(number) < 10**11 else 1_000 if abs(number) < 10**14 else 1
    return _rfc_3339(int(number * scale))


def moment(value: Any, zone: str | None = None) -> str:
    """RFC 3339 in UTC, of a number as `unix` takes it or of a text as `time` does."""
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return time(value, zone)
    return unix(value)


def _rfc_3339(at_us: int) -> str:
    try:
        at = _EPOCH + timedelta(microseconds=at_us)
    except OverflowError:
        raise ValueUnfitError("the year is outside 1970-9999 (UTC)") from None
    precision = "microseconds" if at_us % 1_000 else "milliseconds" if at_us % _SECOND_US else "seconds"
    return at.isoformat(timespec=precision).replace("+00:00", "Z")


def corrected(original: str, sent: str, received: str) -> str:
    """When it happened by the receiver's clock: received − (sent − original), all RFC 3339.

    A device's clock may be wrong by years; it is as wrong when the event is sent, and the difference takes it out.
    """
    return _rfc_3339(microseconds(received) - (microseconds(sent) - microseconds(original)))


def text(value: Any) -> str:
    """Text as it is, and numbers as text.

    Raises:
        ValueUnfitError: An object, a list or a truth value.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        raise ValueUnfitError("neither text nor a number")
    return (
        value.strip()
        if isinstance(value, str)
        else f"{value:f}"
        if isinstance(value, Decimal)
        else str(value)
    )


def lower(value: Any) -> str:
    """In lower case, as addresses of e-mail are compared."""
    return text(value).lower()


def upper(value: Any) -> str:
    """In upper case, as codes of currencies are written."""
    return text(value).upper()


def truth(value: Any) -> bool:
    """True or false, however it is usually written.

    Raises:
        ValueUnfitError: It is neither.
    """
    if isinstance(value, bool):
        return value
    known = _TRUTH.get(str(value).strip().lower())
    if known is None:
        raise ValueUnfitError("neither true nor false")
    return known


def number(value: Any) -> int | float:
    """A number of a record that is no amount, such as a quantity."""
    found = number_of(value)
    return int(found) if found == found.to_integral_value() else float(found)


def proxy(value: Any) -> bool:
    """Whether a user agent is a mail reader's proxy, which opens mails without anybody looking."""
    return bool(_PROXY_AGENT.search(text(value)))


def digest(value: Any) -> str:
    """32 hexadecimal digits that depend on the value alone, for ids where a source has none."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:32]


FUNCTIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "absolute": absolute,
    "decimal": decimal,
    "hash": digest,
    "lower": lower,
    "number": number,
    "proxy": proxy,
    "text": text,
    "truth": truth,
    "unix": unix,
    "upper": upper,
}
"""By the name that a mapping calls them; `time`, `moment` and `minor_units` take one thing more."""
