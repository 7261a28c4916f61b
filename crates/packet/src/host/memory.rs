use std::{cell::Cell, collections::BTreeMap};

use crate::abi::{
    ABI_VERSION, Addr, Config, CtEntry, CtKey, DropKey, DropReason, DropSeen, Endpoint, Event, EventKind, FragmentKey,
    FragmentPorts, Hook, IpcacheKey, IpcacheValue, Metric, MetricKey, PolicyKey, PolicyValue, PortRule, PortSetKey,
};
use crate::frame::{Frame, Head};
use crate::hooks::{self, Scratch, Verdict};
use crate::maps::Maps;
use crate::respond::Bucket;

/// A frame in memory.
#[derive(Clone, Debug)]
pub struct Bytes<'a> {
    /// Interface it is seen at.
    pub ifindex: u32,
    /// From the Ethernet header on.
    pub bytes: &'a [u8],
    /// Whether a VLAN tag was taken off.
    pub vlan_tag: bool,
    /// The node's mark.
    pub mark: u32,
    /// Whether its hardware address is the interface's.
    pub for_host: bool,
    /// What a program made of its first bytes.
    pub head: Cell<Option<Head>>,
}

impl<'a> Bytes<'a> {
    /// An untagged frame for the interface it is seen at.
    pub const fn new(ifindex: u32, bytes: &'a [u8]) -> Self {
        Self { ifindex, bytes, vlan_tag: false, mark: 0, for_host: true, head: Cell::new(None) }
    }

    /// The frame as a program left it.
    pub fn after(&self) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(self.head.get().into_iter().flatten()) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

impl Frame for Bytes<'_> {
    fn len(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    fn has_vlan_tag(&self) -> bool {
        self.vlan_tag
    }

    fn mark(&self) -> u32 {
        self.mark
    }

    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        let start = usize::try_from(at).ok()?;
        let bytes = self.bytes.get(start..start.checked_add(4 * N)?)?;
        let mut words = [0; N];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*chunk);
        }
        Some(words)
    }

    fn byte(&self, at: u32) -> Option<u8> {
        self.bytes.get(usize::try_from(at).ok()?).copied()
    }

    fn is_for_host(&self) -> bool {
        self.for_host
    }

    fn replace_head(&self, head: &Head, _: u32) -> bool {
        self.head.set(Some(*head));
        true
    }
}

/// The maps, as plain collections. Nothing is evicted.
#[derive(Clone, Debug, Default)]
pub struct MemoryMaps {
    /// What the monotonic clock says, nanoseconds.
    pub now_ns: u64,
    /// `CONFIG`.
    pub config: Option<Config>,
    /// `ENDPOINTS`, by interface index.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// `IPCACHE`.
    pub ipcache: BTreeMap<IpcacheKey, IpcacheValue>,
    /// `POLICY`.
    pub policy: BTreeMap<PolicyKey, PolicyValue>,
    /// `PORT_SETS`.
    pub port_sets: BTreeMap<PortSetKey, PortRule>,
    /// `CONNTRACK`.
    pub conntrack: BTreeMap<CtKey, CtEntry>,
    /// `FRAGMENTS`.
    pub fragments: BTreeMap<FragmentKey, FragmentPorts>,
    /// `DROP_SEEN`.
    pub drop_seen: BTreeMap<DropKey, DropSeen>,
    /// `EVENTS`, oldest first.
    pub events: Vec<Event>,
    /// `METRICS`, by index.
    pub metrics: BTreeMap<u32, Metric>,
    /// The bound on answers.
    pub bucket: Bucket,
    /// The answer to the latest frame, from its Ethernet header on; empty for none.
    pub response: Vec<u8>,
}

impl MemoryMaps {
    /// Runs the bytes of an untagged frame through a hook.
    pub fn run(&mut self, hook: Hook, ifindex: u32, bytes: &[u8]) -> Verdict {
        self.run_frame(hook, &Bytes::new(ifindex, bytes))
    }

