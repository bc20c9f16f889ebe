//! Diagnostics: through defmt, or nowhere.
//!
//! The only file that knows which; types besides derive `defmt::Format` where they are defined. On a server the adapter
//! reports, through the crate `log`.

/// For what goes wrong and cures itself.
macro_rules! debug {
    ($($message:tt)*) => {{
        #[cfg(feature = "defmt")]
        defmt::debug!($($message)*);
    }};
}

/// For what costs events or needs somebody.
macro_rules! warning {
    ($($message:tt)*) => {{
        #[cfg(feature = "defmt")]
        defmt::warn!($($message)*);
    }};
}

pub(crate) use {debug, warning};

#[cfg(feature = "defmt")]
mod format {
    use crate::{Instant, Timestamp, Uuid};
    use defmt::{Format, Formatter, write};

    impl Format for Instant {
        fn format(&self, f: Formatter<'_>) {
            write!(f, "{=u64:us}", self.as_micros());
        }
    }

    impl Format for Timestamp {
        fn format(&self, f: Formatter<'_>) {
            write!(f, "{=[u8; 27]:a}", self.text());
        }
    }

    impl Format for Uuid {
        fn format(&self, f: Formatter<'_>) {
            write!(f, "{=[u8; 36]:a}", self.hyphenated());
        }
    }
}
