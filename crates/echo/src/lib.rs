//! The echo server that stands in for every container.
