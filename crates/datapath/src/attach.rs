//! Programs on interfaces.

use strait_packet::abi::Hook;

use crate::{
    Datapath,
    kernel::{AttachError, Interface, Kernel},
};

const POD: [Hook; 2] = [Hook::ToPod, Hook::FromPod];
const UPLINK: [Hook; 2] = [Hook::ToUplink, Hook::FromUplink];

impl<K: Kernel> Datapath<K> {
    /// Attaches the programs of a pod to its host-side veth. The pod is closed until [`apply`](Self::apply) knows its
    /// attachment, so attach before the pod's link is up and routed.
    pub fn attach_pod(&mut self, interface: &Interface) -> Result<(), AttachError> {
        POD.into_iter().try_for_each(|hook| self.kernel.attach(hook, interface))
    }

    /// Detaches a pod's programs, whether its interface still exists or not. False where there were none.
    pub fn detach_pod(&mut self, ifindex: u32) -> Result<bool, AttachError> {
        let mut any = false;
        for hook in POD {
            any |= self.kernel.detach(hook, ifindex)?;
        }
        Ok(any)
    }

    /// Attaches the programs that keep others from claiming this node's addresses, and enforce its host policies, to a link that leaves
    /// the node.
    pub fn attach_uplink(&mut self, interface: &Interface) -> Result<(), AttachError> {
        UPLINK.into_iter().try_for_each(|hook| self.kernel.attach(hook, interface))
    }

    /// Detaches an uplink's programs. False where there were none.
    pub fn detach_uplink(&mut self, ifindex: u32) -> Result<bool, AttachError> {
        let mut any = false;
        for hook in UPLINK {
            any |= self.kernel.detach(hook, ifindex)?;
        }
        Ok(any)
    }

    /// Indices of interfaces that programs are attached to, and which.
    pub fn attached(&self) -> Result<Vec<(u32, Hook)>, AttachError> {
        self.kernel.attached()
    }
}
