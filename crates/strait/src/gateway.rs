//! `strait gateway`, `strait try` and `strait status render`: Gateway API and Istio manifests to a running gate, and to statuses.

mod handover;
mod hindered;
mod limits;
mod outside;
mod render;
mod resolve;
mod session_key;
mod stand_in;
mod statuses;
mod trust;
mod yaml;

use std::{
    collections::BTreeSet,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use ipnet::{IpNet, Ipv4Net};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use strait_api::{Directory, Object, ObjectKey, Objects};
use strait_proxy::{Drain, Gate, Options, PortMap};
use strait_route::{Assigned, Compiled, Compiler, Plan, Serve, assign, assign_istio, compile};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};

pub(crate) use outside::ADMIN;
pub(crate) use render::{RenderArgs, render};

use self::{hindered::Hindered, resolve::Resolver, stand_in::StandIns, statuses::StatusFile};

/// Serve Gateways and their routes (Gateway API, Istio) as an L7 gate, without root
///
/// Each Gateway of a class with the controller `strait.dev/gateway-controller`, or of the class `strait`, gets an address of the pool:
/// the one that its `spec.addresses` asks for, else the next free one in order of namespace and name. It listens on the ports of its
/// listeners, or on mapped ones. Istio's Gateways that select `istio: ingressgateway` (or `istio: ingress`, `istio: egressgateway`, as upstream's
/// charts label them) share an address and are merged by port. Back ends come from `EndpointSlice`s. Changed files are taken up at once, broken ones keep their last good version.
///
/// SIGTERM and SIGINT end it: what waits to be accepted is served, idle connections end, responses say `Connection: close`, and what is
/// not done after `--drain-time` is cut off. A second signal ends it at once. Exit code: 0 once drained, 128 and the signal's number after a second one.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait gateway -f manifests/ --map-port 80=18080 --map-port 443=18443\n  \
    strait gateway -f manifests/ --address-pool 127.77.0.0/24 --status status.yaml\n  \
    strait gateway -f manifests/ --hot-restart-path /run/strait/gateway.sock   # again with another binary or other options: takes over",
    after_long_help = limits::help())]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    serve: ServeArgs,

    /// Socket by which the next process takes over
    ///
    /// Started a second time with the same path, the new process gets the listening sockets of the one that runs, serves, and then has that
    /// one drain: no connection is refused. It knows the sessions that the other one began, unless it has a `--session-key` of its own, and
    /// goes on with the clients of UDP ports. Where the new one fails before it serves, for manifests with errors too, the other goes on. Both need
    /// the same user; the socket is for that user alone.
    #[arg(long, value_name = "PATH")]
    hot_restart_path: Option<PathBuf>,
}

/// Serve Gateways as `strait gateway` does, with an echo server on loopback for every pod
///
/// Each pod that the manifests' workloads describe answers on an address of its own: HTTP/1.1, HTTP/2, gRPC, TLS,
/// TCP and UDP, on its containerPorts and its Services' targetPorts. Prints a curl line for every host of every listener.
/// A pod that mounts a TLS Secret shows that certificate. Others show one with the names that policies for back ends ask for, by an
/// authority that is believed beside those which the policies refer to: names are checked as they are, signatures are not. The same authority is
/// the mesh's to Istio's rules of mode `ISTIO_MUTUAL`: pods behind them show the identity of their service account, and ask for the gate's.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait try -f manifests/ --map-port 80=18080\n  \
    strait try -f manifests/ & curl -H 'Host: shop.example.com' http://127.77.0.1:80/",
    after_long_help = limits::help())]
pub(crate) struct TryArgs {
    #[command(flatten)]
    serve: ServeArgs,

    /// Loopback addresses for pods
    #[arg(long, value_name = "CIDR", default_value_t = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 78, 0, 0), 16)))]
    pod_pool: IpNet,
}

#[derive(Args, Debug)]
struct ServeArgs {
    /// File or folder of manifests; may be repeated
    #[arg(short, long, value_name = "DIR", required = true)]
    filename: Vec<PathBuf>,

