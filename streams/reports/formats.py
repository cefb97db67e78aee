"""Values as people read them: the filters of the report's templates, and which values of a report fit into a cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

_NAMES: Final = {
    "bg_nbd": "BG/NBD",
    "pareto_nbd": "Pareto/NBD",
    "gamma_gamma": "Gamma-Gamma",
    "auc_probability_active": "AUC of the probability of being active",
    "auc_churn_risk": "AUC of churn risk, reversed",
    "auc_recency": "AUC of recency, reversed",
    "lived": "as lived",
}
DASH: Final = "–"
"""In place of what is not defined."""
LONGEST_CELL: Final = 60


def shown(value: Any) -> str:
    """Any value as text, by its type; markup stays markup."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return number(value)
    return value if isinstance(value, str) else str(value)


def number(value: float | None) -> str:
    """An integer in full; else four significant digits at least, and no more decimals than that takes."""
    if value is None or not math.isfinite(value):
        return DASH
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e7:
        return f"{value:.4g}"
    decimals = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 1 else 4
    rounded = f"{value:,.{decimals}f}"
    return f"{value:.3g}" if float(rounded.replace(",", "")) == 0 else rounded


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage."""
    return DASH if value is None else f"{100 * value:.{digits}f}%"


def precise(value: float | Sequence[object] | None) -> str:
    """A fitted number: three decimals, as they are published, and four digits where it is small or huge.

    A whole table of numbers is told by its size: its numbers are for the machine, and in the JSON report.
    """
    if value is None:
        return DASH
    if isinstance(value, (int, float)):
        return f"{value:,.3f}" if 0.1 <= abs(value) < 1e6 else f"{value:.4g}"
    if value and isinstance(value[0], list):
        return f"{len(value)} × {len(value[0])} numbers"
    return f"{len(value)} numbers"


def money(value: float | None) -> str:
    """An amount with two decimals; its currency is in the column's heading."""
    return DASH if value is None else f"{value:,.2f}"


def words(name: object) -> str:
    """A key as people read it."""
    return _NAMES.get(str(name)) or str(name).replace("_", " ")


def title(name: object) -> str:
    """A key as the beginning of a line."""
    told = words(name)
    return told[:1].upper() + told[1:]


def plain(value: Any) -> str:
    """A value of which nothing particular is known, in one cell."""
    if isinstance(value, Mapping):
        return ", ".join(f"{words(key)} {plain(part)}" for key, part in value.items()) or DASH
    if isinstance(value, list):
        return ", ".join(plain(part) for part in value) or DASH
    return _NAMES.get(value, value) or DASH if isinstance(value, str) else shown(value)


def named(parts: Mapping[str, Mapping[str, Any]], key: str = "name") -> list[dict[str, Any]]:
    """Things of one kind by their names, as rows that have their name too, under `key`."""
    return [{key: name, **part} for name, part in parts.items()]


def keys_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of all rows, each once."""
    return list(dict.fromkeys(key for row in rows for key in row))


def is_wordy(column: Sequence[object]) -> bool:
    """Whether a column has words in it, and nothing else: it is aligned to the left."""
    told = [value for value in column if value is not None]
    return bool(told) and all(
        isinstance(value, (str, list, Mapping)) and not isinstance(value, Markup) for value in told
    )


def is_short(part: Any) -> bool:
    """Whether a value fits into one cell."""
    if isinstance(part, list):
        return not any(isinstance(one, (dict, list)) for one in part) and len(plain(part)) <= LONGEST_CELL
    if isinstance(part, str):
        return len(part) <= LONGEST_CELL
    return not isinstance(part, dict) or not part


def is_grid(part: Any) -> bool:
    """Whether a value is several things of one kind by their names, each told in cells."""
    return (
        isinstance(part, dict)
        and len(part) > 1
        and all(
            isinstance(row, dict)
            and row
            and all(isinstance(cell, str) or is_short(cell) for cell in row.values())
            for row in part.values()
        )
    )


def is_rows(part: Any) -> bool:
    """Whether a value is a list of things of one kind."""
    return isinstance(part, list) and bool(part) and all(isinstance(row, dict) for row in part)
