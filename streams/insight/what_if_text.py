"""A what-if in words and tables, from the document that `whatif --json` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from streams.console.tables import table_lines

WIDTH = 110
LISTED_CUSTOMERS = 20
_MONEY = ("revenue_365d", "cost_to_serve_365d", "customer_lifetime_value_365d")


def what_if_text(document: dict[str, Any]) -> str:
    """Plain text: warnings, sizes, money, moves, who moves, and what to write into the model file.

    Drift from the model's capacities comes first where nothing else was asked for.
    """
    drift, asked = _drift(document["drift"]), any(tier["asked"] for tier in document["tiers"])
    sections = [
        _heading(document),
        [] if asked else drift,
        _sizes(document),
        _money(document),
        _moves(document["moves"]),
        _customers(document["moved"]),
        drift if asked else [],
        _model_lines(document),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _heading(document: dict[str, Any]) -> list[str]:
    counts, model, as_of = document["customers"], document["model"], document["as_of"]
    when = as_of["to"] if as_of["from"] == as_of["to"] else f"{as_of['from']} to {as_of['to']}"
    lines = [
        f"Tiers of other sizes, tried with model {model['name']} {model['version']}, as of {when}. Nothing is changed.",
        f"{counts['with_order']:,} customers with an order, whom capacities count; {counts['without_order']:,} without "
        f"one, who go by potential; {counts['without_standing']:,} without a standing.",
    ]
    lines += [f"Warning: {warning}." for warning in document["warnings"]]
    return [part for line in lines for part in textwrap.wrap(line, WIDTH)]


def _sizes(document: dict[str, Any]) -> list[str]:
    thresholds = document["thresholds"]
    rows: list[tuple[str, ...]] = [
        ("tier", "capacity", "places", "threshold", "now", "by threshold", "at once")
    ]
    for tier in document["tiers"]:
        name = tier["tier"]
        now, then = (thresholds[when].get(name) for when in ("now", "then"))
        rows.append(
            (
                name,
                _capacity(tier),
                "-" if tier["places"] is None else f"{tier['places']:,}",
                "-" if now is None else _points(now) if now == then else f"{_points(now)} → {_points(then)}",
                f"{tier['now']['customers']:,}",
                f"{tier['by_thresholds_alone']:,}",
                f"{tier['then']['customers']:,}",
            )
        )
    hysteresis, kept = document["hysteresis"], document["held_by_hysteresis"]
    own = hysteresis.get("tier", hysteresis)
    note = (
        "Customers with an order. By threshold: the plain rule, which capacities are counted by. At once: where the "
        f"stream puts them when it gets the thresholds; {kept:,} {'stays' if kept == 1 else 'stay'} within "
        f"{own['score_margin']:g} points of a threshold (hysteresis), "
    )
    note += (
        f"{document['held_by_dwell']:,} until {own['dwell_days']} days after their last change (dwell)."
        if document["dwell_known"]
        else f"and the {own['dwell_days']} days of dwell, which profiles do not tell of, are taken for over."
    )
    if document["would_move_anyway"]:
        note += f" {document['would_move_anyway']:,} would move also without new thresholds."
    return [
        *table_lines(rows, indent=2),
        *textwrap.wrap(note, WIDTH, initial_indent="  ", subsequent_indent="  "),
    ]


def _money(document: dict[str, Any]) -> list[str]:
    rows: list[tuple[str, ...]] = [("tier", *_MONEY)]
    rows += [
        (tier["tier"], *(_moved_money(tier["now"][name], tier["then"][name]) for name in _MONEY))
        for tier in document["tiers"]
    ]
    return ["What its customers with an order bring and cost, now → at once", *table_lines(rows, indent=2)]


def _moves(moves: Sequence[dict[str, Any]]) -> list[str]:
    if not moves:
        return ["Nobody would move."]
    rows: list[tuple[str, ...]] = [("move", "customers", *_MONEY)]
    rows += [
        (
            f"{move['from']} → {move['to']}",
            f"{move['customers']:,}",
            *(_amount(move[name]) for name in _MONEY),
        )
        for move in moves
    ]
    return ["Moves at once", *table_lines(rows, indent=2)]


def _customers(moved: Sequence[dict[str, Any]]) -> list[str]:
    if not moved:
        return []
    listed = moved[:LISTED_CUSTOMERS]
    which = (
        f"the first {len(listed)} of {len(moved):,} by value, --json has all"
        if len(listed) < len(moved)
        else "by value"
    )
    rows: list[tuple[str, ...]] = [("customer", "value", "move", *_MONEY)]
    rows += [
        (
            customer["customer_id"],
            f"{customer['value']:.2f}",
            f"{customer['from']} → {customer['to']}",
            *(_amount(customer[name]) for name in _MONEY),
        )
        for customer in listed
    ]
    return [f"Who would move ({which})", *table_lines(rows, indent=2)]


def _drift(drift: Sequence[dict[str, Any]] | None) -> list[str]:
    if drift is None:
        return []
    lines = ["Drift from the capacities that the model was made for"]
    for tier in drift:
        if tier["places"] is None:
            continue
        over, places = tier["over"], tier["places"]
        share = f" ({abs(over) / places:.0%})" if places else ""
        state = "exactly full" if over == 0 else f"{abs(over):,}{share} {'over' if over > 0 else 'below'}"
        lines.append(
            f"  {tier['tier']:<10} {tier['customers']:,} customers for {places:,} places "
            f"({tier['capacity']}): {state}; by its threshold of {_points(tier['threshold'])} alone "
            f"{tier['by_thresholds_alone']:,}; today's would be {_points(tier['threshold_today'])}"
        )
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent=" " * 13)]


def _model_lines(document: dict[str, Any]) -> list[str]:
    """What makes a model of this what-if: thresholds and the capacities that they were made from."""
    then = ", ".join(f"{tier}: {_points(points)}" for tier, points in document["thresholds"]["then"].items())
    rooms = ", ".join(
        f'{t["tier"]}: "{t["capacity"]}"' for t in document["tiers"] if t["capacity"] is not None
    )
    return [
        "In the model file, under a version of its own, beside by_potential:",
        "  tiers:",
        f"    by_{document['thresholds_on']}: {{{then}}}",
        f"    capacities: {{{rooms}}}",
    ]


def _amount(text: str) -> str:
    return f"{Decimal(text):,}"


def _moved_money(now: str, then: str) -> str:
    return _amount(now) if now == then else f"{_amount(now)} → {_amount(then)}"


def _points(points: float) -> str:
    """All decimals that decide, which are six at most."""
    return f"{points:.6f}".rstrip("0").rstrip(".")


def _capacity(tier: dict[str, Any]) -> str:
    """The capacity; one that was not asked for is the model's."""
    if tier["capacity"] is None:
        return "-"
    return str(tier["capacity"]) if tier["asked"] else f"{tier['capacity']} (model's)"
