//! Bounds from the command line.

use anyhow::Context as _;
use strait_proxy::Limits;

/// `NAME=VALUE`.
pub(super) fn limit(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a name and a value, as header-bytes=60KiB")?;
    // What is wrong is said with the others' names.
    Limits::default().set(name, value).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The defaults, with what was set.
pub(super) fn limits(set: &[(String, String)]) -> anyhow::Result<Limits> {
    let mut limits = Limits::default();
    for (name, value) in set {
        limits.set(name, value).with_context(|| format!("--limit {name}={value}"))?;
    }
    Ok(limits)
}

/// What the long help says of limits.
pub(super) fn help() -> String {
    format!(
        "Limits (--limit NAME=VALUE), with their defaults. A connection or request beyond one of connections or memory gets 503 with \
         `Retry-After`, one of TLS or TCP is closed; others are served meanwhile:\n{}",
        Limits::described()
    )
}

/// As many open files as the process may have: each connection has one or two.
pub(super) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    // Where it cannot be raised there are fewer connections.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
}
