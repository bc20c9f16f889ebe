#!/usr/bin/env bash
# Makes a rustup toolchain named `bare` that compiles for bare-metal targets.
#
#   scripts/bare-targets.sh                               # the targets that are checked on every change
#   scripts/bare-targets.sh riscv32imac-unknown-none-elf  # others, added to those already there
#   cargo +bare build -p quillet-core --target thumbv6m-none-eabi
#
# It is for machines that reach Debian's mirrors and crates.io only, where `rustup target add` has nowhere to download
# from; rustup itself fetches nothing here. Debian packages a compiler (rustc-web) together with the sources of exactly
# its own library (rust-web-src), and cargo's -Zbuild-std compiles `core` from them, once per target.
#
# Only `core` is built. The toolchain has no `alloc` and no `std`, so that a crate which needs either does not compile:
# that is the check.
#
# BARE_HOME is where the toolchain is put, BARE_TOOLCHAIN what rustup calls it. A target that is already there, built
# by the same compiler, is left alone.
set -euo pipefail

export RUSTUP_AUTO_INSTALL=0
home=${BARE_HOME:-${XDG_DATA_HOME:-$HOME/.local/share}/bare-rust}
name=${BARE_TOOLCHAIN:-bare}
host=x86_64-unknown-linux-gnu
sources=/usr/lib/rustlib/src

targets=("$@")
[ $# -gt 0 ] || targets=(thumbv6m-none-eabi thumbv7m-none-eabi)

fail() {
    echo "bare-targets: $*" >&2
    exit 1
}

version_of() {
    dpkg-query --show --showformat '${Version}' "$1" 2>/dev/null || true
}

install_compiler() {
    if [ -z "$(version_of rustc-web)" ] || [ -z "$(version_of rust-web-src)" ]; then
        local root=()
        [ "$(id -u)" = 0 ] || root=(sudo)
        "${root[@]}" apt-get update -qq
        "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends rustc-web rust-web-src gcc libc6-dev >/dev/null
    fi
    # `core` speaks to its own compiler in intrinsics that change with every release.
    [ "$(version_of rustc-web)" = "$(version_of rust-web-src)" ] || fail "rustc-web and rust-web-src differ in version"
}

# A toolchain folder as rustup expects it, made of pointers to what is installed already.
lay_out_toolchain() {
    local tool rustup_sysroot
    mkdir -p "$home/bin" "$home/lib/rustlib/$host/bin"
    for tool in rustc rustdoc; do
        # A symbolic link would not do: rustc looks for its sysroot beside the file the link leads to.
        printf '#!/bin/sh\nexec /usr/bin/%s --sysroot "%s" "$@"\n' "$tool" "$home" >"$home/bin/$tool"
        chmod +x "$home/bin/$tool"
    done
    ln -sfn "$cargo" "$home/bin/cargo"
    ln -sfn "/usr/lib/rustlib/$host/lib" "$home/lib/rustlib/$host/lib" # build scripts and macros run on the host
    # Debian's compiler comes without the linker that these targets name.
    rustup_sysroot=$(dirname "$(dirname "$cargo")")
    ln -sfn "$rustup_sysroot/lib/rustlib/$host/bin/rust-lld" "$home/lib/rustlib/$host/bin/rust-lld"
}

# Compiles `core` for the targets given, all in one call, so that they share the cores of the machine.
build_core() {
    local work=$1 target commit args=()
    shift
    for target in "$@"; do args+=(--target "$target"); done
    commit=$(/usr/bin/rustc -vV | sed -n 's/^commit-hash: //p')
    cargo_seed "$work"
    # Bitcode lets firmware link with LTO, as it does with a toolchain from rust-lang.org; paths name no machine.
    (
        cd "$work"
        env -u RUSTUP_TOOLCHAIN -u CARGO_BUILD_TARGET -u CARGO_ENCODED_RUSTFLAGS \
            RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$work/target" \
            RUSTFLAGS="-Cembed-bitcode=yes --remap-path-prefix=$sources/rust=/rustc/$commit" \
            "$cargo" build --quiet --release -Zbuild-std=core "${args[@]}"
    )
    for target in "$@"; do
        local lib=$home/lib/rustlib/$target/lib
        rm -rf "$lib"
        mkdir -p "$lib"
        cp "$work/target/$target/release/deps"/*.rlib "$lib"
        rm -f "$lib"/libseed-*.rlib
        version_of rustc-web >"$home/lib/rustlib/$target/built-by"
    done
}

# An empty crate: cargo builds `core` only for somebody who depends on it.
cargo_seed() {
    mkdir -p "$1/src"
    echo '#![no_std]' >"$1/src/lib.rs"
    cat >"$1/Cargo.toml" <<'TOML'
[package]
name = "seed"
edition = "2024"

[profile.release]
codegen-units = 1
debug = "line-tables-only"

[workspace]
TOML
}

main() {
    local target missing=()
    [ "$(uname -m)" = x86_64 ] || fail "written for x86_64 hosts"
    cargo=$(rustup which --toolchain stable cargo 2>/dev/null || rustup which cargo) || fail "needs rustup's cargo"

    install_compiler
    lay_out_toolchain
    for target in "${targets[@]}"; do
        [ "$(cat "$home/lib/rustlib/$target/built-by" 2>/dev/null)" = "$(version_of rustc-web)" ] || missing+=("$target")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        work=$(mktemp -d)
        trap 'rm -rf "$work"' EXIT # global, for it outlives this function
        build_core "$work" "${missing[@]}"
    fi
    rustup toolchain link "$name" "$home"
    echo "bare-targets: rustup toolchain '$name', $(/usr/bin/rustc --version): ${targets[*]}"
}

main
