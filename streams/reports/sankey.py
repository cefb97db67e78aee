"""A flow diagram (Sankey): where customers stood before, on the left, and where they stand now, on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from streams.reports.drawing import BAD, FIRST, INK, MUTED, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NODE_WIDTH: Final = 0.035
GAP: Final = 0.035
"""Between two standings of one side, as a part of the height."""
LEAST_HEIGHT: Final = 0.015
"""Of a standing with few customers, so that it can be seen."""
MARGIN: Final = 0.62
"""Room for names beside the standings, where the distance between these is 1."""
LEAST_NAMED: Final = 0.035
"""A flow of at least this height that moves has its size written on it."""


class Flow(NamedTuple):
    """So many customers who went from one standing to another, or stayed; `money` is told beside their number."""

    previous: str
    current: str
    customers: int
    money: float


def sankey(flows: Sequence[Flow], levels: Sequence[str], name: str, label: str) -> str:
    """The diagram as SVG; a flow is as high as it has customers.

    `levels` are the standings from the top; who moved up is drawn in one colour, who moved down in another. `label`
    says what is drawn to those who cannot see it, and `name` keeps the ids apart from those of other plots.
    """
    known = [level for level in levels if any(level in flow[:2] for flow in flows)]
    total = sum(flow.customers for flow in flows)
    with drawing(name, 0.9 + 0.62 * len(known), label) as (axes, finish):
        axes.set_axis_off()
        axes.set_xlim(-MARGIN, 1 + MARGIN)
        axes.set_ylim(-0.02, 1.02)
        sides = [_side(flows, known, total, at) for at in (0, 1)]
        tops = [{level: top for level, (top, _) in side.items()} for side in sides]
        for flow in sorted(flows, key=lambda each: (known.index(each.previous), known.index(each.current))):
            ends = (flow.previous, flow.current)
            heights = [
                flow.customers / sum(each.customers for each in flows if each[at] == end) * sides[at][end][1]
                for at, end in enumerate(ends)
            ]
            _ribbon(axes, flow, [tops[at][end] for at, end in enumerate(ends)], heights, known)
            for at, end in enumerate(ends):
                tops[at][end] -= heights[at]
        for at, side in enumerate(sides):
            for level, (top, height) in side.items():
                _node(axes, level, at, top, height, [flow for flow in flows if flow[at] == level])
    return finish()


def _side(flows: Sequence[Flow], known: Sequence[str], total: int, at: int) -> dict[str, tuple[float, float]]:
    """Of each standing of one side: where it begins from above, and how high it is."""
    counts = {level: sum(flow.customers for flow in flows if flow[at] == level) for level in known}
    counts = {level: count for level, count in counts.items() if count}
    room = 1 - GAP * (len(counts) - 1)
    heights = {level: max(count / total * room, LEAST_HEIGHT) for level, count in counts.items()}
    scale = room / sum(heights.values())
    places, top = {}, 1.0
    for level, height in heights.items():
        places[level] = (top, height * scale)
        top -= height * scale + GAP
    return places


def _ribbon(
    axes: Axes, flow: Flow, tops: Sequence[float], heights: Sequence[float], known: Sequence[str]
) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    (left, right), (high_left, high_right) = tops, heights
    start, end = NODE_WIDTH, 1 - NODE_WIDTH
    corners = [
        (start, left),
        (0.5, left),
        (0.5, right),
        (end, right),
        (end, right - high_right),
        (0.5, right - high_right),
        (0.5, left - high_left),
        (start, left - high_left),
        (start, left),
    ]
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    moved = known.index(flow.current) - known.index(flow.previous)
    colour = MUTED if moved == 0 else FIRST if moved < 0 else BAD
    axes.add_patch(
        PathPatch(Path(corners, codes), facecolor=colour, edgecolor="none", alpha=0.18 if moved == 0 else 0.5)
    )
    if moved and min(heights) >= LEAST_NAMED:
        _text(axes, end - 0.02, right - high_right / 2, f"{flow.customers:,} · {flow.money:,.0f}", "right")


def _node(axes: Axes, level: str, at: int, top: float, height: float, own: Sequence[Flow]) -> None:
    from matplotlib.patches import Rectangle

    x = 0.0 if at == 0 else 1 - NODE_WIDTH
    axes.add_patch(
        Rectangle((x, top - height), NODE_WIDTH, height, facecolor=INK, edgecolor="none", alpha=0.75)
    )
    customers, money = sum(flow.customers for flow in own), sum(flow.money for flow in own)
    outside: float = -0.02 if at == 0 else 1.02
    side: Literal["left", "right"] = "right" if at == 0 else "left"
    _text(axes, outside, top - height / 2, f"{level} {customers:,} · {money:,.0f}", side)


def _text(axes: Axes, x: float, y: float, told: str, side: Literal["left", "right"]) -> None:
    axes.text(x, y, told, va="center", ha=side, color=INK, fontsize=9)
