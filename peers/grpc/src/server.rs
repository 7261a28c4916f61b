//! The server.

use std::{
    convert::Infallible,
    future::{Future, ready},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    codegen::{Service, http},
    metadata::{KeyAndValueRef, MetadataMap, MetadataValue},
    server::{ClientStreamingService, Grpc, NamedService, ServerStreamingService, StreamingService, UnaryService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

use crate::{Failure, LARGEST, Said};

type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;
type Messages = Pin<Box<dyn Stream<Item = Result<Said, Status>> + Send>>;

/// Serves until it is ended.
pub(crate) async fn serve(at: SocketAddr) -> Result<(), Failure> {
    let incoming = TcpIncoming::bind(at)?;
    println!("ready");
    let cancelled = Arc::default();
    let echo = Echo { cancelled: Arc::clone(&cancelled), name: "Echo" };
    let other = Other(Echo { cancelled, name: "Other" });
    Server::builder().add_service(echo).add_service(other).serve_with_incoming(incoming).await?;
    Ok(())
}

/// Both services do the same; each says which it is.
#[derive(Clone)]
struct Echo {
    /// Calls that ended before their answer did.
    cancelled: Arc<AtomicU32>,
    name: &'static str,
}

impl NamedService for Echo {
    const NAME: &'static str = "strait.peer.Echo";
}

#[derive(Clone)]
struct Other(Echo);

impl NamedService for Other {
    const NAME: &'static str = "strait.peer.Other";
}

impl Service<http::Request<Body>> for Other {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let this = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<Said, Said>::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(LARGEST).max_encoding_message_size(LARGEST);
            Ok(match method.as_str() {
                "Say" => grpc.unary(Say(this), request).await,
                "Refuse" => grpc.unary(Refuse, request).await,
                "Wait" => grpc.unary(Wait(this), request).await,
                "Cancelled" => grpc.unary(Cancelled(this), request).await,
                "Gather" => grpc.client_streaming(Gather, request).await,
                "Spread" => grpc.server_streaming(Spread, request).await,
                "Talk" => grpc.streaming(Talk, request).await,
                _ => Status::unimplemented(method).into_http(),
            })
        })
    }
}

/// What came with a call, but for what HTTP and tonic add, under names of its own.
fn seen(metadata: &MetadataMap) -> MetadataMap {
    let mut seen = MetadataMap::new();
    for pair in metadata.iter() {
        match pair {
            KeyAndValueRef::Ascii(name, value) if name.as_str().starts_with("x-ask") => {
                seen.append(name.clone(), value.clone());
            }
            KeyAndValueRef::Binary(name, value) if name.as_str().starts_with("x-ask") => {
                seen.append_bin(name.clone(), value.clone());
            }
            KeyAndValueRef::Ascii(..) | KeyAndValueRef::Binary(..) => {}
        }
    }
    if let Some(timeout) = metadata.get("grpc-timeout") {
        seen.insert("x-seen-timeout", timeout.clone());
    }
    seen
}

/// Gives the message back, and the metadata in the answer's head.
struct Say(Echo);

impl UnaryService<Said> for Say {
    type Response = Said;
    type Future = Answer<Said>;

    fn call(&mut self, request: Request<Said>) -> Self::Future {
        let (metadata, _, said) = request.into_parts();
        let mut response = Response::new(Said { text: self.0.name.to_owned(), ..said });
        *response.metadata_mut() = seen(&metadata);
        Box::pin(ready(Ok(response)))
    }
}

/// Fails with the code and the text that it is told, and metadata beside them.
struct Refuse;

impl UnaryService<Said> for Refuse {
    type Response = Said;
    type Future = Answer<Said>;

    fn call(&mut self, request: Request<Said>) -> Self::Future {
        Box::pin(ready(Err(refusal(request.get_ref()))))
    }
}

fn refusal(said: &Said) -> Status {
    let code = Code::from_i32(i32::try_from(said.number).unwrap_or(2));
    let mut metadata = MetadataMap::new();
    metadata.insert_bin("x-detail-bin", MetadataValue::from_bytes(&[0, 1, 255]));
    Status::with_details_and_metadata(code, said.text.clone(), said.data.clone().into(), metadata)
}

/// Never answers.
struct Wait(Echo);

impl UnaryService<Said> for Wait {
    type Response = Said;
    type Future = Answer<Said>;

    fn call(&mut self, _: Request<Said>) -> Self::Future {
        let gone = Gone(Arc::clone(&self.0.cancelled));
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(gone);
            Err(Status::internal("it waits for ever"))
        })
    }
}

/// Counts when it is dropped.
struct Gone(Arc<AtomicU32>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Answers when so many calls were cancelled as the message says.
struct Cancelled(Echo);

impl UnaryService<Said> for Cancelled {
    type Response = Said;
    type Future = Answer<Said>;

    fn call(&mut self, request: Request<Said>) -> Self::Future {
        let (cancelled, wanted) = (Arc::clone(&self.0.cancelled), request.get_ref().number);
        Box::pin(async move {
            while cancelled.load(Ordering::Relaxed) < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(Response::new(Said::number(cancelled.load(Ordering::Relaxed))))
        })
    }
}

/// Takes messages to their end, and answers with their number and all their data.
struct Gather;

impl ClientStreamingService<Said> for Gather {
    type Response = Said;
    type Future = Answer<Said>;

    fn call(&mut self, request: Request<Streaming<Said>>) -> Self::Future {
        Box::pin(async move {
            let mut messages = request.into_inner();
            let mut all = Said::default();
            while let Some(said) = messages.message().await? {
                all.number += 1;
                all.data.extend_from_slice(&said.data);
            }
            Ok(Response::new(all))
        })
    }
}

/// Answers with as many messages as it is told; where that says more, with an error after them.
struct Spread;

impl ServerStreamingService<Said> for Spread {
    type Response = Said;
    type ResponseStream = Messages;
    type Future = Answer<Messages>;

    fn call(&mut self, request: Request<Said>) -> Self::Future {
        let said = request.into_inner();
        let each = said.data.clone();
        let messages = (0..said.number).map(move |number| Ok(Said { number, data: each.clone(), text: String::new() }));
        let error = (!said.text.is_empty()).then(|| Err(refusal(&Said { number: 10, ..said })));
        let all: Messages = Box::pin(tokio_stream::iter(messages).chain(tokio_stream::iter(error)));
        Box::pin(ready(Ok(Response::new(all))))
    }
}

/// Answers each message as it comes.
struct Talk;

impl StreamingService<Said> for Talk {
    type Response = Said;
    type ResponseStream = Messages;
    type Future = Answer<Messages>;

    fn call(&mut self, request: Request<Streaming<Said>>) -> Self::Future {
        let mut messages = request.into_inner();
        let (send, receive) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let said = match messages.message().await {
                    Ok(Some(said)) => Ok(Said { number: said.number * 2, ..said }),
                    Ok(None) => return,
                    Err(status) => Err(status),
                };
                let last = said.is_err();
                if send.send(said).await.is_err() || last {
                    return;
                }
            }
        });
        let all: Messages = Box::pin(ReceiverStream::new(receive));
        Box::pin(ready(Ok(Response::new(all))))
    }
}
