//! The supervisor's socket.

use std::{
    fs, io,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener, net::UnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::{Event, Reply, Request};
use crate::error::Error;

/// Clients at once; further ones are turned away.
const MOST_CLIENTS: usize = 32;
/// Longest question, bytes.
const LONGEST: u64 = 4096;
/// How long a client may take to ask or to read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers at `path`, for root alone, on threads of its own.
pub(super) fn listen(path: &Path, events: mpsc::Sender<Event>) -> Result<(), Error> {
    // Made under another name, so that nobody can connect before it is closed to others.
    let draft = path.with_extension("new");
    let bound = || -> io::Result<UnixListener> {
        let listener = UnixListener::bind(&draft)?;
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o600))?;
        fs::rename(&draft, path)?;
        Ok(listener)
    };
    let listener = bound().map_err(Error::io("listening at", path))?;
    let clients = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if clients.fetch_add(1, Ordering::Relaxed) >= MOST_CLIENTS {
                clients.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (events, clients) = (events.clone(), Arc::clone(&clients));
            thread::spawn(move || {
                if let Err(error) = serve(stream, &events) {
                    eprintln!("a client of the supervisor: {error}");
                }
                clients.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(())
}

fn serve(mut stream: UnixStream, events: &mpsc::Sender<Event>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(&stream).take(LONGEST).read_line(&mut line)?;
    let reply = match serde_json::from_str::<Request>(&line) {
        Ok(request) => {
            let (sender, receiver) = mpsc::sync_channel(1);
            let _ = events.send(Event::Asked(request, sender));
            receiver.recv().unwrap_or_else(|_| Reply::Refused("the supervisor is going away".to_owned()))
        }
        Err(error) => Reply::Refused(format!("no such request ({error}); allowed: \"status\", \"sync\"")),
    };
    stream.write_all(&[serde_json::to_vec(&reply)?, vec![b'\n']].concat())
}
