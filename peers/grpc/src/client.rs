//! The client: each kind of call, and what came of it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::{Failure, LARGEST, Said};

/// Makes all calls on one channel, and prints a line for each: its name, and what came of it.
pub(crate) async fn call(url: &str, tls: Option<(String, &str)>) -> Result<(), Failure> {
    let mut endpoint = Endpoint::from_shared(url.to_owned())?;
    if let Some((authority, name)) = tls {
        let believed = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority)).domain_name(name);
        endpoint = endpoint.tls_config(believed)?;
    }
    let calls = Calls { channel: endpoint.connect().await? };
    println!("{}", json!({ "unary": calls.unary("Echo").await?, "other": calls.unary("Other").await? }));
    println!("{}", json!({ "metadata": calls.metadata().await? }));
    println!("{}", json!({ "clientStream": calls.client_stream().await? }));
    println!("{}", json!({ "serverStream": calls.server_stream().await? }));
    println!("{}", json!({ "serverStreamError": calls.server_stream_error().await? }));
    println!("{}", json!({ "bidirectional": calls.bidirectional().await? }));
    println!("{}", json!({ "large": calls.large().await? }));
    println!("{}", json!({ "error": calls.error().await? }));
    println!(
        "{}",
        json!({ "noMethod": calls.path("/strait.peer.Echo/Nothing").await?, "noService": calls.path("/strait.peer.None/Say").await? })
    );
    println!("{}", json!({ "deadline": calls.deadline().await? }));
    println!("{}", json!({ "cancelled": calls.cancelled().await? }));
    Ok(())
}

struct Calls {
    channel: Channel,
}

/// A status as JSON.
fn shown(status: &Status) -> Value {
    json!({
        "code": i32::from(status.code()),
        "message": status.message(),
        "details": status.details(),
        "metadata": status.metadata().get_bin("x-detail-bin").and_then(|value| value.to_bytes().ok()).map(|value| value.to_vec()),
    })
}

fn of(service: &str, method: &str) -> PathAndQuery {
    PathAndQuery::try_from(format!("/strait.peer.{service}/{method}"))
        .unwrap_or_else(|_| PathAndQuery::from_static("/"))
}

fn codec() -> ProstCodec<Said, Said> {
    ProstCodec::default()
}

