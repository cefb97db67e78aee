//! The border: what Python sees. Errors cross it as exceptions, and a panic as `DeclinedError`.

use std::collections::HashMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::enter::enter;
use crate::events::Answer;
use crate::fold::{Given, Outcome, Part};
use crate::lifetime::{chance_of_return, purchasing_of, History, Predictor, Purchasing};
use crate::log::{Log, OrderedLog, Taken};
use crate::model::{GivenModel, Model};
use crate::output::{write_merged, Lines, Output};
use crate::walk::{Exactly, Walker};
use crate::Declined;

create_exception!(
    _kernel,
    DeclinedError,
    PyException,
    "This model or this log is for the Python core; the message says why."
);

impl From<Declined> for PyErr {
    fn from(declined: Declined) -> Self {
        DeclinedError::new_err(declined.0)
    }
}

const FOLDED: Declined = Declined("a part that has been folded");
const PANICKED: Declined = Declined("something that the compiled core did not expect");
const FILES: [&str; 3] = [
    "segment-changes.jsonl",
    "reactivation-triggers.jsonl",
    "customer-profiles.jsonl",
];
const TOPICS: [&str; 3] = ["consents", "purchases", "engagements"];

/// A replay: lines in, files out.
#[pyclass]
pub struct Replay {
    model: Model,
    until_us: Option<i64>,
    log: Option<Log>,
    after_until: [u64; 3],
}

#[pymethods]
impl Replay {
    #[new]
    fn new(model: GivenModel, until_us: Option<i64>) -> PyResult<Self> {
        let model = Model::new(model).ok_or(Declined("a model of another shape"))?;
        Ok(Replay {
            log: Some(Log::new(&model)),
            model,
            until_us,
            after_until: [0; 3],
        })
    }

    /// Take lines of a topic (0: consents, 1: purchases, 2: engagements); gives the places of those that are not
    /// plainly valid.
    fn take(&mut self, topic: u8, lines: Vec<Bound<'_, PyBytes>>) -> PyResult<Vec<usize>> {
        let mut others = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            if !self.take_one(topic, line.as_bytes(), None)? {
                others.push(at);
            }
        }
        Ok(others)
    }

    /// Take a line that Python has read, in plain words.
    fn take_as(&mut self, topic: u8, line: &[u8], plain: &[u8]) -> PyResult<()> {
        if !self.take_one(topic, line, Some(plain))? {
            return Err(Declined("a record that is valid and unusual").into());
        }
        Ok(())
    }

    /// Replay what was taken, on so many threads; writes the three files into a folder, and gives the counters.
    ///
    /// `purchasing(repeats, to_last_days, tenure_days, recent)`, `chance_of_return` of the same, and
    /// `points_of_answer(key, answer)` ask the Python core.
    fn run<'py>(
        &mut self,
        py: Python<'py>,
        folder: PathBuf,
        threads: usize,
        purchasing: Py<PyAny>,
        chance_of_return: Py<PyAny>,
        points_of_answer: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let log = self.log.take().ok_or(Declined("a replay that has run"))?;
        let asked = Asked {
            purchasing,
            chance_of_return,
            points_of_answer,
        };
        let (model, until_us) = (&self.model, self.until_us);
        let (parts, lines, end_us) = py.detach(|| {
            let (parts, end_us) = caught(|| {
                let log = log.ordered(until_us, model)?;
                Ok((replayed(&log, model, &asked, threads.max(1))?, log.end_us))
            })?;
            let lines = written(&parts, &folder)?;
            Ok::<_, PyErr>((parts, lines, end_us))
        })?;
        self.told(py, &parts, lines, end_us)
    }
}

impl Replay {
    fn take_one(&mut self, topic: u8, line: &[u8], plain: Option<&[u8]>) -> PyResult<bool> {
        let (model, until_us) = (&self.model, self.until_us);
        let log = self.log.as_mut().ok_or(Declined("a replay that has run"))?;
        let after_until = self
            .after_until
            .get_mut(usize::from(topic))
            .ok_or(Declined("a topic that there is not"))?;
        match caught(|| Ok(log.take(topic, line, plain, until_us, model)))? {
            Taken::Record => Ok(true),
            Taken::AfterUntil => {
                *after_until += 1;
                Ok(true)
            }
            Taken::NotPlain => Ok(false),
        }
    }

