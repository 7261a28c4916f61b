//! Names of labs, of the places in them, and the files that belong to each.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

/// Where the state of all labs is kept.
const STATE: &str = "/run/strait/lab";
/// Longest file name that a place gets before it is cut and hashed; file systems allow 255 bytes.
const LONGEST_FILE_NAME: usize = 200;

/// The name of a lab: 1-32 lower-case letters, digits and inner dashes, as it becomes part of file and cgroup names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

/// The text is no name for a lab.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{0}` cannot be the name of a lab: allowed are 1-32 lower-case letters, digits and dashes, the first and last no dash"
)]
pub struct BadLabName(String);

impl FromStr for LabName {
    type Err = BadLabName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let good =
            (1..=32).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-');
        if good { Ok(Self(text.to_owned())) } else { Err(BadLabName(text.to_owned())) }
    }
}

impl TryFrom<String> for LabName {
    type Error = BadLabName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> Self {
        name.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for LabName {
    fn default() -> Self {
        Self("lab".to_owned())
    }
}

/// Names a pod.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PodName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// `namespace/name`.
impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Where in a lab a process can run.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Place {
    /// In a pod.
    Pod(PodName),
    /// In the network namespace of a node.
    Node(Arc<str>),
    /// Outside the cluster.
    Outside,
}

/// The text names no place.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no place in a lab: give NAMESPACE/POD, POD (in namespace `default`), node/NAME or outside")]
pub struct UnknownPlace(String);

impl FromStr for Place {
    type Err = UnknownPlace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let label = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        };
        match text.split_once('/') {
            None if text == "outside" => Ok(Self::Outside),
            None if label(text) => Ok(Self::Pod(PodName { namespace: "default".into(), name: text.into() })),
            Some(("node", name)) if label(name) => Ok(Self::Node(name.into())),
            Some((namespace, name)) if label(namespace) && label(name) => {
                Ok(Self::Pod(PodName { namespace: namespace.into(), name: name.into() }))
            }
            _ => Err(UnknownPlace(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Place {
    type Error = UnknownPlace;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

/// As it is parsed: `namespace/name`, `node/name` or `outside`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(pod) => pod.fmt(f),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Outside => f.write_str("outside"),
        }
    }
}

impl Place {
    /// The name of its files and its cgroup. A leading `_` cannot start a namespace, so kinds of places never clash.
    pub fn file_name(&self) -> String {
        let full = match self {
            Self::Pod(PodName { namespace, name }) => format!("{namespace}_{name}"),
            Self::Node(name) => format!("_node_{name}"),
            Self::Outside => "_outside".to_owned(),
        };
        if full.len() <= LONGEST_FILE_NAME {
            return full;
        }
        // Names are ASCII, so any byte is a boundary.
        format!("{}_{:016x}", &full[..LONGEST_FILE_NAME - 17], stable_hash(full.as_bytes()))
    }
}

/// FNV-1a: the same number in every run and every version, as it becomes part of interface names and addresses.
pub(crate) fn stable_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The name of a link, at most 15 bytes as the kernel demands: `prefix` and 48 bits of a hash of `of`.
pub(crate) fn link_name(prefix: &str, of: &str) -> String {
    // Folded, as the low bits of FNV alone differ little between names that differ in their last letter.
    let hash = stable_hash(of.as_bytes());
    format!("{prefix}{:012x}", (hash ^ (hash >> 16)) & 0xffff_ffff_ffff)
}

/// A locally administered unicast hardware address made of `of`.
pub(crate) fn mac(of: &str) -> [u8; 6] {
    let hash = stable_hash(of.as_bytes());
    let [first, rest @ .., _, _] = (hash ^ (hash >> 24)).to_be_bytes();
    let mut mac = [(first & 0xfc) | 0x02, 0, 0, 0, 0, 0];
    mac[1..].copy_from_slice(&rest);
    mac
}

/// The files of one lab.
#[derive(Clone, Debug)]
pub struct Paths {
    name: LabName,
    root: PathBuf,
}

impl Paths {
    /// Those of the lab called `name`.
    pub fn of(name: &LabName) -> Self {
        Self { name: name.clone(), root: Path::new(STATE).join(&name.0) }
    }

    /// The folder of all labs.
    pub fn all_labs() -> &'static Path {
        Path::new(STATE)
    }

    /// Whose they are.
    pub fn name(&self) -> &LabName {
        &self.name
    }

    /// The folder that holds all others; that it exists means that the lab does, or did not go away properly.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the lab was started with, see [`crate::Settings`].
    pub fn settings(&self) -> PathBuf {
        self.root.join("lab.json")
    }

    /// Process id and start time of the supervisor.
    pub fn supervisor_pid(&self) -> PathBuf {
        self.root.join("supervisor.pid")
    }

    /// Where the supervisor answers.
    pub fn supervisor_socket(&self) -> PathBuf {
        self.root.join("supervisor.sock")
    }

    /// The objects that the lab adds to the user's: nodes, pods with their addresses, and what else follows.
    pub fn generated(&self) -> PathBuf {
        self.root.join("generated")
    }

    /// Bind mounts of network namespaces.
    pub fn namespaces(&self) -> PathBuf {
        self.root.join("netns")
    }

    /// The network namespace of `place`.
    pub fn namespace(&self, place: &Place) -> PathBuf {
        self.namespaces().join(place.file_name())
    }

    /// The network namespace of the switch between nodes and the outside.
    pub fn fabric(&self) -> PathBuf {
        self.namespaces().join("_fabric")
    }

    /// Run directories of all agents.
    pub fn agents(&self) -> PathBuf {
        self.root.join("agents")
    }

    /// Run directory of the agent on `node`; its socket is `agent.sock` in it.
    pub fn agent(&self, node: &str) -> PathBuf {
        self.agents().join(node)
    }

    /// The instance under whose name the agent on `node` pins. Dots are not allowed in bpffs.
    pub fn instance(&self, node: &str) -> String {
        format!("lab-{}-{}", self.name, node.replace('.', "_"))
    }

    /// Files of a place: `resolv.conf`, `hosts`.
    pub fn place(&self, place: &Place) -> PathBuf {
        self.root.join("pods").join(place.file_name())
    }

    /// What the name servers of the lab answer, see [`crate::dns::Zone`].
    pub fn zone(&self) -> PathBuf {
        self.root.join("zone.json")
    }

    /// Logs, one a process.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The log called `name`: the file name of a place, `_agent_NODE` or `_supervisor`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }
}

/// Agents and the supervisor have logs and cgroups too, next to those of places.
pub(crate) fn agent_file_name(node: &str) -> String {
    format!("_agent_{node}")
}

/// The supervisor's log and cgroup.
pub(crate) const SUPERVISOR: &str = "_supervisor";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lab_names() {
        for (text, good) in [
            ("lab", true),
            ("a-1", true),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("A", false),
            ("a_b", false),
            ("../x", false),
            (&"a".repeat(32), true),
            (&"a".repeat(33), false),
        ] {
            assert_eq!(text.parse::<LabName>().is_ok(), good, "{text}");
        }
    }

    #[test]
    fn places() {
        for (text, expected) in [
            ("shop/web-0", Some("shop/web-0")),
            ("web-0", Some("default/web-0")),
            ("node/node-1", Some("node/node-1")),
            ("outside", Some("outside")),
            ("", None),
            ("a/b/c", None),
            ("../x", None),
            ("a/", None),
            ("A/b", None),
        ] {
            assert_eq!(text.parse::<Place>().ok().map(|place| place.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn names_of_links_and_files_fit() {
        let long = Place::Pod(PodName { namespace: "n".repeat(63).into(), name: "p".repeat(253).into() });
        let other =
            Place::Pod(PodName { namespace: "n".repeat(63).into(), name: format!("{}q", "p".repeat(252)).into() });
        assert_eq!(long.file_name().len(), LONGEST_FILE_NAME);
        assert_ne!(long.file_name(), other.file_name());
        assert_eq!(link_name("lxc", "default/web-0").len(), 15);
        assert_ne!(link_name("lxc", "default/web-0"), link_name("lxc", "default/web-1"));
        assert_eq!(mac("x")[0] & 3, 2);
    }
}
