//! BG/NBD: gamma purchase rates, a beta chance of dropping out at each purchase. Twin: `BGNBD` in
//! `enrichment/lifetime/lifetime_value.py`, with the same sum over the same midpoints.

use crate::lifetime::{Asked, Predicted, NEGLIGIBLE};

const MIDPOINTS: usize = 64;

/// The parameters; `alpha` is a time.
pub struct BgNbd {
    pub r: f64,
    pub alpha: f64,
    pub a: f64,
    pub b: f64,
}

impl BgNbd {
    /// Log odds of inactive against active; nobody drops out before a second purchase.
    pub fn log_odds_inactive(&self, asked: &Asked) -> f64 {
        if asked.x == 0.0 {
            return f64::NEG_INFINITY;
        }
        let chance = (self.a / (self.b + asked.x - 1.0)).ln();
        let idle = (asked.tenure - asked.to_last) / (self.alpha + asked.to_last);
        chance + (self.r + asked.x) * idle.ln_1p()
    }

    /// Of one who is active: the probability of no purchase in the next `t`, and the purchases expected.
    pub fn while_active(&self, asked: &Asked, t: f64) -> Predicted {
        let stretch = t / (self.alpha + asked.tenure);
        Predicted {
            silent: self.silent(asked, t),
            expected: self.expected_while_active(self.r + asked.x, self.b + asked.x, stretch),
        }
    }

    /// Of one who is active: the probability of no purchase in the next `t`.
    pub fn silent(&self, asked: &Asked, t: f64) -> f64 {
        (-(self.r + asked.x) * (t / (self.alpha + asked.tenure)).ln_1p()).exp()
    }

    /// The mean of (1 - (1 + p z)^-rho) / p over p ~ Beta(a, b), on the scale of its log odds; tails as in Python.
    fn expected_while_active(&self, rho: f64, b: f64, stretch: f64) -> f64 {
        let (to_0, to_1) = (self.a < 2.0, b < 2.0);
        let left = self.a + f64::from(u8::from(to_0));
        let right = b + f64::from(u8::from(to_1));
        let both = left + right;
        let (low, high) = span(left, right);
        let (p_mode, q_mode) = (left / both, right / both);
        let (at_0, at_1) = (rho * stretch, -(-rho * stretch.ln_1p()).exp_m1());
        let (mut weighted, mut weights) = (0.0, 0.0);
        for midpoint in 0..MIDPOINTS {
            let share = (midpoint as f64 + 0.5) / MIDPOINTS as f64;
            let d = low + (high - low) * share;
            let odds = d.exp() * p_mode;
            let total = odds + q_mode;
            let (p, q) = (odds / total, q_mode / total);
            let weight = (total.ln() * -both + d * left).exp();
            let mut rest = -(-rho * (p * stretch).ln_1p()).exp_m1() / p;
            if to_0 {
                rest = (rest - at_0 * q) / p;
            }
            if to_1 {
                rest = (rest - at_1 * if to_0 { 1.0 } else { p }) / q;
            }
            weighted += weight * rest;
            weights += weight;
        }
        let (mut known, mut share, all) = (0.0, 1.0, self.a + b);
        if to_0 {
            known += at_0 * (b / all);
            share *= self.a / all;
        }
        if to_1 {
            known += at_1 * (self.a / all);
            share *= b / (all + f64::from(u8::from(to_0)));
        }
        known + share * (weighted / weights)
    }
}

/// How far from its mode, in log odds, the weight p^left (1 - p)^right matters: (below, above).
fn span(left: f64, right: f64) -> (f64, f64) {
    let both = left + right;
    let q_mode = right / both;
    let bend = NEGLIGIBLE / (3.0 * left * q_mode);
    let reach = bend + (bend * (bend + 6.0)).sqrt();
    let low = -reach.min((NEGLIGIBLE - both * q_mode.ln()) / left);
    let mut high = reach.min((NEGLIGIBLE - both * (left / both).ln()) / right);
    for _ in 0..2 {
        let total = q_mode + (1.0 - q_mode) * high.exp();
        let fallen = both * total.ln() - left * high - NEGLIGIBLE;
        if fallen <= 0.0 {
            break;
        }
        let slope = right - both * q_mode / total;
        high -= fallen.max(0.0) / slope.max(1e-300);
    }
    (low, high)
}
