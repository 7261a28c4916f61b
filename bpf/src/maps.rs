//! The maps, and access to them.

use aya_ebpf::helpers::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use strait_packet::Maps;
use strait_packet::abi::{
    ABI_VERSION, Addr, Config, CtEntry, CtKey, DropKey, DropReason, DropSeen, Endpoint, Event, EventKind, FragmentKey,
    FragmentPorts, Hook, IpcacheKey, IpcacheValue, Metric, MetricKey, PolicyKey, PolicyValue, PortRule, PortSetKey,
    capacity,
};
use strait_packet::hooks::Scratch;
use strait_packet::respond::Bucket;

/// What follows the prefix length in `IPCACHE` and `PORT_SETS`.
type IpcacheData = [u32; 4];
type PortSetData = [u32; 2];

#[map]
static IPCACHE: LpmTrie<IpcacheData, IpcacheValue> = LpmTrie::with_max_entries(capacity::IPCACHE, 0);
#[map]
static ENDPOINTS: HashMap<u32, Endpoint> = HashMap::with_max_entries(capacity::ENDPOINTS, 0);
#[map]
static POLICY: HashMap<PolicyKey, PolicyValue> = HashMap::with_max_entries(capacity::POLICY, 0);
#[map]
static PORT_SETS: LpmTrie<PortSetData, PortRule> = LpmTrie::with_max_entries(capacity::PORT_SETS, 0);
#[map]
static CONNTRACK: LruHashMap<CtKey, CtEntry> = LruHashMap::with_max_entries(capacity::CONNTRACK, 0);
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, FragmentPorts> = LruHashMap::with_max_entries(capacity::FRAGMENTS, 0);
#[map]
static DROP_SEEN: LruHashMap<DropKey, DropSeen> = LruHashMap::with_max_entries(capacity::DROP_SEEN, 0);
#[map]
static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
static METRICS: PerCpuArray<Metric> = PerCpuArray::with_max_entries(MetricKey::COUNT, 0);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(capacity::EVENTS, 0);
#[map]
static EVENTS_LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(EventKind::COUNT, 0);
/// Where a conntrack entry is built: it would take a fifth of the stack.
#[map]
static NEW_ENTRY: PerCpuArray<CtEntry> = PerCpuArray::with_max_entries(1, 0);
/// How much this CPU has answered lately.
#[map]
static RESPONSES: PerCpuArray<Bucket> = PerCpuArray::with_max_entries(1, 0);
/// Working memory for the packet at hand.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's working memory.
#[inline(always)]
pub fn scratch() -> Option<&'static mut Scratch> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // SAFETY: the slot is this CPU's alone: tc programs do not preempt each other, and each takes it once. It starts as zeroes,
    // which is a valid value of every field, and afterwards holds what this object wrote.
    Some(unsafe { &mut *scratch })
}

const _: () = assert!(size_of::<IpcacheKey>() == size_of::<Key<IpcacheData>>());
const _: () = assert!(size_of::<PortSetKey>() == size_of::<Key<PortSetData>>());

/// The maps of this object.
pub struct KernelMaps;

impl Maps for KernelMaps {
    #[inline(always)]
    fn tick_ns(&self) -> u64 {
        // SAFETY: takes nothing, returns a number.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn clock_ns(&self) -> u64 {
        // SAFETY: takes nothing, returns a number.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn config(&self, into: &mut Config) -> bool {
        let Some(config) = CONFIG.get(0) else {
            return false;
        };
        *into = *config;
        true
    }

    #[inline(always)]
    fn judges_host(&self) -> bool {
        CONFIG.get(0).is_some_and(|config| config.abi_version == ABI_VERSION && config.judges_host())
    }

    #[inline(always)]
    fn endpoint<R>(&self, ifindex: u32, read: impl FnOnce(&Endpoint) -> R) -> Option<R> {
        let endpoint = ENDPOINTS.get_ptr(ifindex)?;
        // SAFETY: the kernel frees no map value while a program that found it runs; the verifier has seen the null check.
        Some(read(unsafe { &*endpoint }))
    }

    #[inline(always)]
    fn ipcache(&self, addr: Addr) -> Option<IpcacheValue> {
        IPCACHE.get(Key::new(128, addr.0)).copied()
    }