impl Calls {
    async fn grpc(&self) -> Result<Grpc<Channel>, Failure> {
        let mut grpc =
            Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST).max_encoding_message_size(LARGEST);
        grpc.ready().await?;
        Ok(grpc)
    }

    async fn unary(&self, service: &str) -> Result<Value, Failure> {
        let said = Said { data: vec![7; 10], number: 42, text: String::new() };
        let answer = self.grpc().await?.unary(Request::new(said), of(service, "Say"), codec()).await;
        Ok(match answer {
            Ok(answer) => {
                let said: Said = answer.into_inner();
                json!({ "number": said.number, "data": said.data, "service": said.text })
            }
            Err(status) => shown(&status),
        })
    }

    /// What is sent besides the message, text and bytes, and twice under one name.
    async fn metadata(&self) -> Result<Value, Failure> {
        let mut request = Request::new(Said::default());
        let metadata = request.metadata_mut();
        metadata.append("x-ask", "one".parse()?);
        metadata.append("x-ask", "two".parse()?);
        metadata.insert_bin("x-ask-bin", MetadataValue::from_bytes(&[0, 10, 13, 255]));
        request.set_timeout(Duration::from_secs(30));
        let answer: tonic::Response<Said> = self.grpc().await?.unary(request, of("Echo", "Say"), codec()).await?;
        let metadata = answer.metadata();
        let all: Vec<_> = metadata.get_all("x-ask").iter().filter_map(|value| value.to_str().ok()).collect();
        let bytes = metadata.get_bin("x-ask-bin").and_then(|value| value.to_bytes().ok()).map(|bytes| bytes.to_vec());
        let timeout = metadata.get("x-seen-timeout").is_some();
        Ok(json!({ "text": all, "bytes": bytes, "timeoutSeen": timeout }))
    }

    async fn client_stream(&self) -> Result<Value, Failure> {
        let sent = (0..100_u8).map(|number| Said { data: vec![number; 1000], ..Said::default() });
        let stream = Request::new(tokio_stream::iter(sent));
        let answer: tonic::Response<Said> =
            self.grpc().await?.client_streaming(stream, of("Echo", "Gather"), codec()).await?;
        let said = answer.into_inner();
        let in_order =
            said.data.chunks(1000).zip(0..100_u8).all(|(part, number)| part.iter().all(|byte| *byte == number));
        Ok(json!({ "messages": said.number, "bytes": said.data.len(), "inOrder": in_order }))
    }

    async fn server_stream(&self) -> Result<Value, Failure> {
        let said = Said { number: 100, data: vec![1; 1000], text: String::new() };
        let answer = self.grpc().await?.server_streaming(Request::new(said), of("Echo", "Spread"), codec()).await?;
        let mut messages: tonic::Streaming<Said> = answer.into_inner();
        let (mut numbers, mut bytes) = (Vec::new(), 0);
        while let Some(said) = messages.message().await? {
            numbers.push(said.number);
            bytes += said.data.len();
        }
        Ok(json!({ "messages": numbers.len(), "bytes": bytes, "inOrder": numbers.iter().copied().eq(0..100) }))
    }

    /// Messages, then an error in the trailers behind them.
    async fn server_stream_error(&self) -> Result<Value, Failure> {
        let said = Said { number: 3, data: vec![9], text: "no more".into() };
        let answer = self.grpc().await?.server_streaming(Request::new(said), of("Echo", "Spread"), codec()).await?;
        let mut messages: tonic::Streaming<Said> = answer.into_inner();
        let mut count = 0;
        loop {
            match messages.message().await {
                Ok(Some(_)) => count += 1,
                Ok(None) => return Ok(json!({ "messages": count, "status": null })),
                Err(status) => return Ok(json!({ "messages": count, "status": shown(&status) })),
            }
        }
    }

    /// Each message is sent only when the answer to the one before is there.
    async fn bidirectional(&self) -> Result<Value, Failure> {
        let (send, receive) = mpsc::channel(1);
        send.send(Said::number(1)).await?;
        let stream = Request::new(ReceiverStream::new(receive));
        let answer = self.grpc().await?.streaming(stream, of("Echo", "Talk"), codec()).await?;
        let mut messages: tonic::Streaming<Said> = answer.into_inner();
        let mut answers = Vec::new();
        while let Some(said) = messages.message().await? {
            answers.push(said.number);
            if answers.len() == 20 {
                break;
            }
            send.send(Said::number(said.number % 1000 + 1)).await?;
        }
        drop(send);
        // Its end is passed on: so is the other side's.
        let ended = messages.message().await?.is_none();
        Ok(json!({ "answers": answers, "ended": ended }))
    }

    async fn large(&self) -> Result<Value, Failure> {
        let said = Said { data: (0..8 << 20).map(|index: u32| index.to_be_bytes()[3]).collect(), ..Said::default() };
        let answer = self.grpc().await?.unary(Request::new(said.clone()), of("Echo", "Say"), codec()).await?;
        let back: Said = answer.into_inner();
        Ok(json!({ "bytes": back.data.len(), "same": back.data == said.data }))
    }

    /// An error without an answer: all of it is in the response's head.
    async fn error(&self) -> Result<Value, Failure> {
        let said = Said { number: 9, text: "not now: 100% \u{fc}".into(), data: vec![1, 2, 3] };
        let answer = self.grpc().await?.unary(Request::new(said), of("Echo", "Refuse"), codec()).await;
        Ok(answer.map(|_: tonic::Response<Said>| Value::Null).unwrap_or_else(|status| shown(&status)))
    }

    async fn path(&self, path: &'static str) -> Result<Value, Failure> {
        let to = PathAndQuery::from_static(path);
        let answer = self.grpc().await?.unary(Request::new(Said::default()), to, codec()).await;
        Ok(answer.map(|_: tonic::Response<Said>| Value::Null).unwrap_or_else(|status| json!(i32::from(status.code()))))
    }

    /// A call that takes longer than it says that it may, and whether its server stopped.
    async fn deadline(&self) -> Result<Value, Failure> {
        let before = self.count(0).await?;
        let mut request = Request::new(Said::default());
        request.set_timeout(Duration::from_millis(200));
        let answer = self.grpc().await?.unary(request, of("Echo", "Wait"), codec()).await;
        let status =
            answer.map(|_: tonic::Response<Said>| Value::Null).unwrap_or_else(|status| json!(i32::from(status.code())));
        Ok(json!({ "code": status, "stopped": self.count(before + 1).await? == before + 1 }))
    }

    /// A call that is given up, and whether its server stopped.
    async fn cancelled(&self) -> Result<Value, Failure> {
        let before = self.count(0).await?;
        let mut grpc = self.grpc().await?;
        let waiting = grpc.unary::<Said, Said, _>(Request::new(Said::default()), of("Echo", "Wait"), codec());
        let given_up = tokio::time::timeout(Duration::from_millis(200), waiting).await.is_err();
        Ok(json!({ "givenUp": given_up, "stopped": self.count(before + 1).await? == before + 1 }))
    }

    /// How many calls were cancelled, when there are so many.
    async fn count(&self, wanted: u32) -> Result<u32, Failure> {
        let mut grpc = self.grpc().await?;
        let counted = grpc.unary(Request::new(Said::number(wanted)), of("Echo", "Cancelled"), codec());
        let answer: tonic::Response<Said> = tokio::time::timeout(Duration::from_secs(20), counted).await??;
        Ok(answer.into_inner().number)
    }
}
