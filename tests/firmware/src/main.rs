//! Runs the programs of `examples/firmware` in QEMU and checks what arrives.
//!
//! ```text
//! cargo run -p firmware-tests                  # builds everything, runs everything
//! cargo run -p firmware-tests -- capture_m3    # only what has this in its name
//! cargo run -p firmware-tests -- footprint     # only bytes and instructions
//! ```
//!
//! Needs what `examples/firmware/setup.sh` installs. Each device gets a bounded number of seconds; the guest reaches one
//! server on the loopback of this machine, and nothing else. Ends with `N passed, 0 failed`.

mod build;
mod check;
mod device;
mod footprint;
mod pipe;
mod scenarios;

use std::env;
use std::process::ExitCode;
use std::time::Instant;

/// A test: its name, and what it does.
type Test = (&'static str, fn() -> Result<String, String>);

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    // QEMU starts this program too, once for each connection of a device.
    if let [pipe, port] = arguments.as_slice()
        && pipe == "pipe"
    {
        return pipe::run(port);
    }
    let wanted = arguments.first().map_or("", String::as_str);
    let tests: Vec<Test> =
        scenarios::ALL.iter().chain(footprint::ALL).filter(|(name, _)| name.contains(wanted)).copied().collect();
    let began = Instant::now();
    if let Err(error) = build::all() {
        println!("{error}");
        return ExitCode::FAILURE;
    }
    println!("built in {:.0} s", began.elapsed().as_secs_f32());
    let failed = tests.iter().filter(|(name, test)| !passes(name, *test)).count();
    println!("\n{} passed, {failed} failed", tests.len() - failed);
    if failed == 0 && !tests.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn passes(name: &str, test: fn() -> Result<String, String>) -> bool {
    let began = Instant::now();
    let told = test();
    let seconds = began.elapsed().as_secs_f32();
    match &told {
        Ok(summary) => println!("ok      {name:<42} {seconds:>5.1} s  {summary}"),
        Err(error) => println!("FAILED  {name:<42} {seconds:>5.1} s\n{error}"),
    }
    told.is_ok()
}
