//! What customers will buy: Pareto/NBD. Twin: `enrichment/lifetime/lifetime_value.py`.
//!
//! The last bits differ from NumPy's, whose exponentials and logarithms are others. A result that lies so near to a
//! tie that this could change its rounding to 6 decimals is computed again, by Python.

use crate::model::{Model, NODES};
use crate::numbers::{exp, is_safely_rounded, ln, round6};

const HORIZON_DAYS: f64 = 365.0;
const NEGLIGIBLE: f64 = 27.0;
/// How many predictions are kept: one customer asks for the same day often, and one-time buyers are alike.
const KEPT: usize = 1 << 14;

/// A history in days: purchase days after the first, first to last purchase, and first purchase to now.
#[derive(Clone, Copy, PartialEq)]
pub struct History {
    pub repeats: i64,
    pub to_last_days: i64,
    pub tenure_days: i64,
}

/// What a customer will buy, rounded to 6 decimals. `silent_in_window` is NaN in a model without a window.
#[derive(Clone, Copy)]
pub struct Purchasing {
    pub active: f64,
    pub silent: f64,
    pub expected: f64,
    pub expected_if_back: f64,
    pub silent_in_window: f64,
}

/// The predictions of one thread, with those it made before.
pub struct Predictor {
    kept: Vec<Option<(History, Purchasing)>>,
}

impl Predictor {
    pub fn new() -> Self {
        Predictor {
            kept: vec![None; KEPT],
        }
    }

    /// The prediction for a history; `exactly` asks Python, where rounding needs more than is known here.
    pub fn predict<E>(
        &mut self,
        history: History,
        model: &Model,
        exactly: impl FnOnce(History) -> Result<Purchasing, E>,
    ) -> Result<Purchasing, E> {
        let mixed =
            (history.repeats * 1_000_003 + history.to_last_days) * 1_000_003 + history.tenure_days;
        let at = (mixed as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 50;
        let place = &mut self.kept[at as usize];
        if let Some((known, found)) = place {
            if *known == history {
                return Ok(*found);
            }
        }
        let found = match rounded(history, model) {
            Some(found) => found,
            None => exactly(history)?,
        };
        *place = Some((history, found));
        Ok(found)
    }
}

fn rounded(history: History, model: &Model) -> Option<Purchasing> {
    let given = &model.given;
    let unit_days = given.days_per_unit;
    let x = history.repeats as f64;
    let t_x = history.to_last_days as f64 / unit_days;
    let tenure = history.tenure_days as f64 / unit_days;
    let horizon = HORIZON_DAYS / unit_days;
    let (r, alpha, s, beta) = given.pareto_nbd;
    let rho = r + x;
    let family = Pareto {
        alpha,
        s,
        beta,
        nodes: &given.nodes,
        weights: &given.node_weights,
    };
    let idle_integral = family.dropout_integral(rho, t_x, tenure - t_x);
    let log_odds = family.log_odds(rho, t_x, tenure, idle_integral);
    let (active, inactive) = (expit(-log_odds), expit(log_odds));
    let silent_in = |days: f64| {
        let integral = family.dropout_integral(rho, tenure, days);
        let silent = family.silent(days, rho, tenure, integral);
        (inactive + active * silent).min(1.0)
    };
    let if_back = family.expected_while_active(rho, tenure, horizon);
    let found = [
        active,
        silent_in(horizon),
        active * if_back,
        if_back,
        given
            .window_days
            .map_or(0.0, |days| silent_in(days / unit_days)),
    ];
    if !found
        .iter()
        .all(|value| value.is_finite() && is_safely_rounded(*value))
    {
        return None;
    }
    let [active, silent, expected, expected_if_back, in_window] = found.map(round6);
    Some(Purchasing {
        active,
        silent,
        expected,
        expected_if_back,
        silent_in_window: given.window_days.map_or(f64::NAN, |_| in_window),
    })
}

fn expit(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

struct Pareto<'a> {
    alpha: f64,
    s: f64,
    beta: f64,
    nodes: &'a [f64; NODES],
    weights: &'a [f64; NODES],
}

impl Pareto<'_> {
    fn dropout_integral(&self, rho: f64, start: f64, length: f64) -> f64 {
        let gap = (self.alpha - self.beta).abs();
        let near = start + self.alpha.min(self.beta);
        let far = near + gap;
        let (near_power, far_power) = if self.alpha <= self.beta {
            (rho - 1.0, self.s + 1.0)
        } else {
            (self.s, rho)
        };
        let (ratio, rest) = (near / far, gap / far);
        let mut end = (length / near)
            .ln_1p()
            .min(NEGLIGIBLE / (near_power + far_power * ratio).max(1e-300));
        for _ in 0..3 {
            let grown = ratio * end.exp();
            let total = grown + rest;
            let fallen = near_power * end + far_power * total.ln() - NEGLIGIBLE;
            if fallen <= 0.0 {
                break;
            }
            let slope = near_power + far_power * grown / total;
            end -= fallen.max(0.0) / slope.max(1e-300);
        }
        let mut terms = [0.0; NODES];
        for ((term, node), weight) in terms.iter_mut().zip(self.nodes).zip(self.weights) {
            let w = end * node;
            let exponent = far_power * ln(exp(w) * ratio + rest) + near_power * w;
            *term = exp(-exponent) * weight;
        }
        let sum: f64 = terms.iter().sum();
        near * end * sum
    }

    /// Log odds of inactive against active at `tenure`, from the drop-out integral over (t_x, tenure).
    fn log_odds(&self, rho: f64, t_x: f64, tenure: f64, integral: f64) -> f64 {
        let (idle, beta_x) = (tenure - t_x, self.beta + t_x);
        let log_integral = (integral * (self.s / beta_x)).max(1e-300).ln();
        rho * (idle / (self.alpha + t_x)).ln_1p() + self.s * (idle / beta_x).ln_1p() + log_integral
    }

    /// Probability of no purchase in the next `t`, for one active at `tenure`.
    fn silent(&self, t: f64, rho: f64, tenure: f64, integral: f64) -> f64 {
        let (alpha_t, beta_t) = (self.alpha + tenure, self.beta + tenure);
        let lives = (-rho * (t / alpha_t).ln_1p() - self.s * (t / beta_t).ln_1p()).exp();
        lives + integral * (self.s / beta_t)
    }

    /// Fader and Hardie 2005, equation 41, with its limit at s = 1.
    fn expected_while_active(&self, rho: f64, tenure: f64, t: f64) -> f64 {
        let beta_growth = (t / (self.beta + tenure)).ln_1p();
        let lived = if self.s == 1.0 {
            beta_growth
        } else {
            ((1.0 - self.s) * beta_growth).exp_m1() / (1.0 - self.s)
        };
        rho * ((self.beta + tenure) / (self.alpha + tenure)) * lived
    }
}
