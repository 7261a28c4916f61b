//! Which connections are taken.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{limits::Limits, listen::Count};

/// Counts of all workers: a client's connections are spread over them.
#[derive(Debug)]
pub(crate) struct Admission {
    most: usize,
    most_each: usize,
    most_listener: usize,
    connections: Count,
    /// In parts, so that workers seldom wait for each other. Touched when a connection comes and goes, not by requests.
    clients: [Mutex<BTreeMap<IpAddr, usize>>; PARTS],
}

const PARTS: usize = 16;

/// A place for a connection: given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    listener: Count,
    client: Option<IpAddr>,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            most: limits.connections,
            most_each: limits.client_connections,
            most_listener: limits.listener_connections,
            connections: Count::default(),
            clients: Default::default(),
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// A place for a connection of a listener, whose count is given; none where too many have one.
    pub(crate) fn admit(self: &Arc<Self>, listener: &Count) -> Option<Admitted> {
        if !enter(&self.connections, self.most) {
            return None;
        }
        if !enter(listener, self.most_listener) {
            leave(&self.connections);
            return None;
        }
        Some(Admitted { admission: Arc::clone(self), listener: Arc::clone(listener), client: None })
    }

    fn part(&self, client: &IpAddr) -> &Mutex<BTreeMap<IpAddr, usize>> {
        let last = match client {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[7],
        };
        &self.clients[usize::from(last) % PARTS]
    }
}

impl Admitted {
    /// Counts the connection as one of that client's. False where it has too many.
    pub(crate) fn is_of(&mut self, client: IpAddr) -> bool {
        let client = subject(client);
        let mut part = self.admission.part(&client).lock().unwrap_or_else(PoisonError::into_inner);
        let count = part.entry(client).or_default();
        if *count >= self.admission.most_each {
            return false;
        }
        *count += 1;
        drop(part);
        self.client = Some(client);
        true
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        leave(&self.listener);
        leave(&self.admission.connections);
        let Some(client) = self.client else { return };
        let mut part = self.admission.part(&client).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = part.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                part.remove(&client);
            }
        }
    }
}

/// Counts one more, if there may be one.
fn enter(count: &AtomicUsize, most: usize) -> bool {
    count.fetch_add(1, Ordering::Relaxed) < most || {
        leave(count);
        false
    }
}

fn leave(count: &AtomicUsize) {
    count.fetch_sub(1, Ordering::Relaxed);
}

/// Whom a connection is counted for: an address of IPv4, or what one subscriber of IPv6 has.
fn subject(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who comes, by turns with who goes (`-`), and whether each is taken.
    #[test]
    fn each_client_has_its_share() {
        let limits = Limits { connections: 5, client_connections: 2, listener_connections: 4, ..Limits::default() };
        let admission = Arc::new(Admission::new(&limits));
        let (one, two) = (Count::default(), Count::default());
        let mut open: Vec<(&str, Admitted)> = Vec::new();
        let cases = [
            ("192.0.2.1", &one, true),
            ("::ffff:192.0.2.1", &one, true),
            ("192.0.2.1", &one, false),
            ("-192.0.2.1", &one, true),
            ("192.0.2.1", &one, true),
            ("2001:db8::1", &one, true),
            ("2001:db8:0:0:ffff::2", &one, true),
            // Too many of the listener.
            ("192.0.2.2", &one, false),
            ("2001:db8::3", &two, false),
            ("2001:db8:0:1::3", &two, true),
            // Too many of all.
            ("192.0.2.3", &two, false),
            ("-2001:db8::1", &one, true),
            ("192.0.2.3", &two, true),
        ];
        for (client, listener, expected) in cases {
            if let Some(gone) = client.strip_prefix('-') {
                let index = open.iter().position(|(client, _)| *client == gone).unwrap();
                open.remove(index);
                continue;
            }
            let admitted = admission.admit(listener);
            let taken = admitted.and_then(|mut of| of.is_of(client.parse().unwrap()).then_some(of));
            assert_eq!(taken.is_some(), expected, "{client}");
            open.extend(taken.map(|taken| (client, taken)));
        }
        assert_eq!(admission.connections(), open.len());
        drop(open);
        assert_eq!(admission.connections(), 0);
        assert!(admission.clients.iter().all(|part| part.lock().unwrap().is_empty()));
    }
}
