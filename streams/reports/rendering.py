"""Pages from the templates beside this file: all text is escaped, and a name that is not defined is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_environment

from streams.reports import formats

MAX_ROWS: Final = 100
"""A longer list is cut in the page, which says so; the JSON report has all of it."""
FILTERS: Final = (
    formats.keys_of,
    formats.money,
    formats.named,
    formats.number,
    formats.percent,
    formats.plain,
    formats.precise,
    formats.shown,
    formats.title,
    formats.words,
)
NUMERIC: Final = ("money", "number", "percent", "precise")
"""Filters whose columns are never aligned as words."""


def render(template: str, **values: Any) -> str:
    """A page from the template of this name; the same values give the same page."""
    return environment().get_template(template).render(values)


@cache
def environment() -> Environment:
    """The templates and all that they may use."""
    made = Environment(
        loader=PackageLoader("streams.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {each.__name__: each for each in FILTERS}
    made.filters["columns"] = columns
    made.tests |= {
        "short": formats.is_short,
        "grid": formats.is_grid,
        "rows": formats.is_rows,
    }
    made.globals["MAX_ROWS"] = MAX_ROWS
    return made


class Column(NamedTuple):
    """A column of a table, with a cell for each row."""

    heading: str
    is_wordy: bool
    cells: list[str]


@pass_environment
def columns(templates: Environment, rows: Sequence[Any], wanted: Sequence[tuple[Any, ...]]) -> list[Column]:
    """The columns of a table.

    Each one wanted is a heading, a key, and what shows its values: the name of a filter, or a macro; `shown`, where
    there is none. The key is that of rows that are mappings, or a place in rows that are sequences.
    """
    found = []
    for heading, key, *forms in wanted:
        values = [row.get(key) if isinstance(row, Mapping) else row[key] for row in rows]
        form = forms[0] if forms else "shown"
        show = templates.filters[form] if isinstance(form, str) else form
        is_wordy = form not in NUMERIC and formats.is_wordy(values)
        found.append(Column(heading, is_wordy, [show(value) for value in values]))
    return found
