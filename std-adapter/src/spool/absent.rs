//! The spool where there is none: what the rest of the client calls, and never has.
//!
//! In: options. Out: the news that this system has no spool. The types have no values, so nothing else can be called.

use core::ptr::NonNull;
use std::io;

use quillet_core::{Action, Envelope, Flusher, Instant, Outcome, Policy, Report, Timestamp};

use super::{Durability, Ledger, SpoolOptions};
use crate::crash::Leftovers;

pub(crate) const SEGMENT_BYTES: usize = 1;

#[derive(Debug)]
pub(crate) enum Mapping {}

impl Mapping {
    pub(crate) fn is_whole(&self) -> bool {
        match *self {}
    }

    pub(crate) fn range(&self) -> (NonNull<u8>, usize) {
        match *self {}
    }

    pub(crate) fn take_lane(&self, _lane: usize) -> Option<(NonNull<u8>, usize)> {
        match *self {}
    }
}

pub(crate) enum Spool {}

impl Spool {
    pub(crate) fn open(
        _options: &SpoolOptions,
        _whose: (&str, &str),
        _sizes: (usize, usize),
        _now: Timestamp,
        _random: impl FnMut() -> u64,
    ) -> io::Result<(Self, Recovery, io::Result<()>)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn mapping(&self) -> Option<&std::sync::Arc<Mapping>> {
        match *self {}
    }

    pub(crate) fn publish(&self) -> bool {
        match *self {}
    }

    pub(crate) fn give_up(&mut self) {
        match *self {}
    }

    pub(crate) fn durability(&self) -> Durability {
        match *self {}
    }

    pub(crate) fn set_common(&self, _common: &str) {
        match *self {}
    }

    pub(crate) fn set_person(&self, _person: &str) {
        match *self {}
    }
}

/// What is needed to send what is found.
#[allow(dead_code, reason = "nothing is ever found")]
pub(crate) struct Sending {
    pub(crate) envelope: Envelope,
    pub(crate) policy: Policy,
    pub(crate) seed: [u64; 2],
}

pub(crate) enum Replay {}

impl Replay {
    pub(crate) fn poll(&mut self, _now: Instant) -> Action<'_> {
        match *self {}
    }

    pub(crate) fn handle_outcome(&mut self, _now: Instant, _outcome: Outcome) -> Report {
        match *self {}
    }
}

pub(crate) enum Recovery {}

impl Recovery {
    pub(crate) fn with_crash_files(spool: Option<Self>, _crash_files: Option<Leftovers>) -> Option<Self> {
        spool
    }

    pub(crate) fn give_up(&mut self) {
        match *self {}
    }

    pub(crate) fn work(&mut self, _now: Instant, _wall: Timestamp, _sending: &Sending) -> Instant {
        match *self {}
    }

    pub(crate) fn take_out(&mut self) -> Option<Replay> {
        match *self {}
    }

    pub(crate) fn put_back(&mut self, _replay: Replay) {
        match *self {}
    }

    pub(crate) fn acknowledge(&mut self) {
        match *self {}
    }

    pub(crate) fn settle(&mut self) -> (Ledger, u64) {
        match *self {}
    }

    pub(crate) fn shutdown(&mut self, _deadline: Instant) {
        match *self {}
    }

    pub(crate) fn is_keeping(&self) -> bool {
        match *self {}
    }

    pub(crate) fn cover<const LANES: usize>(
        &mut self,
        _now: Instant,
        _wall: Timestamp,
        _flusher: &Flusher<'_, LANES>,
        _at_once: bool,
    ) -> Instant {
        match *self {}
    }

    pub(crate) fn keep(&mut self, _frames: (&[u8], &[u8]), _events: usize, _wall: Timestamp, _random: u64) -> bool {
        match *self {}
    }

    pub(crate) fn close(&mut self, _is_left: bool) {
        match *self {}
    }

    pub(crate) fn erase(&mut self) {
        match *self {}
    }
}
