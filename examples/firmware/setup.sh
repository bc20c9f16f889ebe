#!/usr/bin/env bash
# Installs what the firmware examples are built with and run in, on a Debian machine with rustup's stable toolchain.
#
#   examples/firmware/setup.sh              # the compiler for bare-metal targets, and QEMU
#   cargo +bare build --release --target thumbv7m-none-eabi -p capture-m3    # then, in this folder
#
# From Debian's mirrors only; a second run takes no time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@" install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}

# Plain bookworm's QEMU would push out a qemu-utils from backports, so where that is installed QEMU comes from there too.
# The line for it is derived from Debian's own sources, used for these calls only, and left nowhere.
install_from_backports() {
    local scratch options
    scratch=$(mktemp -d)
    chmod 755 "$scratch"
    cp -r /etc/apt/sources.list.d "$scratch/parts"
    mkdir -p "$scratch/lists/partial"
    sed 's/^Suites: bookworm .*/Suites: bookworm-backports/; /^$/,$d' /etc/apt/sources.list.d/debian.sources \
        >"$scratch/parts/zz-backports.sources"
    options=(-o Dir::Etc::sourceparts="$scratch/parts" -o Dir::State::lists="$scratch/lists")
    as_root apt-get "${options[@]}" update -qq
    install "${options[@]}" -t bookworm-backports
    as_root rm -rf "$scratch"
}

install_qemu() {
    local packages=(qemu-system-arm qemu-system-misc)
    if dpkg-query -W -f='${Version}' qemu-utils 2>/dev/null | grep -q bpo12; then
        packages=(qemu-system-arm qemu-system-riscv)
        install_from_backports
    else
        as_root apt-get update -qq
        install
    fi
}

../../scripts/bare-targets.sh thumbv6m-none-eabi thumbv7m-none-eabi riscv32imc-unknown-none-elf \
    riscv32imac-unknown-none-elf
command -v qemu-system-arm >/dev/null && command -v qemu-system-riscv32 >/dev/null || install_qemu
qemu-system-arm --version | head -1
