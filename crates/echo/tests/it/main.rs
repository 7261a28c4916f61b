//! The echo server over loopback, as real clients see it.

#[cfg(test)]
mod http;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;
