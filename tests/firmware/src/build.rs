//! Compiles the firmware for its targets, with the toolchain that `setup.sh` links.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program of `examples/firmware`.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    pub target: &'static str,
    pub package: &'static str,
    /// The file's name, without a folder.
    pub name: &'static str,
    pub features: &'static str,
}

pub const M3: &str = "thumbv7m-none-eabi";
pub const M0: &str = "thumbv6m-none-eabi";
pub const RV32: &str = "riscv32imac-unknown-none-elf";
/// Without atomic instructions.
pub const RV32_PLAIN: &str = "riscv32imc-unknown-none-elf";

pub const CAPTURE_M3: Program = Program { target: M3, package: "m3", name: "capture_m3", features: "" };
pub const PANIC_RESET: Program = Program { target: M3, package: "m3", name: "panic_reset", features: "" };
pub const CAPTURE_M0: Program = Program { target: M0, package: "m0", name: "capture_m0", features: "" };
pub const CAPTURE_RV32: Program = Program { target: RV32, package: "rv32", name: "capture_rv32", features: "" };
pub const CAPTURE_RV32_PLAIN: Program = Program { target: RV32_PLAIN, ..CAPTURE_RV32 };

/// The file a program is linked into. Programs that differ by their features lie in different folders.
pub fn file(program: Program) -> PathBuf {
    folder(program.features).join(program.target).join("release").join(program.name)
}

/// Builds all of them; what is built already takes no time.
pub fn all() -> Result<(), String> {
    for program in [CAPTURE_M3, PANIC_RESET, CAPTURE_M0, CAPTURE_RV32, CAPTURE_RV32_PLAIN] {
        build(program)?;
    }
    Ok(())
}

pub fn build(program: Program) -> Result<(), String> {
    let toolchain = env::var("BARE_TOOLCHAIN").unwrap_or_else(|_| "bare".to_owned());
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root().join("examples/firmware"));
    // This program may itself run under cargo, whose choice of a compiler would be inherited.
    for name in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        cargo.env_remove(name);
    }
    cargo.arg(format!("+{toolchain}")).args(["build", "--quiet", "--release", "--locked", "--target", program.target]);
    cargo.args(["-p", program.package, "--bin", program.name, "--features", program.features]);
    cargo.arg("--target-dir").arg(folder(program.features));
    let output = cargo.output().map_err(|error| format!("cargo: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program:?} does not build:\n{}", String::from_utf8_lossy(&output.stderr)))
}

fn folder(features: &str) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("firmware").join(if features.is_empty() { "plain" } else { features })
}

/// The repository.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}
