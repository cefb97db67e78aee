"""A flow diagram (Sankey): where customers stood before, on the left, and where they stand now, on the right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

from streams.reports.rendering import render

WIDTH: Final = 500.0
"""Of the drawing, in units of which a letter is 12 high."""
HEIGHT_OF_A_STANDING: Final = 62.0
LEFT: Final = 152.0
RIGHT: Final = WIDTH - LEFT
"""Where the standings of each side end on the inside; their names are outside."""
MARGIN: Final = 8.0
"""Above and below, for the name of a standing that is lower than its name."""
NODE_WIDTH: Final = 8.0
GAP: Final = 0.035
"""Between two standings of one side, as a part of the height."""
LEAST_HEIGHT: Final = 0.015
"""Of a standing with few customers, so that it can be seen, as a part of the height."""
LEAST_NAMED: Final = 14.0
"""A flow of at least this height that moves has its size written on it."""
THOUSANDS_FROM: Final = 99_999.5


class Flow(NamedTuple):
    """So many customers who went from one standing to another, or stayed; `money` is told beside their number."""

    previous: str
    current: str
    customers: int
    money: float


class Band(NamedTuple):
    """A flow as it is drawn: an outline, the class of its colour, and its size where there is room for it."""

    outline: str
    kind: Literal["stays", "rises", "falls"]
    text: Text | None


class Node(NamedTuple):
    """A standing of one side as it is drawn."""

    x: float
    y: float
    height: float
    text: Text


class Text(NamedTuple):
    """What is written, where, and which end of it is there."""

    x: float
    y: float
    anchor: Literal["start", "end"]
    told: str


class Place(NamedTuple):
    """Where a standing of one side begins, from above, and how high it is."""

    top: float
    height: float


def sankey(flows: Sequence[Flow], levels: Sequence[str], label: str) -> str:
    """The diagram as SVG, in the colours of its page; a flow is as high as it has customers.

    `levels` are the standings from the top; who moved up is drawn in one colour, who moved down in another. `label`
    says what is drawn to those who cannot see it.
    """
    known = [level for level in levels if any(level in flow[:2] for flow in flows)]
    height = HEIGHT_OF_A_STANDING * len(known)
    sides = [_places(flows, known, height, at) for at in (0, 1)]
    return render(
        "sankey.svg.jinja",
        label=label,
        width=WIDTH,
        height=height,
        margin=MARGIN,
        node_width=NODE_WIDTH,
        bands=list(_bands(flows, known, sides)),
        nodes=list(_nodes(flows, sides)),
    )


def _places(flows: Sequence[Flow], known: Sequence[str], height: float, at: int) -> dict[str, Place]:
    """Each standing of one side."""
    counts = {level: sum(flow.customers for flow in flows if flow[at] == level) for level in known}
    counts = {level: count for level, count in counts.items() if count}
    total, gap = sum(counts.values()), GAP * height
    room = height - gap * (len(counts) - 1)
    wanted = {level: max(count / total, LEAST_HEIGHT) for level, count in counts.items()}
    scale, top, places = room / sum(wanted.values()), 0.0, {}
    for level, share in wanted.items():
        places[level] = Place(top, share * scale)
        top += share * scale + gap
    return places


def _bands(flows: Sequence[Flow], known: Sequence[str], sides: Sequence[dict[str, Place]]) -> Iterator[Band]:
    """Each flow, from above; those of a standing lie one below the other."""
    tops = [{level: place.top for level, place in side.items()} for side in sides]
    middle = (LEFT + RIGHT) / 2
    for flow in sorted(flows, key=lambda each: (known.index(each.previous), known.index(each.current))):
        ends = (flow.previous, flow.current)
        heights = [
            flow.customers / sum(each.customers for each in flows if each[at] == end) * sides[at][end].height
            for at, end in enumerate(ends)
        ]
        (left, right), (high_left, high_right) = (tops[at][end] for at, end in enumerate(ends)), heights
        for at, end in enumerate(ends):
            tops[at][end] += heights[at]
        outline = (
            f"M{LEFT:.1f} {left:.1f}"
            f"C{middle:.1f} {left:.1f} {middle:.1f} {right:.1f} {RIGHT:.1f} {right:.1f}"
            f"V{right + high_right:.1f}"
            f"C{middle:.1f} {right + high_right:.1f} {middle:.1f} {left + high_left:.1f}"
            f" {LEFT:.1f} {left + high_left:.1f}Z"
        )
        moved = known.index(flow.current) - known.index(flow.previous)
        is_named = moved != 0 and min(heights) >= LEAST_NAMED
        size = Text(RIGHT - 5, right + high_right / 2, "end", f"{flow.customers:,} · {_short(flow.money)}")
        yield Band(
            outline, "stays" if moved == 0 else "rises" if moved < 0 else "falls", size if is_named else None
        )


def _nodes(flows: Sequence[Flow], sides: Sequence[dict[str, Place]]) -> Iterator[Node]:
    """Each standing of either side, with its customers and their money."""
    for at, side in enumerate(sides):
        for level, (top, height) in side.items():
            own = [flow for flow in flows if flow[at] == level]
            customers, money = sum(flow.customers for flow in own), sum(flow.money for flow in own)
            told, middle = f"{level} {customers:,} · {_short(money)}", top + height / 2
            if at == 0:
                yield Node(LEFT - NODE_WIDTH, top, height, Text(LEFT - NODE_WIDTH - 5, middle, "end", told))
            else:
                yield Node(RIGHT, top, height, Text(RIGHT + NODE_WIDTH + 5, middle, "start", told))


def _short(amount: float) -> str:
    """In thousands from 100,000 on: there is little room beside the standings."""
    return f"{amount:,.0f}" if amount < THOUSANDS_FROM else f"{amount / 1_000:,.0f}k"
