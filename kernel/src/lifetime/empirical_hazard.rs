//! Purchases counted rather than modelled: a renewal process with an observed hazard of buying again.
//! Twin: `enrichment/lifetime/empirical_hazard.py`.

use crate::lifetime::{Asked, Predicted};
use crate::numbers::Curve;

/// Steps of the horizon in the renewal equation.
pub const STEPS: usize = 128;

/// The hazards; `renewals` are those of the horizon, by pace, one row of STEPS each. Python computes them, once.
pub struct EmpiricalHazard {
    pub typical_gap: f64,
    pub active_within: f64,
    pub silences: Vec<f64>,
    pub after_first: Vec<f64>,
    pub hazards: Vec<Vec<f64>>,
    pub renewals: Vec<Vec<f64>>,
    /// From the logarithm of a pace to its place among the paces.
    pub place: Curve,
}

/// One customer's hazards: where each begins, what has come up to there, and its rate.
struct Rows<'a> {
    edges: &'a [f64],
    start: Vec<f64>,
    rate: Vec<f64>,
}

impl Rows<'_> {
    fn cumulative(&self, time: f64) -> f64 {
        let piece = self.edges.partition_point(|&edge| edge <= time) - 1;
        self.start[piece] + self.rate[piece] * (time - self.edges[piece])
    }
}

impl EmpiricalHazard {
    /// Whether the numbers are as many as they must be.
    pub fn is_whole(&self) -> bool {
        let (pieces, paces) = (self.silences.len(), self.hazards.len());
        pieces > 0
            && paces > 0
            && self.silences[0] == 0.0
            && self.after_first.len() == pieces
            && self.hazards.iter().all(|row| row.len() == pieces)
            && self.renewals.len() == paces
            && self.renewals.iter().all(|row| row.len() == STEPS)
            && self.place.at.len() == paces
    }

    /// The probability of a purchase within `active_within`.
    pub fn active(&self, asked: &Asked) -> f64 {
        let rows = self.rows(asked.x, asked.to_last);
        let silence = asked.tenure - asked.to_last;
        let within = rows.cumulative(silence + self.active_within) - rows.cumulative(silence);
        -(-within).exp_m1()
    }

    /// The probability of no purchase in the next `t`.
    pub fn silent(&self, asked: &Asked, t: f64) -> f64 {
        let rows = self.rows(asked.x, asked.to_last);
        let silence = asked.tenure - asked.to_last;
        let bought = -(rows.cumulative(silence) - rows.cumulative(silence + t)).exp_m1();
        1.0 - bought
    }

    /// The probability of no purchase in the horizon, and the purchases expected, of which `renewals` tell.
    pub fn predicted(&self, asked: &Asked, horizon: f64) -> Predicted {
        let rows = self.rows(asked.x, asked.to_last);
        let silence = asked.tenure - asked.to_last;
        let begun = rows.cumulative(silence);
        let pace = (asked.tenure + self.typical_gap) / (asked.x + 2.0);
        let (below, above, share) = self.between(pace);
        let (mut before, mut expected) = (0.0, 0.0);
        for step in 0..STEPS {
            let end = horizon * ((step + 1) as f64 / STEPS as f64);
            let bought = -(begun - rows.cumulative(silence + end)).exp_m1();
            let more =
                (1.0 - share) * self.renewals[below][step] + share * self.renewals[above][step];
            expected += (bought - before) * more;
            before = bought;
        }
        Predicted {
            silent: 1.0 - before,
            expected,
        }
    }

    fn rows(&self, x: f64, to_last: f64) -> Rows<'_> {
        let rate: Vec<f64> = if x > 0.0 {
            let (below, above, share) = self.between((to_last + self.typical_gap) / (x + 1.0));
            self.hazards[below]
                .iter()
                .zip(&self.hazards[above])
                .map(|(fast, slow)| (1.0 - share) * fast + share * slow)
                .collect()
        } else {
            self.after_first.clone()
        };
        let mut start = Vec::with_capacity(rate.len());
        let mut sum = 0.0;
        for (at, rate) in rate.iter().enumerate() {
            start.push(sum);
            if let Some(next) = self.silences.get(at + 1) {
                sum += rate * (next - self.silences[at]);
            }
        }
        Rows {
            edges: &self.silences,
            start,
            rate,
        }
    }

    /// The paces on either side, and the share of the slower one.
    fn between(&self, pace: f64) -> (usize, usize, f64) {
        let place = self.place.interpolate(pace.ln());
        let last = self.hazards.len() - 1;
        let below = (place as usize).min(last.saturating_sub(1));
        (below, (below + 1).min(last), place - below as f64)
    }
}
