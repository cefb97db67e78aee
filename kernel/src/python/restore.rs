//! What a worker asks for when it restores a partition: records into states, without deciding.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::caught;
use super::worker::{bytes_of, Core, Engine, Part, TAKEN};
use crate::restore::{finish, Restorer as Restoring};

/// A customer's place, the bytes of the state, and whether anything is known of them.
type RestoredOf<'py> = (usize, Bound<'py, PyBytes>, bool);

/// The states of a partition being made anew; it keeps what is known of erasures and days.
#[pyclass]
pub struct Restorer {
    restoring: Restoring,
    engine: Arc<Engine>,
}

#[pymethods]
impl Restorer {
    #[new]
    fn new(core: &Bound<'_, Core>, is_wall_clock: bool) -> Self {
        Restorer {
            restoring: Restoring::new(is_wall_clock),
            engine: core.get().engine.clone(),
        }
    }

    /// Take the records of a part into the states of its `customers()`; `load_midnight_day` is that of the first load
    /// which all of them are of, or None. `as_of_us` is when customers were erased for the last time, by place. Gives
    /// the states of those whom records name. All records must have come in batches.
    fn take<'py>(
        &mut self,
        py: Python<'py>,
        mut part: PyRefMut<'py, Part>,
        states: Vec<Option<Bound<'py, PyBytes>>>,
        load_midnight_day: Option<i64>,
        as_of_us: Vec<(usize, i64)>,
    ) -> PyResult<Vec<RestoredOf<'py>>> {
        let records = part.records.take().ok_or(TAKEN)?;
        let bytes = bytes_of(&states, &records)?;
        let as_of_us = as_of_us.into_iter().collect();
        let (engine, restoring, moments) = (&*self.engine, &mut self.restoring, &part.moments);
        let restored = py.detach(|| {
            caught(|| {
                let read = engine.read(records, &bytes)?;
                let (model, asked) = (&engine.model, &engine.asked);
                restoring.take(read, moments, load_midnight_day, &as_of_us, model, asked)
            })
        })?;
        let restored = restored.into_iter().map(|state| {
            let bytes = PyBytes::new(py, &state.bytes);
            (state.customer, bytes, state.is_known)
        });
        Ok(restored.collect())
    }

    /// The states as they are stored in the end, with their due days; of each is told whether it was decided on.
    fn finish<'py>(
        &self,
        py: Python<'py>,
        states: Vec<(Bound<'py, PyBytes>, bool)>,
        midnight_day: i64,
        is_loading: bool,
    ) -> PyResult<Vec<(Bound<'py, PyBytes>, i64)>> {
        let given: Vec<(&[u8], bool)> = states
            .iter()
            .map(|(bytes, is_decided)| (bytes.as_bytes(), *is_decided))
            .collect();
        let engine = &*self.engine;
        let finished = py.detach(|| {
            caught(|| {
                let (model, asked) = (&engine.model, &engine.asked);
                finish(
                    &given,
                    midnight_day,
                    is_loading,
                    &engine.fingerprint,
                    model,
                    asked,
                )
            })
        })?;
        let finished = finished
            .into_iter()
            .map(|(bytes, due_day)| (PyBytes::new(py, &bytes), due_day));
        Ok(finished.collect())
    }
}
