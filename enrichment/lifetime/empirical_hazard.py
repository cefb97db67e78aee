"""What customers will buy, counted rather than modelled: a renewal process with an observed hazard of buying again.

The hazard depends on how long a customer has been silent, and on their pace: the time between their purchases so far,
with one typical gap mixed in, ``(t_x + typical_gap) / (x + 1)``. It never rises with silence or with a slower pace.
No distribution is assumed, so it also serves where a drop-out model does not fit. Probabilities are exact; expected
purchases, integrated in 128 steps of the horizon, are so to about one in a thousand.
Histories are those of `enrichment.lifetime.lifetime_value`: ``x``, ``t_x`` and ``T``, in one unit of time.

Source of the renewal equation: Cox (1962), "Renewal Theory", chapter 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from enrichment.lifetime.lifetime_value import Floats, Predictor

_STEPS = 128
"""Steps of the horizon in the renewal equation."""


@dataclass(frozen=True, slots=True)
class EmpiricalHazard(Predictor):
    """Hazards of the next purchase, per unit of time.

    ``silences`` are the R ascending times since the last purchase from which each hazard holds, the first 0, the last
    without an end. ``after_first`` are the R hazards of those with one purchase day; ``hazards`` has R more for each of
    the K ascending ``paces``, between which it is interpolated by the logarithm of the pace.
    There is no hidden drop-out: ``probability_active`` is the probability of a purchase within ``active_within``.

    ``ValueError`` names what is not as it must be.
    """

    typical_gap: float
    active_within: float
    silences: tuple[float, ...]
    after_first: tuple[float, ...]
    paces: tuple[float, ...]
    hazards: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        rows = {"after_first": self.after_first} | {f"hazards.{k}": row for k, row in enumerate(self.hazards)}
        if not (self.silences and self.silences[0] == 0.0):
            raise ValueError("silences must begin with 0")
        if not self.paces or len(self.paces) != len(self.hazards):
            raise ValueError("hazards must have a row for each of paces, and at least one")
        for name, ascending in (("silences", self.silences), ("paces", self.paces)):
            if any(right <= left for left, right in pairwise(ascending)):
                raise ValueError(f"{name} must ascend strictly")
        for name, row in rows.items():
            if len(row) != len(self.silences):
                raise ValueError(f"{name} must have a hazard for each of silences")
            if any(right > left for left, right in pairwise(row)):
                raise ValueError(f"{name} must not rise with silence")
        if any(
            slow > fast
            for left, right in pairwise(self.hazards)
            for fast, slow in zip(left, right, strict=True)
        ):
            raise ValueError("hazards must not rise with a slower pace")
        positive = (
            self.typical_gap,
            self.active_within,
            *self.paces,
            *(rate for row in rows.values() for rate in row),
        )
        if not all(0.0 < value < np.inf for value in (*positive, 1.0 + self.silences[-1])):
            raise ValueError("times and hazards must be finite, and above 0 but for the first of silences")

    def _predict(
        self, x: Floats, t_x: Floats, T: Floats, t: Floats, *recent: Floats
    ) -> tuple[Floats, Floats, Floats]:
        silence = T - t_x
        start, rate = self._rows(x, (t_x + self.typical_gap) / (x + 1.0))
        begun = self._cumulative(start, rate, silence[:, None])
        within = self._cumulative(start, rate, (silence + self.active_within)[:, None]) - begun
        ends = t[:, None] * (np.arange(1, _STEPS + 1) / _STEPS)
        bought = -np.expm1(begun - self._cumulative(start, rate, silence[:, None] + ends))
        # After the next purchase, the silence that it ended is a gap like the others, of at least T - t_x.
        more = self._more(t, (T + self.typical_gap) / (x + 2.0))
        expected = np.diff(bought, axis=1, prepend=0.0) * more
        return -np.expm1(-within[:, 0]), 1.0 - bought[:, -1], expected.sum(axis=1)

    def _predict_with_window(
        self, x: Floats, t_x: Floats, T: Floats, t: Floats, window: Floats, *recent: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        silence = T - t_x
        start, rate = self._rows(x, (t_x + self.typical_gap) / (x + 1.0))
        begun = self._cumulative(start, rate, silence[:, None])
        bought = -np.expm1(begun - self._cumulative(start, rate, silence[:, None] + window[:, None]))
        return *self._predict(x, t_x, T, t), 1.0 - bought[:, 0]

    def _rows(self, x: Floats, pace: Floats) -> tuple[Floats, Floats]:
        """Each customer's cumulative hazards at the beginnings of silences, and the hazards from there: rows of R."""
        hazards, first = np.array(self.hazards), np.array(self.after_first)
        below, above, share = self._between(pace)
        rate = (1.0 - share) * hazards[below] + share * hazards[above]
        rate = np.where(x[:, None] > 0, rate, first)
        start = np.zeros_like(rate)
        np.cumsum(rate[:, :-1] * np.diff(np.array(self.silences)), axis=1, out=start[:, 1:])
        return start, rate

    def _between(self, pace: Floats) -> tuple[np.ndarray, np.ndarray, Floats]:
        """The paces on either side, and the share of the slower one (a column)."""
        centres = np.log(np.array(self.paces))
        place = np.interp(np.log(pace), centres, np.arange(len(centres), dtype=np.float64))
        below = np.minimum(place.astype(np.int64), max(len(centres) - 2, 0))
        return below, np.minimum(below + 1, len(centres) - 1), (place - below)[:, None]

    def _cumulative(self, start: Floats, rate: Floats, time: Floats) -> Floats:
        """Each row's cumulative hazard at its times since the last purchase."""
        edges = np.array(self.silences)
        piece = np.searchsorted(edges, time, side="right") - 1
        height: Floats = np.take_along_axis(start, piece, axis=1)
        height += np.take_along_axis(rate, piece, axis=1) * (time - edges[piece])
        return height

    def _more(self, t: Floats, pace: Floats) -> Floats:
        """Purchases until ``t``, counting one that falls into each step: rows of steps."""
        below, above, share = self._between(pace)
        out = np.empty((len(t), _STEPS))
        for horizon in np.unique(t):
            rows = t == horizon
            by_pace = renewals(self, float(horizon))
            out[rows] = (1.0 - share[rows]) * by_pace[below[rows]] + share[rows] * by_pace[above[rows]]
        return out


@lru_cache(maxsize=32)
def renewals(model: EmpiricalHazard, horizon: float) -> Floats:
    """1 + the expected purchases after one in the middle of each step, until the horizon; a row per pace.

    The renewal equation M(v) = F(v) + integral of M(v - u) dF(u), by the midpoint rule on half steps.
    """
    count = 2 * _STEPS
    times = np.broadcast_to(horizon * np.arange(count + 1) / count, (len(model.paces), count + 1))
    start, rate = model._rows(np.ones(len(model.paces)), np.array(model.paces))
    bought = -np.expm1(-model._cumulative(start, rate, times))
    chance = np.diff(bought, axis=1)
    renewed = np.zeros_like(bought)
    for at in range(1, count + 1):
        middles = (
            renewed[:, at - 1 :: -1] + renewed[:, at:0:-1]
        ) / 2.0  # M(v - u) at the middle of each step of u
        # The first of them holds M(v) itself, half of it: the equation is solved for it.
        known = bought[:, at] + (chance[:, :at] * middles[:, :at]).sum(axis=1)
        renewed[:, at] = known / (1.0 - chance[:, 0] / 2.0)
    return 1.0 + renewed[:, -2::-2]
