//! Writes the seeds that are no plain text into `fuzz/corpus/`: `cargo run -p zfl-fuzz-checks --example seeds`.

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for (target, name, content) in zfl_fuzz_checks::seeds::all() {
        fs::create_dir_all(corpus.join(target))?;
        fs::write(corpus.join(target).join(name), content)?;
    }
    Ok(())
}
