//! What a request costs, counted: what holds on any machine.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use strait_proxy::{AccessLog, Encoding, Options};

use crate::bed::{Bed, HTTP};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1024\r\n\r\n";
const BODY: [u8; 1024] = [b'x'; 1024];

/// Answers whatever comes with a kilobyte, without a single allocation.
fn serve(mut stream: TcpStream) {
    let mut room = [0; 4096];
    let mut answer = [0; ANSWER.len() + BODY.len()];
    answer[..ANSWER.len()].copy_from_slice(ANSWER);
    answer[ANSWER.len()..].copy_from_slice(&BODY);
    while matches!(stream.read(&mut room), Ok(count) if count > 0) {
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// Asks on a kept connection, without an allocation either.
fn ask(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).unwrap();
    let mut room = [0; 4096];
    let mut length = 0;
    while length < ANSWER.len() + BODY.len() {
        let count = stream.read(&mut room[length..]).unwrap();
        assert!(count > 0, "the connection ended");
        length += count;
    }
    assert!(room.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

const REQUESTS: [&[u8]; 2] = [
        b"GET /some/path?with=query HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: test\r\nAccept: */*\r\nCookie: a=b\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n0123456789",
    ];

#[test]
fn a_warm_request_allocates_nothing() {
    let bed = Bed::over(serve, false);
    let profiler = dhat::Profiler::builder().testing().build();
    let mut stream = bed.connect(HTTP);
    for request in REQUESTS {
        (0..100).for_each(|_| ask(&mut stream, request));
        let before = dhat::HeapStats::get().total_blocks;
        (0..100).for_each(|_| ask(&mut stream, request));
        assert_eq!(dhat::HeapStats::get().total_blocks - before, 0, "allocations in a hundred requests");
    }
    drop(profiler);
}

/// What each connection holds between two requests: no buffers, no heads.
#[test]
fn an_idle_connection_holds_little() {
    const COUNT: usize = 200;
    const MOST: usize = 3500;
    let bed = Bed::over(serve, false);
    let profiler = dhat::Profiler::builder().testing().build();
    let mut streams = Vec::with_capacity(2 * COUNT);
    let mut open = || {
        for _ in 0..COUNT {
            let mut stream = bed.connect(HTTP);
            ask(&mut stream, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            streams.push(stream);
        }
        dhat::HeapStats::get().curr_bytes
    };
    let (before, after) = (open(), open());
    let each = (after - before) / COUNT;
    assert!(each <= MOST, "{each} bytes");
    drop(profiler);
}

/// A log has sixteen chunks to fill, each made when it is first needed, and no line costs anything beside.
#[test]
fn a_log_allocates_its_chunks() {
    let file = "/dev/null".into();
    let log = AccessLog { file, encoding: Encoding::Json, format: None };
    let bed = Bed::with(serve, false, Options { access_log: Some(log), ..Options::default() });
    let profiler = dhat::Profiler::builder().testing().build();
    let mut stream = bed.connect(HTTP);
    for request in REQUESTS {
        (0..100).for_each(|_| ask(&mut stream, request));
    }
    let before = dhat::HeapStats::get().total_blocks;
    // Many times what all chunks hold.
    for request in REQUESTS {
        (0..1000).for_each(|_| ask(&mut stream, request));
    }
    let allocated = dhat::HeapStats::get().total_blocks - before;
    assert!(allocated <= 16, "{allocated} allocations in two thousand requests");
    drop(profiler);
}
