//! What customers will buy, by any family. Twin: `enrichment/lifetime/`, and `purchasing_of` of
//! `enrichment/scoring/scores.py`.
//!
//! The last bits differ from NumPy's, whose exponentials and logarithms are others. A result that lies so near to a
//! tie that this could change its rounding to 6 decimals is computed again, by Python.

mod bg_nbd;
mod empirical_hazard;
mod mbg_cnbd;
mod pareto_nbd;
mod recalibrated;

use pyo3::prelude::*;

use crate::model::Model;
use crate::numbers::{is_safely_rounded, round6, Curve};
use bg_nbd::BgNbd;
use empirical_hazard::EmpiricalHazard;
use mbg_cnbd::MbgCnbd;
use pareto_nbd::{ParetoNbd, Rule};
use recalibrated::{Correction, Recalibrated};

/// Nodes of the quadrature.
pub const NODES: usize = 28;
const HORIZON_DAYS: f64 = 365.0;
/// A sum or an integral stops where its terms have fallen by exp(-27).
const NEGLIGIBLE: f64 = 27.0;
/// How many predictions are kept: one customer asks for the same day often, and one-time buyers are alike.
const KEPT: usize = 1 << 14;
/// To this relative error Pareto/NBD is trusted: some thousand times what the two cores differ by.
const TRUSTED: f64 = 1e-11;
/// The others, whose operations are more, or not the same.
const TRUSTED_LESS: f64 = 1e-10;

/// A history in days: purchase days after the first, first to last purchase, and first purchase to now; and of those
/// after the first, how many lie within 30, 90 and 180 days, for a family that looks back.
#[derive(Clone, Copy, PartialEq)]
pub struct History {
    pub repeats: i64,
    pub to_last_days: i64,
    pub tenure_days: i64,
    pub recent: [i64; 3],
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

/// A history in units of the model's time.
#[derive(Clone, Copy)]
pub struct Asked {
    x: f64,
    to_last: f64,
    tenure: f64,
    recent: [f64; 3],
}

/// The probability of no purchase in some time ahead, and the purchases expected.
pub struct Predicted {
    silent: f64,
    expected: f64,
}

/// A family, as Python gives it; each field is a key of a dict, with the meaning that its name has there.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct GivenFamily {
    name: String,
    /// `r, alpha, s, beta`, also of the base of a recalibrated family; `r, alpha, a, b` of the other two.
    parameters: (f64, f64, f64, f64),
    stages: usize,
    horizon: f64,
    typical_gap: f64,
    active_within: f64,
    intercepts: (f64, f64),
    features: Vec<(f64, f64, f64, f64)>,
    silences: Vec<f64>,
    log_paces: Vec<f64>,
    after_first: Vec<f64>,
    hazards: Vec<Vec<f64>>,
    renewals: Vec<Vec<f64>>,
    nodes: [f64; NODES],
    node_weights: [f64; NODES],
}

/// What predicts purchases.
pub enum Family {
    Pareto(Box<ParetoNbd>),
    Bg(BgNbd),
    Mbg(MbgCnbd),
    Hazard(Box<EmpiricalHazard>),
    Recalibrated(Box<Recalibrated>),
}

