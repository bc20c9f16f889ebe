//! Tells the linker where the board's memory is.

use std::{env, fs, path::PathBuf};

/// Everything lies in RAM. The last 20 KB belong to no section: neither the start-up code nor the loader clears them.
const MEMORY: &str = "
MEMORY {
    RAM      : ORIGIN = 0x80000000, LENGTH = 492K
    RETAINED : ORIGIN = 0x8007b000, LENGTH = 20K
}
REGION_ALIAS(\"REGION_TEXT\", RAM);
REGION_ALIAS(\"REGION_RODATA\", RAM);
REGION_ALIAS(\"REGION_DATA\", RAM);
REGION_ALIAS(\"REGION_BSS\", RAM);
REGION_ALIAS(\"REGION_HEAP\", RAM);
REGION_ALIAS(\"REGION_STACK\", RAM);
_retained = ORIGIN(RETAINED);
_retained_bytes = LENGTH(RETAINED);
";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("memory.x"), MEMORY).expect("the build folder can be written to");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Tmemory.x");
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rerun-if-changed=build.rs");
}
