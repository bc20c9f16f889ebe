//! The file of this process, from its creation to its end.
//!
//! In: options and sizes, when a client is built. Out: a [`Spool`] with the mapping that the lanes live in, or the reason
//! why there is none. Every failure here means that the queue is in memory, and nothing else.

use core::time::Duration;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use quillet_core::{Instant, Timestamp};

use super::checkpoint::Checkpoints;
use super::context::Context;
use super::directory::{Directory, Kind};
use super::layout::{self, Header, Plan};
use super::map::Mapping;
use super::platform::{self, Backing};
use super::recover::{Live, Recovery};
use super::retain::{Limits, make_room};
use super::{Durability, Ledger, SpoolOptions};

/// How often the checkpoints of a file on a disk are brought up to date: what a kernel that dies has written is believed up
/// to there. Costs little, as what was delivered meanwhile needs none.
const COVER_INTERVAL: Duration = Duration::from_millis(100);

/// A spool that this client takes part in.
pub(crate) struct Spool {
    directory: Directory,
    tier: Durability,
    mapping: Option<Arc<Mapping>>,
    /// What the process says of itself, for whoever describes its death.
    context: Mutex<Context>,
}

/// What a new file says about where it comes from.
fn origin(owner: u128, plan: Plan, now: Timestamp) -> Header {
    Header { plan, owner, boot_id: platform::boot_id(), started: now, pid: std::process::id(), epoch: 0 }
}

impl Spool {
    /// The spool below the directory of the options, with a new file in it for `lanes` rings of `capacity`, and the part
    /// that looks for what others left. Says what the file could not be had for, if that is so.
    ///
    /// # Errors
    ///
    /// Whatever makes the directory unusable. A directory without room for the file is usable: then there is no mapping.
    pub(crate) fn open(
        options: &SpoolOptions,
        (host, api_key): (&str, &str),
        (lanes, capacity): (usize, usize),
        now: Timestamp,
        random: impl FnMut() -> u64,
    ) -> io::Result<(Self, Recovery, io::Result<()>)> {
        let root = options.dir.as_deref().ok_or(io::ErrorKind::NotFound)?;
        let owner = layout::fnv(&[host.as_bytes(), api_key.as_bytes()]);
        let directory = Directory::open(root, owner)?;
        let backing = platform::backing(directory.path()).ok_or(io::ErrorKind::Unsupported)?;
        let tier = match (backing, options.power_cut) {
            (Backing::Memory, _) => Durability::Process,
            (Backing::Disk, None) => Durability::Reboot,
            (Backing::Disk, Some(interval)) => Durability::PowerCut(interval),
        };
        let plan = Plan::new(lanes, capacity, true).ok_or(io::ErrorKind::InvalidInput)?;
        let (limits, origin) = (Limits::new(options), origin(owner, plan, now));
        let mut ledger = Ledger::default();
        let created = create(&directory, &limits, origin, random, &mut ledger);
        let (mapping, created) = match created {
            Ok(mapping) => (Some(Arc::new(mapping)), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let live = mapping.clone().map(|mapping| live(mapping, tier));
        let recovery = Recovery::new(Some(directory.clone()), limits, origin, live, options.report_unclean_end, ledger);
        Ok((Self { directory, tier, mapping, context: Mutex::default() }, recovery, created))
    }

    /// The mapped file, unless there is none.
    pub(crate) fn mapping(&self) -> Option<&Arc<Mapping>> {
        self.mapping.as_ref()
    }

    /// Says that the lanes are formatted: from here on whoever finds the file believes it. Whether that worked.
    pub(crate) fn publish(&self) -> bool {
        let is_published = self.mapping.as_ref().is_some_and(|mapping| mapping.publish().is_ok());
        if let Durability::PowerCut(_) = self.tier {
            // Or the file itself might not be there after a power cut.
            let _ = self.mapping.as_ref().map(|mapping| mapping.sync());
            let _ = self.directory.sync();
        }
        is_published
    }

    /// Goes on without a file of our own.
    pub(crate) fn give_up(&mut self) {
        if let Some(mapping) = self.mapping.take() {
            mapping.claim().unlink();
        }
    }

    /// What events survive now: a file that somebody has removed or cut off keeps nothing.
    pub(crate) fn durability(&self) -> Durability {
        let is_there = self.mapping.as_ref().is_some_and(|mapping| mapping.claim().is_linked() && mapping.is_whole());
        if is_there { self.tier } else { Durability::Memory }
    }

    /// Notes what every event says from now on. Waits for the disk's cache; not for handlers of signals.
    pub(crate) fn set_common(&self, common: &str) {
        self.change_context(|context| context.next(common, &context.person));
    }

    /// Notes whom crashes are reported of.
    pub(crate) fn set_person(&self, person: &str) {
        self.change_context(|context| context.next(&context.common, person));
    }

    fn change_context(&self, change: impl FnOnce(&Context) -> Context) {
        let Some(mapping) = &self.mapping else { return };
        let mut context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        *context = change(&context);
        if let Some(at) = mapping.plan().context_at() {
            context.write(mapping.claim(), at);
        }
    }
}

fn create(
    directory: &Directory,
    limits: &Limits,
    origin: Header,
    mut random: impl FnMut() -> u64,
    ledger: &mut Ledger,
) -> io::Result<Mapping> {
    make_room(directory, limits, origin.plan.file_bytes() as u64, origin.started, &mut |_, events, reason| {
        ledger.recovered = ledger.recovered.wrapping_add(events);
        ledger.drop_found(reason, events);
    })?;
    let mut attempt = || {
        let epoch = random();
        Mapping::create(&directory.name(origin.started, epoch, Kind::Ring), Header { epoch, ..origin })
    };
    // Should a sibling look at a new file in the instant before it is locked, another one is made.
    let is_looked_at = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    attempt().or_else(|error| if is_looked_at(&error) { attempt() } else { Err(error) })
}

fn live(mapping: Arc<Mapping>, tier: Durability) -> Live {
    let (interval, is_synced) = match tier {
        Durability::PowerCut(interval) => (Some(interval), true),
        Durability::Reboot => (Some(COVER_INTERVAL), false),
        Durability::Process | Durability::Memory => (None, false),
    };
    let checkpoints = Checkpoints::new(mapping.plan().lanes);
    Live { mapping, checkpoints, interval, is_synced, next: Instant::ZERO }
}
