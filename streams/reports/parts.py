"""Pieces of the report's page: escaped text, numbers as people read them, tables, and the style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any, Final

from schemas.documents import Document

Row = Sequence[object]

_NAMES: Final = {
    "bg_nbd": "BG/NBD",
    "pareto_nbd": "Pareto/NBD",
    "gamma_gamma": "Gamma-Gamma",
    "auc_probability_active": "AUC of the probability of being active",
    "auc_churn_risk": "AUC of churn risk, reversed",
    "auc_recency": "AUC of recency, reversed",
}
LONGEST_CELL: Final = 60
MAX_ROWS: Final = 100
"""A longer list is cut in the page, which says so; the JSON report has all of it."""


class Markup(str):
    """Text that is HTML already; all other text is escaped."""

    __slots__ = ()


class Words(Markup):
    """HTML that is read as words: its column is aligned to the left."""

    __slots__ = ()


def flagged(value: object, is_bad: bool) -> Words:
    """A word that stands out where it says something bad."""
    return Words(f'<span class="bad">{text(value)}</span>' if is_bad else text(value))


def text(value: object) -> Markup:
    """Any value as escaped text; what is not defined is a dash."""
    if isinstance(value, Markup):
        return value
    if value is None or value == "":
        return Markup("–")
    if isinstance(value, bool):
        return Markup("yes" if value else "no")
    if isinstance(value, int):
        return Markup(f"{value:,}")
    if isinstance(value, float):
        return Markup(number(value))
    return Markup(escape(str(value)))


def number(value: float) -> str:
    """Four significant digits at least, and no more decimals than that takes."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e7:
        return f"{value:.4g}"
    decimals = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 1 else 4
    shown = f"{value:,.{decimals}f}"
    return f"{value:.3g}" if float(shown.replace(",", "")) == 0 else shown


def percent(value: float | None, digits: int = 1) -> Markup:
    """A share as a percentage."""
    return Markup("–") if value is None else Markup(f"{100 * value:.{digits}f}%")


def precise(value: float | None) -> Markup:
    """A fitted number: three decimals, as they are published, and four digits where it is small or huge."""
    if value is None:
        return Markup("–")
    return Markup(f"{value:,.3f}" if 0.1 <= abs(value) < 1e6 else f"{value:.4g}")


def money(value: float | None) -> Markup:
    """An amount with two decimals; its currency is in the column's name."""
    return Markup("–") if value is None else Markup(f"{value:,.2f}")


def words(name: object) -> str:
    """A key as people read it."""
    return _NAMES.get(str(name)) or str(name).replace("_", " ")


def table(head: Row, rows: Sequence[Row], caption: str = "") -> Markup:
    """A table that scrolls sideways where it is too wide; the first column names the row."""
    shown = rows[:MAX_ROWS]
    title = f"<caption>{text(caption)}</caption>" if caption else ""
    left = [_is_wordy([row[at] for row in shown]) for at in range(len(head))]
    heads = "".join(
        f'<th scope="col"{_WORDS if wordy else ""}>{text(cell)}</th>'
        for cell, wordy in zip(head, left, strict=True)
    )
    body = "".join(f"<tr>{_cells(row, left)}</tr>" for row in shown)
    cut = (
        f"<p class=note>{len(rows) - MAX_ROWS:,} more rows are in the JSON report.</p>"
        if len(rows) > MAX_ROWS
        else ""
    )
    return Markup(
        f'<div class="wide"><table>{title}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>{cut}'
    )


_WORDS: Final = ' class="words"'


def _cells(row: Row, left: Sequence[bool]) -> str:
    first, *others = (text(cell) for cell in row)
    told = "".join(
        f"<td{_WORDS if wordy else ''}>{cell}</td>" for cell, wordy in zip(others, left[1:], strict=True)
    )
    return f'<th scope="row">{first}</th>{told}'


def _is_wordy(column: Sequence[object]) -> bool:
    """Whether a column has words in it, and nothing else."""
    told = [cell for cell in column if cell is not None]
    return bool(told) and all(
        isinstance(cell, str) and (isinstance(cell, Words) or not isinstance(cell, Markup)) for cell in told
    )


def section(title: str, *parts: str, anchor: str) -> Markup:
    """A section of the page; parts are HTML."""
    return Markup(f'<section id="{escape(anchor)}"><h2>{escape(title)}</h2>{"".join(parts)}</section>')


def paragraph(sentence: str, kind: str = "") -> Markup:
    """A paragraph of plain text."""
    return Markup(f"<p{f' class={kind}' if kind else ''}>{text(sentence)}</p>")


def figures(*drawn: tuple[str, str]) -> Markup:
    """Plots (SVG, caption) side by side where there is room."""
    parts = "".join(
        f"<figure>{svg}<figcaption>{text(caption)}</figcaption></figure>" for svg, caption in drawn
    )
    return Markup(f'<div class="figures">{parts}</div>')


def title(name: object) -> str:
    """A key as the beginning of a line."""
    shown = words(name)
    return shown[:1].upper() + shown[1:]


