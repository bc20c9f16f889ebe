#!/usr/bin/env bash
# Lints the firmware for its targets; a warning is an error.
#
# rustup's clippy would need rustup's library for these targets. Debian's is of the very compiler that `setup.sh` installs,
# and runs as what it is: a compiler that says more.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

toolchain=${BARE_TOOLCHAIN:-bare}
driver=/usr/bin/clippy-driver

if [ ! -x "$driver" ]; then
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rust-web-clippy >/dev/null
fi

SYSROOT=$(rustc "+$toolchain" --print sysroot)
export SYSROOT RUSTC_WORKSPACE_WRAPPER=$driver RUSTFLAGS="-D warnings"
# A folder of its own: what is compiled with other flags is compiled again.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-../../target}/firmware/clippy

lint() {
    echo "+ $*"
    cargo "+$toolchain" check --quiet --locked --target "$@"
}

lint thumbv7m-none-eabi -p m3 -p footprint
lint thumbv7m-none-eabi -p footprint --features delivery
lint thumbv6m-none-eabi -p m0
lint riscv32imac-unknown-none-elf -p rv32