    /// Addresses for Gateways
    #[arg(long, value_name = "CIDR", default_value_t = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 77, 0, 0), 24)))]
    address_pool: IpNet,

    /// Port that is listened on in place of a listener's, as 80=18080; may be repeated
    #[arg(long, value_name = "PORT=PORT", value_parser = mapping)]
    map_port: Vec<(u16, u16)>,

    /// File that is kept equal to the status of every Gateway API object, as YAML
    ///
    /// Ports and addresses that cannot be listened on are in it too. They are tried again every second.
    #[arg(long, value_name = "FILE")]
    status: Option<PathBuf>,

    /// File with the key that sessions are sealed by, as 64 hexadecimal digits: gates that have the same know each other's sessions, and a
    /// gate knows those of before it was started [default: the key of the process that is taken over from, else one that is made at the start]
    #[arg(long, value_name = "FILE")]
    session_key: Option<PathBuf>,

    /// Worker threads [default: the cores that the process may use]
    #[arg(long, value_name = "COUNT")]
    workers: Option<NonZeroUsize>,

    /// Serve HTTP/3 beside HTTPS, on the UDP port of the same number
    ///
    /// Responses over TCP say so (`Alt-Svc`). Where a UDP listener has the port, it keeps it. Connections stay with their worker when a
    /// client's address changes, and with this process when another one takes over.
    #[cfg(feature = "http3")]
    #[arg(long)]
    http3: bool,

    /// Bound on what clients can make it hold, as header-bytes=60KiB; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = limits::limit)]
    limit: Vec<(String, String)>,

    /// Whose connections begin with a PROXY header (version 1 or 2), as 10.0.0.0/8; may be repeated
    ///
    /// Theirs must: without one they are closed. The client's address is then the one it names, for `X-Forwarded-For`, limits and logs. Nobody
    /// else is believed.
    #[arg(long, value_name = "CIDR")]
    proxy_protocol_from: Vec<IpNet>,

    /// Proxies before the gate that are believed about clients, as Istio's `numTrustedProxies`
    ///
    /// The client's address, in logs, is then the COUNT-th from the end of `X-Forwarded-For`, and `X-Forwarded-Proto` tells whether the client
    /// speaks HTTPS, for matches, redirects, cookies and back ends. With 0 the client is whoever is connected, and what requests say of it is
    /// not believed. A Gateway whose annotation `proxy.istio.io/config` says `numTrustedProxies` has its own number, as have all where the mesh's
    /// configuration (`istio` of `istio-system`) does.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    trusted_proxies: u8,

    /// How long connections may go on after the end was asked for
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=86_400))]
    drain_time: u64,

    #[command(flatten)]
    outside: outside::OutsideArgs,
}

fn mapping(text: &str) -> Result<(u16, u16), String> {
    let (from, to) = text.split_once('=').ok_or("two ports, as 80=18080")?;
    let port =
        |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or(format!("{text} is no port, 1-65535"));
    Ok((port(from)?, port(to)?))
}

pub(crate) fn run(args: GatewayArgs) -> anyhow::Result<ExitCode> {
    serve(args.serve, None, args.hot_restart_path.as_deref())
}

pub(crate) fn run_try(args: TryArgs) -> anyhow::Result<ExitCode> {
    serve(args.serve, Some(StandIns::start(args.pod_pool)?), None)
}