impl Family {
    /// None where it is not known, or its numbers are not as many as they must be.
    pub fn new(given: &GivenFamily, days_per_unit: f64) -> Option<Self> {
        let (first, alpha, third, fourth) = given.parameters;
        let pareto = || ParetoNbd {
            r: first,
            alpha,
            s: third,
            beta: fourth,
            rule: Rule {
                nodes: given.nodes,
                weights: given.node_weights,
            },
        };
        match given.name.as_str() {
            "pareto_nbd" => Some(Family::Pareto(Box::new(pareto()))),
            "bg_nbd" => Some(Family::Bg(BgNbd {
                r: first,
                alpha,
                a: third,
                b: fourth,
            })),
            "mbg_cnbd_k" => Some(Family::Mbg(MbgCnbd {
                k: given.stages,
                r: first,
                alpha,
                a: third,
                b: fourth,
            })),
            "empirical" => {
                let places = (0..given.log_paces.len()).map(|at| at as f64).collect();
                let hazard = EmpiricalHazard {
                    typical_gap: given.typical_gap,
                    active_within: given.active_within,
                    silences: given.silences.clone(),
                    after_first: given.after_first.clone(),
                    hazards: given.hazards.clone(),
                    renewals: given.renewals.clone(),
                    place: Curve {
                        at: given.log_paces.clone(),
                        points: places,
                    },
                };
                hazard.is_whole().then(|| Family::Hazard(Box::new(hazard)))
            }
            "recalibrated" => {
                let corrections =
                    given
                        .features
                        .iter()
                        .map(|&(least, most, expected, buys)| Correction {
                            least,
                            most,
                            expected,
                            buys,
                        });
                let features = corrections.collect::<Vec<_>>().try_into().ok()?;
                Some(Family::Recalibrated(Box::new(Recalibrated {
                    base: pareto(),
                    days_per_unit,
                    horizon: given.horizon,
                    typical_gap_days: given.typical_gap,
                    expected_intercept: given.intercepts.0,
                    buys_intercept: given.intercepts.1,
                    features,
                })))
            }
            _ => None,
        }
    }

    /// Whether `History::recent` must be counted.
    pub fn looks_back(&self) -> bool {
        matches!(self, Family::Recalibrated(_))
    }

    fn trusted(&self) -> f64 {
        match self {
            Family::Pareto(_) => TRUSTED,
            _ => TRUSTED_LESS,
        }
    }

    /// Active, silent, expected, expected if back, and silent in the window; the last is 0 without one.
    fn purchasing(&self, asked: &Asked, horizon: f64, window: Option<f64>) -> [f64; 5] {
        let back = Asked {
            to_last: asked.tenure,
            ..*asked
        };
        let of_all = |log_odds: f64, ahead: Predicted, if_back: f64, in_window: Option<f64>| {
            [
                expit(-log_odds),
                silent_in_all(log_odds, ahead.silent),
                expit(-log_odds) * ahead.expected,
                if_back,
                in_window.map_or(0.0, |silent| silent_in_all(log_odds, silent)),
            ]
        };
        match self {
            Family::Pareto(pareto) => {
                let log_odds = pareto.log_odds_inactive(asked);
                let ahead = pareto.while_active(asked, horizon);
                // Who has just bought is active.
                let if_back = ahead.expected;
                let in_window = window.map(|t| pareto.while_active(asked, t).silent);
                of_all(log_odds, ahead, if_back, in_window)
            }
            Family::Bg(bg) => {
                let log_odds = bg.log_odds_inactive(asked);
                let ahead = bg.while_active(asked, horizon);
                let if_back = expit(-bg.log_odds_inactive(&back)) * ahead.expected;
                let in_window = window.map(|t| bg.silent(asked, t));
                of_all(log_odds, ahead, if_back, in_window)
            }
            Family::Mbg(mbg) => {
                let log_odds = mbg.log_odds_inactive(asked);
                let if_back = expit(-mbg.log_odds_inactive(&back)) * mbg.expected(&back, horizon);
                let in_window = window.map(|t| mbg.silent(asked, t));
                of_all(
                    log_odds,
                    mbg.while_active(asked, horizon),
                    if_back,
                    in_window,
                )
            }
            Family::Hazard(hazard) => {
                let ahead = hazard.predicted(asked, horizon);
                [
                    hazard.active(asked),
                    ahead.silent,
                    ahead.expected,
                    hazard.predicted(&back, horizon).expected,
                    window.map_or(0.0, |t| hazard.silent(asked, t)),
                ]
            }
            Family::Recalibrated(recalibrated) => {
                let log_odds = recalibrated.log_odds_inactive(asked);
                let if_back = recalibrated.expected_if_back(asked, horizon);
                let (ahead, in_window) = match window {
                    None => {
                        let [ahead] = recalibrated.predicted(asked, log_odds, [horizon]);
                        (ahead, 0.0)
                    }
                    Some(t) => {
                        let [ahead, in_window] =
                            recalibrated.predicted(asked, log_odds, [horizon, t]);
                        (ahead, in_window.silent)
                    }
                };
                [
                    expit(-log_odds),
                    ahead.silent,
                    ahead.expected,
                    if_back,
                    in_window,
                ]
            }
        }
    }

