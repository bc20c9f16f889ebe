//! How deep a reader of JSON is.
//!
//! In: text that was checked, byte by byte. Out: the number of arrays and objects around a byte, and whether that byte is
//! part of a string.

/// Where a reader of JSON text that was checked is. Brackets outside of strings are all there is to know of its structure.
#[derive(Default)]
pub(crate) struct Nesting {
    /// Arrays and objects around the last byte.
    pub(crate) depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Nesting {
    /// Goes past one more byte. Whether the reader is outside of strings then.
    #[inline(always)]
    pub(crate) fn pass(&mut self, byte: u8) -> bool {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = self.in_string,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        !self.in_string
    }
}
