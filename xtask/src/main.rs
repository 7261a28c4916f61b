//! Everything CI does, typed.
fn main() {}
