//! The virtio network device: the driver is `virtio-drivers`', the memory it needs is here.

#![allow(unsafe_code, reason = "memory that is shared with a device")]

use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use device::once::Once;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use virtio_drivers::device::net::VirtIONetRaw;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceType, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// Where the board has room for devices, and how far apart.
const SLOTS: core::ops::Range<usize> = 0x1000_1000..0x1000_9000;
const SLOT_BYTES: usize = 0x1000;

/// Requests to the device that may be under way.
const QUEUE: usize = 4;
/// A frame and the driver's header in front of it.
const BUFFER_BYTES: usize = 2048;
/// Longest frame without its checksum.
const FRAME_BYTES: usize = 1514;

/// The network device.
pub struct Nic {
    driver: VirtIONetRaw<Pages, MmioTransport<'static>, QUEUE>,
    /// Lent to the device for as long as `token` waits.
    lent: &'static mut [u8; BUFFER_BYTES],
    token: Option<u16>,
    received: [u8; BUFFER_BYTES],
    to_send: [u8; FRAME_BYTES],
}

impl Nic {
    /// The first network device there is.
    pub fn find() -> Option<Self> {
        static LENT: Once<[u8; BUFFER_BYTES]> = Once::new([0; BUFFER_BYTES]);
        let transport = SLOTS.step_by(SLOT_BYTES).find_map(|address| {
            let header = NonNull::new(address as *mut VirtIOHeader)?;
            // SAFETY: the board has a header at each of these addresses, for ever.
            let transport = unsafe { MmioTransport::new(header, SLOT_BYTES) }.ok()?;
            (transport.device_type() == DeviceType::Network).then_some(transport)
        })?;
        let driver = VirtIONetRaw::new(transport).ok()?;
        let (received, to_send) = ([0; BUFFER_BYTES], [0; FRAME_BYTES]);
        let mut nic = Self { driver, lent: LENT.take()?, token: None, received, to_send };
        nic.lend();
        Some(nic)
    }

    /// Its address.
    pub fn mac(&self) -> [u8; 6] {
        self.driver.mac_address()
    }

    fn lend(&mut self) {
        // SAFETY: the buffer is touched only in `take`, once the device has given it back.
        self.token = unsafe { self.driver.receive_begin(self.lent) }.ok();
    }

    /// Copies the next frame into `received`; its place there.
    fn take(&mut self) -> Option<core::ops::Range<usize>> {
        let token = self.driver.poll_receive()?;
        if self.token != Some(token) {
            return None;
        }
        // SAFETY: the buffer that was lent with this token.
        let (header, len) = unsafe { self.driver.receive_complete(token, self.lent) }.ok()?;
        self.received.copy_from_slice(self.lent);
        self.lend();
        Some(header..header + len)
    }
}

impl Device for Nic {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = ToSend<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, ToSend<'_>)> {
        let place = self.take()?;
        let frame = self.received.get(place).unwrap_or_default();
        Some((Received(frame), ToSend { driver: &mut self.driver, frame: &mut self.to_send }))
    }

    fn transmit(&mut self, _: Instant) -> Option<ToSend<'_>> {
        Some(ToSend { driver: &mut self.driver, frame: &mut self.to_send })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_BYTES;
        capabilities.max_burst_size = Some(1);
        capabilities
    }
}

/// A frame that came.
pub struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// Room for a frame that goes.
pub struct ToSend<'a> {
    driver: &'a mut VirtIONetRaw<Pages, MmioTransport<'static>, QUEUE>,
    frame: &'a mut [u8; FRAME_BYTES],
}

impl TxToken for ToSend<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let frame = &mut self.frame[..len.min(FRAME_BYTES)];
        let result = fill(frame);
        // A frame that the device does not take is lost, as frames are; TCP sends it again.
        let _ = self.driver.send(frame);
        result
    }
}

/// Pages for the driver's queues: handed out once, never taken back.
struct Pages;

const PAGES: usize = 8;

#[repr(C, align(4096))]
struct Pool(UnsafeCell<[u8; PAGES * PAGE_SIZE]>);

// SAFETY: pages are handed out by a counter, each once.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool(UnsafeCell::new([0; PAGES * PAGE_SIZE]));
static TAKEN: AtomicUsize = AtomicUsize::new(0);

// SAFETY: memory is not mapped on this board, so an address is an address; pages come zeroed from a static, each once.
unsafe impl Hal for Pages {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let first = critical_section::with(|_| {
            let first = TAKEN.load(Ordering::Relaxed);
            TAKEN.store(first + pages, Ordering::Relaxed);
            first
        });
        assert!(first + pages <= PAGES, "the driver wants more pages than there are");
        // SAFETY: inside of the pool, by the assertion.
        let start = unsafe { NonNull::new_unchecked(POOL.0.get().cast::<u8>().add(first * PAGE_SIZE)) };
        (start.as_ptr() as PhysAddr, start)
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::dangling()
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