    fn told<'py>(
        &self,
        py: Python<'py>,
        parts: &[Output],
        lines: [usize; 3],
        end_us: i64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let told = PyDict::new(py);
        for (name, count) in FILES.iter().zip(lines) {
            told.set_item(name, count)?;
        }
        let mut outcomes: HashMap<(&str, &str), u64> = HashMap::new();
        let mut change_counts: HashMap<(&str, &str, &str), u64> = HashMap::new();
        let mut standings: HashMap<(&str, &str), u64> = HashMap::new();
        for (topic, count) in TOPICS.iter().zip(self.after_until) {
            if count > 0 {
                outcomes.insert((topic, "after_until"), count);
            }
        }
        for part in parts {
            for ((topic, outcome), count) in &part.outcomes {
                *outcomes
                    .entry((TOPICS[usize::from(*topic)], outcome))
                    .or_default() += count;
            }
            for (key, count) in &part.change_counts {
                *change_counts.entry(*key).or_default() += count;
            }
            for (key, count) in &part.standings {
                *standings.entry(*key).or_default() += count;
            }
        }
        let mut fared: Vec<_> = parts.iter().flat_map(|part| &part.fared).collect();
        fared.sort_by_key(|each| (each.at_us, each.customer));
        let fared: Vec<_> = fared
            .into_iter()
            .map(|each| {
                (
                    each.day,
                    if each.is_control {
                        "control"
                    } else {
                        "treatment"
                    },
                    each.segment,
                    &*each.value_at_stake,
                    each.bought,
                    each.revenue_micros,
                )
            })
            .collect();
        let dropped: u64 = parts.iter().map(|part| part.triggers_dropped).sum();
        told.set_item("outcomes", outcomes)?;
        told.set_item("change_counts", change_counts)?;
        told.set_item("standings", standings)?;
        told.set_item("fared", fared)?;
        told.set_item("triggers_dropped", dropped)?;
        told.set_item("end_us", end_us)?;
        Ok(told)
    }
}

/// A customer by their place, the bytes of the state, the due day, and lives and time of an erasure.
type StateOf<'py> = (usize, Bound<'py, PyBytes>, Option<i64>, Option<(i64, i64)>);
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

/// First loads by one model.
#[pyclass(frozen)]
pub struct FirstLoad {
    model: Arc<Model>,
    fingerprint: String,
    asked: Arc<Asked>,
}

#[pymethods]
impl FirstLoad {
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
        Ok(FirstLoad {
            model: Arc::new(Model::new(model).ok_or(Declined("a model of another shape"))?),
            fingerprint,
            asked: Arc::new(Asked {
                purchasing,
                chance_of_return,
                points_of_answer,
            }),
        })
    }

    /// Begin to take some records.
    fn fold(&self) -> Fold {
        Fold {
            part: Some(Part::new(&self.model)),
            model: self.model.clone(),
            asked: self.asked.clone(),
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
        let (model, asked, fingerprint) = (&*self.model, &*self.asked, &self.fingerprint);
        let entered =
            py.detach(|| caught(|| enter(&given, midnight_day, fingerprint, model, asked)))?;
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

/// Records that are taken into customers' states, without deciding.
#[pyclass]
pub struct Fold {
    part: Option<Part>,
    model: Arc<Model>,
    asked: Arc<Asked>,
    taken: usize,
}

#[pymethods]
impl Fold {
    /// Take records (topic, key, value, the broker's time or None) in the order in which they came; gives the places,
    /// from the first record on, of those that are not plainly valid.
    #[allow(clippy::type_complexity)] // as Python gives them
    fn take(
        &mut self,
        records: Vec<(u8, Bound<'_, PyBytes>, Bound<'_, PyBytes>, Option<i64>)>,
    ) -> PyResult<Vec<usize>> {
        let part = self.part.as_mut().ok_or(FOLDED)?;
        let (model, first) = (&*self.model, self.taken);
        let mut others = Vec::new();
        for (at, (topic, key, value, stamped_us)) in records.iter().enumerate() {
            let given = Given {
                row: first + at,
                topic: *topic,
                value: value.as_bytes(),
                key: Some(key.as_bytes()),
                stamped_us: *stamped_us,
            };
            if !caught(|| Ok(part.take(&given, model)))? {
                others.push(given.row);
            }
        }
        self.taken += records.len();
        Ok(others)
    }

    /// Take a record that Python has read and found valid, in plain words, in its place.
    fn take_as(&mut self, row: usize, topic: u8, plain: &[u8]) -> PyResult<()> {
        let part = self.part.as_mut().ok_or(FOLDED)?;
        let given = Given {
            row,
            topic,
            value: plain,
            key: None,
            stamped_us: None,
        };
        let model = &*self.model;
        if !caught(|| Ok(part.take(&given, model)))? {
            return Err(Declined("a record that is valid and unusual").into());
        }
        Ok(())
    }

    /// Whom the records name.
    fn customers(&self) -> PyResult<Vec<&str>> {
        let part = self.part.as_ref().ok_or(FOLDED)?;
        Ok(part.customers().iter().map(|name| &**name).collect())
    }

    /// Take the records into the states of `customers()`, None for one who is unknown; gives what became of each record,
    /// by its place, and the states that changed.
    fn run<'py>(
        &mut self,
        py: Python<'py>,
        states: Vec<Option<Bound<'py, PyBytes>>>,
        midnight_day: i64,
    ) -> PyResult<(Vec<Outcome>, Vec<StateOf<'py>>)> {
        let part = self.part.take().ok_or(FOLDED)?;
        if states.len() != part.customers().len() {
            return Err(Declined("not as many states as customers").into());
        }
        let bytes: Vec<Option<&[u8]>> = states
            .iter()
            .map(|state| state.as_ref().map(|state| state.as_bytes()))
            .collect();
        let (model, asked) = (&*self.model, &*self.asked);
        let folded = py.detach(|| caught(|| part.fold(&bytes, midnight_day, model, asked)))?;
        let states = folded.states.into_iter().map(|state| {
            let bytes = PyBytes::new(py, &state.bytes);
            (state.customer, bytes, state.due_day, state.erased)
        });
        Ok((folded.outcomes, states.collect()))
    }
}

type Prediction = (f64, f64, f64, f64, f64);

/// What is predicted from histories, in the order of `Purchasing`, and the chance of a return where the model asks for
/// it (else NaN); None where the Python core would be asked. So tests see each number, near a threshold or not.
#[pyfunction]
pub fn predictions(
    model: GivenModel,
    histories: Vec<Numbers>,
) -> PyResult<Vec<Option<(Prediction, f64)>>> {
    let model = Model::new(model).ok_or(Declined("a model of another shape"))?;
    let predicted = |&(repeats, to_last_days, tenure_days, recent): &Numbers| {
        let history = History {
            repeats,
            to_last_days,
            tenure_days,
            recent,
        };
        let found = purchasing_of(history, &model)?;
        let chance = match model.given.own_return {
            Some((within_days, _)) => chance_of_return(history, within_days, &model)?,
            None => f64::NAN,
        };
        let numbers = (
            found.active,
            found.silent,
            found.expected,
            found.expected_if_back,
            found.silent_in_window,
        );
        Some((numbers, chance))
    };
    Ok(caught(|| Ok(histories.iter().map(predicted).collect()))?)
}

/// Write the files of FILES; gives how many lines each has.
fn written(parts: &[Output], folder: &Path) -> std::io::Result<[usize; 3]> {
    let of = |lines_of: &dyn Fn(&Output) -> &Lines, name: &str| {
        let lines: Vec<&Lines> = parts.iter().map(lines_of).collect();
        write_merged(&lines, &folder.join(name))
    };
    Ok([
        of(&|part| &part.changes, FILES[0])?,
        of(&|part| &part.triggers, FILES[1])?,
        of(&|part| &part.profiles, FILES[2])?,
    ])
}

/// A panic becomes a refusal: Python takes the log then.
fn caught<T>(work: impl FnOnce() -> Result<T, Declined>) -> Result<T, Declined> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(PANICKED))
}

