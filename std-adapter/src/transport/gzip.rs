//! Compresses a request body, piece by piece, into memory that is kept for the next one.
//!
//! Input: the chunks of a body. Output: one gzip member. Level 1: on events it already saves four fifths, at a
//! tenth of what the default level costs.

use flate2::{Compress, Compression, FlushCompress, Status};

/// What the deflate state takes, a little over the truth. Asked for before it is made, because making it would abort.
pub(crate) const GZIP_STATE_BYTES: usize = 320 * 1024;

/// Output grows by this much at a time.
const GROWTH_BYTES: usize = 64 * 1024;

/// zlib's largest window, as its logarithm.
const WINDOW_BITS: u8 = 15;

/// There is no memory for the compressed body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory;

/// The state of a compressor and its output, both made on first use and used again after.
#[derive(Default)]
pub(crate) struct Packer {
    state: Option<Compress>,
    packed: Vec<u8>,
}

impl Packer {
    /// Compresses `chunks` as one body. The result is valid until the next call.
    pub(crate) fn pack<'c>(&mut self, chunks: impl Iterator<Item = &'c [u8]>) -> Result<&[u8], OutOfMemory> {
        self.packed.clear();
        let state = match &mut self.state {
            Some(state) => {
                state.reset();
                state
            }
            none => {
                Vec::<u8>::new().try_reserve_exact(GZIP_STATE_BYTES).map_err(|_| OutOfMemory)?;
                none.insert(Compress::new_gzip(Compression::fast(), WINDOW_BITS))
            }
        };
        for chunk in chunks {
            feed(state, chunk, &mut self.packed, FlushCompress::None)?;
        }
        feed(state, &[], &mut self.packed, FlushCompress::Finish)?;
        Ok(&self.packed)
    }
}

/// Runs the compressor until it has taken all of `input`, or with `Finish`, until it has written everything.
fn feed(state: &mut Compress, mut input: &[u8], output: &mut Vec<u8>, flush: FlushCompress) -> Result<(), OutOfMemory> {
    let finishing = matches!(flush, FlushCompress::Finish);
    while finishing || !input.is_empty() {
        if output.capacity() == output.len() {
            output.try_reserve(GROWTH_BYTES).map_err(|_| OutOfMemory)?;
        }
        let before = state.total_in();
        // The only error there is here would be a compressor that was used wrongly; giving up is the safe answer.
        let status = state.compress_vec(input, output, flush).map_err(|_| OutOfMemory)?;
        let taken = usize::try_from(state.total_in() - before).unwrap_or(usize::MAX);
        input = input.get(taken..).unwrap_or_default();
        if matches!(status, Status::StreamEnd) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

    use std::io::Read;

    use super::*;

    fn unpacked(packed: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_packed_comes_out_again_whatever_the_chunks() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let mut packer = Packer::default();
        for size in [1_usize, 7, 4096, 65_536, text.len()] {
            let text = if size == 1 { &text[..5000] } else { &text[..] };
            let packed = packer.pack(text.chunks(size)).unwrap();
            assert_eq!(packed[..2], [0x1f, 0x8b]);
            assert!(unpacked(packed) == text, "chunks of {size}");
        }
    }

    #[test]
    fn an_empty_body_is_a_whole_member_too() {
        assert!(unpacked(Packer::default().pack(core::iter::empty()).unwrap()).is_empty());
    }
}
