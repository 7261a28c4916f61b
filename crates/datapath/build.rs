//! Embeds the BPF object where it was built. Without it the crate builds all the same, and loading says what to run.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=STRAIT_BPF_OBJECT");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    let object = object();
    if object.exists() || env::var_os("STRAIT_BPF_OBJECT").is_some() {
        println!("cargo::rerun-if-changed={}", object.display());
    } else if let Some(folder) = object.parent() {
        // Watching a file that does not exist would build the crate anew every time; its folder tells when it appears.
        fs::create_dir_all(folder)?;
        println!("cargo::rerun-if-changed={}", folder.display());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    // Not written over: a copied build folder may share the file by a hard link.
    match fs::remove_file(out.join("strait.o")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let code = match fs::copy(&object, out.join("strait.o")) {
        Ok(_) => "Some(aya::include_bytes_aligned!(concat!(env!(\"OUT_DIR\"), \"/strait.o\")))",
        Err(error) if error.kind() == io::ErrorKind::NotFound => "None",
        Err(error) => return Err(error),
    };
    fs::write(out.join("object.rs"), code)
}

/// Where `cargo xtask bpf` leaves the object, or the file that the environment names.
fn object() -> PathBuf {
    let workspace = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    env::var_os("STRAIT_BPF_OBJECT").map_or_else(|| target.join("bpf/strait.o"), PathBuf::from)
}
