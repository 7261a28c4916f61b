//! Parsing and the directory source, as a user meets them.

mod manifests;
mod source;
