//! RAM that a reset does not clear: two rings, and the record of the boots.
//!
//! The linker script keeps it out of every section, so that neither the start-up code nor a loader writes there.

use quillet_core::uptime::Boots;
use quillet_core::{Consumer, Producer, Ring, Trust};

/// Bytes of the crash lane's ring: an `$exception` may take a quarter of it.
const CRASH_RING_BYTES: usize = 2048;

/// What was found in the retained memory, ready to be used.
pub struct Retained {
    /// Of the lane that everything but a crash goes into.
    pub events: (Producer<'static>, Consumer<'static>),
    /// Of the lane that only a crash goes into, so that it never finds it in use.
    pub crashes: (Producer<'static>, Consumer<'static>),
    /// When the boots began, as far as that is known.
    pub boots: Boots<'static>,
    /// Events of earlier boots that are still to be delivered.
    pub recovered: usize,
}

impl Retained {
    /// Attaches to what an earlier boot left, or formats what a cold start left. `None` if the memory is too small.
    ///
    /// Whatever is in there, bytes that are no ring are no ring: nothing is trusted.
    pub fn attach(memory: &'static mut [u8]) -> Option<Self> {
        let (record, rings) = memory.split_first_chunk_mut::<{ Boots::BYTES }>()?;
        let (crashes, events) = rings.split_at_mut_checked(Ring::bytes_for(CRASH_RING_BYTES))?;
        let (crashes, events) = (recover_or_format(crashes)?, recover_or_format(events)?);
        let recovered = crashes.pending() + events.pending();
        let boots = Boots::begin(record, recovered == 0);
        Some(Self { events: events.split(), crashes: crashes.split(), boots, recovered })
    }
}

/// Every frame is looked at: what is not a whole event is blanked out, so that it cannot spoil a batch.
fn recover_or_format(memory: &'static mut [u8]) -> Option<Ring<'static>> {
    // Asked first, because a ring keeps the memory that it is made of, whether or not there is one.
    let is_ring = Ring::recover(&mut *memory, Trust::Positions).is_ok();
    if is_ring { Ring::attach(memory).ok() } else { Ring::format(memory).ok() }
}
