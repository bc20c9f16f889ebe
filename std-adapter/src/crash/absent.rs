//! Crash files and signal handlers where there are none: what the rest of the client calls, and never has.
//!
//! In: options. Out: the news that this system has neither. The types have no values, so nothing else can be called.

use core::ptr::NonNull;
use std::io;
use std::path::Path;
use std::sync::Arc;

use quillet_core::{Gauge, Image, Uuid};

use super::CrashOptions;
use crate::arena::Held;
use crate::lanes::{OwnedCommon, RINGS};
use crate::spool::Mapping;

#[derive(Debug)]
pub(crate) enum CrashFile {}

impl CrashFile {
    pub(crate) fn create(
        _dir: &Path,
        _name: Uuid,
        _whose: (u128, &str),
        _common: &OwnedCommon,
        _gauges: [Held<Gauge<'static>>; RINGS],
    ) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn set_common(&self, _common: &OwnedCommon) {
        match *self {}
    }

    pub(crate) fn set_slots(&self, _slots: Arc<Slots>) {
        match *self {}
    }

    pub(crate) fn write(&self) -> bool {
        match *self {}
    }

    pub(crate) fn close(&self, _is_discarded: bool) {
        match *self {}
    }

    pub(crate) fn releasing(&self) -> Releasing<'_> {
        match *self {}
    }
}

/// Nobody writes a file, so nobody has to be kept from it.
pub(crate) struct Releasing<'a> {
    _file: &'a CrashFile,
}

#[derive(Debug)]
pub(crate) enum Guard {}

impl Guard {
    pub(crate) fn is_degraded(&self) -> bool {
        match *self {}
    }
}

pub(crate) fn guard(_start: NonNull<u8>, _bytes: usize) -> Option<Guard> {
    None
}

#[derive(Debug)]
pub(crate) enum Slots {}

impl Slots {
    pub(crate) fn in_spool(_mapping: &Arc<Mapping>, _identity: [u64; 2], _images: &[Image<'_>]) -> Option<Self> {
        None
    }

    pub(crate) fn anonymous(_identity: [u64; 2], _images: &[Image<'_>]) -> Option<Self> {
        None
    }
}

#[derive(Debug)]
pub(crate) enum Registration {}

pub(crate) fn install(_slots: Arc<Slots>, _file: Option<Arc<CrashFile>>) -> Option<Registration> {
    None
}

pub(crate) enum Leftovers {}

impl Leftovers {
    pub(crate) fn of(_options: &CrashOptions, _owner: u128) -> Option<Self> {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use crate::{Client, Durability};

    #[test]
    fn what_cannot_be_had_here_is_not_promised() {
        let dir = std::env::temp_dir().join("quillet-absent");
        let client = Client::builder("phc_absent").spool_dir(&dir).crash_dir(&dir).without_thread().build().unwrap();
        assert_eq!(client.durability(), Durability::Memory);
        assert!(!client.install_signal_handlers() && !client.write_crash_file());
        assert!(!dir.exists());
        client.discard();
    }
}