    #[inline(always)]
    fn policy(&self, key: &PolicyKey) -> Option<PolicyValue> {
        // SAFETY: as in `endpoint`; the value is copied at once.
        unsafe { POLICY.get(key).copied() }
    }

    #[inline(always)]
    fn port_rule(&self, key: &PortSetKey) -> Option<PortRule> {
        let [a, b] = key.port;
        let last = u32::from_ne_bytes([key.protocol, a, b, key.pad]);
        PORT_SETS.get(Key::new(key.prefix_len, [key.port_set, last])).copied()
    }

    #[inline(always)]
    fn connection<R>(&mut self, key: &CtKey, visit: impl FnOnce(&mut CtEntry) -> R) -> Option<R> {
        let entry = CONNTRACK.get_ptr_mut(key)?;
        // SAFETY: as in `endpoint`. Other CPUs may write the same words; every field is a word that is valid with any bits.
        Some(visit(unsafe { &mut *entry }))
    }

    #[inline(always)]
    fn connection_at<R>(&mut self, key: &CtKey, visit: impl FnOnce(&mut CtEntry, &Endpoint) -> R) -> Option<R> {
        let entry = CONNTRACK.get_ptr_mut(key)?;
        // SAFETY: as in `connection`.
        let entry = unsafe { &mut *entry };
        self.endpoint(entry.ifindex, |endpoint| visit(entry, endpoint))
    }

    #[inline(always)]
    fn insert_connection(&mut self, key: &CtKey, fill: impl FnOnce(&mut CtEntry)) -> bool {
        let Some(slot) = NEW_ENTRY.get_ptr_mut(0) else {
            return false;
        };
        // SAFETY: the slot is this CPU's alone: tc programs do not preempt each other.
        let entry = unsafe { &mut *slot };
        *entry = CtEntry::default();
        fill(entry);
        CONNTRACK.insert(key, &*entry, 0).is_ok()
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts> {
        // SAFETY: as in `endpoint`; the value is copied at once.
        unsafe { FRAGMENTS.get(key).copied() }
    }

    #[inline(always)]
    fn insert_fragment(&mut self, key: &FragmentKey, ports: &FragmentPorts) -> bool {
        FRAGMENTS.insert(key, ports, 0).is_ok()
    }

    #[inline(always)]
    fn drop_seen<R>(&mut self, key: &DropKey, visit: impl FnOnce(&mut DropSeen) -> R) -> Option<R> {
        let seen = DROP_SEEN.get_ptr_mut(key)?;
        // SAFETY: as in `connection`.
        Some(visit(unsafe { &mut *seen }))
    }

    #[inline(always)]
    fn insert_drop_seen(&mut self, key: &DropKey, seen: &DropSeen) {
        // A map that refuses makes the next drop tell again.
        let _ = DROP_SEEN.insert(key, seen, 0);
    }

    #[inline(always)]
    fn response_bucket<R>(&mut self, visit: impl FnOnce(&mut Bucket) -> R) -> Option<R> {
        let bucket = RESPONSES.get_ptr_mut(0)?;
        // SAFETY: the slot is this CPU's alone.
        Some(visit(unsafe { &mut *bucket }))
    }

    #[inline(always)]
    fn emit(&mut self, kind: EventKind, fill: impl FnOnce(&mut Event)) {
        if let Some(mut slot) = EVENTS.reserve::<Event>(0) {
            fill(slot.write(Event::default()));
            slot.submit(0);
        } else if let Some(lost) = EVENTS_LOST.get_ptr_mut(kind as u32) {
            // SAFETY: the slot is this CPU's alone.
            unsafe { *lost += 1 };
        }
    }

    #[inline(always)]
    fn count(&mut self, hook: Hook, reason: Option<DropReason>, bytes: u32) {
        let key = match reason {
            None => MetricKey::forwarded(hook),
            Some(reason) => MetricKey::dropped(hook, reason),
        };
        if let Some(metric) = METRICS.get_ptr_mut(key.index()) {
            // SAFETY: the slot is this CPU's alone.
            let metric = unsafe { &mut *metric };
            metric.packets += 1;
            metric.bytes += u64::from(bytes);
        }
    }
}
