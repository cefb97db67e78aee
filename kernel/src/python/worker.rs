//! What a worker asks for: records into states, first loads and live.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{caught, Asked};
use crate::enter::enter;
use crate::fold::fold;
use crate::lifetime::Predictor;
use crate::live::{live, LivedState};
use crate::model::{GivenModel, Model};
use crate::part::{Given, Outcome, Part as Records, ReadPart};
use crate::Declined;

const TAKEN: Declined = Declined("a part that has been taken");
const UNREAD: Declined = Declined("a part whose customers have not been read");

/// A customer by their place, the bytes of the state, the due day, and lives and time of an erasure.
type FoldedOf<'py> = (usize, Bound<'py, PyBytes>, Option<i64>, Option<(i64, i64)>);
/// Changes with their ids, profile, `as_of`, sequence, decision, state and due day.
type EnteredOf<'py> = (
    Vec<(String, Bound<'py, PyBytes>)>,
    Bound<'py, PyBytes>,
    String,
    i64,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    i64,
);
/// A customer's place, the change's id, `as_of` and value, and place and time of the record that brought it.
type ChangeOf<'py> = (
    usize,
    String,
    String,
    Bound<'py, PyBytes>,
    Option<(usize, i64)>,
);
/// A profile's `as_of`, sequence and value.
type ProfileOf<'py> = (String, i64, Bound<'py, PyBytes>);
/// A customer's place, the state if it changed, the due day, the profile, when an earlier one ended, the decision if it
/// changed, and lives and time of an erasure.
type LivedOf<'py> = (
    usize,
    Option<Bound<'py, PyBytes>>,
    Option<i64>,
    Option<ProfileOf<'py>>,
    Option<i64>,
    Option<Bound<'py, PyBytes>>,
    Option<(i64, i64)>,
);
/// Outcomes, changes, triggers, how many triggers were dropped, changes by dimension, direction and trigger, customers.
type LivedPart<'py> = (
    Vec<Outcome>,
    Vec<ChangeOf<'py>>,
    Vec<Bound<'py, PyBytes>>,
    u64,
    Vec<((&'static str, &'static str, &'static str), u64)>,
    Vec<LivedOf<'py>>,
);

/// One model, and what computes with it.
struct Engine {
    model: Model,
    fingerprint: String,
    asked: Asked,
    predictor: Mutex<Predictor>,
}

/// The core of a worker, by one model.
#[pyclass(frozen)]
pub struct Core {
    engine: Arc<Engine>,
}

#[pymethods]
impl Core {
    /// The functions are those of `Replay.run`.
    #[new]
    fn new(
        model: GivenModel,
        fingerprint: String,
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
                predictor: Mutex::new(Predictor::new()),
            }),
        })
    }

    /// Begin to take some records.
    fn part(&self) -> Part {
        Part {
            records: Some(Records::new(&self.engine.model)),
            read: None,
            engine: self.engine.clone(),
            taken: 0,
        }
    }

    /// Decide for the first time on customers, by their ids and states.
    fn enter<'py>(
        &self,
        py: Python<'py>,
        states: Vec<(String, Bound<'py, PyBytes>)>,
        midnight_day: i64,
    ) -> PyResult<Vec<EnteredOf<'py>>> {
        let given: Vec<(&str, &[u8])> = states
            .iter()
            .map(|(id, state)| (id.as_str(), state.as_bytes()))
            .collect();
        let engine = &*self.engine;
        let entered = py.detach(|| {
            caught(|| {
                let mut predictor = engine.predictor();
                let (model, asked) = (&engine.model, &engine.asked);
                let fingerprint = &engine.fingerprint;
                enter(
                    &given,
                    midnight_day,
                    fingerprint,
                    model,
                    asked,
                    &mut predictor,
                )
            })
        })?;
        let bytes = |bytes: &[u8]| PyBytes::new(py, bytes);
        Ok(entered
            .into_iter()
            .map(|one| {
                let changes = one.changes.into_iter();
                (
                    changes.map(|(id, value)| (id, bytes(&value))).collect(),
                    bytes(&one.profile),
                    one.as_of,
                    one.sequence,
                    bytes(&one.decision),
                    bytes(&one.state),
                    one.due_day,
                )
            })
            .collect())
    }
}

impl Engine {
    /// The predictions made so far. A panic leaves them whole: each is kept once it is made.
    fn predictor(&self) -> std::sync::MutexGuard<'_, Predictor> {
        self.predictor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, records: Records, states: &[Option<&[u8]>]) -> Result<ReadPart, Declined> {
        records.read(states, &self.model, &self.asked)
    }
}

/// Records, and the customers whom they name.
#[pyclass]
pub struct Part {
    records: Option<Records>,
    read: Option<ReadPart>,
    engine: Arc<Engine>,
    taken: usize,
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
            if !caught(|| Ok(records.take(&given, model)))? {
                others.push(given.row);
            }
        }
        self.taken += given.len();
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
    ) -> PyResult<(Vec<Outcome>, Vec<FoldedOf<'py>>)> {
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
        Ok((folded.outcomes, states.collect()))
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

    /// Pass all midnights up to this one for everybody who was read, and then take the records; `filed` are due days by
    /// place, where they are later than those of the states.
    fn live<'py>(
        &mut self,
        py: Python<'py>,
        filed: Vec<(usize, i64)>,
        midnight_day: i64,
    ) -> PyResult<LivedPart<'py>> {
        let part = self.read.take().ok_or(UNREAD)?;
        let engine = &*self.engine;
        let lived = py.detach(|| {
            caught(|| {
                let mut predictor = engine.predictor();
                let (model, asked) = (&engine.model, &engine.asked);
                let fingerprint = &engine.fingerprint;
                live(
                    part,
                    &filed,
                    midnight_day,
                    fingerprint,
                    model,
                    asked,
                    &mut predictor,
                )
            })
        })?;
        let bytes = |bytes: &[u8]| PyBytes::new(py, bytes);
        let changes = lived.changes.into_iter().map(|change| {
            let value = bytes(&change.value);
            (
                change.customer,
                change.id,
                change.as_of,
                value,
                change.record,
            )
        });
        let triggers = lived.triggers.iter().map(|trigger| bytes(trigger));
        let customers = lived.customers.into_iter().map(|state| lived_of(py, state));
        Ok((
            lived.outcomes,
            changes.collect(),
            triggers.collect(),
            lived.triggers_dropped,
            lived.change_counts,
            customers.collect(),
        ))
    }
}

fn lived_of(py: Python<'_>, state: LivedState) -> LivedOf<'_> {
    let profile = state.profile.map(|profile| {
        let value = PyBytes::new(py, &profile.value);
        (profile.as_of, profile.sequence, value)
    });
    (
        state.customer,
        state.bytes.map(|bytes| PyBytes::new(py, &bytes)),
        state.due_day,
        profile,
        state.tombstone_us,
        state.decision.map(|decision| PyBytes::new(py, &decision)),
        state.erased,
    )
}

fn bytes_of<'a>(
    states: &'a [Option<Bound<'_, PyBytes>>],
    records: &Records,
) -> Result<Vec<Option<&'a [u8]>>, Declined> {
    if states.len() != records.customers().len() {
        return Err(Declined("not as many states as customers"));
    }
    let bytes =
        |state: &'a Option<Bound<'_, PyBytes>>| state.as_ref().map(|state| state.as_bytes());
    Ok(states.iter().map(bytes).collect())
}
