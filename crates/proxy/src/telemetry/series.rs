//! Istio's standard metrics: what requests and connections to each service came to.
//!
//! ```text
//! plan ─ back end ─▶ Destination ─ by worker ─▶ list of (status, flags, protocol, status of gRPC) ─▶ numbers
//! ```
//!
//! A plan's back ends find their destinations when the plan is built, and destinations outlive plans; so a request costs a look at a short
//! list, and what was counted stays. How many series a worker makes is bounded; what goes beyond is counted in one place for all.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    cells::{Cell, Counts, Histogram, List},
    flags,
};

/// Which series a request is counted in, within its destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key(u32);

/// What a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spoken {
    Http,
    /// A call of gRPC, with its status where that is known.
    Grpc(Option<u8>),
}

impl Key {
    pub(crate) fn new(status: u16, flags: &str, spoken: Spoken) -> Self {
        let status = u32::from(status.min(999));
        let spoken = match spoken {
            Spoken::Http => 0,
            Spoken::Grpc(None) => 1,
            Spoken::Grpc(Some(code)) => 2 + u32::from(code.min(17)),
        };
        Self(status | (u32::from(flags::number(flags)) << 10) | (spoken << 16))
    }

    /// Of a connection that is only passed on, or of a client's datagrams.
    pub(crate) fn connection(flags: &str, datagrams: bool) -> Self {
        let Self(key) = Self::new(0, flags, Spoken::Http);
        Self(if datagrams { key | (Self::DATAGRAMS << 16) } else { key })
    }

    /// In place of what a request is.
    const DATAGRAMS: u32 = 63;

    pub(crate) const fn is_datagrams(self) -> bool {
        !self.is_coarse() && self.0 >> 16 == Self::DATAGRAMS
    }

    /// What is left of a key where there is no room for all of it: hundreds of the status, so that errors are still seen.
    const fn coarse(self) -> Self {
        Self((self.status() / 100) | Self::COARSE)
    }

    const COARSE: u32 = 1 << 31;

    pub(crate) const fn is_coarse(self) -> bool {
        self.0 & Self::COARSE != 0
    }

    /// The status, or its hundreds where the key is coarse.
    pub(crate) const fn status(self) -> u32 {
        self.0 & 1023
    }

    pub(crate) fn flags(self) -> &'static str {
        flags::text(u8::try_from((self.0 >> 10) & 63).unwrap_or_default())
    }

    pub(crate) const fn is_grpc(self) -> bool {
        !self.is_coarse() && self.0 >> 16 != 0 && !self.is_datagrams()
    }

    pub(crate) const fn grpc_status(self) -> Option<u32> {
        if self.is_coarse() || self.is_datagrams() { None } else { (self.0 >> 16).checked_sub(2) }
    }
}

/// Requests of one series, as one worker counted them.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    duration: Histogram,
    received: Histogram,
    sent: Histogram,
}

/// Connections of one series, as one worker counted them.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    opened: Cell,
    closed: Cell,
    received: Cell,
    sent: Cell,
}

/// Where requests go, as metrics see it.
#[derive(Debug)]
pub(crate) struct Destination {
    service: Service,
    requests: Box<[List<Requests>]>,
    connections: Box<[List<Connections>]>,
}

/// A service; empty text is not known.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Service {
    /// The host by which it is known in the cluster.
    pub(crate) host: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
}

/// A series as all workers together counted it.
pub(crate) struct Sum<T> {
    pub(crate) service: Service,
    pub(crate) key: Key,
    pub(crate) values: T,
}

#[derive(Default)]
pub(crate) struct RequestSums {
    pub(crate) duration: Counts,
    pub(crate) received: Counts,
    pub(crate) sent: Counts,
}

#[derive(Default)]
pub(crate) struct ConnectionSums {
    pub(crate) opened: u64,
    pub(crate) closed: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// Series that one destination may have in a worker: a back end chooses its status codes freely.
const OF_DESTINATION: usize = 64;

/// All destinations.
#[derive(Debug)]
pub(crate) struct Series {
    destinations: Mutex<BTreeMap<Service, Arc<Destination>>>,
    /// What belongs to no service.
    unknown: Arc<Destination>,
    /// What has no room.
    overflow: Arc<Destination>,
    /// By worker: series that it made.
    made: Box<[AtomicUsize]>,
    most: usize,
}

impl Destination {
    fn new(service: Service, workers: usize) -> Self {
        let (mut requests, mut connections) = (Vec::new(), Vec::new());
        requests.resize_with(workers, List::default);
        connections.resize_with(workers, List::default);
        Self { service, requests: requests.into(), connections: connections.into() }
    }

