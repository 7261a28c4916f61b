//! The `strait` binary: command line and roles.
fn main() {}
