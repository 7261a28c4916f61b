//! Loads the BPF programs, keeps their maps equal to a plan, reads their events.
//!
//! ```text
//!  NodePlan + attachments ─→ Desired ─→ Datapath::apply ─(diff, in a safe order)─→ Kernel ┬─ Bpf: pinned maps, TCX links
//!                                                                                        └─ Fake: maps in memory
//!  ring, conntrack, summed-up drops ─→ Event
//! ```
//!
//! The datapath works in the network namespace of the thread that calls it. It knows no Kubernetes object and makes no decision
//! about a packet; those are in `strait-packet`.
//!
//! [`netns`], [`netlink`] and [`sysctl`] are the one place for network namespaces and for links, addresses and routes.

mod attach;
mod bpf;
mod carry;
mod collect;
pub mod cost;
mod desired;
mod event;
mod fake;
mod follow;
mod inherited;
mod kernel;
mod memory;
pub mod netlink;
pub mod netns;
pub mod probe;
mod reconcile;
mod room;
mod sockets;
pub mod sysctl;
pub mod table;
pub mod testbed;

pub use bpf::{
    Bpf, Error, EventReader, OBJECT_VARIABLE, ObjectError, Options, PIN_ROOT, PinError, Step, available, instances,
    remove_idle_pins, remove_pins,
};
pub use collect::monotonic_ns;
pub use desired::{Attachment, Closed, ipcache_key, ipcache_prefix};
pub use event::{Count, Event, Happening};
pub use fake::{Fake, Write};
pub use inherited::close_inherited;
pub use kernel::{AttachError, Interface, Kernel, MapError, program_name};
pub use memory::give_back_memory;
pub use reconcile::{Applied, ApplyError, Changes, Datapath, Incomplete, Shortfall};
pub use room::{GROWING, GrowError, Room, default_limits};
pub use sockets::{Socket, sockets};
