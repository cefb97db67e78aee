//! MBG/CNBD-k: buyers more regular than chance, who may drop out after any purchase.
//! Twin: `enrichment/lifetime/mbg_cnbd.py`.
//!
//! There, chances of purchases are incomplete betas. With whole numbers of stages they are tails of a negative binomial,
//! which is summed here: from its mode both ways, up to what no longer counts, and then divided by its whole.

use crate::lifetime::{Asked, Predicted};

/// A chance this much smaller than the largest no longer counts.
const NEGLIGIBLE_CHANCE: f64 = 1e-22;
/// Nor does that of a purchase, and of all after it, which is this part of what is expected.
const LEAST_REST: f64 = 1e-17;
/// A customer of whom more stages would have to be looked at is Python's.
const MOST_LOOKED_AT: f64 = 1e6;

/// The parameters; `alpha` is a time, `k` the stages that make a purchase.
pub struct MbgCnbd {
    pub k: usize,
    pub r: f64,
    pub alpha: f64,
    pub a: f64,
    pub b: f64,
}

impl MbgCnbd {
    /// Log odds of inactive against active.
    pub fn log_odds_inactive(&self, asked: &Asked) -> f64 {
        let (rho, silence) = (self.shape(asked), asked.tenure - asked.to_last);
        let idle = rho * (silence / (self.alpha + asked.to_last)).ln_1p();
        let gone = (self.a / (self.b + asked.x)).ln() + idle;
        gone - self.log_stages(rho, silence / (self.alpha + asked.tenure))
    }

    /// Of one who is active: the probability of no purchase in the next `t`.
    pub fn silent(&self, asked: &Asked, t: f64) -> f64 {
        let (rho, silence) = (self.shape(asked), asked.tenure - asked.to_last);
        let now = self.log_stages(rho, silence / (self.alpha + asked.tenure));
        let then = self.log_stages(rho, (silence + t) / (self.alpha + asked.tenure + t));
        let grown = rho * (t / (self.alpha + asked.tenure)).ln_1p();
        (then - now - grown).exp().min(1.0)
    }

    /// Of one who is active: the probability of no purchase in the next `t`, and the purchases expected.
    pub fn while_active(&self, asked: &Asked, t: f64) -> Predicted {
        Predicted {
            silent: self.silent(asked, t),
            expected: self.expected(asked, t),
        }
    }

    fn shape(&self, asked: &Asked) -> f64 {
        self.r + self.k as f64 * asked.x
    }

    /// Log of the sum over the stages that may have passed since the last purchase, term by term.
    fn log_stages(&self, rho: f64, w: f64) -> f64 {
        let (mut term, mut total, mut log_scale) = (1.0_f64, 1.0_f64, 0.0);
        for j in 1..self.k {
            term *= (rho + (j - 1) as f64) * w / j as f64;
            total += term;
            if total > 1e200 {
                log_scale += total.ln();
                term /= total;
                total = 1.0;
            }
        }
        log_scale + total.ln()
    }

    /// The purchases expected in the next `t`: the chance of each, added up. NaN is for Python.
    pub fn expected(&self, asked: &Asked, t: f64) -> f64 {
        if t <= 0.0 {
            return 0.0;
        }
        let (k, rho) = (self.k, self.shape(asked));
        let q = t / (self.alpha + asked.tenure + t);
        let odds = t / (self.alpha + asked.tenure);
        let Some((first, chances)) = negative_binomial(rho, q, odds) else {
            return f64::NAN;
        };
        let passed = self.chances_passed(rho, asked);
        // Tails from the end on, so that the small ones are whole.
        let mut tails = vec![0.0; chances.len() + 1];
        for place in (0..chances.len()).rev() {
            tails[place] = tails[place + 1] + chances[place];
        }
        let last = first + chances.len() - 1;
        let log_chance_of = |j: usize| {
            let known = chances[j.min(last) - first].ln();
            (last..j).fold(known, |sum, at| {
                sum + ((rho + at as f64) * q / (at + 1) as f64).ln()
            })
        };
        let (mut stays, mut expected) = (1.0, 0.0);
        for purchase in 1.. {
            let stages = k * purchase;
            let mut chance = tails[stages.saturating_sub(first).min(chances.len())];
            if k > 1 && stages >= first {
                // What the chance grows by from one stage passed to the next.
                let mut log_term = log_chance_of(stages) + (stages as f64 / (rho * q)).ln();
                for (i, share) in passed.iter().enumerate() {
                    chance += log_term.exp() * share;
                    log_term += ((stages - i - 1) as f64 / (rho + (i + 1) as f64) / odds).ln();
                }
            }
            if chance.is_nan() || stages as f64 > MOST_LOOKED_AT {
                return f64::NAN;
            }
            expected += stays * chance.min(1.0);
            if stages > last && chance <= NEGLIGIBLE_CHANCE.max(LEAST_REST * expected) {
                break;
            }
            let left = self.b + asked.x + purchase as f64;
            stays *= left / (self.a + left);
        }
        expected
    }

    /// The chance that more than `i` stages have passed since the last purchase, for i < k - 1.
    fn chances_passed(&self, rho: f64, asked: &Asked) -> Vec<f64> {
        let w = (asked.tenure - asked.to_last) / (self.alpha + asked.tenure);
        let log_all = self.log_stages(rho, w);
        let mut log_chance = -log_all;
        let mut passed: Vec<f64> = (1..self.k)
            .map(|stage| {
                log_chance += ((rho + (stage - 1) as f64) * w / stage as f64).ln();
                log_chance.exp()
            })
            .collect();
        for place in (1..passed.len()).rev() {
            passed[place - 1] += passed[place];
        }
        passed
    }
}

/// The chances of a negative binomial of this shape from a first number on, as many as count; `odds` is q / (1 - q).
fn negative_binomial(shape: f64, q: f64, odds: f64) -> Option<(usize, Vec<f64>)> {
    let mode = ((shape - 1.0) * odds).max(0.0).floor();
    if mode.is_nan() || mode >= MOST_LOOKED_AT {
        return None;
    }
    let mode = mode as usize;
    let mut below = Vec::new();
    let mut chance = 1.0;
    for j in (1..=mode).rev() {
        chance *= j as f64 / ((shape + (j - 1) as f64) * q);
        if chance < NEGLIGIBLE_CHANCE {
            break;
        }
        below.push(chance);
    }
    let first = mode - below.len();
    let mut chances: Vec<f64> = below.into_iter().rev().collect();
    chances.push(1.0);
    let mut chance = 1.0;
    let mut j = mode;
    loop {
        chance *= (shape + j as f64) * q / (j + 1) as f64;
        if chance < NEGLIGIBLE_CHANCE {
            break;
        }
        if chances.len() as f64 > MOST_LOOKED_AT {
            return None;
        }
        chances.push(chance);
        j += 1;
    }
    let whole: f64 = chances.iter().sum();
    for chance in &mut chances {
        *chance /= whole;
    }
    Some((first, chances))
}
