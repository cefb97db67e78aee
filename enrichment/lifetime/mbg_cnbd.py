"""MBG/CNBD-k and, with k = 1, MBG/NBD: buyers more regular than chance, who may drop out after any purchase.

A customer's gaps between purchases are Erlang of shape ``k`` and a rate of their own, gamma over the population
(``r``, ``alpha``): the larger ``k``, the more regular. After each purchase, **the first one too**, they drop out with
a chance of their own, beta over the population (``a``, ``b``). So, unlike with BG/NBD, a one-time buyer may be gone.

With ``rho = r + k x``, ``u = T - t_x``, ``w = u / (alpha + T)`` and the rising factorial ``(rho)_j``, the likelihood of
a history is, but for factors in which there is no parameter but ``k`` (the products of the gaps)::

    G(rho) alpha^r / (G(r) B(a, b)) [ B(a + 1, b + x) (alpha + t_x)^-rho
                                     + B(a, b + x + 1) (alpha + T)^-rho A ],   A = sum_{j < k} (rho)_j / j! w^j

where ``j`` counts the stages, of ``k``, passed since the last purchase. The first term is of those who dropped out.
Expected purchases are exact, not approximated as in the second paper's package: a sum over the purchases to come,
cut off where what is left is below 1e-13 of it.

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
from scipy.special import betainc, betaln, gammaln

from enrichment.lifetime.lifetime_value import Floats, PurchaseModel, combine, silent_in_all

MOST_STAGES = 100
"""The largest ``k``: gaps that deviate by a tenth of their mean."""
STAGES_AT_ONCE = 16
"""Terms of so many stages are multiplied before a logarithm is taken: each at most 10^7 times the one before."""
FEWEST_AT_ONCE, MOST_AT_ONCE = 8, 64
"""Purchases whose chances are computed in one step."""
VALUES_AT_ONCE = 1 << 20
"""Values, of eight bytes each, in an array of customers by purchases by stages: more customers come in parts."""
LEAST_REST = 1e-13
"""Expected purchases are added up until what is left is this part of them."""


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

    def _log_stages(self, rho: Floats, w: Floats) -> Floats:
        """``log A``: of the sum over the stages that may have passed since the last purchase.

        ``(1 - w)^rho A`` is the chance of fewer than ``k`` stages, an incomplete beta. Where it is too small for a
        number, after a silence of somebody very regular, the sum is made term by term.
        """
        fewer = betainc(rho, self.k, 1.0 - w)
        tiny = fewer < 1e-250
        log_sum: Floats = np.log(np.where(tiny, 1.0, fewer)) - rho * np.log1p(-w)
        if tiny.any():
            log_sum[tiny] = self._log_stages_one_by_one(rho[tiny], w[tiny])
        return log_sum

    def _log_stages_one_by_one(self, rho: Floats, w: Floats) -> Floats:
        term, total, log_scale = np.ones_like(rho), np.ones_like(rho), np.zeros_like(rho)
        for j in range(1, self.k):
            term = term * ((rho + (j - 1)) * w / j)
            total += term
            if j % STAGES_AT_ONCE == 0:
                term, log_scale, total = term / total, log_scale + np.log(total), np.ones_like(total)
        return log_scale + np.log(total)

    def _log_odds_inactive(self, x: Floats, t_x: Floats, T: Floats) -> Floats:
        rho = self.r + self.k * x
        idle = rho * np.log1p((T - t_x) / (self.alpha + t_x))
        gone = np.log(self.a / (self.b + x)) + idle
        return gone - self._log_stages(rho, (T - t_x) / (self.alpha + T))

    def _log_likelihood(self, x: Floats, t_x: Floats, T: Floats) -> Floats:
        rho = self.r + self.k * x
        active = (
            gammaln(rho)
            - gammaln(self.r)
            - self.k * x * np.log(self.alpha + T)
            - self.r * np.log1p(T / self.alpha)
            + betaln(self.a, self.b + x + 1.0)
            - betaln(self.a, self.b)
            + self._log_stages(rho, (T - t_x) / (self.alpha + T))
        )
        return active + np.logaddexp(0.0, self._log_odds_inactive(x, t_x, T))

    def _while_active(self, t: Floats, x: Floats, T: Floats) -> tuple[Floats, Floats]:
        """For one who has just bought: ``t_x = T``."""
        return self._silent(t, x, T, T), self._expected(t, x, T, T)

    def _predict(
        self, x: Floats, t_x: Floats, T: Floats, t: Floats, *recent: Floats
    ) -> tuple[Floats, Floats, Floats]:
        return self._predict_given(self._log_odds_inactive(x, t_x, T), x, t_x, T, t)

    def _predict_with_window(
        self, x: Floats, t_x: Floats, T: Floats, t: Floats, window: Floats, *recent: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        log_odds = self._log_odds_inactive(x, t_x, T)
        in_window = silent_in_all(log_odds, self._silent(window, x, t_x, T))
        return *self._predict_given(log_odds, x, t_x, T, t), in_window

    def _predict_given(
        self, log_odds: Floats, x: Floats, t_x: Floats, T: Floats, t: Floats
    ) -> tuple[Floats, Floats, Floats]:
        return combine(log_odds, self._silent(t, x, t_x, T), self._expected(t, x, t_x, T))

    def _silent(self, t: Floats, x: Floats, t_x: Floats, T: Floats) -> Floats:
        """Probability of no purchase in the next ``t``, for one active at ``T``: a ratio of the second terms."""
        rho = self.r + self.k * x
        now = self._log_stages(rho, (T - t_x) / (self.alpha + T))
        then = self._log_stages(rho, (T + t - t_x) / (self.alpha + T + t))
        silent: Floats = np.exp(then - now - rho * np.log1p(t / (self.alpha + T)))
        return np.minimum(silent, 1.0)

    def _expected(self, t: Floats, x: Floats, t_x: Floats, T: Floats) -> Floats:
        """Expected purchases in the next ``t``, for one active at ``T``: the chances of each purchase added up."""
        expected, later = np.zeros_like(T), np.flatnonzero(t > 0.0)
        at_once = max(1, VALUES_AT_ONCE // (self.k * MOST_AT_ONCE))
        for start in range(0, later.size, at_once):
            these = later[start : start + at_once]
            expected[these] = self._expected_of(t[these], x[these], t_x[these], T[these])
        return expected

    def _expected_of(self, t: Floats, x: Floats, t_x: Floats, T: Floats) -> Floats:
        """As `_expected`, of so few that an array of customers by purchases by stages is not large.

        With ``j`` stages passed since the last purchase, the rate is gamma with shape ``rho + j``, and the ``m``-th
        purchase takes ``m k - j`` stages more. The chance of so many within ``t`` is an incomplete beta, which grows
        from one ``j`` to the next by a single term::

            I_q(m k - j, rho + j) = I_q(m k, rho) + sum_{i < j} G(m k + rho) / (G(m k - i) G(rho + i + 1))
                                                               q^(m k - i - 1) (1 - q)^(rho + i)

        with ``q = t / (alpha + T + t)``. So each of these terms counts with the chance ``passed`` that more than ``i``
        stages have passed. Of those who get so far, ``stays`` have not dropped out: a mean over Beta(a, b + x + 1).
        """
        expected, stays, rho = np.zeros_like(T), np.ones_like(T), self.r + self.k * x
        passed, log_later = self._chances_passed(rho, t_x, T), self._log_later_terms(rho, t, T)
        rows, done = np.arange(T.size), 0
        while rows.size:
            m = done + np.arange(1.0, min(max(done, FEWEST_AT_ONCE), MOST_AT_ONCE) + 1)
            chances = self._chances(m, rho[rows], t[rows], T[rows], passed[rows], log_later[rows])
            left = self.b + x[rows, None] + m
            still = np.concatenate((stays[rows, None], left / (self.a + left)), axis=1).cumprod(axis=1)
            for column in (still[:, :-1] * chances).T:  # in this order, whoever is beside
                expected[rows] += column
            stays[rows] = still[:, -1]
            done += m.size
            rows = rows[self._rest(chances, t[rows], T[rows]) > LEAST_REST * expected[rows]]
        return expected

    def _rest(self, chances: Floats, t: Floats, T: Floats) -> Floats:
        """At most so much is left: chances go on falling as fast as the last two did, or at least as ``q^k``."""
        last, q = chances[:, -1], t / (self.alpha + T + t)
        ratio = np.maximum(last / np.maximum(chances[:, -2], 1e-300), q**self.k)
        rest: Floats = last * ratio / np.maximum(1.0 - ratio, 1e-300)
        return rest

    def _chances(
        self, m: Floats, rho: Floats, t: Floats, T: Floats, passed: Floats, log_later: Floats
    ) -> Floats:
        """The chance of the ``m``-th purchase within ``t``, if nobody drops out: customers by purchases."""
        stages, shape, q = m * self.k, rho[:, None], (t / (self.alpha + T + t))[:, None]
        chances = betainc(stages, shape, q)
        if self.k > 1:
            # The logarithm of the term of i = 0, then of all the others beside it.
            log_first = (
                (stages - 1.0) * np.log(q) + shape * np.log1p(-q) - betaln(stages, shape) - np.log(shape)
            )
            log_ratio = np.zeros((m.size, self.k - 1))
            log_ratio[:, 1:] = np.cumsum(np.log(stages[:, None] - np.arange(1.0, self.k - 1)), axis=1)
            terms = np.exp(log_first[:, :, None] + log_later[:, None, :] + log_ratio)
            chances += (terms * passed[:, None, :]).sum(axis=2)
        bounded: Floats = np.minimum(chances, 1.0)
        return bounded

    def _chances_passed(self, rho: Floats, t_x: Floats, T: Floats) -> Floats:
        """The chance that more than ``i`` stages have passed since the last purchase: customers by ``i < k - 1``."""
        w = (T - t_x) / (self.alpha + T)
        stages = np.arange(1.0, self.k)
        with np.errstate(divide="ignore"):  # who has just bought has passed none: exp(-inf)
            log_chance = np.cumsum(np.log((rho[:, None] + (stages - 1.0)) * w[:, None] / stages), axis=1)
        chance = np.exp(log_chance - self._log_stages(rho, w)[:, None])
        return np.ascontiguousarray(np.cumsum(chance[:, ::-1], axis=1)[:, ::-1])

    def _log_later_terms(self, rho: Floats, t: Floats, T: Floats) -> Floats:
        """What of the terms of ``i`` does not depend on ``m``, beside that of ``i = 0``: customers by ``i < k - 1``."""
        log_odds = np.log((self.alpha + T) / t)[:, None]
        later = np.zeros((rho.size, self.k - 1))
        later[:, 1:] = np.cumsum(log_odds - np.log(rho[:, None] + np.arange(1.0, self.k - 1)), axis=1)
        return later
