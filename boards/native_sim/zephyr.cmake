# SPDX-License-Identifier: Apache-2.0

# The application is linked into a program of the host, so it computes with the host's registers: Rust's target of
# that name, instead of the one without floating point that zephyr-lang-rust takes.
function(_rust_map_target)
  set(RUST_TARGET "x86_64-unknown-linux-gnu" PARENT_SCOPE)
endfunction()

# The host's half: a network that is a descriptor, the host's clock and its randomness.
target_sources(native_simulator INTERFACE "${CMAKE_CURRENT_LIST_DIR}/zephyr-host.c")
target_link_options(native_simulator INTERFACE "-Wl,--wrap=eth_iface_create")