    /// The probability of no purchase in the next `t`.
    fn silent(&self, asked: &Asked, t: f64) -> f64 {
        match self {
            Family::Pareto(pareto) => silent_in_all(
                pareto.log_odds_inactive(asked),
                pareto.while_active(asked, t).silent,
            ),
            Family::Bg(bg) => silent_in_all(bg.log_odds_inactive(asked), bg.silent(asked, t)),
            Family::Mbg(mbg) => silent_in_all(mbg.log_odds_inactive(asked), mbg.silent(asked, t)),
            Family::Hazard(hazard) => hazard.silent(asked, t),
            Family::Recalibrated(recalibrated) => {
                let log_odds = recalibrated.log_odds_inactive(asked);
                let [ahead] = recalibrated.predicted(asked, log_odds, [t]);
                ahead.silent
            }
        }
    }
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
        let numbers = [history.repeats, history.to_last_days, history.tenure_days];
        let mixed = numbers
            .iter()
            .chain(&history.recent)
            .fold(0_u64, |mixed, &number| {
                mixed.wrapping_mul(1_000_003).wrapping_add(number as u64)
            });
        let at = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 50;
        let place = &mut self.kept[at as usize];
        if let Some((known, found)) = place {
            if *known == history {
                return Ok(*found);
            }
        }
        let found = match purchasing_of(history, model) {
            Some(found) => found,
            None => exactly(history)?,
        };
        *place = Some((history, found));
        Ok(found)
    }
}

/// The probability of a purchase in the next days, rounded to 6 decimals; None where Python must compute it.
pub fn chance_of_return(history: History, within_days: f64, model: &Model) -> Option<f64> {
    let unit_days = model.given.days_per_unit;
    let chance = 1.0
        - model
            .family
            .silent(&asked_of(history, unit_days), within_days / unit_days);
    (chance.is_finite() && is_safely_rounded(chance, model.family.trusted()))
        .then(|| round6(chance))
}

/// The prediction, rounded; None where Python must compute it.
pub fn purchasing_of(history: History, model: &Model) -> Option<Purchasing> {
    let (given, family) = (&model.given, &model.family);
    let unit_days = given.days_per_unit;
    let window = given.window_days.map(|days| days / unit_days);
    let found = family.purchasing(
        &asked_of(history, unit_days),
        HORIZON_DAYS / unit_days,
        window,
    );
    let is_safe = |value: &f64| value.is_finite() && is_safely_rounded(*value, family.trusted());
    if !found.iter().all(is_safe) {
        return None;
    }
    let [active, silent, expected, expected_if_back, in_window] = found.map(round6);
    Some(Purchasing {
        active,
        silent,
        expected,
        expected_if_back,
        silent_in_window: window.map_or(f64::NAN, |_| in_window),
    })
}

fn asked_of(history: History, unit_days: f64) -> Asked {
    Asked {
        x: history.repeats as f64,
        to_last: history.to_last_days as f64 / unit_days,
        tenure: history.tenure_days as f64 / unit_days,
        recent: history.recent.map(|count| count as f64),
    }
}

fn expit(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

/// The probability of no purchase of one who may not be active, from that while active.
fn silent_in_all(log_odds_inactive: f64, silent: f64) -> f64 {
    (expit(log_odds_inactive) + expit(-log_odds_inactive) * silent).min(1.0)
}
