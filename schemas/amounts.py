"""Amounts of money as they are written in input records."""

from __future__ import annotations

from typing import Final

from schemas.rejection import OUT_OF_RANGE, RefusedError

MICROS_DIGITS: Final = 6
MAX_WHOLE_DIGITS: Final = 15
AMOUNT_PATTERN: Final = rf"^0*[0-9]{{1,{MAX_WHOLE_DIGITS}}}(\.[0-9]{{1,{MICROS_DIGITS}}})?$"
"""What `parse_amount` takes, as a pattern for JSON Schema."""

_SCALE: Final[tuple[int, ...]] = (1_000_000, 100_000, 10_000, 1_000, 100, 10, 1)


def parse_amount(text: str) -> int:
    """Micro-units of whatever currency `text` is in: `"12.5"` → `12_500_000`.

    A plain decimal, 0 or more: ASCII digits, at most one point with digits on both sides, no sign, exponent,
    spaces or separators. The result is below 10²¹, which exceeds 64 bits; the limit of the contract (10⁹ base
    units) needs the model's rates and is not checked here.

    Raises:
        RefusedError: `Malformed` for any other text; `OutOfRange` for more than 6 decimals (zeros count too)
            or 10¹⁵ units and more.
    """
    whole, point, fraction = text.partition(".")
    if not (text.isascii() and whole.isdigit() and (fraction.isdigit() or not point)):
        raise RefusedError('an amount is a plain decimal string, 0 or more, such as "12.50"')
    if len(fraction) > MICROS_DIGITS:
        raise RefusedError(f"an amount has at most {MICROS_DIGITS} decimals", reason=OUT_OF_RANGE)
    if len(whole) > MAX_WHOLE_DIGITS:
        whole = whole.lstrip("0") or "0"
        if len(whole) > MAX_WHOLE_DIGITS:
            raise RefusedError("the amount is too large", reason=OUT_OF_RANGE)
    return int(whole + fraction) * _SCALE[len(fraction)]