fn replayed(
    log: &OrderedLog,
    model: &Model,
    asked: &Asked,
    threads: usize,
) -> Result<Vec<Output>, Declined> {
    let work = |first: usize| {
        caught(|| {
            let mut walker = Walker {
                model,
                catalogue: &log.catalogue,
                exactly: asked,
                end_us: log.end_us,
                predictor: Predictor::new(),
                points: HashMap::new(),
                output: Output::default(),
            };
            for number in (first..log.customers.len()).step_by(threads) {
                let records = &log.records[log.starts[number]..log.starts[number + 1]];
                walker.walk(number as u32, &log.customers[number], records)?;
            }
            Ok(walker.output)
        })
    };
    if threads == 1 {
        return Ok(vec![work(0)?]);
    }
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || work(first)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or(Err(PANICKED)))
            .collect()
    })
}

/// The Python core, for what only it computes.
struct Asked {
    purchasing: Py<PyAny>,
    chance_of_return: Py<PyAny>,
    points_of_answer: Py<PyAny>,
}

type Numbers = (i64, i64, i64, [i64; 3]);

fn numbers_of(history: History) -> Numbers {
    (
        history.repeats,
        history.to_last_days,
        history.tenure_days,
        history.recent,
    )
}

impl Exactly for Asked {
    fn purchasing(&self, history: History) -> Result<Purchasing, Declined> {
        let found = Python::attach(|py| {
            self.purchasing
                .call1(py, numbers_of(history))?
                .extract::<(f64, f64, f64, f64, f64)>(py)
        });
        let (active, silent, expected, expected_if_back, silent_in_window) =
            found.map_err(|_| Declined("a prediction that the Python core refused"))?;
        Ok(Purchasing {
            active,
            silent,
            expected,
            expected_if_back,
            silent_in_window,
        })
    }

    fn chance_of_return(&self, history: History) -> Result<f64, Declined> {
        Python::attach(|py| {
            self.chance_of_return
                .call1(py, numbers_of(history))?
                .extract::<f64>(py)
        })
        .map_err(|_| Declined("a prediction that the Python core refused"))
    }

    fn points_of_answer(&self, key: &str, answer: &Answer) -> Result<f64, Declined> {
        let found = Python::attach(|py| {
            let function = &self.points_of_answer;
            match answer {
                Answer::Text(text) => function.call1(py, (key, &**text)),
                Answer::Truth(truth) => function.call1(py, (key, *truth)),
                Answer::Whole(number) => function.call1(py, (key, *number)),
                Answer::Large(number) => function.call1(py, (key, *number)),
                Answer::Number(number) => function.call1(py, (key, *number)),
            }?
            .extract::<f64>(py)
        });
        found.map_err(|_| Declined("an answer that the Python core refused"))
    }
}
