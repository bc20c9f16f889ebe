//! A number with a fixed number of decimal places: what a sensor says, without a float.

use crate::property::Value;
use crate::serialize::{JsonSink, SerializeError, WriteJson};

/// A whole number of tenths, hundredths, thousandths… as a property: exact, and without the code that floats take.
///
/// ```
/// use quillet_core::{Decimal, Event, props};
///
/// let celsius = Decimal::new(-475, 2);
/// let reading = props! { "celsius": &celsius };
/// let event = Event::new("temperature", "hall").properties(reading);
/// # let mut out = [0; 512];
/// # let now = quillet_core::Timestamp::from_unix_ms(0);
/// # let written = event.encode(&mut quillet_core::Stamper::new([1, 2]), &Default::default(), now, &mut out)?;
/// # assert!(out[..written.len].ends_with(b"\"celsius\":-4.75}}"));
/// # Ok::<(), quillet_core::CaptureError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Decimal {
    units: i64,
    places: u8,
}

impl Decimal {
    /// Most decimal places; more become this many.
    pub const PLACES_MAX: u8 = 18;

    /// `units` divided by ten to the power of `places`: `Decimal::new(2150, 2)` is written as `21.50`.
    #[must_use]
    pub const fn new(units: i64, places: u8) -> Self {
        Self { units, places: if places > Self::PLACES_MAX { Self::PLACES_MAX } else { places } }
    }
}

impl WriteJson for Decimal {
    fn write_json(&self, sink: &mut dyn JsonSink) -> Result<(), SerializeError> {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(self.units.unsigned_abs()).as_bytes();
        if self.units < 0 {
            sink.write(b"-")?;
        }
        let places = usize::from(self.places);
        // Zeros that are missing in front: at least one digit stands before the point.
        let zeros = (places + 1).saturating_sub(digits.len());
        let whole = digits.len().saturating_sub(places);
        let (whole, fraction) = digits.split_at_checked(whole).unwrap_or((digits, &[]));
        sink.write(if zeros > 0 { b"0" } else { whole })?;
        if places > 0 {
            sink.write(b".")?;
            (1..zeros).try_for_each(|_| sink.write(b"0"))?;
            sink.write(fraction)?;
        }
        Ok(())
    }
}

impl<'a> From<&'a Decimal> for Value<'a> {
    fn from(value: &'a Decimal) -> Self {
        Value::Typed(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use super::*;

    #[test]
    fn the_point_stands_where_it_was_asked_for() {
        for (units, places, expected) in [
            (0, 0, "0"),
            (7, 0, "7"),
            (-7, 0, "-7"),
            (0, 2, "0.00"),
            (5, 2, "0.05"),
            (-5, 1, "-0.5"),
            (2150, 2, "21.50"),
            (100, 2, "1.00"),
            (i64::MIN, 18, "-9.223372036854775808"),
            (1, 255, "0.000000000000000001"),
            (i64::MAX, 0, "9223372036854775807"),
        ] {
            let mut out = heapless::Vec::<u8, 32>::new();
            Decimal::new(units, places).write_json(&mut out).unwrap();
            assert_eq!(core::str::from_utf8(&out).unwrap(), expected);
            serde_json::from_slice::<serde_json::Number>(&out).unwrap();
        }
    }
}
