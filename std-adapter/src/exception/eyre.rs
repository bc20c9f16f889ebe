//! Reports of `eyre`: their chain. Their backtraces are their handlers' own affair; where a handler gives one out, as
//! `std::backtrace::Backtrace`, [`ErrorReport::backtrace`] takes it.

use core::error::Error;

use super::ErrorReport;
use crate::client::{Captured, Client};

impl<'a> ErrorReport<'a> {
    /// A report of an `eyre::Report`: the outermost context first, its causes behind it.
    #[track_caller]
    pub fn from_eyre(report: &'a ::eyre::Report) -> Self {
        let outermost: &(dyn Error + 'static) = report.as_ref();
        Self::from_dyn(outermost)
    }
}

impl Client {
    /// [`capture_error`](Self::capture_error) for an `eyre::Report`.
    #[track_caller]
    #[inline(never)]
    pub fn capture_eyre(&self, report: &::eyre::Report) -> Captured {
        let here = 0u8;
        self.capture_above(&ErrorReport::from_eyre(report), &here)
    }
}