def anything(value: Any, depth: int = 0) -> Markup:
    """A part of the report of which nothing particular is known: nested tables, with nothing left out."""
    if isinstance(value, dict):
        short = {key: part for key, part in value.items() if _is_short(part)}
        parts = (
            [table(("measure", "value"), [(words(key), _plain(part)) for key, part in short.items()])]
            if short
            else []
        )
        level = min(3 + depth, 6)
        for key, part in value.items():
            if key in short:
                continue
            if _is_grid(part):
                parts.append(_grid(title(key), part))
            elif isinstance(part, str):
                parts.append(Markup(f"<p><b>{text(title(key))}:</b> {text(part)}</p>"))
            else:
                parts.append(Markup(f"<h{level}>{text(title(key))}</h{level}>{anything(part, depth + 1)}"))
        return Markup("".join(parts))
    if isinstance(value, list):
        if value and all(isinstance(row, dict) for row in value):
            keys = list(dict.fromkeys(key for row in value for key in row))
            rows = [[_plain(row.get(key)) for key in keys] for row in value]
            return table([words(key) for key in keys], rows)
        return Markup(f"<p>{_plain(value)}</p>")
    return paragraph(str(value))


def _is_grid(part: Any) -> bool:
    """Whether a value is several things of one kind by their names, each told in cells."""
    return (
        isinstance(part, dict)
        and len(part) > 1
        and all(
            isinstance(row, dict)
            and row
            and all(isinstance(cell, str) or _is_short(cell) for cell in row.values())
            for row in part.values()
        )
    )


def _grid(caption: str, named: Document) -> Markup:
    """One row for each of them."""
    keys = list(dict.fromkeys(key for row in named.values() for key in row))
    rows = [(words(name), *(_plain(row.get(key)) for key in keys)) for name, row in named.items()]
    return table(("of", *(words(key) for key in keys)), rows, caption)


def _is_short(part: Any) -> bool:
    """Whether a value fits into one cell."""
    if isinstance(part, list):
        return not any(isinstance(one, (dict, list)) for one in part) and len(_plain(part)) <= LONGEST_CELL
    if isinstance(part, str):
        return len(part) <= LONGEST_CELL
    return not isinstance(part, dict) or not part


def _plain(value: Any) -> Markup:
    """A value in one cell; what is text there is aligned as text."""
    if isinstance(value, dict):
        return Words(", ".join(f"{text(words(key))} {_plain(part)}" for key, part in value.items()) or "–")
    if isinstance(value, list):
        return Words(", ".join(_plain(part) for part in value) or "–")
    return Words(text(_NAMES.get(value, value))) if isinstance(value, str) else text(value)


STYLE: Final = """
:root{--ink:#18222d;--muted:#5a6775;--grid:#dbe1e8;--page:#f4f6f8;--card:#fff;--first:#0c7489;--second:#d97a1f;
--third:#6b5bb0;--bad:#b5342a;--alert:#fdf1e3;--edge:#e3b27a;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--ink:#e5eaf0;--muted:#9ba8b6;--grid:#2f3a46;--page:#10161c;--card:#182029;
--first:#4fb8cc;--second:#f0a35e;--third:#a99be3;--bad:#ff8d7e;--alert:#2c2316;--edge:#8a6430}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,Arial,"DejaVu Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:1rem}
h1{font-size:1.6rem;line-height:1.2;margin:.6rem 0 .2rem}
h2{font-size:1.2rem;margin:0 0 .6rem}
h3,h4,h5,h6{font-size:1rem;margin:1.2rem 0 .4rem}
p{margin:.4rem 0;max-width:46rem}
.note,figcaption,.lead{color:var(--muted);font-size:.88rem}
section{background:var(--card);border:1px solid var(--grid);border-radius:10px;padding:1rem;margin:1rem 0}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1rem;font-size:.9rem;margin:.6rem 0}
a{color:var(--first)}
.warnings{background:var(--alert);border-color:var(--edge)}
.warnings li{margin:.3rem 0;overflow-wrap:anywhere}
.warnings ul{padding-left:1.2rem;margin:.3rem 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:.6rem;margin:1rem 0}
.tile{background:var(--card);border:1px solid var(--grid);border-radius:10px;padding:.7rem .8rem}
.tile b{display:block;font-size:1.1rem;line-height:1.35;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.tile span{color:var(--muted);font-size:.84rem;display:block;line-height:1.35}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:1rem;align-items:start}
figure{margin:.4rem 0;min-width:0}
svg{width:100%;max-width:560px;height:auto;display:block}
svg *{stroke-linejoin:round;stroke-linecap:butt}
.wide{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:.3rem 0}
th,td{padding:.28rem .7rem;border-bottom:1px solid var(--grid);text-align:right;vertical-align:top;white-space:nowrap}
thead th{color:var(--muted);font-weight:600;vertical-align:bottom;white-space:normal;min-width:4.5rem}
th:first-child{text-align:left;padding-left:0;min-width:0}
tbody th{font-weight:500;position:sticky;left:0;background:var(--card)}
th.words,td.words{text-align:left;white-space:normal}
td.words{max-width:34rem}
.cell{display:block;margin:-.28rem -.7rem;padding:.28rem .7rem}
.bad{color:var(--bad);font-weight:600}
@media (max-width:600px){main{padding:.6rem}section{padding:.7rem}th,td{padding:.28rem .45rem}
.cell{margin:-.28rem -.45rem;padding:.28rem .45rem}thead th{min-width:5.2rem}}
@media print{body{background:#fff}section,.tile{break-inside:avoid}}
"""
