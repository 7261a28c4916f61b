use crate::abi::{
    Addr, Config, CtEntry, CtKey, DropKey, DropReason, DropSeen, Endpoint, Event, EventKind, FragmentKey,
    FragmentPorts, Hook, IpcacheValue, PolicyKey, PolicyValue, PortRule, PortSetKey,
};
use crate::respond::Bucket;

/// What the decision reads and writes: kernel maps, or maps in memory.
///
/// Values that live in a map are handed to a closure and changed in place, as in the kernel, where a copy costs stack.
pub trait Maps {
    /// The monotonic clock, at the resolution of a tick.
    fn tick_ns(&self) -> u64;

    /// The monotonic clock, exact.
    fn clock_ns(&self) -> u64;

    /// `CONFIG`, copied into `into`. False if there is none.
    fn config(&self, into: &mut Config) -> bool;

    /// Whether `CONFIG` is of this layout and has the node's own traffic judged: without copying it.
    fn judges_host(&self) -> bool;

    /// `ENDPOINTS`.
    fn endpoint<R>(&self, ifindex: u32, read: impl FnOnce(&Endpoint) -> R) -> Option<R>;

    /// `IPCACHE`: the longest prefix over `addr`.
    fn ipcache(&self, addr: Addr) -> Option<IpcacheValue>;

    /// `POLICY`.
    fn policy(&self, key: &PolicyKey) -> Option<PolicyValue>;

    /// `PORT_SETS`: the longest prefix of the key's port set.
    fn port_rule(&self, key: &PortSetKey) -> Option<PortRule>;

    /// `CONNTRACK`: an existing entry.
    fn connection<R>(&mut self, key: &CtKey, visit: impl FnOnce(&mut CtEntry) -> R) -> Option<R>;

    /// `CONNTRACK`: an existing entry, together with `ENDPOINTS` of its interface.
    fn connection_at<R>(&mut self, key: &CtKey, visit: impl FnOnce(&mut CtEntry, &Endpoint) -> R) -> Option<R>;

    /// `CONNTRACK`: stores what `fill` makes of an empty entry, over whatever was there. False if the map refuses.
    fn insert_connection(&mut self, key: &CtKey, fill: impl FnOnce(&mut CtEntry)) -> bool;

    /// `FRAGMENTS`.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts>;

    /// `FRAGMENTS`: remembers a first fragment. False if the map refuses.
    fn insert_fragment(&mut self, key: &FragmentKey, ports: &FragmentPorts) -> bool;

    /// `DROP_SEEN`: an existing entry.
    fn drop_seen<R>(&mut self, key: &DropKey, visit: impl FnOnce(&mut DropSeen) -> R) -> Option<R>;

    /// `DROP_SEEN`: starts to count. A full map merely costs an event more.
    fn insert_drop_seen(&mut self, key: &DropKey, seen: &DropSeen);

    /// This CPU's bound on answers to what is denied.
    fn response_bucket<R>(&mut self, visit: impl FnOnce(&mut Bucket) -> R) -> Option<R>;

    /// `EVENTS`: sends what `fill` makes of an empty event, or counts it in `EVENTS_LOST`.
    fn emit(&mut self, kind: EventKind, fill: impl FnOnce(&mut Event));

    /// `METRICS`: counts a packet; no reason is forwarded.
    fn count(&mut self, hook: Hook, reason: Option<DropReason>, bytes: u32);
}
