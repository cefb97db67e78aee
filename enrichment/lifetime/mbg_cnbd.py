"""MBG/CNBD-k and, with k = 1, MBG/NBD: buyers more regular than chance, who may drop out after any purchase.

A customer's gaps between purchases are Erlang of shape ``k`` and a rate of their own, gamma over the population
(``r``, ``alpha``): the larger ``k``, the more regular. After each purchase, **the first one too**, they drop out with
a chance of their own, beta over the population (``a``, ``b``). So, unlike with BG/NBD, a one-time buyer may be gone.

With ``rho = r + k x``, ``u = T - t_x``, ``w = u / (alpha + T)`` and the rising factorial ``(rho)_j``, the likelihood of
a history is, but for factors in which there is no parameter but ``k`` (the products of the gaps)::

    G(rho) alpha^r / (G(r) B(a, b)) [ B(a + 1, b + x) (alpha + t_x)^-rho
                                     + B(a, b + x + 1) (alpha + T)^-rho A ],   A = sum_{j < k} (rho)_j / j! w^j

where ``j`` counts the stages, of ``k``, passed since the last purchase. The first term is of those who dropped out.
Expected purchases are exact, not approximated as in the second paper's package: with ``l`` stages in all after the last
purchase, ``l // k`` purchases follow if nobody drops out, so that they are a sum over ``l``, cut off where what is left
is below 1e-12 or so.

Sources:
    Batislam, Denizel, Filiztekin (2007), "Empirical validation and comparison of models for customer base analysis",
    International Journal of Research in Marketing 24(3): MBG/NBD.
    Platzer, Reutterer (2016), "Ticking Away the Moments: Timing Regularity Helps to Better Predict Customer Activity",
    Marketing Science 35(5); Reutterer, Platzer, Schröder (2021), "Leveraging purchase regularity for predicting
    customer behavior the easy way", International Journal of Research in Marketing 38(1): MBG/CNBD-k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, expit, gammaln

from enrichment.lifetime.lifetime_value import Floats, PurchaseModel, silent_in_all

MOST_STAGES = 100
"""The largest ``k``: gaps that deviate by a tenth of their mean."""


@dataclass(frozen=True, slots=True)
class MBGCNBD(PurchaseModel):
    """MBG/CNBD-k (Platzer and Reutterer 2016); MBG/NBD (Batislam and others 2007) with ``k = 1``.

    ``alpha`` is a time. ``r / alpha`` is the mean rate of stages, ``k`` of which make a purchase.
    """

    k: int
    r: float
    alpha: float
    a: float
    b: float

    def _stages(self, rho: Floats, w: Floats) -> Floats:
        """``A``: the sum over the stages that may have passed since the last purchase."""
        term, total = np.ones_like(rho), np.ones_like(rho)
        for j in range(1, self.k):
            term = term * ((rho + (j - 1)) * w / j)
            total += term
        return total

    def _log_odds_inactive(self, x: Floats, t_x: Floats, T: Floats) -> Floats:
        rho = self.r + self.k * x
        idle = rho * np.log1p((T - t_x) / (self.alpha + t_x))
        gone = np.log(self.a / (self.b + x)) + idle
        return gone - np.log(self._stages(rho, (T - t_x) / (self.alpha + T)))

    def _log_likelihood(self, x: Floats, t_x: Floats, T: Floats) -> Floats:
        rho = self.r + self.k * x
        active = (
            gammaln(rho)
            - gammaln(self.r)
            - self.k * x * np.log(self.alpha + T)
            - self.r * np.log1p(T / self.alpha)
            + betaln(self.a, self.b + x + 1.0)
            - betaln(self.a, self.b)
            + np.log(self._stages(rho, (T - t_x) / (self.alpha + T)))
        )
        return active + np.logaddexp(0.0, self._log_odds_inactive(x, t_x, T))

    def _while_active(self, t: Floats, x: Floats, T: Floats) -> tuple[Floats, Floats]:
        """For one who has just bought: ``t_x = T``."""
        return self._silent(t, x, T, T), self._expected(t, x, T, T)

    def _predict(
        self, x: Floats, t_x: Floats, T: Floats, t: Floats, *recent: Floats
    ) -> tuple[Floats, Floats, Floats]:
        log_odds = self._log_odds_inactive(x, t_x, T)
        active = expit(-log_odds)
        silent = silent_in_all(log_odds, self._silent(t, x, t_x, T))
        return active, silent, active * self._expected(t, x, t_x, T)

    def _predict_with_window(
        self, x: Floats, t_x: Floats, T: Floats, t: Floats, window: Floats, *recent: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        in_window = silent_in_all(self._log_odds_inactive(x, t_x, T), self._silent(window, x, t_x, T))
        return *self._predict(x, t_x, T, t), in_window

    def _silent(self, t: Floats, x: Floats, t_x: Floats, T: Floats) -> Floats:
        """Probability of no purchase in the next ``t``, for one active at ``T``: a ratio of the second terms."""
        rho = self.r + self.k * x
        now = self._stages(rho, (T - t_x) / (self.alpha + T))
        then = self._stages(rho, (T + t - t_x) / (self.alpha + T + t))
        silent: Floats = np.exp(-rho * np.log1p(t / (self.alpha + T))) * then / now
        return np.minimum(silent, 1.0)

    def _expected(self, t: Floats, x: Floats, t_x: Floats, T: Floats) -> Floats:
        """Expected purchases in the next ``t``, for one active at ``T``.

        Of ``l`` stages after the last purchase, each falls into the idle time ``u`` rather than into ``t`` with the
        chance ``u / (u + t)``; active and silent means that fewer than ``k`` did. ``fewer`` is that probability,
        ``last`` the one of exactly ``k - 1``. Of ``m`` purchases ``bought`` are expected: the chance not to have
        dropped out before the next, ``stays``, is a mean over Beta(a, b + x + 1).
        """
        k, rho = self.k, self.r + self.k * x
        idle = T - t_x
        later = self.alpha + T + t
        in_all = (idle + t) / later
        share = np.divide(idle, idle + t, out=np.zeros_like(idle), where=idle + t > 0.0)
        most = self._most_stages(rho, t, T)
        log_term = -rho * np.log1p(t / (self.alpha + T)) - np.log(self._stages(rho, idle / (self.alpha + T)))
        log_all = np.log(np.maximum(in_all, 1e-300))
        for stage in range(k):
            log_term = log_term + np.log((rho + stage) / (stage + 1)) + log_all
        last = share ** (k - 1)
        fewer = 1.0 - share * last
        last = last * ((1.0 - share) * k)
        stays, bought, expected = np.ones_like(rho), np.zeros_like(rho), np.zeros_like(rho)
        for stage in range(k, int(most.max(initial=0.0)) + 1):
            if stage % k == 0:
                number = stage // k
                bought = bought + stays
                stays = stays * ((self.b + x + number) / (self.a + self.b + x + number))
            term = np.exp(np.minimum(log_term, 600.0)) * np.maximum(fewer, 0.0) * bought
            expected += np.where(stage <= most, term, 0.0)
            log_term = log_term + np.log((rho + stage) / (stage + 1)) + log_all
            fewer = fewer - share * last
            last = last * ((1.0 - share) * (stage + 1) / (stage + 2 - k))
            last = np.where(last > 1e-280, last, 0.0)  # numbers next to the smallest there are take long
        return np.where(t > 0.0, expected, 0.0)

    def _most_stages(self, rho: Floats, t: Floats, T: Floats) -> Floats:
        """Of more stages than this after the last purchase there is next to no chance."""
        shape, odds = rho + self.k, t / (self.alpha + T)
        mean = shape * odds
        tail = 36.0 / np.log1p(1.0 / np.maximum(odds, 1e-12))
        return np.ceil(mean + 10.0 * np.sqrt(mean * (1.0 + odds)) + tail) + self.k
