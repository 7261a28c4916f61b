//! `ServiceEntry` and `WorkloadEntry`.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use strait_base::{Labels, Location};

use super::{ExportTo, PortProtocol};
use crate::types::ObjectMeta;

/// A `ServiceEntry`: a service that Kubernetes does not know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntry {
    /// What every object carries.
    #[serde(skip)]
    pub meta: ObjectMeta,
    /// `hosts`, in small letters: at least one; with wildcards only where names are not resolved.
    pub hosts: Vec<Arc<str>>,
    /// `addresses`.
    #[serde(serialize_with = "nets")]
    pub addresses: Vec<IpNet>,
    /// `ports`.
    pub ports: Vec<EntryPort>,
    /// `location`.
    #[serde(rename = "location")]
    pub mesh: MeshLocation,
    /// `resolution`.
    pub resolution: Resolution,
    /// `endpoints`.
    pub endpoints: Vec<Workload>,
    /// `workloadSelector.labels`, in place of `endpoints`.
    #[serde(serialize_with = "selector")]
    pub workload_selector: Option<Labels>,
    /// `exportTo`.
    pub export_to: ExportTo,
    /// `subjectAltNames`: names that its certificates must have.
    pub subject_alt_names: Vec<Arc<str>>,
}

fn nets<S: Serializer>(nets: &[IpNet], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(nets.iter().map(ToString::to_string))
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn selector<S: Serializer>(labels: &Option<Labels>, to: S) -> Result<S::Ok, S::Error> {
    match labels {
        Some(labels) => to.collect_map([("labels", &*labels.0)]),
        None => to.serialize_none(),
    }
}

/// `ports[]` of a service entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryPort {
    /// `number`: once.
    pub number: u16,
    /// `protocol`; TCP where not given.
    pub protocol: PortProtocol,
    /// `name`: once.
    pub name: Arc<str>,
    /// `targetPort`: that of endpoints; `number` where not given.
    pub target_port: Option<u16>,
}

/// `location`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MeshLocation {
    /// Outside of the mesh.
    #[default]
    MeshExternal,
    /// Part of the mesh.
    MeshInternal,
}

/// `resolution`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    /// To the address that the client asked for.
    #[default]
    None,
    /// To the addresses of endpoints.
    Static,
    /// To all addresses that names resolve to.
    Dns,
    /// To one address that the name resolves to.
    DnsRoundRobin,
    /// To what the host asked for resolves to.
    DynamicDns,
}

/// A `WorkloadEntry`, on its own or as an endpoint of a service entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// `address`; none where only a network's gateway leads there.
    pub address: Option<WorkloadAddress>,
    /// `ports`, by name of the service's port.
    pub ports: BTreeMap<Arc<str>, u16>,
    /// `labels`.
    #[serde(serialize_with = "labels")]
    pub labels: Labels,
    /// `network`.
    pub network: Option<Arc<str>>,
    /// `locality`, as `region/zone/subzone`.
    pub locality: Option<Arc<str>>,
    /// `weight`, relative to other endpoints'.
    pub weight: Option<u32>,
    /// `serviceAccount`.
    pub service_account: Option<Arc<str>>,
    /// Where it stands.
    #[serde(skip)]
    pub location: Location,
}

fn labels<S: Serializer>(labels: &Labels, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(labels.0.iter())
}

/// `address` of a workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WorkloadAddress {
    /// An address.
    Ip(IpAddr),
    /// A name to be resolved, in small letters.
    Name(Arc<str>),
    /// `unix://`: the absolute path of a socket, or an abstract one after `@`.
    Unix(Arc<str>),
}

impl Serialize for WorkloadAddress {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Ip(address) => to.collect_str(address),
            Self::Name(name) => to.serialize_str(name),
            Self::Unix(path) => to.collect_str(&format_args!("unix://{path}")),
        }
    }
}

/// A `WorkloadEntry`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkloadEntry {
    /// What every object carries. Its labels select it as those of its spec do.
    pub meta: ObjectMeta,
    /// `spec`.
    pub workload: Workload,
}