fn serve(args: ServeArgs, stand_ins: Option<StandIns>, hot_restart_path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut ports = PortMap::new();
    for (from, to) in args.map_port {
        if ports.insert(from, to).is_some() {
            bail!("--map-port {from}={to}: port {from} is mapped twice");
        }
    }
    limits::raise_open_files();
    let mut options = Options {
        ports: ports.clone(),
        workers: args.workers,
        limits: limits::limits(&args.limit)?,
        proxies: args.proxy_protocol_from,
        trusted_proxies: args.trusted_proxies.into(),
        #[cfg(feature = "http3")]
        http3: args.http3,
        session_key: args.session_key.as_deref().map(session_key::read).transpose()?,
        ..Options::default()
    };
    args.outside.into_options(&mut options);
    let directory = Directory::open(&args.filename)?;
    let mut taken = match hot_restart_path {
        Some(path) => handover::take(path)?,
        None => None,
    };
    // Unless another one is asked for, sessions go on.
    if options.session_key.is_none() {
        options.session_key = taken.as_ref().and_then(|taken| taken.session_key.clone());
    }
    // The one that runs may serve the last good version of what is broken here.
    if let (Some(_), Some(problem)) = (&taken, directory.problems().next()) {
        bail!("the running gate goes on: {problem}");
    }
    let mut gate = Gate::start(&options)?;
    if let Some(taken) = &mut taken {
        gate.inherit(std::mem::take(&mut taken.sockets), taken.generation);
    }
    let mut running = Running {
        directory,
        stand_ins,
        pool: args.address_pool,
        ports,
        status: args.status.map(StatusFile::start).transpose()?,
        assigned: Assigned::new(),
        compiler: Compiler::new(),
        stood_in: Objects::default(),
        hindered: Hindered::default(),
        said: BTreeSet::new(),
        resolver: Resolver::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let why = running.follow(&mut gate, &mut signals, taken, hot_restart_path).await?;
        Ok(end(gate, &mut signals, why, Duration::from_secs(args.drain_time)).await)
    })
}

/// Waits until all connections are done, but not for ever, and not after a second signal.
async fn end(gate: Gate, signals: &mut Signals, why: Drain, most: Duration) -> ExitCode {
    let open = gate.connections();
    let reason = match why {
        Drain::Ending => "ending",
        Drain::HandedOver => "another process has taken over",
    };
    eprintln!("{reason}: draining {open} connections, for {} s at most", most.as_secs());
    tokio::select! {
        left = gate.drain(why, most) => {
            if left > 0 {
                eprintln!("{left} connections were not done in {} s and are cut off", most.as_secs());
            }
            ExitCode::SUCCESS
        }
        number = signals.next() => {
            eprintln!("a second signal: ending at once");
            ExitCode::from(128 + number)
        }
    }
}

/// What asks the process to end.
struct Signals {
    interrupted: Signal,
    terminated: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupted: signal(SignalKind::interrupt())?, terminated: signal(SignalKind::terminate())? })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupted.recv() => 2,
            _ = self.terminated.recv() => 15,
        }
    }
}