    /// Runs one frame through a hook.
    pub fn run_frame(&mut self, hook: Hook, frame: &Bytes<'_>) -> Verdict {
        let mut scratch = Scratch::default();
        let verdict = match hook {
            Hook::FromPod => hooks::from_pod(frame, self, &mut scratch),
            Hook::ToPod => hooks::to_pod(frame, self, &mut scratch),
            Hook::FromUplink => hooks::from_uplink(frame, self, &mut scratch),
            Hook::ToUplink => hooks::to_uplink(frame, self, &mut scratch),
        };
        self.response = scratch.response().map_or_else(Vec::new, |response| {
            let bytes = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
            let ethertype = frame.bytes.get(12..14).unwrap_or_default();
            let packet = bytes(&response.packet);
            [&bytes(&response.macs), ethertype, &packet[..response.len as usize]].concat()
        });
        verdict
    }
}

impl Maps for MemoryMaps {
    fn tick_ns(&self) -> u64 {
        self.now_ns
    }

    fn clock_ns(&self) -> u64 {
        self.now_ns
    }

    fn config(&self, into: &mut Config) -> bool {
        self.config.inspect(|config| *into = *config).is_some()
    }

    fn judges_host(&self) -> bool {
        self.config.is_some_and(|config| config.abi_version == ABI_VERSION && config.judges_host())
    }

    fn endpoint<R>(&self, ifindex: u32, read: impl FnOnce(&Endpoint) -> R) -> Option<R> {
        self.endpoints.get(&ifindex).map(read)
    }

    fn ipcache(&self, addr: Addr) -> Option<IpcacheValue> {
        let bits = u128::from_be_bytes(addr.bytes());
        (0..=128).rev().find_map(|prefix_len| {
            let kept = bits & u128::MAX.checked_shl(128 - prefix_len).unwrap_or(0);
            self.ipcache.get(&IpcacheKey { prefix_len, addr: Addr::from_bytes(kept.to_be_bytes()) }).copied()
        })
    }

    fn policy(&self, key: &PolicyKey) -> Option<PolicyValue> {
        self.policy.get(key).copied()
    }

    fn port_rule(&self, key: &PortSetKey) -> Option<PortRule> {
        let port = u16::from_be_bytes(key.port);
        (0..=16)
            .rev()
            .map(|bits| PortSetKey::port_prefix(key.port_set, key.protocol, port, bits))
            .chain([PortSetKey::any(key.port_set)])
            .find_map(|key| self.port_sets.get(&key).copied())
    }

    fn connection<R>(&mut self, key: &CtKey, visit: impl FnOnce(&mut CtEntry) -> R) -> Option<R> {
        self.conntrack.get_mut(key).map(visit)
    }

    fn connection_at<R>(&mut self, key: &CtKey, visit: impl FnOnce(&mut CtEntry, &Endpoint) -> R) -> Option<R> {
        let entry = self.conntrack.get_mut(key)?;
        let endpoint = self.endpoints.get(&entry.ifindex)?;
        Some(visit(entry, endpoint))
    }

    fn insert_connection(&mut self, key: &CtKey, fill: impl FnOnce(&mut CtEntry)) -> bool {
        let mut entry = CtEntry::default();
        fill(&mut entry);
        self.conntrack.insert(*key, entry);
        true
    }

    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts> {
        self.fragments.get(key).copied()
    }

    fn insert_fragment(&mut self, key: &FragmentKey, ports: &FragmentPorts) -> bool {
        self.fragments.insert(*key, *ports);
        true
    }

    fn drop_seen<R>(&mut self, key: &DropKey, visit: impl FnOnce(&mut DropSeen) -> R) -> Option<R> {
        self.drop_seen.get_mut(key).map(visit)
    }

    fn insert_drop_seen(&mut self, key: &DropKey, seen: &DropSeen) {
        self.drop_seen.insert(*key, *seen);
    }

    fn response_bucket<R>(&mut self, visit: impl FnOnce(&mut Bucket) -> R) -> Option<R> {
        Some(visit(&mut self.bucket))
    }

    fn emit(&mut self, _: EventKind, fill: impl FnOnce(&mut Event)) {
        let mut event = Event::default();
        fill(&mut event);
        self.events.push(event);
    }

    fn count(&mut self, hook: Hook, reason: Option<DropReason>, bytes: u32) {
        let key = match reason {
            None => MetricKey::forwarded(hook),
            Some(reason) => MetricKey::dropped(hook, reason),
        };
        let metric = self.metrics.entry(key.index()).or_default();
        metric.packets += 1;
        metric.bytes += u64::from(bytes);
    }
}
