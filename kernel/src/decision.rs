//! What has been decided about a customer. Twin: `enrichment/customer/decision.py`.

use crate::model::METRICS;
use crate::scores::Ranks;

/// The last evaluation that brought a change.
#[derive(Clone)]
pub struct Baseline {
    /// NaN where not defined.
    pub metrics: [f64; METRICS],
    pub contributions: [f64; METRICS],
    pub scores: [f64; 5],
}

/// A re-activation that falls due on the midnight of a day.
#[derive(Clone)]
pub struct PendingTrigger {
    pub change_id: String,
    pub due_day: i64,
}

/// What has been decided and published about one customer.
#[derive(Default)]
pub struct Decision {
    pub life: i64,
    pub sequence: i64,
    pub standing: Option<Ranks>,
    pub changed_days: [i64; 3],
    pub baseline: Option<Baseline>,
    pub pending: Option<PendingTrigger>,
    pub fired_change_id: Option<String>,
    /// The fingerprint of the model of the last evaluation, and the first day that it evaluated.
    pub model: Option<Box<str>>,
    pub model_day: i64,
    pub erased_up_to_us: Option<i64>,
}