    fn series(&self, worker: usize) -> usize {
        let requests = self.requests.get(worker).map_or(0, |list| list.iter().count());
        requests + self.connections.get(worker).map_or(0, |list| list.iter().count())
    }
}

impl Series {
    pub(crate) fn new(workers: usize, most: usize) -> Self {
        let named = |name: &str| Service { host: name.into(), name: name.into(), namespace: "unknown".into() };
        let mut made = Vec::new();
        made.resize_with(workers, AtomicUsize::default);
        Self {
            destinations: Mutex::default(),
            unknown: Arc::new(Destination::new(named("unknown"), workers)),
            overflow: Arc::new(Destination::new(named("overflow"), workers)),
            made: made.into(),
            most,
        }
    }

    /// The destination of requests that go nowhere.
    pub(crate) const fn unknown(&self) -> &Arc<Destination> {
        &self.unknown
    }

    /// The destinations of a plan's back ends, in their order. Those that no plan has any more are forgotten when room gets scarce.
    pub(crate) fn destinations(&self, services: impl Iterator<Item = Service>) -> Vec<Arc<Destination>> {
        let mut known = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = self.made.len();
        let find = |service: Service| {
            let made = || Arc::new(Destination::new(service.clone(), workers));
            Arc::clone(known.entry(service.clone()).or_insert_with(made))
        };
        let found: Vec<_> = services.map(find).collect();
        let scarce = known.len() > self.most || self.made.iter().any(|made| made.load(Relaxed) > self.most / 2);
        if scarce {
            known.retain(|_, destination| {
                // A plan before this one, whose requests go on, holds them too.
                let unused = Arc::strong_count(destination) == 1;
                if unused {
                    for (worker, made) in self.made.iter().enumerate() {
                        made.fetch_sub(destination.series(worker), Relaxed);
                    }
                }
                !unused
            });
        }
        found
    }

    fn has_room(&self, worker: usize, of_destination: usize) -> bool {
        let Some(made) = self.made.get(worker) else { return false };
        let room = of_destination < OF_DESTINATION && made.load(Relaxed) < self.most;
        if room {
            made.fetch_add(1, Relaxed);
        }
        room
    }

    /// Counts a request.
    pub(crate) fn request(&self, worker: usize, to: &Destination, key: Key, took: Duration, received: u64, sent: u64) {
        let find = |to: &Destination, key: u32, room: &dyn Fn(usize) -> bool| -> Option<()> {
            let series = to.requests.get(worker)?.entry(key, room)?;
            series.duration.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            series.received.record(received.saturating_mul(1000));
            series.sent.record(sent.saturating_mul(1000));
            Some(())
        };
        if find(to, key.0, &|length| self.has_room(worker, length)).is_none() {
            find(&self.overflow, key.coarse().0, &|_| true);
        }
    }

    fn connection(&self, worker: usize, to: &Destination, key: Key, count: impl Fn(&Connections)) {
        let find = |to: &Destination, key: u32, room: &dyn Fn(usize) -> bool| -> Option<()> {
            to.connections.get(worker)?.entry(key, room).map(&count)
        };
        if find(to, key.0, &|length| self.has_room(worker, length)).is_none() {
            find(&self.overflow, key.coarse().0, &|_| true);
        }
    }

    /// Counts a connection that is passed on.
    pub(crate) fn opened(&self, worker: usize, to: &Destination, key: Key) {
        self.connection(worker, to, key, |of| of.opened.increment());
    }

    /// Counts the end of a connection that was passed on, and what went over it.
    pub(crate) fn passed(&self, worker: usize, to: &Destination, key: Key, received: u64, sent: u64) {
        self.connection(worker, to, key, |of| {
            of.received.add(received);
            of.sent.add(sent);
            of.closed.increment();
        });
    }

    fn all(&self) -> Vec<Arc<Destination>> {
        let known = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        [&self.unknown, &self.overflow].into_iter().chain(known.values()).map(Arc::clone).collect()
    }

    fn sums<T, S: Default>(&self, lists: impl Fn(&Destination) -> &[List<T>], add: impl Fn(&mut S, &T)) -> Vec<Sum<S>> {
        let mut sums = Vec::new();
        for destination in self.all() {
            let mut by_key = BTreeMap::<u32, S>::new();
            for (key, values) in lists(&destination).iter().flat_map(List::iter) {
                add(by_key.entry(key).or_default(), values);
            }
            let sum = |(key, values)| Sum { service: destination.service.clone(), key: Key(key), values };
            sums.extend(by_key.into_iter().map(sum));
        }
        sums
    }

    /// All series of requests.
    pub(crate) fn requests(&self) -> Vec<Sum<RequestSums>> {
        self.sums(
            |destination| &destination.requests,
            |sums: &mut RequestSums, of: &Requests| {
                sums.duration.add(&of.duration);
                sums.received.add(&of.received);
                sums.sent.add(&of.sent);
            },
        )
    }

    /// All series of connections.
    pub(crate) fn connections(&self) -> Vec<Sum<ConnectionSums>> {
        self.sums(
            |destination| &destination.connections,
            |sums: &mut ConnectionSums, of: &Connections| {
                sums.opened += of.opened.get();
                sums.closed += of.closed.get();
                sums.received += of.received.get();
                sums.sent += of.sent.get();
            },
        )
    }

