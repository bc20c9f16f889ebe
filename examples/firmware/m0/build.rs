//! Tells the linker where the board's memory is.

use std::{env, fs, path::PathBuf};

/// The last 7 KB of the RAM belong to no section: neither the start-up code nor the loader clears them.
const MEMORY: &str = "
MEMORY {
    FLASH    : ORIGIN = 0x00000000, LENGTH = 256K
    RAM      : ORIGIN = 0x20000000, LENGTH = 9K
    RETAINED : ORIGIN = 0x20002400, LENGTH = 7K
}
_retained = ORIGIN(RETAINED);
_retained_bytes = LENGTH(RETAINED);
";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("memory.x"), MEMORY).expect("the build folder can be written to");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=--nmagic");
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rerun-if-changed=build.rs");
}
