//! Back ends of the tests' own, which are there whatever becomes of a gate.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// What a back end got, connection after connection, as it came.
pub(crate) type Recorded = Arc<Mutex<Vec<u8>>>;

/// Serves each connection on a thread.
pub(crate) fn serve(each: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let each = Arc::new(each);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let each = Arc::clone(&each);
            thread::spawn(move || each(stream));
        }
    });
    at
}

/// A server of HTTP/1.1 whose answers hold the head that it got, and what it got of all. `/slow` takes a moment.
pub(crate) fn http() -> (SocketAddr, Recorded) {
    let recorded = Recorded::default();
    let record = Arc::clone(&recorded);
    let at = serve(move |mut stream| {
        let mut read = Vec::new();
        while let Some((head, body)) = request(&mut stream, &mut read) {
            let mut all = record.lock().unwrap();
            all.extend_from_slice(&head);
            all.extend_from_slice(&body);
            drop(all);
            if head.starts_with(b"GET /slow") {
                thread::sleep(Duration::from_millis(300));
            }
            let length = if head.starts_with(b"HEAD") { 0 } else { head.len() };
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", head.len());
            if stream.write_all(&[answer.as_bytes(), &head[..length]].concat()).is_err() {
                return;
            }
        }
    });
    (at, recorded)
}

/// A server that sends back what it gets.
pub(crate) fn bytes() -> SocketAddr {
    serve(|mut stream| {
        let mut piece = [0; 4096];
        while let Ok(length) = stream.read(&mut piece)
            && length > 0
            && stream.write_all(&piece[..length]).is_ok()
        {}
    })
}

/// The next request of a connection: its head, and its body as it came. None at the end.
pub(crate) fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut piece = [0; 16384];
    let mut more = |read: &mut Vec<u8>| match stream.read(&mut piece) {
        Ok(length) if length > 0 => {
            read.extend_from_slice(&piece[..length]);
            Some(())
        }
        _ => None,
    };
    let end = loop {
        match read.windows(4).position(|part| part == b"\r\n\r\n") {
            Some(end) => break end + 4,
            None => more(read)?,
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let length = if field("transfer-encoding:").is_some() {
        let mut at = end;
        // Chunks, and the lines of the trailers behind the last one.
        let mut last = false;
        loop {
            let Some(length) = read[at..].windows(2).position(|part| part == b"\r\n") else {
                more(read)?;
                continue;
            };
            let line = String::from_utf8_lossy(&read[at..at + length]).into_owned();
            at += length + 2;
            if last && line.is_empty() {
                break at - end;
            }
            if !last {
                let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
                last = size == 0;
                at += if last { 0 } else { size + 2 };
                while read.len() < at {
                    more(read)?;
                }
            }
        }
    } else {
        let length = field("content-length:").map_or(0, |length| length.parse().unwrap());
        while read.len() < end + length {
            more(read)?;
        }
        length
    };
    let rest = read.split_off(end + length);
    let body = read.split_off(end);
    Some((std::mem::replace(read, rest), body))
}

/// A service whose endpoints are these.
pub(crate) fn service(name: &str, at: SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: p, port: 8080, targetPort: {port}}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: IPv4\nports: [{{name: p, port: {port}}}]\nendpoints: [{{addresses: [{address}], conditions: {{ready: true}}}}]\n---\n",
        port = at.port(),
        address = at.ip(),
    )
}
