//! `strait agent`.

use std::{io, net::IpAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Args;
use strait_agent::{DenyResponse, Host, Links, Lock, Options};
use strait_datapath::{
    Datapath, GROWING,
    netlink::{AddressWatch, Netlink},
    probe,
};

use crate::host_policy;

/// Serve a node: read manifests, keep the kernel's policy equal to them, tell what happens
///
/// Works in the network namespace it is started in, and needs `CAP_BPF`, `CAP_NET_ADMIN` and a kernel with TCX (6.6 or
/// newer). Programs and maps are pinned: what is enforced stays enforced when the agent stops, however it stops, and
/// the next one takes over without a gap.
///
/// A manifest that breaks keeps its last good version in force and is reported by `strait status`. An endpoint whose
/// pod no manifest places on this node is closed.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait agent --node node-1 -f /etc/strait/manifests --uplink eth0\n  \
    strait status --socket /run/strait/agent.sock")]
pub(crate) struct AgentArgs {
    /// The node it serves, as manifests name it
    #[arg(long, value_name = "NAME")]
    node: String,

    /// Manifests: a file or a folder (*.yaml, *.yml, *.json, recursive); may be repeated, later ones over earlier ones
    #[arg(short = 'f', long = "filename", value_name = "DIR", required = true)]
    roots: Vec<PathBuf>,

    /// Name of the pinned maps and links, below /sys/fs/bpf/strait
    #[arg(long, value_name = "NAME", default_value = "node")]
    instance: String,

    /// Where its socket and state are
    #[arg(long, value_name = "DIR", default_value = "/run/strait")]
    run_dir: PathBuf,

    /// Interface to the rest of the world; may be repeated
    #[arg(long = "uplink", value_name = "INTERFACE")]
    uplinks: Vec<String>,

    /// What a connection that policy denies hears
    ///
    /// Silence makes it wait for its own timeout and tells nothing of what is there. At most a thousand answers a second leave a
    /// CPU; the rest is silence. An answer is at most 48 bytes longer than what it answers. TCP of Linux notices ICMP that comes at once,
    /// as on one machine, only when it sends again, a second later; a reset ends it in any case.
    ///
    /// The annotation strait.dev/deny-response on the Node, if it has one, goes before this, and may change at any time.
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    deny_response: DenyResponseArg,

    /// How long changed host policies stay in force without being confirmed: 60s, 5m; 0 where none has to be
    ///
    /// A host policy may cut you off from the node. Unless somebody runs `strait host-policy confirm` in time, those that were confirmed
    /// last are in force again. Where nobody is there to confirm, as with changes that were tried elsewhere and come by themselves, say
    /// 0, or annotate a policy with strait.dev/host-policy-confirm: "false" to have that one in force as it is written.
    ///
    /// What an agent finds at its very first start on a node counts as confirmed.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = host_policy::window)]
    host_policy_confirm: Duration,

    /// Where it keeps what has to outlive a reboot: the host policies that were confirmed last
    #[arg(long, value_name = "DIR", default_value = "/var/lib/strait")]
    state_dir: PathBuf,

    /// Room that a map has at first: endpoints, ipcache, policy, port-sets or conntrack, and how many entries; may be repeated
    ///
    /// Maps grow by themselves while packets flow when manifests need more, but conntrack, which forgets the connections that
    /// were silent for longest (see `strait status`). One that is pinned with less is made larger when the agent starts.
    #[arg(long = "map-capacity", value_name = "MAP=ENTRIES", value_parser = map_room)]
    capacities: Vec<(&'static str, u32)>,

    /// What a map may grow to; may be repeated
    ///
    /// An endpoint whose policy does not fit is closed, and `strait status` says so.
    #[arg(long = "map-limit", value_name = "MAP=ENTRIES", value_parser = map_limit)]
    limits: Vec<(&'static str, u32)>,

    /// Carry every packet through the host's network stack
    ///
    /// Else packets of connections that policy has allowed at both ends, and that the host's stack has carried both ways,
    /// go straight to their pod. That is also off by itself while netfilter tracks connections on the node.
    #[arg(long)]
    enable_host_legacy_routing: bool,
}

/// [`DenyResponse`] on a command line.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DenyResponseArg {
    /// Nothing
    #[default]
    Silent,
    /// ICMP "communication administratively prohibited"
    Icmp,
    /// A TCP reset; ICMP for what is not TCP
    Reset,
}

impl From<DenyResponseArg> for DenyResponse {
    fn from(arg: DenyResponseArg) -> Self {
        match arg {
            DenyResponseArg::Silent => Self::Silent,
            DenyResponseArg::Icmp => Self::Icmp,
            DenyResponseArg::Reset => Self::Reset,
        }
    }
}

/// Where kube-proxy keeps the addresses of services, which nothing on the node answers for itself.
const SERVICES: &str = "kube-ipvs0";

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(args: AgentArgs) -> anyhow::Result<ExitCode> {
    let report = probe::probe();
    let host =
        Host { kernel: report.kernel.clone(), missing_features: report.missing().map(ToString::to_string).collect() };
    let AgentArgs {
        node,
        roots,
        instance,
        run_dir,
        uplinks,
        deny_response,
        host_policy_confirm,
        state_dir,
        capacities,
        limits,
        enable_host_legacy_routing,
    } = args;
    let options = Options {
        node: node.into(),
        roots,
        run_dir,
        uplinks,
        host_legacy_routing: enable_host_legacy_routing,
        deny_response: deny_response.into(),
        state_dir,
        host_policy_confirm,
        host,
    };
    // Before the pins are touched: two agents would undo each other's work.
    let lock = strait_agent::lock(&options)?;
    probe::ensure_bpffs()?;
    let mut datapath_options = strait_datapath::Options::new(&instance);
    datapath_options.capacities.extend(capacities);
    datapath_options.limits.extend(limits);
    let served = serve(options, lock, &datapath_options);
    if let Err(error) = &served
        && let Err(left) = strait_datapath::remove_idle_pins(&datapath_options.pin_root, &instance)
    {
        return Err(anyhow::anyhow!("{error:#}; and {left}"));
    }
    served.map(|()| ExitCode::SUCCESS)
}

fn serve(options: Options, lock: Lock, datapath_options: &strait_datapath::Options) -> anyhow::Result<()> {
    let instance = &datapath_options.instance;
    let mut datapath =
        Datapath::open(datapath_options).with_context(|| format!("cannot open the datapath `{instance}`"))?;
    let events = datapath.events()?;
    let links = Links { index_of: interface_index, addresses };
    Ok(strait_agent::run(options, lock, datapath, Some(events), links, Some(AddressWatch::open()?))?)
}

fn interface_index(name: &str) -> io::Result<u32> {
    let link = Netlink::current().and_then(|mut netlink| netlink.link(name)).map_err(io::Error::other)?;
    link.map(|link| link.index).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn addresses() -> io::Result<Vec<IpAddr>> {
    let listed = Netlink::current().and_then(|mut netlink| netlink.own_addresses(&[SERVICES]));
    listed.map_err(io::Error::other)
}

/// Of a map that grows with the manifests.
fn map_limit(text: &str) -> Result<(&'static str, u32), String> {
    match map_room(text)? {
        ("CONNTRACK", _) => Err("conntrack does not grow by itself: set --map-capacity".to_owned()),
        room => Ok(room),
    }
}

/// `policy=1024`: a map that can grow, by its name in the kernel, and a number of entries.
fn map_room(text: &str) -> Result<(&'static str, u32), String> {
    let names = || GROWING.map(|(name, _)| name).join(", ");
    let (name, entries) =
        text.split_once('=').ok_or_else(|| format!("found {text:?}, expected MAP=ENTRIES, as in policy=1024"))?;
    let (_, map) = GROWING
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| format!("no map {name:?}: there are {}", names()))?;
    match entries.parse() {
        Ok(entries) if entries > 0 => Ok((map, entries)),
        _ => Err(format!("found {entries:?} entries, allowed are 1 to {}", u32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_of_maps() {
        assert_eq!(map_room("port-sets=7"), Ok(("PORT_SETS", 7)));
        for (text, expected) in [
            ("policy", "found \"policy\", expected MAP=ENTRIES, as in policy=1024"),
            ("events=1", "no map \"events\": there are endpoints, ipcache, policy, port-sets, conntrack"),
            ("policy=0", "found \"0\" entries, allowed are 1 to 4294967295"),
        ] {
            assert_eq!(map_room(text).unwrap_err(), expected);
        }
        assert_eq!(map_limit("policy=9"), Ok(("POLICY", 9)));
        assert!(map_limit("conntrack=9").is_err());
    }
}
