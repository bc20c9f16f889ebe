//! The file of this process, from its creation to its end.
//!
//! In: options and sizes, when a client is built. Out: a [`Spool`] with the mapping that the lanes live in, or the reason
//! why there is none. Every failure here means that the queue is in memory, and nothing else.

use std::io;
use std::sync::Arc;

use quillet_core::Timestamp;

use super::directory::{Directory, Kind};
use super::layout::{self, Header, Plan};
use super::map::Mapping;
use super::platform::{self, Backing};
use super::recover::Recovery;
use super::retain::{Limits, make_room};
use super::{Durability, Ledger, SpoolOptions};

/// How often another name is tried, should a sibling look at a new file in the instant before it is locked.
const CREATE_ATTEMPTS: usize = 3;

/// A spool that this client takes part in.
pub(crate) struct Spool {
    directory: Directory,
    durability: Durability,
    mapping: Option<Arc<Mapping>>,
    limits: Limits,
    owner: u128,
    boot_id: [u8; 16],
    report_unclean_end: bool,
    /// What making room has cost.
    ledger: Ledger,
}

impl Spool {
    /// The spool below the directory of the options, with a new file in it for `lanes` rings of `capacity`.
    ///
    /// # Errors
    ///
    /// Whatever makes the directory unusable. A directory without room for the file is usable: then there is no mapping.
    pub(crate) fn open(
        options: &SpoolOptions,
        (host, api_key): (&str, &str),
        (lanes, capacity): (usize, usize),
        now: Timestamp,
        random: &mut impl FnMut() -> u64,
    ) -> io::Result<(Self, io::Result<()>)> {
        let root = options.dir.as_deref().ok_or(io::ErrorKind::NotFound)?;
        let owner = layout::fnv(&[host.as_bytes(), api_key.as_bytes()]);
        let directory = Directory::open(root, owner)?;
        let backing = platform::backing(directory.path()).ok_or(io::ErrorKind::Unsupported)?;
        let durability = match (backing, options.power_cut) {
            (Backing::Memory, _) => Durability::Process,
            (Backing::Disk, None) => Durability::Reboot,
            (Backing::Disk, Some(interval)) => Durability::PowerCut(interval),
        };
        let limits = Limits::new(options);
        let boot_id = platform::boot_id();
        let report_unclean_end = options.report_unclean_end;
        let mut spool = Self {
            directory,
            durability,
            mapping: None,
            limits,
            owner,
            boot_id,
            report_unclean_end,
            ledger: Ledger::default(),
        };
        let created = spool.create((lanes, capacity), now, random);
        Ok((spool, created))
    }

    fn create(
        &mut self,
        (lanes, capacity): (usize, usize),
        now: Timestamp,
        random: &mut impl FnMut() -> u64,
    ) -> io::Result<()> {
        let plan = Plan::new(lanes, capacity, true).ok_or(io::ErrorKind::InvalidInput)?;
        make_room(&self.directory, &self.limits, plan.file_bytes() as u64, now, &mut self.ledger)?;
        let mut error = io::Error::from(io::ErrorKind::WouldBlock);
        for _ in 0..CREATE_ATTEMPTS {
            let epoch = random();
            let header =
                Header { plan, owner: self.owner, boot_id: self.boot_id, started: now, pid: std::process::id(), epoch };
            match Mapping::create(&self.directory.name(now, epoch, Kind::Ring), header) {
                Ok(mapping) => {
                    self.mapping = Some(Arc::new(mapping));
                    return Ok(());
                }
                Err(failed) => error = failed,
            }
            if error.kind() != io::ErrorKind::WouldBlock {
                break;
            }
        }
        Err(error)
    }

    /// The mapped file, unless there is none.
    pub(crate) fn mapping(&self) -> Option<&Arc<Mapping>> {
        self.mapping.as_ref()
    }

    /// Says that the lanes are formatted: from here on whoever finds the file believes it. Whether that worked.
    pub(crate) fn publish(&self) -> bool {
        self.mapping.as_ref().is_some_and(|mapping| mapping.publish().is_ok())
    }

    /// Goes on without a file of our own.
    pub(crate) fn give_up(&mut self) {
        if let Some(mapping) = self.mapping.take() {
            mapping.claim().unlink();
        }
    }

    /// What events survive.
    pub(crate) fn durability(&self) -> Durability {
        if self.mapping.is_some() { self.durability } else { Durability::Memory }
    }

    /// The part that looks for what others left, and what there is to count already.
    pub(crate) fn recovery(&mut self) -> Recovery {
        let ledger = core::mem::take(&mut self.ledger);
        let durable = self.mapping.clone();
        Recovery::new(
            self.directory.clone(),
            self.limits,
            self.owner,
            self.boot_id,
            durable,
            self.report_unclean_end,
            ledger,
        )
    }
}
