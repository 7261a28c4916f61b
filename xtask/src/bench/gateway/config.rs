//! Configurations that do the same, as one would run them: routes by host and path, timeouts, kept connections to back ends.

pub(super) mod envoy;
pub(super) mod haproxy;
pub(super) mod nginx;
pub(super) mod strait;

use std::{net::SocketAddr, path::PathBuf};

use super::scenario::Shape;

/// What a gate is to do.
pub(super) struct Wanted {
    pub(super) shape: Shape,
    pub(super) at: SocketAddr,
    /// Where routes lead, and where the changed one does.
    pub(super) backends: [SocketAddr; 2],
    /// The route that leads to the second back end.
    pub(super) changed: Option<usize>,
    /// Its own, empty at first.
    pub(super) folder: PathBuf,
    pub(super) certificates: PathBuf,
}

impl Wanted {
    fn certificate(&self, name: &str) -> String {
        self.certificates.join(name).display().to_string()
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Which back end a route leads to.
    fn backend(&self, route: usize) -> &'static str {
        if self.changed == Some(route) { "b" } else { "a" }
    }
}

/// What a back end's certificate names.
const BACKEND: &str = "backend.example.com";

/// Host and path prefix of a route.
pub(super) fn route(number: usize) -> (String, String) {
    (format!("r{number}.example.com"), format!("/p{number}"))
}
