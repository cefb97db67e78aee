//! What a worker asks for: records into states, first loads and live.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::record_batch::{no_record, RecordBatch};
use super::{caught, Asked};
use crate::enter::{enter, Entered};
use crate::fold::fold;
use crate::lifetime::Predictor;
use crate::live::{live, Lived, LivedState};
use crate::model::{GivenModel, Model};
use crate::outgoing::{Labels, Outgoing as Records};
use crate::part::{Given, Outcomes, Part as Taken, ReadPart};
use crate::restore::Moment;
use crate::Declined;

pub const TAKEN: Declined = Declined("a part that has been taken");
const UNREAD: Declined = Declined("a part whose customers have not been read");

/// A customer by their place, the bytes of the state, the due day, and lives and time of an erasure.
type FoldedOf<'py> = (usize, Bound<'py, PyBytes>, Option<i64>, Option<(i64, i64)>);
/// How many changes, the state and the due day.
type EnteredOf<'py> = (usize, Bound<'py, PyBytes>, i64);
/// A customer's place, the state if it changed, the due day, when the profile ended, and lives and time of an erasure.
type LivedOf<'py> = (
    usize,
    Option<Bound<'py, PyBytes>>,
    Option<i64>,
    Option<i64>,
    Option<(i64, i64)>,
);
/// How many records of a topic had an outcome; and the places of those that are refused, and why.
type OutcomesOf = (Vec<((u8, &'static str), u64)>, Vec<(usize, String)>);
/// Outcomes; the broker's time and their own of records that brought changes; triggers; how many triggers were dropped;
/// changes by dimension, direction and trigger; and customers.
type LivedPart<'py> = (
    OutcomesOf,
    Vec<(Option<i64>, i64)>,
    Vec<Bound<'py, PyBytes>>,
    u64,
    Vec<((&'static str, &'static str, &'static str), u64)>,
    Vec<LivedOf<'py>>,
);
type Headers = Vec<(String, Vec<u8>)>;
/// Namespace, `ce_type` and `ce_source` of changes and of profiles, and the headers of decisions.
type GivenLabels = (String, (String, String), (String, String), Headers);

/// One model, and what computes with it.
pub struct Engine {
    pub model: Model,
    pub fingerprint: String,
    pub asked: Asked,
    labels: Labels,
    predictor: Mutex<Predictor>,
}

/// The core of a worker, by one model.
#[pyclass(frozen)]
pub struct Core {
    pub engine: Arc<Engine>,
}

#[pymethods]
impl Core {
    /// `labels` are namespace, `ce_type` and `ce_source` of changes and of profiles, and the headers of decisions; the
    /// functions are those of `Replay.run`.
    #[new]
    fn new(
        model: GivenModel,
        fingerprint: String,
        labels: GivenLabels,
        purchasing: Py<PyAny>,
        chance_of_return: Py<PyAny>,
        points_of_answer: Py<PyAny>,
    ) -> PyResult<Self> {
        if model.kinds.keys().any(|kind| kind.contains('.')) {
            return Err(Declined("a kind of engagement with a dot in its name").into());
        }
        Ok(Core {
            engine: Arc::new(Engine {
                model: Model::new(model).ok_or(Declined("a model of another shape"))?,
                fingerprint,
                asked: Asked {
                    purchasing,
                    chance_of_return,
                    points_of_answer,
                },
                labels: Labels {
                    namespace: labels.0,
                    changes: labels.1,
                    profiles: labels.2,
                    decision_headers: labels.3,
                },
                predictor: Mutex::new(Predictor::new()),
            }),
        })
    }

    /// Begin to gather what a micro-batch publishes.
    fn outgoing(&self) -> Outgoing {
        Outgoing {
            records: Records::default(),
            engine: self.engine.clone(),
        }
    }

    /// Begin to take some records.
    fn part(&self) -> Part {
        Part {
            records: Some(Taken::new(&self.engine.model)),
            read: None,
            engine: self.engine.clone(),
            taken: 0,
            moments: Vec::new(),
        }
    }

    /// Decide for the first time on customers, by their ids and states; what is published goes to `out`.
    fn enter<'py>(
        &self,
        py: Python<'py>,
        states: Vec<(String, Bound<'py, PyBytes>)>,
        midnight_day: i64,
        mut out: PyRefMut<'py, Outgoing>,
    ) -> PyResult<Vec<EnteredOf<'py>>> {
        let given: Vec<(&str, &[u8])> = states
            .iter()
            .map(|(id, state)| (id.as_str(), state.as_bytes()))
            .collect();
        let engine = &*self.engine;
        let entered = py.detach(|| engine.enter(&given, midnight_day))?;
        let mut told = Vec::with_capacity(entered.len());
        for ((customer_id, _), one) in given.iter().zip(entered) {
            let (records, labels) = (&mut out.records, &engine.labels);
            for (id, value) in &one.changes {
                records.push_change(id, customer_id, &one.as_of, value, labels);
            }
            let (as_of, sequence) = (&one.as_of, one.sequence);
            records.put_made_profile(customer_id, as_of, sequence, &one.profile, labels);
            records.put_decision(customer_id, Some(&one.decision), labels);
            let state = PyBytes::new(py, &one.state);
            told.push((one.changes.len(), state, one.due_day));
        }
        Ok(told)
    }
}

impl Engine {
    /// The predictions made so far. A panic leaves them whole: each is kept once it is made.
    fn predictor(&self) -> std::sync::MutexGuard<'_, Predictor> {
        self.predictor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, given: &[(&str, &[u8])], midnight_day: i64) -> Result<Vec<Entered>, Declined> {
        let (model, fingerprint, asked) = (&self.model, &self.fingerprint, &self.asked);
        caught(|| {
            let predictor = &mut self.predictor();
            enter(given, midnight_day, fingerprint, model, asked, predictor)
        })
    }

    fn live(
        &self,
        part: ReadPart,
        filed: &[(usize, i64)],
        midnight_day: i64,
    ) -> Result<Lived, Declined> {
        let (model, fingerprint, asked) = (&self.model, &self.fingerprint, &self.asked);
        caught(|| {
            let predictor = &mut self.predictor();
            live(
                part,
                filed,
                midnight_day,
                fingerprint,
                model,
                asked,
                predictor,
            )
        })
    }

    pub fn read(&self, records: Taken, states: &[Option<&[u8]>]) -> Result<ReadPart, Declined> {
        records.read(states, &self.model, &self.asked)
    }
}

/// Records, and the customers whom they name.
#[pyclass]
pub struct Part {
    pub records: Option<Taken>,
    read: Option<ReadPart>,
    engine: Arc<Engine>,
    taken: usize,
    /// When each record came.
    pub moments: Vec<Moment>,
}

#[pymethods]
impl Part {
    /// Take records (topic, key, value, the broker's time or None) in the order in which they came; gives the places,
    /// from the first record on, of those that are not plainly valid.
    #[allow(clippy::type_complexity)] // as Python gives them
    fn take(
        &mut self,
        given: Vec<(u8, Bound<'_, PyBytes>, Bound<'_, PyBytes>, Option<i64>)>,
    ) -> PyResult<Vec<usize>> {
        let records = self.records.as_mut().ok_or(TAKEN)?;
        let (model, first) = (&self.engine.model, self.taken);
        let mut others = Vec::new();
        for (at, (topic, key, value, stamped_us)) in given.iter().enumerate() {
            let given = Given {
                row: first + at,
                topic: *topic,
                value: value.as_bytes(),
                key: Some(key.as_bytes()),
                stamped_us: *stamped_us,
            };
            self.moments.push(Moment {
                timestamp_ms: None,
                stamped_us: *stamped_us,
            });
            if !caught(|| Ok(records.take(&given, model)))? {
                others.push(given.row);
            }
        }
        self.taken += given.len();
        Ok(others)
    }

    /// Take some records of a batch, from one place to another; gives what `take` gives.
    fn take_batch(
        &mut self,
        py: Python<'_>,
        topic: u8,
        batch: &Bound<'_, RecordBatch>,
        first: usize,
        end: usize,
    ) -> PyResult<Vec<usize>> {
        let records = self.records.as_mut().ok_or(TAKEN)?;
        let (batch, model, row) = (&batch.get().read, &self.engine.model, self.taken);
        if first > end || end > batch.len() {
            return Err(no_record());
        }
        let stamped_us = batch.append_time_us();
        let given = |at: usize| Given {
            row: row + at - first,
            topic,
            value: batch.value(at).unwrap_or_default(),
            key: Some(batch.key(at).unwrap_or_default()),
            stamped_us,
        };
        let others = py.detach(|| {
            caught(|| {
                let given = (first..end).map(given);
                Ok(given
                    .filter(|given| !records.take(given, model))
                    .map(|given| given.row)
                    .collect())
            })
        })?;
        self.moments.extend((first..end).map(|at| Moment {
            timestamp_ms: batch.timestamp_ms(at),
            stamped_us,
        }));
        self.taken += end - first;
        Ok(others)
    }

    /// Take a record that Python has read and found valid, in plain words, in its place.
    fn take_as(&mut self, row: usize, topic: u8, plain: &[u8]) -> PyResult<()> {
        let records = self.records.as_mut().ok_or(TAKEN)?;
        let given = Given {
            row,
            topic,
            value: plain,
            key: None,
            stamped_us: None,
        };
        if !caught(|| Ok(records.take(&given, &self.engine.model)))? {
            return Err(Declined("a record that is valid and unusual").into());
        }
        Ok(())
    }

    /// Name customers of whom there are no records.
    fn name(&mut self, customer_ids: Vec<String>) -> PyResult<()> {
        let records = self.records.as_mut().ok_or(TAKEN)?;
        for customer_id in &customer_ids {
            records.name(customer_id);
        }
        Ok(())
    }

    /// Whom the records name, and who was named.
    fn customers(&self) -> PyResult<Vec<&str>> {
        let records = self.records.as_ref().ok_or(TAKEN)?;
        Ok(records.customers().iter().map(|name| &**name).collect())
    }

    /// Take the records into the states of `customers()`, None for one who is unknown, without deciding; gives what
    /// became of each record, by its place, and the states that changed.
    fn fold<'py>(
        &mut self,
        py: Python<'py>,
        states: Vec<Option<Bound<'py, PyBytes>>>,
        midnight_day: i64,
    ) -> PyResult<(OutcomesOf, Vec<FoldedOf<'py>>)> {
        let records = self.records.take().ok_or(TAKEN)?;
        let bytes = bytes_of(&states, &records)?;
        let engine = &*self.engine;
        let folded = py.detach(|| {
            caught(|| {
                let part = engine.read(records, &bytes)?;
                fold(part, midnight_day, &engine.model, &engine.asked)
            })
        })?;
        let states = folded.states.into_iter().map(|state| {
            let bytes = PyBytes::new(py, &state.bytes);
            (state.customer, bytes, state.due_day, state.erased)
        });
        Ok((told(folded.outcomes), states.collect()))
    }

    /// Read the states of `customers()`, None for one who is unknown; gives the places of those who are due by them on a
    /// midnight up to this one.
    fn read(
        &mut self,
        py: Python<'_>,
        states: Vec<Option<Bound<'_, PyBytes>>>,
        midnight_day: i64,
    ) -> PyResult<Vec<usize>> {
        let records = self.records.take().ok_or(TAKEN)?;
        let bytes = bytes_of(&states, &records)?;
        let engine = &*self.engine;
        let part = py.detach(|| caught(|| engine.read(records, &bytes)))?;
        let is_due = |due_day: Option<i64>| due_day.is_some_and(|day| day <= midnight_day);
        let customers = part.customers.iter().enumerate();
        let due = customers
            .filter(|(_, customer)| is_due(customer.due_day))
            .map(|(at, _)| at)
            .collect();
        self.read = Some(part);
        Ok(due)
    }

    /// Pass all midnights up to this one for everybody who was read, and then take the records; what is published goes to
    /// `out`, but for triggers. `filed` are due days by place, where they are later than those of the states.
    fn live<'py>(
        &mut self,
        py: Python<'py>,
        filed: Vec<(usize, i64)>,
        midnight_day: i64,
        mut out: PyRefMut<'py, Outgoing>,
    ) -> PyResult<LivedPart<'py>> {
        let part = self.read.take().ok_or(UNREAD)?;
        let engine = &*self.engine;
        let names = part.names.clone();
        let mut lived = py.detach(|| engine.live(part, &filed, midnight_day))?;
        let (records, labels) = (&mut out.records, &engine.labels);
        let mut brought = Vec::new();
        for change in &lived.changes {
            let name = &names[change.customer];
            records.push_change(&change.id, name, &change.as_of, &change.value, labels);
            brought.extend(change.record);
        }
        brought.dedup();
        let brought = brought
            .into_iter()
            .map(|(row, occurred_at_us)| (self.moments[row].stamped_us, occurred_at_us));
        let brought = brought.collect();
        for state in &mut lived.customers {
            put_ends(records, &names[state.customer], state, labels);
        }
        let triggers = lived
            .triggers
            .iter()
            .map(|trigger| PyBytes::new(py, trigger));
        let customers = lived.customers.iter().map(|state| {
            (
                state.customer,
                state.bytes.as_ref().map(|bytes| PyBytes::new(py, bytes)),
                state.due_day,
                state.tombstone_us,
                state.erased,
            )
        });
        Ok((
            told(lived.outcomes),
            brought,
            triggers.collect(),
            lived.triggers_dropped,
            lived.change_counts,
            customers.collect(),
        ))
    }
}

