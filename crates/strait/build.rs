//! How the executable is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // What the loader must add the program's address to is listed in a few KB instead of 0.8 MB, all of which is read at every start, and so
    // is memory of every process. glibc knows such lists since 2.36, which is Debian 12's.
    if std::env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
