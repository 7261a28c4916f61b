//! TCP and UDP without HTTP.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use strait_echo::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

use crate::support::{TCP, UDP, exchange, with_server};

#[test]
fn bytes_come_back_over_both_families() {
    with_server(TCP, Limits::default(), async |port| {
        let large = vec![0xa5; 1 << 20];
        for sent in [&b"hello\n"[..], b"P", b"\x00", b"PING\r\n", b"", &large] {
            for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()] {
                // Both directions at once: the server holds 16 KiB, not the megabyte.
                let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
                let mut got = Vec::new();
                let write = async {
                    writer.write_all(sent).await.unwrap();
                    writer.shutdown().await.unwrap();
                };
                let read = async { reader.read_to_end(&mut got).await.unwrap() };
                tokio::join!(write, read);
                assert_eq!(got, sent, "{} bytes to {address}", sent.len());
            }
        }
    });
}

#[test]
fn a_silent_client_is_closed_after_the_idle_time() {
    let limits = Limits { idle: Duration::from_millis(20), ..Limits::default() };
    with_server(TCP, limits, async |port| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    });
}

#[test]
fn a_half_written_method_is_plain_bytes_after_a_pause() {
    let limits = Limits { sniff: Duration::from_millis(20), ..Limits::default() };
    with_server(TCP, limits, async |port| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        stream.write_all(b"GE").await.unwrap();
        let mut got = [0; 2];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"GE");
    });
}

#[test]
fn connections_above_the_limit_wait_their_turn() {
    let limits = Limits { connections: 1, ..Limits::default() };
    with_server(TCP, limits, async |port| {
        let mut first = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        first.write_all(b"one").await.unwrap();
        let mut got = [0; 3];
        first.read_exact(&mut got).await.unwrap();
        let second = tokio::task::spawn_local(exchange((Ipv4Addr::LOCALHOST, port), b"two"));
        first.write_all(b"one").await.unwrap();
        first.read_exact(&mut got).await.unwrap();
        assert!(!second.is_finished());
        drop(first);
        assert_eq!(second.await.unwrap(), b"two");
    });
}

#[test]
fn datagrams_come_back_over_both_families() {
    with_server(UDP, Limits::default(), async |port| {
        for (from, to) in [
            (SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            ((Ipv6Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, port).into()),
        ] {
            let socket = UdpSocket::bind(from).await.unwrap();
            socket.connect(to).await.unwrap();
            for sent in [&b"hello"[..], b"", &[7; 1400]] {
                socket.send(sent).await.unwrap();
                let mut got = [0; 2000];
                let length = socket.recv(&mut got).await.unwrap();
                assert_eq!(&got[..length], sent);
            }
        }
    });
}