fn told(outcomes: Outcomes) -> OutcomesOf {
    (outcomes.counts, outcomes.refused)
}

/// The profile and the decision of a customer, where there are new ones.
fn put_ends(records: &mut Records, name: &str, state: &LivedState, labels: &Labels) {
    if state.tombstone_us.is_some() {
        records.drop_profile(name);
    }
    if let Some(profile) = &state.profile {
        let (as_of, sequence) = (&profile.as_of, profile.sequence);
        records.put_made_profile(name, as_of, sequence, &profile.value, labels);
    }
    if let Some(decision) = &state.decision {
        let value = Some(&**decision).filter(|decision| !decision.is_empty());
        records.put_decision(name, value, labels);
    }
}

/// What a micro-batch publishes.
#[pyclass]
pub struct Outgoing {
    records: Records,
    engine: Arc<Engine>,
}

#[pymethods]
impl Outgoing {
    /// About how many bytes the records come to, without profiles and decisions.
    #[getter]
    fn size(&self) -> usize {
        self.records.size
    }

    /// A record of Python's, after those before it.
    fn push(
        &mut self,
        topic: &str,
        key: Option<Vec<u8>>,
        value: Option<Bound<'_, PyBytes>>,
        headers: Headers,
    ) {
        let value = value.as_ref().map(|value| value.as_bytes());
        self.records
            .push(topic, key.as_deref(), value, &borrowed(&headers));
    }

