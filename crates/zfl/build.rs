//! Builds the firmware into zfl that `cargo xtask build-guest` has built before, if it has.

use std::fmt::Write;
use std::fs;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = "build/guest/bare";
    // Cargo looks at the folder each time; if it were not there, it would build zfl each time.
    let _ = fs::create_dir_all(tree.join(folder));
    println!("cargo:rerun-if-changed={}", tree.join(folder).display());
    let mut list = String::from("&[");
    for entry in fs::read_dir(tree.join(folder))
        .into_iter()
        .flatten()
        .flatten()
    {
        let image = entry.path();
        if image
            .extension()
            .is_some_and(|extension| extension == "elf")
        {
            let name = entry
                .file_name()
                .into_string()
                .expect("firmware has a plain name");
            let path = image.canonicalize().expect("it was there");
            write!(
                list,
                "({:?}, include_bytes!({path:?})),",
                format!("{folder}/{name}")
            )
            .expect("a string has room");
        }
    }
    list.push(']');
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("firmware.rs"), list).expect("cargo made OUT_DIR");
}