    /// Requests and connections that had no series of their own.
    pub(crate) fn overflowed(&self) -> u64 {
        let requests = self.overflow.requests.iter().flat_map(List::iter);
        let connections = self.overflow.connections.iter().flat_map(List::iter);
        let mut counts = Counts::default();
        requests.for_each(|(_, of)| counts.add(&of.duration));
        counts.total() + connections.map(|(_, of)| of.opened.get() + of.closed.get()).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> Service {
        Service { host: format!("{name}.a.svc").into(), name: name.into(), namespace: "a".into() }
    }

    fn count(series: &Series, worker: usize, to: &Destination, status: u16) {
        series.request(worker, to, Key::new(status, "", Spoken::Http), Duration::from_millis(3), 10, 2000);
    }

    fn totals(series: &Series) -> Vec<(String, u32, u64)> {
        let sums = series.requests();
        sums.iter().map(|sum| (sum.service.name.to_string(), sum.key.status(), sum.values.duration.total())).collect()
    }

    #[test]
    fn keys_hold_what_they_are_made_of() {
        for (status, flags, spoken) in [
            (200, "", Spoken::Http),
            (0, "DC", Spoken::Http),
            (999, "UF,URX", Spoken::Http),
            (200, "", Spoken::Grpc(None)),
            (200, "UH", Spoken::Grpc(Some(0))),
            (503, "made up", Spoken::Grpc(Some(16))),
        ] {
            let key = Key::new(status, flags, spoken);
            let expected = match flags {
                "" => "-",
                "made up" => "other",
                flags => flags,
            };
            assert_eq!((key.status(), key.flags()), (u32::from(status), expected));
            let (is_grpc, code) = match spoken {
                Spoken::Http => (false, None),
                Spoken::Grpc(code) => (true, code.map(u32::from)),
            };
            assert_eq!((key.is_grpc(), key.grpc_status()), (is_grpc, code));
            assert!(!key.is_coarse());
        }
    }

    #[test]
    fn workers_are_summed_and_plans_outlived() {
        let series = Series::new(2, 100);
        let first = series.destinations([service("one"), service("two"), service("one")].into_iter());
        assert!(Arc::ptr_eq(&first[0], &first[2]));
        count(&series, 0, &first[0], 200);
        count(&series, 1, &first[2], 200);
        count(&series, 1, &first[1], 404);
        count(&series, 0, series.unknown(), 404);
        drop(first);
        let second = series.destinations([service("one")].into_iter());
        count(&series, 0, &second[0], 200);
        let expected = [("unknown", 404, 1), ("one", 200, 3), ("two", 404, 1)];
        assert_eq!(totals(&series), expected.map(|(name, status, count)| (name.to_owned(), status, count)));
        let sums = series.requests();
        let one = &sums[1].values;
        assert_eq!((one.duration.sum, one.received.sum, one.sent.sum), (9000, 30_000, 6_000_000));
        assert_eq!(one.duration.buckets[2], 3);
        assert_eq!(series.overflowed(), 0);
    }

    #[test]
    fn series_are_bounded() {
        let series = Series::new(1, 100);
        let destinations = series.destinations((0..30).map(|index| service(&format!("s{index}"))));
        for status in 200..300 {
            count(&series, 0, &destinations[0], status);
        }
        // 64 of one destination, and 36 of all others.
        for destination in &destinations[1..] {
            count(&series, 0, destination, 200);
            count(&series, 0, destination, 503);
        }
        let totals = totals(&series);
        assert_eq!(totals.len(), 100 + 2);
        assert_eq!(totals[0], ("overflow".to_owned(), 2, 36 + 11));
        assert_eq!(totals[1], ("overflow".to_owned(), 5, 11));
        assert_eq!(series.overflowed(), 36 + 22);
        assert_eq!(totals.iter().map(|(.., count)| count).sum::<u64>(), 100 + 58);
        // What no plan has any more makes room.
        drop(destinations);
        let next = series.destinations([service("new")].into_iter());
        count(&series, 0, &next[0], 200);
        assert_eq!(series.requests().len(), 3);
        assert_eq!(series.overflowed(), 36 + 22);
    }

    #[test]
    fn connections() {
        let series = Series::new(1, 10);
        let to = series.destinations([service("db")].into_iter());
        series.opened(0, &to[0], Key::connection("", false));
        series.passed(0, &to[0], Key::connection("", false), 5, 7);
        series.passed(0, series.unknown(), Key::connection("UH", false), 0, 0);
        let sums = series.connections();
        let read = |sum: &Sum<ConnectionSums>| {
            let ConnectionSums { opened, closed, received, sent } = sum.values;
            (sum.service.name.to_string(), sum.key.flags(), [opened, closed, received, sent])
        };
        let expected = [("unknown".to_owned(), "UH", [0, 1, 0, 0]), ("db".to_owned(), "-", [1, 1, 5, 7])];
        assert_eq!(sums.iter().map(read).collect::<Vec<_>>(), expected);
    }
}
