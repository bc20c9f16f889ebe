//! Reports of `anyhow`: their chain, and where they arose.

use core::error::Error;

use super::ErrorReport;
use crate::client::{Captured, Client};

impl<'a> ErrorReport<'a> {
    /// A report of an `anyhow::Error`: the outermost context first, its causes behind it. If it captured a backtrace
    /// (`RUST_BACKTRACE` or `RUST_LIB_BACKTRACE`), that is its stack; see [`backtrace`](Self::backtrace) for what it costs.
    #[track_caller]
    pub fn from_anyhow(error: &'a ::anyhow::Error) -> Self {
        let outermost: &(dyn Error + 'static) = error.as_ref();
        Self::from_dyn(outermost).backtrace(error.backtrace())
    }
}

impl Client {
    /// [`capture_error`](Self::capture_error) for an `anyhow::Error`.
    #[track_caller]
    #[inline(never)]
    pub fn capture_anyhow(&self, error: &::anyhow::Error) -> Captured {
        let here = 0u8;
        self.capture_above(&ErrorReport::from_anyhow(error), &here)
    }
}
