//! The matrix asked with packets.

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use strait_lab::{
    Lab, LabName, Place, PodName,
    probe::{Knock, Outcome, PATIENCE, Probe as Packet},
};
use strait_model::{Family, L4, Party, Snapshot};

use super::{matrix::Question, probe::Probe};

/// Asks the lab for every cell: the answers, in the order of the cells.
pub(crate) fn ask(lab: &LabName, question: &Question) -> anyhow::Result<Vec<bool>> {
    let lab = Lab::attach(lab)?;
    // What is on disk now is what is asked about. Without an agent packets still get an answer.
    if let Err(error) = lab.sync() {
        eprintln!("note: changes of manifests may not be in force yet: {error}");
    }
    let running = Snapshot::new(&lab.objects()?);
    let packets: Vec<Packet> = question
        .cells()
        .map(|(probe, from, to)| packet(from, to, probe, question.family, &running))
        .collect::<anyhow::Result<_>>()?;
    let outcomes = lab.probe(&packets, PATIENCE)?;
    outcomes
        .into_iter()
        .zip(&packets)
        .map(|(outcome, packet)| match outcome {
            Outcome::Allowed(_) => Ok(true),
            Outcome::Denied => Ok(false),
            Outcome::Error(reason) => bail!("{packet} could not be asked: {reason}"),
        })
        .collect()
}

fn packet(
    from: &Party,
    to: &Party,
    probe: Probe,
    family: Option<Family>,
    running: &Snapshot,
) -> anyhow::Result<Packet> {
    let families = family.map_or(vec![Family::V4, Family::V6], |family| vec![family]);
    let (source, destination) = (addresses(from, running)?, addresses(to, running)?);
    let of = |addresses: &[IpAddr], family| addresses.iter().copied().find(|address| Family::of(*address) == family);
    let Some((source, destination)) =
        families.into_iter().find_map(|family| of(source, family).zip(of(destination, family)))
    else {
        bail!("{from} and {to} have no addresses of a common family in the lab");
    };
    let knock = match probe.0 {
        L4::Port { protocol, port } => Knock::Port(protocol, port),
        L4::Icmp => Knock::Ping,
        L4::Other(number) => bail!("IP protocol {number} cannot be asked for with packets"),
    };
    let place = match from {
        Party::Pod(pod) => Place::Pod(PodName { namespace: pod.namespace.clone(), name: pod.name.clone() }),
        Party::Node(node) => Place::Node(node.clone()),
        Party::Address(address) => bail!("nothing in the lab speaks from {address}"),
    };
    Ok(Packet { from: place, source: Some(source), to: destination, knock })
}

fn addresses<'s>(end: &Party, running: &'s Snapshot) -> anyhow::Result<&'s [IpAddr]> {
    let found = match end {
        Party::Pod(key) => running.pod(key).map(strait_model::Pod::addresses),
        Party::Node(name) => running.node(name).map(|node| &*node.addresses),
        Party::Address(_) => None,
    };
    found.with_context(|| format!("{end} does not run in the lab"))
}
