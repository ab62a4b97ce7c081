//! Nothing to do: Cargo leaves out the dependencies of builds where there is no build.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
