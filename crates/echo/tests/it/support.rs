//! A server for one test, and clients.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use strait_base::Protocol;
use strait_echo::{Config, Context, Limits, Port, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    task::LocalSet,
};

pub(crate) const TCP: Port = Port { number: 0, protocol: Protocol::Tcp };
pub(crate) const UDP: Port = Port { number: 0, protocol: Protocol::Udp };

/// Runs `test` beside a server with `port`, giving it the port's number. A hang is a failure.
pub(crate) fn with_server<F: Future>(port: Port, limits: Limits, test: impl FnOnce(u16) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let context =
        Context { namespace: "shop".into(), ingress: "strait".into(), service: "web".into(), pod: "web-0".into() };
    runtime.block_on(async {
        let server = Server::bind(Config {
            ports: vec![port],
            listen: Vec::new(),
            context,
            certificate: None,
            clients: None,
            limits,
        })
        .unwrap();
        let number = server.ports()[0].number;
        let tasks = LocalSet::new();
        tasks.spawn_local(server.run());
        let test = tasks.run_until(test(number));
        tokio::time::timeout(Duration::from_mins(1), test).await.expect("the test hangs")
    })
}

/// Sends `bytes`, closes that direction, and reads everything that comes back.
pub(crate) async fn exchange(address: impl Into<SocketAddr>, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address.into()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

/// What curl prints.
pub(crate) async fn curl(arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--insecure", "--noproxy", "*"]).args(arguments).kill_on_drop(true);
    let output = command.output().await.expect("these tests need curl; `make test` installs it");
    assert!(output.status.success(), "curl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What curl prints, as JSON.
pub(crate) async fn curl_json(arguments: &[&str]) -> Value {
    serde_json::from_str(&curl(arguments).await).unwrap()
}
