//! The matrix asked with packets.

use anyhow::{Context as _, bail};
use strait_lab::{
    Lab, LabName, Place, PodName,
    probe::{Knock, Outcome, PATIENCE, Probe as Packet},
};
use strait_model::{Family, L4, PodKey, Snapshot};

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
    from: &PodKey,
    to: &PodKey,
    probe: Probe,
    family: Option<Family>,
    running: &Snapshot,
) -> anyhow::Result<Packet> {
    let pod = |key: &PodKey| running.pod(key).with_context(|| format!("pod {key} does not run in the lab"));
    let (source, destination) = (pod(from)?, pod(to)?);
    let families = family.map_or(vec![Family::V4, Family::V6], |family| vec![family]);
    let Some((source, destination)) =
        families.into_iter().find_map(|family| source.address(family).zip(destination.address(family)))
    else {
        bail!("{from} and {to} have no addresses of a common family in the lab");
    };
    let knock = match probe.0 {
        L4::Port { protocol, port } => Knock::Port(protocol, port),
        L4::Icmp => Knock::Ping,
        L4::Other(number) => bail!("IP protocol {number} cannot be asked for with packets"),
    };
    let place = Place::Pod(PodName { namespace: from.namespace.clone(), name: from.name.clone() });
    Ok(Packet { from: place, source: Some(source), to: destination, knock })
}
