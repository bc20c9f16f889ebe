//! The command line: what is listened to, where events go, and every bound.
//!
//! In: the arguments and two environment variables. Out: [`Args`], or a sentence about what is wrong.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::intake::Limits;
use crate::net::Places;

/// What `--help` says.
pub const HELP: &str = "\
Takes events from devices, one line each, and forwards them to PostHog.

    gateway --tcp 0.0.0.0:7777 --udp 0.0.0.0:7777 --spool /var/lib/gateway

where events come from, at least one of
  --tcp ADDRESS         devices connect; each line is answered: ok, no, or later
  --udp ADDRESS         one or more lines a datagram, answered alike
  --serial PATH         a serial line, set up before: stty -F PATH 115200 raw -echo; answers go back on it
  --stdin               standard input; answers go to standard output; its end is the gateway's, if it is all there is

where they go
  --key KEY             project token (phc_…), otherwise POSTHOG_API_KEY
  --host URL            otherwise POSTHOG_HOST, otherwise PostHog in the United States
  --spool DIRECTORY     what was acknowledged survives outages and the end of the process; without it, only outages as
                        long as the queue has room
  --spool-bytes BYTES   most that the directory may hold, at least 64 MiB; then the oldest go [1073741824]
  --name NAME           property `gateway` of every event [the host's name]
  --gzip                compressed requests

bounds
  --queue EVENTS        events that wait in memory [20000]
  --line-bytes BYTES    longest line [8192]
  --rate N              lines a second of one device [100]
  --burst N             lines at once of one device [200]
  --devices N           devices at a time, over TCP and over UDP each [2000]
  --per-address N       connections of one address [as many as devices]
  --idle SECONDS        a connection without a line for so long is closed [3600]
  --remember N          frames with a uuid that are known again when a device repeats itself [100000]

A line is JSON, or compact: event, person, #uuid, @milliseconds since 1970, properties; all but the event may be left out.

  {\"event\":\"door opened\",\"distinct_id\":\"door-7\",\"uuid\":\"…\",\"timestamp\":\"2026-03-01T12:00:05Z\",\"properties\":{}}
  door_opened door-7 #0198c0de-0000-7000-8000-000000000001 @1772366405000 battery=3.71 room=server%20room
  hello door-7          names the device of a TCP connection, otherwise its address does; it is not answered

What a line is answered:

  ok UUID               it is kept; with --spool in a file
  no REASON             it never will be; sending it again does not help
  later MS REASON       send it again, with the same uuid, after so many milliseconds; as after no answer at all

Devices are believed what they say they are: keep the gateway where only they can reach it.
";

/// The command line, checked.
#[derive(Debug)]
pub struct Args {
    pub tcp: Option<SocketAddr>,
    pub udp: Option<SocketAddr>,
    pub serial: Option<PathBuf>,
    pub stdin: bool,
    pub key: String,
    pub host: Option<String>,
    pub spool: Option<PathBuf>,
    pub spool_bytes: u64,
    pub name: String,
    pub gzip: bool,
    pub queue: usize,
    pub limits: Limits,
    pub places: Places,
    pub remember: usize,
}

/// Reads the process's arguments; `None` asks for help.
pub fn parse(mut parser: lexopt::Parser) -> Result<Option<Args>, String> {
    let mut args = Args {
        tcp: None,
        udp: None,
        serial: None,
        stdin: false,
        key: env::var("POSTHOG_API_KEY").unwrap_or_default(),
        host: env::var("POSTHOG_HOST").ok(),
        spool: None,
        spool_bytes: 1 << 30,
        name: host_name(),
        gzip: false,
        queue: 20_000,
        limits: Limits { rate: 100.0, burst: 200.0, line_bytes: 8192 },
        places: Places { devices: 2000, per_address: usize::MAX, idle: Duration::from_secs(3600) },
        remember: 100_000,
    };
    let say = |error: lexopt::Error| error.to_string();
    while let Some(argument) = parser.next().map_err(say)? {
        let Long(option) = argument else { return Err(argument.unexpected().to_string()) };
        match option.to_owned().as_str() {
            "help" => return Ok(None),
            "stdin" => args.stdin = true,
            "gzip" => args.gzip = true,
            option @ ("tcp" | "udp" | "serial" | "key" | "host" | "spool" | "spool-bytes" | "name" | "queue"
            | "line-bytes" | "rate" | "burst" | "devices" | "per-address" | "idle" | "remember") => {
                let value = parser.value().map_err(say)?;
                args.set(option, value).map_err(|error| format!("--{option}: {error}"))?;
            }
            _ => return Err(Long(option).unexpected().to_string()),
        }
    }
    if args.tcp.is_none() && args.udp.is_none() && args.serial.is_none() && !args.stdin {
        return Err("nothing to listen to: give --tcp, --udp, --serial or --stdin".to_owned());
    }
    if args.key.trim().is_empty() {
        return Err("no project token: give --key or POSTHOG_API_KEY".to_owned());
    }
    Ok(Some(args))
}

impl Args {
    fn set(&mut self, option: &str, value: std::ffi::OsString) -> Result<(), String> {
        let say = |error: lexopt::Error| error.to_string();
        match option {
            "tcp" => self.tcp = Some(value.parse().map_err(say)?),
            "udp" => self.udp = Some(value.parse().map_err(say)?),
            "serial" => self.serial = Some(value.into()),
            "spool" => self.spool = Some(value.into()),
            "spool-bytes" => self.spool_bytes = within(value.parse().map_err(say)?, 64 << 20, 1 << 50)?,
            "key" => self.key = value.string().map_err(say)?,
            "host" => self.host = Some(value.string().map_err(say)?),
            "name" => self.name = value.string().map_err(say)?,
            "queue" => self.queue = within(value.parse().map_err(say)?, 1, 1_000_000)?,
            "line-bytes" => self.limits.line_bytes = within(value.parse().map_err(say)?, 64, 65_536)?,
            "devices" => self.places.devices = within(value.parse().map_err(say)?, 1, 100_000)?,
            "per-address" => self.places.per_address = within(value.parse().map_err(say)?, 1, 100_000)?,
            "idle" => self.places.idle = Duration::from_secs(within(value.parse().map_err(say)?, 1, 1_000_000)?),
            "remember" => self.remember = within(value.parse().map_err(say)?, 0, 10_000_000)?,
            "rate" => self.limits.rate = within(value.parse().map_err(say)?, 0.001, 1e6)?,
            _ => self.limits.burst = within(value.parse().map_err(say)?, 1.0, 1e6)?,
        }
        Ok(())
    }
}

fn within<T: PartialOrd + std::fmt::Display>(value: T, least: T, most: T) -> Result<T, String> {
    if value >= least && value <= most { Ok(value) } else { Err(format!("must be from {least} to {most}")) }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "gateway".to_owned() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;

    fn parsed(line: &str) -> Result<Option<Args>, String> {
        parse(lexopt::Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_read_whole() {
        let args = parsed("--tcp 127.0.0.1:0 --key phc_x --rate 2.5 --line-bytes 100 --spool /tmp/s --gzip --name a");
        let args = args.unwrap().unwrap();
        assert_eq!((args.limits.rate, args.limits.line_bytes, args.gzip), (2.5, 100, true));
        assert_eq!((args.spool.unwrap().to_str(), args.name.as_str()), (Some("/tmp/s"), "a"));
        assert!(parsed("--help").unwrap().is_none());
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_reason() {
        for (line, part) in [
            ("--key phc_x", "nothing to listen to"),
            ("--tcp here --key phc_x", "--tcp"),
            ("--stdin --key phc_x --rate 0", "from 0.001"),
            ("--stdin --key phc_x --line-bytes 1", "from 64"),
            ("--stdin --key phc_x --nonsense", "nonsense"),
            ("--stdin --key phc_x now", "now"),
            ("--stdin --key", "key"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn every_option_that_the_help_names_exists() {
        let options = HELP.lines().filter_map(|line| line.strip_prefix("  --"));
        let mut count = 0;
        for option in options.map(|line| line.split_whitespace().next().unwrap_or_default()) {
            let known = ["", " 1", " 127.0.0.1:1"].iter().any(|value| {
                parsed(&format!("--stdin --key phc_x --{option}{value}")).is_ok()
                    || parsed(&format!("--stdin --key phc_x --{option}{value}"))
                        .is_err_and(|error| error.contains("must be from"))
            });
            assert!(known, "{option}");
            count += 1;
        }
        assert_eq!(count, 18);
    }
}
