//! Models that stay from one request to the next.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;

/// A model that is opened when it is first needed and, where many requests come, stays.
pub(super) struct Kept<T> {
    stays: bool,
    model: Mutex<Option<Arc<T>>>,
}

impl<T> Kept<T> {
    /// Nothing yet.
    pub(super) fn new(stays: bool) -> Self {
        Self {
            stays,
            model: Mutex::new(None),
        }
    }

    /// The one that stayed, or what `open` gives.
    ///
    /// # Errors
    /// Those of `open`.
    pub(super) fn get(&self, open: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let mut kept = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = &*kept {
            return Ok(model.clone());
        }
        let model = Arc::new(open()?);
        *kept = self.stays.then(|| model.clone());
        Ok(model)
    }
}
