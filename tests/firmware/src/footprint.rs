//! Bytes and instructions that capturing takes, against the budget in the repository.
//!
//! `examples/firmware/footprint` is one program in three variants: without quillet, with capturing, and with delivery too. The
//! first is subtracted from the others. Instructions are QEMU's, counted by tying the emulated clock to them: they are the
//! same in every run, but they are not cycles.

use crate::build::{self, M0, M3, Program};
use crate::check::ensure;
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub const ALL: &[crate::Test] = &[
    ("footprint on a Cortex-M3", || gate(&CORTEX_M3)),
    ("footprint on a Cortex-M0", || gate(&CORTEX_M0)),
    ("footprint in the README", readme),
];

/// Nanoseconds of emulated time for an instruction are two to the power of this.
const ICOUNT_SHIFT: u32 = 7;

/// Programs end by themselves within a second.
const SECONDS: u64 = 30;

struct Core {
    name: &'static str,
    target: &'static str,
    board: &'static str,
    /// Picoseconds of emulated time for a tick of the core's clock.
    tick_ps: u64,
}

const CORTEX_M3: Core = Core { name: "m3", target: M3, board: "lm3s6965evb", tick_ps: 80_000 };
const CORTEX_M0: Core = Core { name: "m0", target: M0, board: "microbit", tick_ps: 62_500 };

/// Builds, measures, prints the rows of the table, and compares them with the budget.
fn gate(core: &Core) -> Result<String, String> {
    let budget = budget()?;
    let mut over = Vec::new();
    let mut rows = String::new();
    for features in ["capture", "delivery"] {
        for (what, measured) in figures(core, features)? {
            let name = format!("{}.{features}.{what}", core.name);
            let limit = *budget.get(&name).ok_or_else(|| format!("no budget for {name}"))?;
            rows += &format!("\n          {name:<36} {measured:>6} of {limit:>6}");
            if measured > limit {
                over.push(format!("{name}: {measured}, more than {limit}"));
            }
        }
    }
    let sizes = measure(core, "delivery")?;
    for name in ["lane", "envelope", "event", "flusher", "http"] {
        let bytes = sizes.number(&format!("{name}_bytes"))?;
        rows += &format!("\n          size of {name:<28} {bytes:>6}");
    }
    ensure(over.is_empty(), format!("{rows}\n  over budget:\n  {}", over.join("\n  ")))?;
    Ok(rows)
}

/// What the budget is about, of one variant less what the program takes without quillet.
fn figures(core: &Core, features: &'static str) -> Result<Vec<(&'static str, u64)>, String> {
    let (nothing, with) = (measure(core, "")?, measure(core, features)?);
    ensure(with.number("captured")? == with.number("captures")? + 1, "not every capture was accepted")?;
    // The ring is a static of the program's own, of a size of its choice.
    let memory = (with.ram - nothing.ram).saturating_sub(with.number("ring_bytes")?);
    let mut row = vec![
        ("flash", with.flash - nothing.flash),
        ("static", memory),
        ("stack", with.stack("capture_stack")?),
        ("instructions", with.instructions("captures_ticks", core)? / with.number("captures")?),
        ("instructions_first", with.instructions("first_ticks", core)?),
    ];
    if features == "delivery" {
        row.push(("delivery_stack", with.stack("delivery_stack")?));
        ensure(with.number("delivered")? == with.number("captured")?, "not everything was delivered")?;
    }
    Ok(row)
}

/// Rows of the README's table: what they say, and which figure of which variant that is.
const README_ROWS: [(&str, &str, &str); 7] = [
    ("bytes of flash for capture, ring and envelope", "capture", "flash"),
    ("bytes of flash with flusher and HTTP client", "delivery", "flash"),
    ("bytes of static memory besides what is listed above", "delivery", "static"),
    ("bytes of stack for a capture", "capture", "stack"),
    ("bytes of stack to deliver a batch", "delivery", "delivery_stack"),
    ("instructions for a capture", "capture", "instructions"),
    ("instructions for the first capture in a second", "capture", "instructions_first"),
];

/// How far the README may be off, in percent: another compiler's figures differ a little.
const README_PERCENT: u64 = 3;