/// Tells of changes from a thread that waits for them; it goes on when the change was taken up.
fn watch(watcher: OwnedFd) -> anyhow::Result<mpsc::Receiver<oneshot::Sender<()>>> {
    let (send, receive) = mpsc::channel(1);
    let wait = move || loop {
        let mut wanted = [PollFd::new(watcher.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wanted, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        }
        let (done, taken_up) = oneshot::channel();
        if send.blocking_send(done).is_err() || taken_up.blocking_recv().is_err() {
            return;
        }
    };
    thread::Builder::new().name("manifests".into()).spawn(wait)?;
    Ok(receive)
}

/// What follows the manifests.
struct Running {
    directory: Directory,
    stand_ins: Option<StandIns>,
    pool: IpNet,
    ports: PortMap,
    status: Option<StatusFile>,
    assigned: Assigned,
    compiler: Compiler,
    /// What was compiled last, where stand-ins take the place of pods.
    stood_in: Objects,
    /// Where nothing can be listened on, though the plan asks for it.
    hindered: Hindered,
    /// What was said of what went wrong, so that it is said once.
    said: BTreeSet<String>,
    resolver: Resolver,
}

impl Running {
    /// Serves, and takes up changes, until the process is asked to end or another one takes over.
    async fn follow(
        &mut self,
        gate: &mut Gate,
        signals: &mut Signals,
        taken: Option<handover::Taken>,
        path: Option<&Path>,
    ) -> anyhow::Result<Drain> {
        let watcher = self.directory.watcher().context("cannot watch the manifests")?;
        let mut changes = watch(watcher)?;
        self.warm_up().await;
        let all: Vec<ObjectKey> = self.directory.objects().iter().map(Object::key).collect();
        self.apply(gate, &all);
        if let Some(status) = &self.status {
            status.written()?;
        }
        let mut lines = self.lines(&self.compiler.plan());
        if let Some(taken) = taken {
            gate.resume(taken.serving()?);
        }
        let (_door, mut asked) = match path {
            Some(path) => handover::listen(path).map(|(door, asked)| (Some(door), Some(asked)))?,
            None => (None, None),
        };
        let told = [("admin", gate.admin()), ("status", gate.status())];
        lines.extend(told.iter().filter_map(|(whom, at)| at.map(|at| format!("{whom}: http://{at}"))));
        say_ready(&lines)?;
        // While another process is about to take over nothing changes: it has the sockets of now.
        let mut taking_over = false;
        let mut again = tokio::time::interval(hindered::AGAIN);
        again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = signals.next() => return Ok(Drain::Ending),
                () = self.resolver.changed(), if !taking_over => self.apply(gate, &[]),
                _ = again.tick(), if !taking_over && self.hindered.is_some() => {
                    if gate.can_listen_on_more() {
                        self.apply(gate, &[]);
                    }
                }
                Some(taken_up) = changes.recv(), if !taking_over => {
                    let change = self.directory.refresh();
                    let _ = taken_up.send(());
                    if change.changed || change.solved > 0 || !change.new_problems.is_empty() {
                        self.apply(gate, &change.objects);
                    }
                }
                Some(asked) = next(&mut asked) => match asked {
                    handover::Asked::Sockets(answer) => {
                        taking_over = true;
                        let (session_key, generation) = (gate.session_key(), gate.generation());
                        let handed = |sockets| handover::Handed { sockets, session_key, generation };
                        let _ = answer.send(gate.sockets().map(handed));
                    }
                    handover::Asked::Nothing => {
                        taking_over = false;
                        gate.stay();
                    }
                    handover::Asked::Serving(answer) => {
                        let _ = answer.send(gate.hand_over());
                        return Ok(Drain::HandedOver);
                    }
                },
            }
        }
    }

    /// Looks up the names that back ends are behind before anything is served, at most so long.
    async fn warm_up(&mut self) {
        const MOST: Duration = Duration::from_secs(2);
        let objects = self.directory.objects();
        if objects.service_entries().next().is_none() {
            return;
        }
        let names = compile(objects, &addresses(objects, self.pool, &self.assigned), "").names;
        if !names.is_empty() {
            self.resolver.want(&names);
            self.resolver.all_found(MOST).await;
        }
    }

    /// Serves what the manifests say now; `changed` are the objects that are new, others or gone since the last time.
    fn apply(&mut self, gate: &mut Gate, changed: &[ObjectKey]) {
        let mut said = BTreeSet::new();
        for problem in self.directory.problems() {
            said.insert(problem.to_string());
        }
        let others;
        let (objects, changed) = match &mut self.stand_ins {
            Some(stand_ins) => {
                let (objects, notes) = stand_ins.stand_in(self.directory.objects());
                said.extend(notes);
                others = objects.differing(&self.stood_in);
                self.stood_in = objects;
                (&self.stood_in, &*others)
            }
            None => (self.directory.objects(), changed),
        };
        self.assigned = addresses(objects, self.pool, &self.assigned);
        let resolved = self.resolver.resolved();
        let now = now();
        let mut recompiled = self.compiler.update(objects, changed, &self.assigned, resolved, &now);
        for name in self.resolver.want(self.compiler.names()) {
            said.insert(format!("{name} is not looked up: there are too many names; its back ends get no request"));
        }
        said.extend(self.compiler.troubles().map(ToString::to_string));
        let plan = self.compiler.plan();
        let freed = self.hindered.is_some().then(|| places(&plan, &self.ports));
        let errors = gate.serve(plan);
        for at in
            self.hindered.replace(&errors).into_iter().filter(|place| freed.iter().flatten().any(|of| of == place))
        {
            eprintln!("listening on {} now", at.0);
        }
        recompiled.statuses.extend(self.compiler.listening(hindered::hindrances(&errors), &now));
        said.extend(errors.iter().map(ToString::to_string));
        // Whoever waits for the change has it now.
        if let Some(file) = &self.status {
            file.update(recompiled.statuses.into_iter().map(|key| {
                let status = self.compiler.status(&key);
                (key, status)
            }));
        }
        for text in said.iter().filter(|text| !self.said.contains(*text)) {
            eprintln!("{text}");
        }
        self.said = said;
    }

    /// What is listened on; with stand-ins a command to try for each host.
    fn lines(&self, plan: &Plan) -> Vec<String> {
        let mut lines = Vec::new();
        for port in &plan.ports {
            let at = self.ports.get(&port.port).copied().unwrap_or(port.port);
            if self.hindered.contains(port.address, at, port.serve.is_udp()) {
                continue;
            }
            let address = bracketed(port.address);
            // Those of Istio's that share a port are served as one.
            for gateway in port.gateway.split(',') {
                lines.push(format!("Gateway {gateway}: {address}:{at} (port {}, {})", port.port, spoken(&port.serve)));
            }
            if self.stand_ins.is_none() {
                continue;
            }
            match &port.serve {
                Serve::Http(listeners) => {
                    for (_, listener) in listeners.iter() {
                        lines.extend(listener.hosts.iter().map(|(host, _)| curl(&host, "http", &address, at)));
                    }
                }
                Serve::Tls(listeners) => {
                    let http = |then: &strait_route::TlsThen| match then {
                        strait_route::TlsThen::Http(_, listener) => {
                            listener.hosts.iter().map(|(host, _)| curl(&host, "https", &address, at)).collect()
                        }
                        strait_route::TlsThen::Tcp(..)
                        | strait_route::TlsThen::Passthrough(_)
                        | strait_route::TlsThen::Mesh(_) => Vec::new(),
                    };
                    lines.extend(listeners.iter().flat_map(|(_, listener)| http(&listener.then)));
                }
                Serve::Tcp(_) | Serve::Udp(_) => {}
            }
        }
        lines
    }
}

