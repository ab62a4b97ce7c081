# SPDX-License-Identifier: Apache-2.0

# Takes the place of zephyr-lang-rust's function, which knows no x86. The target's description is
# the JSON file beside this one; guest/zephyr/.cargo/config.toml tells rustc where it is.
function(_rust_map_target)
  set(RUST_TARGET "i686-zephyr-elf" PARENT_SCOPE)
endfunction()