/// Prints the README's table as it is now, and compares it with the one that stands there.
fn readme() -> Result<String, String> {
    let path = build::root().join("README.md");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut measured = BTreeMap::new();
    for core in [&CORTEX_M3, &CORTEX_M0] {
        for features in ["capture", "delivery"] {
            for (what, figure) in figures(core, features)? {
                measured.insert((core.name, features, what), figure);
            }
        }
    }
    let (mut rows, mut stale) = (String::new(), Vec::new());
    for (says, features, what) in README_ROWS {
        let now = ["m3", "m0"].map(|core| measured.get(&(core, features, what)).copied().unwrap_or_default());
        rows += &format!("\n| {says} | {} | {} |", grouped(now[0]), grouped(now[1]));
        let row = text.lines().find_map(|line| line.strip_prefix("| ")?.strip_prefix(says)?.strip_prefix(" | "));
        let there: Vec<u64> = row
            .unwrap_or_default()
            .split('|')
            .filter_map(|figure| figure.trim().replace(',', "").parse().ok())
            .collect();
        let is_near = |(there, now): (&u64, u64)| there.abs_diff(now) * 100 <= now * README_PERCENT;
        if there.len() != now.len() || !there.iter().zip(now).all(is_near) {
            stale.push(says);
        }
    }
    ensure(stale.is_empty(), format!("the README says otherwise of: {}\n{rows}", stale.join("; ")))?;
    Ok(rows)
}

/// A number as the README writes it: `12,345`.
fn grouped(number: u64) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", grouped(number / 1000), number % 1000) }
}

/// Lines of a name and a number; `#` begins a comment.
fn budget() -> Result<BTreeMap<String, u64>, String> {
    let path = build::root().join("examples/firmware/footprint/budget.txt");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let pairs = lines.filter(|line| !line.is_empty()).map(|line| {
        let (name, number) = line.split_once(' ').ok_or_else(|| format!("budget: {line}"))?;
        Ok((name.to_owned(), number.trim().parse().map_err(|_| format!("budget: {line}"))?))
    });
    pairs.collect()
}

/// One variant: what its file says of its size, and what it said when it ran.
struct Measured {
    flash: u64,
    ram: u64,
    said: BTreeMap<String, u64>,
}

impl Measured {
    fn number(&self, name: &str) -> Result<u64, String> {
        self.said.get(name).copied().ok_or_else(|| format!("the program never said {name}: {:?}", self.said))
    }

    /// Bytes of stack, less what measuring takes.
    fn stack(&self, name: &str) -> Result<u64, String> {
        Ok(self.number(name)?.saturating_sub(self.number("overhead_stack")?))
    }

    fn instructions(&self, name: &str, core: &Core) -> Result<u64, String> {
        let ticks = self.number(name)?.saturating_sub(self.number("overhead_ticks")?);
        Ok(ticks * core.tick_ps / (1000 << ICOUNT_SHIFT))
    }
}

fn measure(core: &Core, features: &'static str) -> Result<Measured, String> {
    let program = Program { target: core.target, package: "footprint", name: "footprint", features };
    build::build(program)?;
    let (flash, ram) = sizes(program)?;
    let mut qemu = Command::new("qemu-system-arm");
    qemu.args(["-M", core.board, "-display", "none", "-monitor", "none", "-serial", "null"]);
    qemu.args(["-icount", &format!("shift={ICOUNT_SHIFT},sleep=off")]);
    qemu.args(["-semihosting-config", "enable=on,target=native", "-kernel"]).arg(build::file(program));
    let qemu = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut qemu = qemu.map_err(|error| format!("qemu-system-arm: {error}"))?;
    let ends_at = Instant::now() + Duration::from_secs(SECONDS);
    while qemu.try_wait().map_err(|error| error.to_string())?.is_none() {
        if Instant::now() >= ends_at {
            let _ = qemu.kill();
            return Err(format!("{program:?} did not end"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = qemu.wait_with_output().map_err(|error| error.to_string())?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let said = pairs.filter_map(|(name, number)| Some((name.to_owned(), number.parse().ok()?))).collect();
    Ok(Measured { flash, ram, said })
}

/// Bytes that go into flash, and bytes of RAM besides the stack.
fn sizes(program: Program) -> Result<(u64, u64), String> {
    let output = Command::new("size").arg(build::file(program)).output().map_err(|error| format!("size: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<u64> =
        text.lines().nth(1).into_iter().flat_map(str::split_whitespace).map_while(|word| word.parse().ok()).collect();
    match numbers.as_slice() {
        [text, data, bss, ..] => Ok((text + data, data + bss)),
        _ => Err(format!("size of {program:?}: {text}")),
    }
}
