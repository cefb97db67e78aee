//! The value model as numbers, made by `enrichment/kernel.py` from `enrichment/model.py`.

use std::collections::HashMap;

use pyo3::prelude::*;

use crate::lifetime::{Family, GivenFamily};
use crate::numbers::{divide_half_even, Curve};

/// How many metrics there are, in the order of `METRICS`.
pub const METRICS: usize = 13;

/// What Python hands over; each field is a key of the dict, with the meaning that its name has there.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct GivenModel {
    pub name: String,
    pub version: String,
    pub namespace: String,
    pub currencies: HashMap<String, (i64, i64)>,
    pub rate_denominator: i64,
    pub cost_ratio: (i64, i64),
    pub cost_per_refund_micros: i64,
    pub minor_unit_digits: u32,
    pub is_opt_in: bool,
    pub other_purposes: Vec<String>,
    pub kinds: HashMap<String, (f64, i64)>,
    pub decay_of_sums: Vec<f64>,
    pub decay_of_channels: Vec<f64>,
    pub declared_weights: HashMap<String, f64>,
    pub metrics: Vec<String>,
    pub curves: Vec<(Vec<f64>, Vec<f64>)>,
    pub missing: Vec<f64>,
    pub group_weights: Vec<Vec<f64>>,
    pub value_weights: Vec<f64>,
    pub is_cost: Vec<bool>,
    pub family: GivenFamily,
    pub days_per_unit: f64,
    pub window_days: Option<f64>,
    pub gamma_gamma: (f64, f64, f64),
    pub discount_factor: f64,
    pub default_margin_rate: f64,
    pub rfm: Vec<Vec<f64>>,
    pub thresholds: Vec<Vec<f64>>,
    pub new_days: i64,
    pub tier_curve: Option<(Vec<f64>, Vec<f64>)>,
    pub dwell_days: (i64, i64, i64),
    pub triggers: Vec<String>,
    pub delay_days: Vec<i64>,
    pub long_tenure_days: i64,
    pub long_tenure_extra_days: i64,
    pub engaged_within_days: i64,
    pub engaged_extra_days: i64,
    pub control_share: f64,
    pub own_return: Option<(f64, f64)>,
    pub purchases_days: i64,
    pub engagements_days: i64,
}

/// A currency: base units per unit over the model's common denominator, and the largest amount of a record.
#[derive(Clone, Copy)]
pub struct Currency {
    pub rate: i128,
    pub largest_micros: i64,
}

/// A currency as states name it: its code, and its rate as a fraction, empty where it is one.
pub struct CurrencyText {
    pub code: Box<str>,
    pub rate: Box<str>,
}

/// Limits with a margin: as they are, made harder or made easier.
pub struct Thresholds {
    pub high: f64,
    pub loyal: f64,
    pub medium: f64,
    pub emerging: f64,
    pub tiers: [f64; 3],
    pub tiers_by_potential: [f64; 3],
    pub at_risk: f64,
    pub lapsed: f64,
}

/// The model, ready to compute with.
pub struct Model {
    pub given: GivenModel,
    pub currency_at: HashMap<String, usize>,
    pub currencies: Vec<Currency>,
    pub currency_texts: Vec<CurrencyText>,
    pub curves: Vec<Curve>,
    pub tier_curve: Option<Curve>,
    pub group_weights: [[f64; METRICS]; 4],
    pub value_weights: [f64; METRICS],
    pub thresholds: [Thresholds; 3],
    pub family: Family,
}

impl Model {
    /// None where the numbers are not as many as they must be.
    pub fn new(given: GivenModel) -> Option<Model> {
        let whole = given.metrics.len() == METRICS
            && given.curves.len() == METRICS
            && given.missing.len() == METRICS
            && given.is_cost.len() == METRICS
            && given.group_weights.len() == 4
            && given.thresholds.len() == 3
            && given.rfm.len() == 3
            && given.delay_days.len() == 5
            && given.decay_of_sums.len() == 90
            && given.decay_of_channels.len() == 90
            && given.minor_unit_digits <= 6
            && given
                .curves
                .iter()
                .chain(&given.tier_curve)
                .all(|(at, points)| !at.is_empty() && at.len() == points.len());
        if !whole {
            return None;
        }
        let curve = |(at, points): &(Vec<f64>, Vec<f64>)| Curve {
            at: at.clone(),
            points: points.clone(),
        };
        let row = |weights: &Vec<f64>| <[f64; METRICS]>::try_from(weights.as_slice()).ok();
        let codes: Vec<String> = given.currencies.keys().cloned().collect();
        Some(Model {
            family: Family::new(&given.family, given.days_per_unit)?,
            currency_at: codes.iter().cloned().zip(0..).collect(),
            currencies: codes
                .iter()
                .map(|code| given.currencies[code])
                .map(|(rate, largest_micros)| Currency {
                    rate: i128::from(rate),
                    largest_micros,
                })
                .collect(),
            currency_texts: codes
                .iter()
                .map(|code| CurrencyText {
                    code: code.as_str().into(),
                    rate: fraction(given.currencies[code].0, given.rate_denominator).into(),
                })
                .collect(),
            curves: given.curves.iter().map(curve).collect(),
            tier_curve: given.tier_curve.as_ref().map(curve),
            group_weights: [
                row(&given.group_weights[0])?,
                row(&given.group_weights[1])?,
                row(&given.group_weights[2])?,
                row(&given.group_weights[3])?,
            ],
            value_weights: row(&given.value_weights)?,
            thresholds: [
                thresholds(&given.thresholds[0])?,
                thresholds(&given.thresholds[1])?,
                thresholds(&given.thresholds[2])?,
            ],
            given,
        })
    }

    /// Micro-units of a currency as micro-units of the base currency.
    pub fn in_base_micros(&self, micros: i64, currency: usize) -> Option<i64> {
        let numerator = i128::from(micros).checked_mul(self.currencies[currency].rate)?;
        let denominator = i128::from(self.given.rate_denominator);
        i64::try_from(divide_half_even(numerator, denominator)).ok()
    }
}

/// A positive fraction as Python writes it; empty for one.
fn fraction(numerator: i64, denominator: i64) -> String {
    let (mut left, mut right) = (numerator, denominator);
    while right != 0 {
        (left, right) = (right, left % right);
    }
    match (numerator / left, denominator / left) {
        (1, 1) => String::new(),
        (whole, 1) => whole.to_string(),
        (numerator, denominator) => format!("{numerator}/{denominator}"),
    }
}

fn thresholds(numbers: &[f64]) -> Option<Thresholds> {
    let &[high, loyal, medium, emerging, t0, t1, t2, p0, p1, p2, at_risk, lapsed] = numbers else {
        return None;
    };
    Some(Thresholds {
        high,
        loyal,
        medium,
        emerging,
        tiers: [t0, t1, t2],
        tiers_by_potential: [p0, p1, p2],
        at_risk,
        lapsed,
    })
}