/// What the next process asks, where one can.
async fn next(asked: &mut Option<mpsc::Receiver<handover::Asked>>) -> Option<handover::Asked> {
    match asked {
        Some(asked) => asked.recv().await,
        None => std::future::pending().await,
    }
}

/// Where a plan listens, and whether for datagrams.
fn places(plan: &Plan, map: &PortMap) -> Vec<(SocketAddr, bool)> {
    let at = |port: u16| map.get(&port).copied().unwrap_or(port);
    plan.ports.iter().map(|port| (SocketAddr::new(port.address, at(port.port)), port.serve.is_udp())).collect()
}

fn say_ready(lines: &[String]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "ready")?;
    out.flush()
}

fn spoken(serve: &Serve) -> &'static str {
    match serve {
        Serve::Http(_) => "HTTP",
        Serve::Tls(_) => "TLS",
        Serve::Tcp(_) => "TCP",
        Serve::Udp(_) => "UDP",
    }
}

fn bracketed(address: IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}

/// A command that asks for a host at an address.
fn curl(host: &str, scheme: &str, address: &str, port: u16) -> String {
    let name = match host.strip_prefix('*') {
        Some("") => {
            return format!("  curl {}{scheme}://{address}:{port}/", if scheme == "https" { "-k " } else { "" });
        }
        Some(suffix) => format!("any{suffix}"),
        None => host.to_owned(),
    };
    let insecure = if scheme == "https" { "-k " } else { "" };
    format!("  curl {insecure}--resolve {name}:{port}:{address} {scheme}://{name}:{port}/")
}

fn now() -> String {
    jiff::Timestamp::now().round(jiff::Unit::Second).map_or_else(|_| String::new(), |now| now.to_string())
}

/// The addresses of all gateways, the Gateway API's first.
fn addresses(objects: &Objects, pool: IpNet, before: &Assigned) -> Assigned {
    let mut assigned = assign(Compiled::gateways(objects), pool, before);
    assign_istio(objects, pool, before, &mut assigned);
    assigned
}

/// Where a set of objects has gateways: every one as if it had an address of the pool.
fn compiled(objects: &Objects, pool: IpNet) -> Compiled {
    let assigned = addresses(objects, pool, &Assigned::new());
    compile(objects, &assigned, &now())
}
