//! Keeps the module in memory once it is loaded.

fn main() {
    // Its threads would run in code that is gone after a dlclose.
    println!("cargo::rustc-link-arg-cdylib=-Wl,-z,nodelete");
    println!("cargo::rerun-if-changed=build.rs");
}
