//! Tables of messages, and what holds of every input.

mod chunks;
mod connection;
mod h2;
mod h3;
mod requests;
mod responses;
mod robust;
mod smuggling;
mod written;

use crate::{HeadError, Limits, RequestHead};

/// Reads one request, given in one piece.
fn request(text: &[u8]) -> Result<Option<RequestHead>, HeadError> {
    let mut head = RequestHead::default();
    head.read(text, &Limits::default()).map(|complete| complete.then_some(head))
}
