//! Where routes are attached, for those who ask before anything is served.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use strait_api::{ObjectKey, Objects};

use super::{Compiled, Resolved, compiler, world::name};
use crate::status::Status;

/// Where routes are attached, and where they are not.
#[derive(Debug, Default)]
pub struct Attachments {
    /// Routes at listeners.
    pub at: Vec<Attachment>,
    /// Routes whose parents do not take them.
    pub refused: Vec<Refusal>,
    /// As in [`Compiled`], as if each gateway had an address.
    pub statuses: Vec<Status>,
}

/// A route at a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attachment {
    /// The route.
    pub route: ObjectKey,
    /// Namespace and name of the gateway.
    pub gateway: (Arc<str>, Arc<str>),
    /// Namespace and name of the listener set that the listener is of, if it is of one.
    pub set: Option<(Arc<str>, Arc<str>)>,
    /// The listener's name.
    pub listener: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Arc<str>,
    /// The hosts that both have in common; none among them is all.
    pub hosts: Vec<Option<Arc<str>>>,
}

/// A parent that does not take a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The route.
    pub route: ObjectKey,
    /// Index among its parents.
    pub parent: usize,
    /// The reason of `Accepted`.
    pub reason: &'static str,
    /// The same for people.
    pub message: Arc<str>,
}

/// Where the routes among `objects` are attached, for people who ask before anything is served.
pub fn attachments(objects: &Objects) -> Attachments {
    let one = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let assigned = Compiled::gateways(objects).map(|gateway| {
        let name = (Arc::clone(&gateway.meta.namespace), Arc::clone(&gateway.meta.name));
        (name, one.clone())
    });
    let compiler = compiler(objects, &assigned.collect(), &Resolved::new(), "");
    let mut attachments = Attachments { statuses: compiler.statuses(), ..Attachments::default() };
    let mut routes: Vec<_> = compiler.attached.routes.iter().collect();
    routes.sort_by_key(|(_, routed)| &routed.age);
    for (key, routed) in routes {
        let Some(status) = &routed.status else { continue };
        for of in &routed.parents {
            let Some(accepted) = status.accepted(of.place) else { continue };
            if !accepted.holds {
                let (reason, message) = (accepted.reason, Arc::clone(&accepted.message));
                attachments.refused.push(Refusal { route: key.clone(), parent: of.place, reason, message });
                continue;
            }
            let Some(state) = compiler.gateways().get(&of.gateway) else { continue };
            for chosen in of.selected.iter().filter(|chosen| chosen.taken) {
                let Some(listener) = state.listeners.get(chosen.listener) else { continue };
                attachments.at.push(Attachment {
                    route: key.clone(),
                    gateway: of.gateway.clone(),
                    set: listener.set.as_ref().map(|set| name(&set.meta)),
                    listener: Arc::clone(&listener.listener.name),
                    port: listener.listener.port,
                    protocol: Arc::clone(&listener.listener.protocol),
                    hosts: chosen.hosts.to_vec(),
                });
            }
        }
    }
    attachments
}
