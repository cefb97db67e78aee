//! The border: what Python sees. Errors cross it as exceptions, and a panic as `DeclinedError`.

mod record_batch;
mod replay;
mod restore;
mod worker;

use std::panic::{catch_unwind, AssertUnwindSafe};

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use crate::events::Answer;
use crate::lifetime::{chance_of_return, purchasing_of, History, Purchasing};
use crate::model::{GivenModel, Model};
use crate::walk::Exactly;
use crate::Declined;

pub use record_batch::{checksum, RecordBatch};
pub use replay::Replay;
pub use restore::Restorer;
pub use worker::{Core, Outgoing, Part};

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

const PANICKED: Declined = Declined("something that the compiled core did not expect");

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

/// A panic becomes a refusal: Python takes the log then.
fn caught<T>(work: impl FnOnce() -> Result<T, Declined>) -> Result<T, Declined> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(PANICKED))
}

/// The Python core, for what only it computes.
pub struct Asked {
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
