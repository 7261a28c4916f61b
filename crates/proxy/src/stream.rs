//! A side that is one stream of many on a connection: of HTTP/2, or a client's of HTTP/3.

use std::task::{Context, Poll};

use strait_http::{
    Overlay, RequestHead, ResponseHead,
    h2::{Code, Sent},
};

use crate::http2::{self, Came};

/// A stream. What the versions have in common is all that exchanges know of it; requests to back ends are of HTTP/2 alone.
pub(crate) enum Stream {
    Http2(http2::Stream),
    #[cfg(feature = "http3")]
    Http3(Box<crate::http3::Stream>),
}

/// Calls the same of either.
macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self {
            Self::Http2($stream) => $call,
            #[cfg(feature = "http3")]
            Self::Http3($stream) => $call,
        }
    };
}

impl Stream {
    /// Sends a request. False where the connection takes none any more.
    pub(crate) fn request(
        &mut self,
        head: &RequestHead,
        bytes: &[u8],
        sent: &Sent<'_>,
        overlay: &impl Overlay,
    ) -> bool {
        match self {
            Self::Http2(stream) => stream.request(head, bytes, sent, overlay),
            #[cfg(feature = "http3")]
            Self::Http3(_) => false,
        }
    }

    /// Whether an upgrade can be asked for.
    pub(crate) fn takes_connect(&self) -> bool {
        match self {
            Self::Http2(stream) => stream.takes_connect(),
            #[cfg(feature = "http3")]
            Self::Http3(_) => false,
        }
    }

    /// Waits until it is known whether an upgrade can be asked for.
    pub(crate) async fn settle(&self) -> bool {
        match self {
            Self::Http2(stream) => stream.settle().await,
            #[cfg(feature = "http3")]
            Self::Http3(_) => false,
        }
    }

    /// Waits for the head of the response, which is exchanged for room for another.
    pub(crate) fn poll_response(
        &self,
        head: &mut ResponseHead,
        text: &mut Vec<u8>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Code>> {
        match self {
            Self::Http2(stream) => stream.poll_response(head, text, cx),
            #[cfg(feature = "http3")]
            Self::Http3(_) => Poll::Ready(Err(Code::REFUSED_STREAM)),
        }
    }

    /// That no answer came in time: whether the connection is good for others is to be seen.
    pub(crate) fn was_late(&self) {
        match self {
            Self::Http2(stream) => stream.was_late(),
            #[cfg(feature = "http3")]
            Self::Http3(_) => {}
        }
    }

    /// Sends the head of a response; `end` where nothing follows.
    pub(crate) fn respond(&self, head: &ResponseHead, bytes: &[u8], overlay: &impl Overlay, end: bool) {
        either!(self, stream => stream.respond(head, bytes, overlay, end));
    }

    /// Sends the head of a response of the gate's own.
    pub(crate) fn status(&self, status: u16, fields: &[(&str, &[u8])], end: bool) {
        either!(self, stream => stream.status(status, fields, end));
    }

    /// Sends what can be sent of `data`; gives how much. The task is woken when more can be. None where the stream was reset.
    pub(crate) fn send(&self, data: &[u8], end: bool, cx: &Context<'_>) -> Option<usize> {
        either!(self, stream => stream.send(data, end, cx))
    }

    /// Sends trailers, which end the message.
    pub(crate) fn send_trailers<'a>(&self, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
        either!(self, stream => stream.send_trailers(fields));
    }

    /// Gives what came to `take`, which tells how much of it it took. It is asked only where there is something, or, with `true`, where it
    /// is the end and no trailers follow.
    pub(crate) fn take(&self, cx: &Context<'_>, take: impl FnOnce(&[u8], bool) -> usize) -> Came {
        either!(self, stream => stream.take(cx, take))
    }

    /// Gives the trailers that came, if any did, to `each`, one field after the other. Whether any did; they may have no field.
    pub(crate) fn trailers(&self, each: impl FnMut(&[u8], &[u8])) -> bool {
        either!(self, stream => stream.trailers(each))
    }

    /// Sends the trailers that came on `from`. Whether there are any.
    pub(crate) fn pass_trailers(&self, from: &Self) -> bool {
        match (self, from) {
            (Self::Http2(to), Self::Http2(from)) => to.pass_trailers(from),
            #[cfg(feature = "http3")]
            (Self::Http2(_) | Self::Http3(_), Self::Http2(_) | Self::Http3(_)) => {
                let mut fields = Vec::new();
                let any = from.trailers(|name, value| fields.push((name.to_vec(), value.to_vec())));
                // Without a field they are the end nevertheless.
                if any {
                    self.send_trailers(fields.iter().map(|(name, value)| (&name[..], &value[..])));
                }
                any
            }
        }
    }

    /// Whether the stream was reset, or the connection ended. If not, the task is woken when it is.
    pub(crate) fn is_reset(&self, cx: &Context<'_>) -> bool {
        either!(self, stream => stream.is_reset(cx))
    }

    /// Whether more came than a head.
    pub(crate) fn has_more(&self) -> bool {
        either!(self, stream => stream.has_more())
    }
}
