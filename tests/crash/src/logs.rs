//! What the client has to say to an operator, on standard output.

use log::{LevelFilter, Log, Metadata, Record};

/// Prints from now on what is logged.
pub(crate) fn print() {
    log::set_logger(&Printer).unwrap();
    log::set_max_level(LevelFilter::Warn);
}

struct Printer;

impl Log for Printer {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        println!("log: {}", record.args());
    }

    fn flush(&self) {}
}
