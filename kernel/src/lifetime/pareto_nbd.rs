//! Pareto/NBD: gamma purchase rates, gamma drop-out rates. Twin: `ParetoNBD` in
//! `enrichment/lifetime/lifetime_value.py`.

use crate::lifetime::{Asked, Predicted, NEGLIGIBLE, NODES};
use crate::numbers::{exp, ln};

/// The nodes of the quadrature and their weights.
pub struct Rule {
    pub nodes: [f64; NODES],
    pub weights: [f64; NODES],
}

/// The parameters; `alpha` and `beta` are times.
pub struct ParetoNbd {
    pub r: f64,
    pub alpha: f64,
    pub s: f64,
    pub beta: f64,
    pub rule: Rule,
}

impl ParetoNbd {
    /// Log odds of inactive against active.
    pub fn log_odds_inactive(&self, asked: &Asked) -> f64 {
        let (rho, idle) = (self.r + asked.x, asked.tenure - asked.to_last);
        let beta_x = self.beta + asked.to_last;
        let integral = self.dropout_integral(rho, asked.to_last, idle);
        let log_integral = (integral * (self.s / beta_x)).max(1e-300).ln();
        rho * (idle / (self.alpha + asked.to_last)).ln_1p()
            + self.s * (idle / beta_x).ln_1p()
            + log_integral
    }

    /// Of one who is active: the probability of no purchase in the next `t`, and the purchases expected.
    pub fn while_active(&self, asked: &Asked, t: f64) -> Predicted {
        let (rho, tenure) = (self.r + asked.x, asked.tenure);
        let integral = self.dropout_integral(rho, tenure, t);
        Predicted {
            silent: self.silent(t, rho, tenure, integral),
            expected: self.expected_while_active(rho, tenure, t),
        }
    }

    /// Fader and Hardie 2005, equation 41, with its limit at s = 1.
    pub fn expected_while_active(&self, rho: f64, tenure: f64, t: f64) -> f64 {
        let beta_growth = (t / (self.beta + tenure)).ln_1p();
        let lived = if self.s == 1.0 {
            beta_growth
        } else {
            ((1.0 - self.s) * beta_growth).exp_m1() / (1.0 - self.s)
        };
        rho * ((self.beta + tenure) / (self.alpha + tenure)) * lived
    }

    fn silent(&self, t: f64, rho: f64, tenure: f64, integral: f64) -> f64 {
        let (alpha_t, beta_t) = (self.alpha + tenure, self.beta + tenure);
        let lives = (-rho * (t / alpha_t).ln_1p() - self.s * (t / beta_t).ln_1p()).exp();
        lives + integral * (self.s / beta_t)
    }

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
        for ((term, node), weight) in terms
            .iter_mut()
            .zip(&self.rule.nodes)
            .zip(&self.rule.weights)
        {
            let w = end * node;
            let exponent = far_power * ln(exp(w) * ratio + rest) + near_power * w;
            *term = exp(-exponent) * weight;
        }
        let sum: f64 = terms.iter().sum();
        near * end * sum
    }
}
