//! Tells the supervisor when manifests change.

use std::{os::fd::AsFd, sync::mpsc, thread};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use strait_api::source::Directory;

use super::Event;
use crate::error::Error;

/// Waits on a second descriptor of `directory`, on a thread of its own, one change at a time: the descriptor stays
/// readable until the supervisor has looked.
pub(super) fn start(directory: &Directory, events: mpsc::Sender<Event>) -> Result<(), Error> {
    let watcher = directory.watcher().map_err(Error::io("watching", "the manifests"))?;
    thread::spawn(move || {
        loop {
            let mut wanted = [PollFd::new(watcher.as_fd(), PollFlags::POLLIN)];
            match poll(&mut wanted, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => {
                    eprintln!("changes of manifests are not noticed any more: {error}");
                    return;
                }
            }
            let (sender, looked) = mpsc::sync_channel(1);
            if events.send(Event::Changed(sender)).is_err() || looked.recv().is_err() {
                return;
            }
        }
    });
    Ok(())
}
