//! A client and a server of gRPC, both tonic's, for the gate's tests.
//!
//! ```text
//! strait-grpc-peer serve ADDRESS          serves `strait.peer.Echo` and `strait.peer.Other`; prints "ready"
//! strait-grpc-peer call URL [--ca FILE --name NAME]    makes every kind of call; prints what came of each as JSON
//! ```
//!
//! The service is written by hand in the shape that tonic's generated code has, so that nothing needs `protoc`.

mod client;
mod server;

use std::process::ExitCode;

/// The one message of all calls.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Said {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
    #[prost(uint32, tag = "2")]
    number: u32,
    #[prost(string, tag = "3")]
    text: String,
}

impl Said {
    fn number(number: u32) -> Self {
        Self { number, ..Self::default() }
    }
}

/// How large messages may be; tonic's own default is 4 MiB.
const LARGEST: usize = 16 << 20;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[&str]) -> Result<(), Failure> {
    match arguments {
        ["serve", at] => server::serve(at.parse()?).await,
        ["call", url] => client::call(url, None).await,
        ["call", url, "--ca", file, "--name", name] => {
            client::call(url, Some((std::fs::read_to_string(file)?, name))).await
        }
        other => Err(format!("found {other:?}; wanted: serve ADDRESS | call URL [--ca FILE --name NAME]").into()),
    }
}
