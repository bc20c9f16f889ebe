//! Tells the linker where the board's memory is.

use std::{env, fs, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let ram = if env::var("TARGET").is_ok_and(|target| target.starts_with("thumbv6m")) { "16K" } else { "64K" };
    let memory = format!("MEMORY {{ FLASH : ORIGIN = 0, LENGTH = 256K  RAM : ORIGIN = 0x20000000, LENGTH = {ram} }}\n");
    fs::write(out.join("memory.x"), memory).expect("the build folder can be written to");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=--nmagic");
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rerun-if-changed=build.rs");
}
