//! Pods with programs on their links.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    path::Path,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use strait_datapath::{
    Attachment, Bpf, Datapath, Event, EventReader, Kernel, Options, PIN_ROOT, netns::Netns, remove_pins, table::Table,
    testbed::Testbed,
};

use crate::plan;

/// Long enough for a packet that arrives, on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// Long enough to tell that a packet does not arrive. A machine too slow for it makes a test pass that should not, never fail.
pub(crate) const SILENCE: Duration = Duration::from_millis(200);

/// A testbed and the name of the datapath on its router. Unpinned when dropped.
pub(crate) struct Bed {
    pub(crate) bed: Testbed,
    pub(crate) instance: String,
}

impl Drop for Bed {
    fn drop(&mut self) {
        remove_pins(Path::new(PIN_ROOT), &self.instance).unwrap();
    }
}

impl Bed {
    pub(crate) fn new(test: &str) -> Self {
        Self::with(Testbed::new(2).unwrap(), test)
    }

    pub(crate) fn with(bed: Testbed, test: &str) -> Self {
        Self { bed, instance: format!("test-{}-{test}", std::process::id()) }
    }

    /// Opens the datapath on the router and attaches it to every pod.
    pub(crate) fn open(&self) -> Datapath<Bpf> {
        self.open_with(&Options::new(&self.instance))
    }

    pub(crate) fn open_with(&self, options: &Options) -> Datapath<Bpf> {
        self.at_router(|| {
            let mut datapath = Datapath::open(options).unwrap();
            for pod in &self.bed.pods {
                datapath.attach_pod(&pod.interface).unwrap();
            }
            datapath
        })
    }

    pub(crate) fn at_router<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.bed.router.run(work).unwrap()
    }

    pub(crate) fn attachments(&self) -> Vec<Attachment> {
        let names = ["client", "server"].into_iter().zip(&self.bed.pods);
        names.map(|(name, pod)| plan::attachment(name, pod.interface.index, pod.mac)).collect()
    }

    pub(crate) fn client(&self) -> &Netns {
        &self.bed.pods[0].netns
    }

    pub(crate) fn server(&self) -> &Netns {
        &self.bed.pods[1].netns
    }

    /// The server's addresses.
    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        [self.bed.pods[1].v4, self.bed.pods[1].v6]
    }
}

/// Removes all entries.
pub(crate) fn clear<T: Table>(kernel: &mut impl Kernel) {
    for (key, _) in kernel.entries::<T>().unwrap() {
        kernel.delete::<T>(&key).unwrap();
    }
}

pub(crate) fn listen(netns: &Netns, at: SocketAddr) -> TcpListener {
    netns.run(|| TcpListener::bind(at).unwrap()).unwrap()
}

pub(crate) fn connect(netns: &Netns, to: SocketAddr, patience: Duration) -> std::io::Result<TcpStream> {
    let stream = netns.run(|| TcpStream::connect_timeout(&to, patience)).unwrap()?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

pub(crate) fn udp(netns: &Netns, at: SocketAddr) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind(at).unwrap()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Reads events until one is wanted.
pub(crate) fn wait_for(reader: &mut EventReader, wanted: impl Fn(&Event) -> bool) -> Event {
    let mut seen = Vec::new();
    loop {
        while let Some(event) = reader.next() {
            if wanted(&event) {
                return event;
            }
            seen.push(event);
        }
        let timeout = PollTimeout::try_from(DEADLINE).unwrap();
        let ready = poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], timeout).unwrap();
        assert!(ready > 0, "no such event; seen: {seen:#?}");
    }
}
