//! The matrix asked with packets.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use strait_lab::{
    Lab, LabName, Place, PodName,
    probe::{Knock, Outcome, PATIENCE, Probe as Packet},
};
use strait_model::{Family, L4, PodKey, Snapshot};

use super::{matrix::Key, probe::Probe};

/// Asks the lab for every pair. `snapshot` is of the manifests that name the pods; where they are is what the lab says.
pub(crate) fn ask(
    lab: &LabName,
    pods: &[PodKey],
    probes: &[Probe],
    family: Family,
    snapshot: &Snapshot,
) -> anyhow::Result<BTreeMap<Key, bool>> {
    let lab = Lab::attach(lab)?;
    // What is on disk now is what is asked about. Without an agent packets still get an answer.
    if let Err(error) = lab.sync() {
        eprintln!("note: changes of manifests may not be in force yet: {error}");
    }
    let running = Snapshot::new(&lab.objects()?);
    let mut keys: Vec<Key> = Vec::new();
    let mut packets = Vec::new();
    for from in pods {
        for to in pods {
            for probe in probes {
                packets.push(packet(from, to, *probe, family, &running)?);
                keys.push((from.clone(), to.clone(), *probe));
            }
        }
    }
    if running.pods().count() == 0 && snapshot.pods().count() > 0 {
        bail!("lab `{}` runs no pods", lab.name());
    }
    let outcomes = lab.probe(&packets, PATIENCE)?;
    keys.into_iter()
        .zip(outcomes)
        .zip(&packets)
        .map(|((key, outcome), packet)| match outcome {
            Outcome::Allowed(_) => Ok((key, true)),
            Outcome::Denied => Ok((key, false)),
            Outcome::Error(reason) => bail!("{packet} could not be asked: {reason}"),
        })
        .collect()
}

fn packet(from: &PodKey, to: &PodKey, probe: Probe, family: Family, running: &Snapshot) -> anyhow::Result<Packet> {
    let address = |pod: &PodKey| {
        let found = running.pod(pod).with_context(|| format!("pod {pod} does not run in the lab"))?;
        found.address(family).with_context(|| format!("pod {pod} has no {family} address in the lab"))
    };
    let knock = match probe.0 {
        L4::Port { protocol, port } => Knock::Port(protocol, port),
        L4::Icmp => Knock::Ping,
        L4::Other(number) => bail!("IP protocol {number} cannot be asked for with packets"),
    };
    let place = Place::Pod(PodName { namespace: from.namespace.clone(), name: from.name.clone() });
    Ok(Packet { from: place, source: Some(address(from)?), to: address(to)?, knock })
}
