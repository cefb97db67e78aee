//! Pareto/NBD, corrected by what earlier cuts have shown. Twin: `enrichment/lifetime/recalibrated.py`.

use crate::lifetime::pareto_nbd::ParetoNbd;
use crate::lifetime::{expit, silent_in_all, Asked, Predicted};

/// How many features there are, in the order of `FEATURES`.
pub const FEATURES: usize = 10;
const RECENT_DAYS: [f64; 3] = [30.0, 90.0, 180.0];
const MOST_RISK: f64 = 1.0 - 1e-12;
const LEAST_EXPECTED: f64 = 1e-12;

/// One feature: what it adds per unit, between `least` and `most`.
pub struct Correction {
    pub least: f64,
    pub most: f64,
    pub expected: f64,
    pub buys: f64,
}

/// The base with its corrections; `horizon` is in units of time, the other times are in days.
pub struct Recalibrated {
    pub base: ParetoNbd,
    pub days_per_unit: f64,
    pub horizon: f64,
    pub typical_gap_days: f64,
    pub expected_intercept: f64,
    pub buys_intercept: f64,
    pub features: [Correction; FEATURES],
}

impl Recalibrated {
    /// The base's log odds of inactive against active, which no correction moves.
    pub fn log_odds_inactive(&self, asked: &Asked) -> f64 {
        self.base.log_odds_inactive(asked)
    }

    /// Of anyone: the probability of no purchase in each of these times ahead, and the purchases expected.
    pub fn predicted<const N: usize>(
        &self,
        asked: &Asked,
        log_odds: f64,
        times: [f64; N],
    ) -> [Predicted; N] {
        let in_all = |t: f64| {
            let found = self.base.while_active(asked, t);
            Predicted {
                silent: silent_in_all(log_odds, found.silent),
                expected: expit(-log_odds) * found.expected,
            }
        };
        let of_horizon = in_all(self.horizon);
        let (more, odds) = self.corrections(asked, &of_horizon);
        times.map(|t| self.corrected(t, &in_all(t), &of_horizon, more, odds))
    }

    /// Purchases expected in the next `t` if the last of those known were today.
    pub fn expected_if_back(&self, asked: &Asked, t: f64) -> f64 {
        let back = Asked {
            to_last: asked.tenure,
            // The purchase of today is the last of those known, so each window holds one of them at least.
            recent: asked
                .recent
                .map(|count| count.max(1.0).min(asked.x.max(count))),
            ..*asked
        };
        let of_horizon = self.base.while_active(&back, self.horizon);
        let (more, odds) = self.corrections(&back, &of_horizon);
        let of_t = self.base.while_active(&back, t);
        self.corrected(t, &of_t, &of_horizon, more, odds).expected
    }

    fn corrected(
        &self,
        t: f64,
        of_t: &Predicted,
        of_horizon: &Predicted,
        more: f64,
        odds: f64,
    ) -> Predicted {
        let until = if t < self.horizon { of_t } else { of_horizon };
        let expected = of_t.expected + (more - 1.0) * until.expected;
        let silent = corrected_silence(of_t.silent, until.silent, odds);
        Predicted {
            silent,
            expected: expected.max(1.0 - silent),
        }
    }

    /// The factors on expected purchases and on the odds of one: sums in the order of `FEATURES`.
    fn corrections(&self, asked: &Asked, of_horizon: &Predicted) -> (f64, f64) {
        let (mut more, mut buys) = (self.expected_intercept, self.buys_intercept);
        for (feature, own) in self
            .features_of(asked, of_horizon)
            .iter()
            .zip(&self.features)
        {
            let seen = feature.max(own.least).min(own.most);
            more += own.expected * seen;
            buys += own.buys * seen;
        }
        (more.exp(), buys.exp())
    }

    fn features_of(&self, asked: &Asked, of_horizon: &Predicted) -> [f64; FEATURES] {
        let risk = of_horizon.silent.clamp(1.0 - MOST_RISK, MOST_RISK);
        let log_recency = ((asked.tenure - asked.to_last) * self.days_per_unit).ln_1p();
        let gap_days =
            (asked.to_last * self.days_per_unit + self.typical_gap_days) / (asked.x + 1.0);
        let rate = (self.base.r + asked.x) / (self.base.alpha + asked.tenure);
        let mut found = [0.0; FEATURES];
        found[0] = of_horizon.expected.max(LEAST_EXPECTED).ln();
        found[1] = (-risk).ln_1p() - risk.ln();
        found[2] = log_recency;
        found[3] = log_recency - gap_days.ln();
        for (at, (days, count)) in RECENT_DAYS.iter().zip(asked.recent).enumerate() {
            let usual = rate * (days / self.days_per_unit).min(asked.tenure);
            found[4 + at] = count.ln_1p();
            found[7 + at] = count.ln_1p() - usual.ln_1p();
        }
        found
    }
}

/// The corrected probability of no purchase; `until` is the base's up to the horizon, or up to t if less.
fn corrected_silence(silent: f64, until: f64, odds: f64) -> f64 {
    let all = until + (1.0 - until) * odds;
    if all > 0.0 {
        (silent / all).min(1.0)
    } else {
        1.0
    }
}