    /// A profile of Python's, in place of an earlier one of the customer.
    fn put_profile(&mut self, customer_id: &str, value: Bound<'_, PyBytes>, headers: Headers) {
        self.records
            .put_profile(customer_id, Some(value.as_bytes()), &borrowed(&headers));
    }

    /// Publish no profile of the customer that has been put before.
    fn drop_profile(&mut self, customer_id: &str) {
        self.records.drop_profile(customer_id);
    }

    /// A decision of Python's as JSON, in place of an earlier one; None where nothing is known any more.
    fn put_decision(&mut self, customer_id: &str, value: Option<Bound<'_, PyBytes>>) {
        let value = value.as_ref().map(|value| value.as_bytes());
        self.records
            .put_decision(customer_id, value, &self.engine.labels);
    }

    /// All of it, once: as Redis keeps it; the batches for Kafka (topic, how many records, their bytes), each of at most
    /// so many bytes where its records allow it; and by topic how many records there are and the size of the largest.
    #[allow(clippy::type_complexity)] // as Python takes them
    fn finish<'py>(
        &mut self,
        py: Python<'py>,
        most_bytes: usize,
    ) -> (
        Bound<'py, PyBytes>,
        Vec<(String, usize, Bound<'py, PyBytes>)>,
        Vec<(String, usize, usize)>,
    ) {
        let records = std::mem::take(&mut self.records);
        let finished = py.detach(|| records.finish(most_bytes));
        let batches = finished.batches.iter().map(|batch| {
            let topic = finished.of_topics[batch.topic].0.clone();
            (topic, batch.count, PyBytes::new(py, &batch.bytes))
        });
        let batches = batches.collect();
        (
            PyBytes::new(py, &finished.packed),
            batches,
            finished.of_topics,
        )
    }
}

fn borrowed(headers: &Headers) -> Vec<(&str, &[u8])> {
    headers
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect()
}

pub fn bytes_of<'a>(
    states: &'a [Option<Bound<'_, PyBytes>>],
    records: &Taken,
) -> Result<Vec<Option<&'a [u8]>>, Declined> {
    if states.len() != records.customers().len() {
        return Err(Declined("not as many states as customers"));
    }
    let bytes =
        |state: &'a Option<Bound<'_, PyBytes>>| state.as_ref().map(|state| state.as_bytes());
    Ok(states.iter().map(bytes).collect())
}
