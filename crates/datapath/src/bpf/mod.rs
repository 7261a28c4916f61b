//! The real kernel: loads the BPF object, or takes over what an earlier agent pinned.
//!
//! ```text
//!  open ─┬─ nothing pinned ──────────→ new maps, programs                (pods are closed until the first apply)
//!        ├─ maps of this layout ─────→ same maps, links updated to the new programs, without a gap
//!        │                             (and what a switch that ended in the middle left is cleared up: see `switch`)
//!        └─ maps of another layout ──→ new maps beside the old, those of the same layout shared; the old programs go on enforcing
//!                                      the old ones until the first apply has filled the new ones. Then connections are
//!                                      converted, by the description that every version pins (`abi::layout`), and links updated.
//! ```

mod inventory;
mod maps;
mod object;
mod pins;
mod raw;
mod ring;
mod source;
mod switch;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunOptions,
    maps::{MapData, MapError as AyaMapError},
    programs::{
        LinkOrder, Program, ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, LinkError, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};
use strait_packet::abi::{Config, EventKind, Hook, Metric, MetricKey, capacity, layout::Conversion, map};

use self::{
    inventory::Inventory,
    maps::Maps,
    pins::Pins,
    source::Source,
    switch::{Stage, carry},
};
use crate::{
    kernel::{AttachError, Interface, Kernel, MapError, program_name},
    netlink::{self, Netlink},
    probe,
    reconcile::Datapath,
    room::{self, GrowError, Room},
    sockets::{Socket, sockets},
    table::Table,
};

pub use object::{OBJECT_VARIABLE, ObjectError, available};
pub use pins::{PIN_ROOT, PinError, instances, remove_idle_pins, remove_pins};
pub use ring::EventReader;
pub use switch::Step;

/// Which datapath to open, and how large.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names this datapath among those of the host: letters, digits, `-` and `_`.
    pub instance: String,
    /// Folder on bpffs that instances are pinned below; [`PIN_ROOT`].
    pub pin_root: PathBuf,
    /// Capacities of the maps by name, where not those that the object declares. Maps that are pinned with more keep theirs; those
    /// with less are made larger, where they are among [`GROWING`](crate::GROWING).
    pub capacities: BTreeMap<&'static str, u32>,
    /// What maps may grow to by name, where not [`default_limits`](crate::default_limits).
    pub limits: BTreeMap<&'static str, u32>,
}

impl Options {
    /// The datapath `instance` with pins below [`PIN_ROOT`] and room for a large node: kernel memory for tries is taken as it is
    /// used, connections take about 24 MB at once.
    pub fn new(instance: &str) -> Self {
        let capacities = BTreeMap::from([(map::IPCACHE, 4 * capacity::IPCACHE)]);
        let limits = BTreeMap::new();
        Self { instance: instance.to_owned(), pin_root: PIN_ROOT.into(), capacities, limits }
    }
}

/// The datapath cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host lacks what it needs.
    #[error(transparent)]
    Host(#[from] probe::Missing),
    /// There is nothing to load.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Maps and links cannot be pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The object is not one, or a map cannot be made.
    #[error("cannot load the BPF object: {0}")]
    Load(String),
    /// The verifier refused a program.
    #[error("the kernel refused program {program}: {source}; the end of its reasoning:\n{log}")]
    Verifier {
        /// The program.
        program: &'static str,
        /// The error number.
        source: io::Error,
        /// The last lines of the verifier's log.
        log: String,
    },
    /// The object lacks a program.
    #[error("the BPF object has no tc program {0}: it is of another version; run `cargo xtask bpf` and build again")]
    NoProgram(&'static str),
    /// A map's entries are not as large as they should be.
    #[error(
        "map {map} has keys and values of {found:?} bytes, expected are {expected:?}: the BPF object is of another version; run `cargo xtask bpf` and build again"
    )]
    Layout {
        /// The map.
        map: &'static str,
        /// Key and value size.
        found: (usize, usize),
        /// Key and value size.
        expected: (usize, usize),
    },
    /// A map cannot be read.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A program cannot be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A map that is pinned is smaller than asked for, and cannot be made larger.
    #[error(transparent)]
    Grow(#[from] GrowError),
    /// Interfaces cannot be listed.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
}

impl Error {
    fn map(map: &'static str, operation: &'static str, error: AyaMapError) -> Self {
        let source =
            if let AyaMapError::SyscallError(error) = error { error.io_error } else { io::Error::other(error) };
        Self::io(map, operation, source)
    }

    fn io(map: &'static str, operation: &'static str, source: io::Error) -> Self {
        Self::Map(MapError::Refused { map, operation, source })
    }
}

/// Maps and programs in the kernel.
#[derive(Debug)]
pub struct Bpf {
    pins: Pins,
    maps: Maps,
    object: Ebpf,
    stage: Stage,
    options: Options,
    limits: BTreeMap<&'static str, u32>,
    growths: BTreeMap<&'static str, u64>,
    stop_at: Option<Step>,
    /// Events of programs of another layout that nobody read yet.
    foreign_events: Option<(MapData, Conversion)>,
}

impl Datapath<Bpf> {
    /// Opens an instance: takes over what is pinned, or makes it. Works on interfaces of the calling thread's network namespace.
    pub fn open(options: &Options) -> Result<Self, Error> {
        let mut datapath = Self::over(Bpf::open(options)?)?;
        datapath.prune()?;
        Ok(datapath)
    }

    /// A reader of the event ring. One at a time: what one reads, another does not see.
    pub fn events(&mut self) -> Result<EventReader, Error> {
        EventReader::open(&self.kernel.maps_folder().join(map::EVENTS), self.kernel.foreign_events.take())
    }

    /// Unpins links of interfaces that this network namespace no longer has, and returns their indices.
    pub fn prune(&mut self) -> Result<Vec<u32>, Error> {
        let present: Vec<u32> = Netlink::current()?.links()?.iter().map(|link| link.index).collect();
        let mut gone = Vec::new();
        for (index, hook) in self.kernel.attached()? {
            if !present.contains(&index) {
                self.kernel.detach(hook, index)?;
                gone.push(index);
            }
        }
        gone.dedup();
        Ok(gone)
    }
}

impl Bpf {
    fn open(options: &Options) -> Result<Self, Error> {
        probe::probe().require()?;
        let pins = Pins::open(&options.pin_root, &options.instance)?;
        let mut limits = room::default_limits();
        limits.extend(&options.limits);
        let [now, next] = [pins.maps(), pins.next_maps()].map(|folder| Inventory::read(&folder));
        let (now, next) = (now?, next?);
        // Of a switch that ended in the middle: some links may use it.
        let left_over = Source::open(next.as_ref(), now.as_ref())?;
        if let Some(other) = now.filter(|found| !found.is_current()) {
            return Self::open_beside(&other, left_over, pins, options, limits);
        }
        let mut left_over: Vec<Source> = left_over.into_iter().collect();
        let (object, maps) = load_set(&pins.maps(), &options.capacities)?;
        let mut bpf = Self::new(pins, options, limits, object, maps);
        carry(&mut left_over, &mut bpf.maps)?;
        bpf.update_links()?;
        carry(&mut left_over, &mut bpf.maps)?;
        bpf.pins.remove_next_maps()?;
        bpf.grow_to(&bpf.smaller_than_wanted())?;
        Ok(bpf)
    }

    /// New tables beside those of another layout, which stay in use until the new ones are filled.
    fn open_beside(
        other: &Inventory,
        left_over: Option<Source>,
        pins: Pins,
        options: &Options,
        limits: BTreeMap<&'static str, u32>,
    ) -> Result<Self, Error> {
        let folder = pins.fresh_next_maps()?;
        for name in other.shared() {
            let pinned = other.open(name)?.pin(folder.join(name));
            pinned.map_err(|error| Error::io(name, "pin it", io::Error::other(error)))?;
        }
        let mut capacities = options.capacities.clone();
        for (_, name) in room::GROWING {
            let found = other.shape(name).map_or(0, |shape| shape.entries);
            let limit = limits.get(name).copied().unwrap_or(found);
            let wanted = capacities.get(name).copied().unwrap_or_else(|| declared(name));
            capacities.insert(name, wanted.max(found.min(limit)));
        }
        let (object, maps) = load_set(&folder, &capacities)?;
        let new = Inventory::read(&folder)?;
        let sources = left_over.into_iter().chain(Source::open(Some(other), new.as_ref())?).collect();
        let mut bpf = Self::new(pins, options, limits, object, maps);
        // Above what connections carry, so that they are judged by the plan that is about to come.
        let revision = other.revision.checked_add(1).unwrap_or(1);
        bpf.maps.set_config(&Config { revision, ..Config::default() })?;
        bpf.foreign_events = other.foreign_events()?;
        bpf.stage = Stage::Filling(sources);
        Ok(bpf)
    }

    fn new(pins: Pins, options: &Options, limits: BTreeMap<&'static str, u32>, object: Ebpf, maps: Maps) -> Self {
        Self {
            pins,
            maps,
            object,
            stage: Stage::Settled,
            options: options.clone(),
            limits,
            growths: BTreeMap::new(),
            stop_at: None,
            foreign_events: None,
        }
    }

    /// Tables that were pinned with less room than these options ask for.
    fn smaller_than_wanted(&self) -> BTreeMap<&'static str, u32> {
        let wanted = self.options.capacities.iter();
        wanted.filter(|(name, entries)| self.maps.capacity(name) < **entries).map(|(name, n)| (*name, *n)).collect()
    }

    /// Whether pinned links may use other tables.
    fn pending(&self) -> bool {
        !matches!(self.stage, Stage::Settled)
    }

    fn maps_folder(&self) -> PathBuf {
        if self.pending() { self.pins.next_maps() } else { self.pins.maps() }
    }

    fn program(&mut self, hook: Hook) -> Result<&mut SchedClassifier, AttachError> {
        let program = self.object.program_mut(program_name(hook)).and_then(|program| program.try_into().ok());
        program.ok_or_else(|| failure("find", hook, "any", "the BPF object lacks it"))
    }

    /// Has the programs that are attached replaced by those just loaded.
    fn update_links(&mut self) -> Result<(), AttachError> {
        for (number, (index, hook)) in self.attached()?.into_iter().enumerate() {
            if !self.update_link(index, hook)? {
                self.detach(hook, index)?;
            }
            self.reach(Step::Moved(number + 1))?;
        }
        Ok(())
    }

    /// Replaces the program of a pinned link. False where there is no such link, or its interface is gone.
    fn update_link(&mut self, index: u32, hook: Hook) -> Result<bool, AttachError> {
        let at = index.to_string();
        let fail = |text: String| failure("replace", hook, &at, &text);
        let path = self.pins.link(index, hook);
        if !path.exists() {
            return Ok(false);
        }
        let pinned = PinnedLink::from_pin(&path).map_err(|error| fail(chain(&error)))?;
        let link: SchedClassifierLink =
            FdLink::from(pinned).try_into().map_err(|error: LinkError| fail(chain(&error)))?;
        let program = self.program(hook)?;
        match program.attach_to_link(link) {
            Ok(id) => {
                // The link stays by its pin; here only a descriptor is dropped.
                program.take_link(id).map_err(|error| fail(chain(&error)))?;
                Ok(true)
            }
            Err(ProgramError::SyscallError(error)) if is_dead_link(&error.io_error) => Ok(false),
            Err(error) => Err(fail(chain(&error))),
        }
    }

    /// Whether the program of `hook` runs on the interface, whatever links say.
    fn runs_on(&mut self, hook: Hook, interface: &Interface) -> Result<bool, ProgramError> {
        let Ok(program) = self.program(hook) else { return Ok(false) };
        let own = program.info()?.id();
        let (_, running) = SchedClassifier::query_tcx(&interface.name, attach_type(hook))?;
        Ok(running.iter().any(|program| program.id() == own))
    }

    fn attach_new(&mut self, hook: Hook, interface: &Interface) -> Result<(), AttachError> {
        let fail = |text: String| failure("attach", hook, &interface.name, &text);
        let path = self.pins.link(interface.index, hook);
        pins::remove_file(&path).map_err(|error| fail(error.to_string()))?;
        let program = self.program(hook)?;
        // First, so that no other program waves a packet through before it was judged.
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program
            .attach_with_options(&interface.name, attach_type(hook), options)
            .map_err(|error| fail(format!("{} (TCX needs Linux 6.6 or newer and CAP_NET_ADMIN)", chain(&error))))?;
        let link = program.take_link(id).map_err(|error| fail(chain(&error)))?;
        let link: FdLink = link.try_into().map_err(|error: LinkError| fail(chain(&error)))?;
        link.pin(&path).map_err(|error| fail(chain(&error)))?;
        Ok(())
    }

    /// For tests: from now on, tables are replaced up to this step and no further, and nothing is cleared up, as if the agent had
    /// ended there.
    pub const fn stop_at(&mut self, step: Step) {
        self.stop_at = Some(step);
    }

    /// Runs the program of `hook` once on a packet, `repeat` times over, as if it came by the interface with that index in the
    /// calling thread's network namespace: what it returns, and how long it took on average. Loopback is index 1. Maps change as
    /// they would.
    pub fn test_run(&self, hook: Hook, packet: &[u8], ifindex: u32, repeat: u32) -> Result<(i32, Duration), io::Error> {
        self.test_run_into(hook, packet, ifindex, repeat, &mut []).map(|(action, duration, _)| (action, duration))
    }

    /// As [`Self::test_run`]; the packet as the program left it goes into `after`, and its length comes back.
    pub fn test_run_into(
        &self,
        hook: Hook,
        packet: &[u8],
        ifindex: u32,
        repeat: u32,
        after: &mut [u8],
    ) -> Result<(i32, Duration, usize), io::Error> {
        const CONTEXT: usize = 192;
        const IFINDEX: std::ops::Range<usize> = 40..44;
        let mut context = [0; CONTEXT];
        context[IFINDEX].copy_from_slice(&ifindex.to_ne_bytes());
        let program: &SchedClassifier = self
            .object
            .program(program_name(hook))
            .and_then(|program| program.try_into().ok())
            .ok_or(io::ErrorKind::NotFound)?;
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: if after.is_empty() { None } else { Some(after) },
            ctx_in: Some(&context),
            repeat,
            ..TestRunOptions::default()
        };
        let result = program.test_run(options).map_err(io::Error::other)?;
        Ok((result.return_value.cast_signed(), result.duration, result.data_size_out as usize))
    }
}

impl Kernel for Bpf {
    fn each<T: Table>(&self, visit: &mut dyn FnMut(T::Key, T::Value)) -> Result<(), MapError> {
        self.maps.each::<T>(visit)
    }

    fn get<T: Table>(&self, key: &T::Key) -> Result<Option<T::Value>, MapError> {
        self.maps.lookup::<T>(key)
    }

    fn upsert<T: Table>(&mut self, key: &T::Key, value: &T::Value) -> Result<(), MapError> {
        self.maps.upsert::<T>(key, value)
    }

    fn delete<T: Table>(&mut self, key: &T::Key) -> Result<bool, MapError> {
        self.maps.delete::<T>(key)
    }

    fn room<T: Table>(&self) -> Room {
        let capacity = self.maps.capacity(T::NAME);
        Room {
            capacity,
            limit: self.limits.get(T::NAME).copied().unwrap_or(0).max(capacity),
            growths: self.growths.get(T::NAME).copied().unwrap_or(0),
        }
    }

    fn bytes<T: Table>(&self) -> Option<u64> {
        self.maps.bytes(T::NAME)
    }

    fn grow(&mut self, capacities: &BTreeMap<&'static str, u32>) -> Result<(), GrowError> {
        self.grow_to(capacities)
    }

    fn config(&self) -> Result<Option<Config>, MapError> {
        self.maps.config()
    }

    fn set_config(&mut self, config: &Config) -> Result<(), MapError> {
        self.maps.set_config(config)
    }

    fn metrics(&self) -> Result<Vec<(MetricKey, Metric)>, MapError> {
        self.maps.metrics()
    }

    fn events_lost(&self) -> Result<Vec<(EventKind, u64)>, MapError> {
        self.maps.events_lost()
    }

    fn attach(&mut self, hook: Hook, interface: &Interface) -> Result<(), AttachError> {
        if self.pending() && self.pins.link(interface.index, hook).exists() {
            // The old program goes on enforcing until `activate`.
            return Ok(());
        }
        let updated = self.update_link(interface.index, hook)?;
        // An index may have come back for another interface, in another namespace: ask the interface itself.
        let runs = updated
            && self
                .runs_on(hook, interface)
                .map_err(|error| failure("attach", hook, &interface.name, &chain(&error)))?;
        if runs { Ok(()) } else { self.attach_new(hook, interface) }
    }

    fn detach(&mut self, hook: Hook, index: u32) -> Result<bool, AttachError> {
        let path = self.pins.link(index, hook);
        // Held open over the removal, the link ends when it is closed here and not some time later.
        let held = PinnedLink::from_pin(&path);
        let removed = pins::remove_file(&path)
            .map_err(|error| failure("detach", hook, &index.to_string(), &error.to_string()))?;
        drop(held);
        Ok(removed)
    }

    fn attached(&self) -> Result<Vec<(u32, Hook)>, AttachError> {
        self.pins.all_links().map_err(|error| failure("list where", Hook::FromPod, "any", &error.to_string()))
    }

    fn sockets(&self) -> Vec<Socket> {
        // Connections that nobody knows of are judged in their middle.
        sockets().unwrap_or_default()
    }

    fn activate(&mut self) -> Result<(), AttachError> {
        self.start_to_move()
    }
}

/// Programs that use the tables in `folder`; those that are not there are made, of these capacities.
fn load_set(folder: &Path, capacities: &BTreeMap<&'static str, u32>) -> Result<(Ebpf, Maps), Error> {
    let bytes = object::bytes()?;
    let mut loader = EbpfLoader::new();
    for name in map::ALL {
        loader.map_pin_path(name, folder.join(name));
    }
    for (name, entries) in capacities {
        loader.map_max_entries(name, *entries);
    }
    let mut object = loader.load(&bytes).map_err(|error| Error::Load(chain(&error)))?;
    for hook in Hook::ALL {
        load(&mut object, hook)?;
    }
    inventory::describe(folder)?;
    Ok((object, Maps::open(folder)?))
}

/// What the object declares for a map that grows.
fn declared(name: &str) -> u32 {
    match name {
        map::ENDPOINTS => capacity::ENDPOINTS,
        map::IPCACHE => capacity::IPCACHE,
        map::POLICY => capacity::POLICY,
        map::PORT_SETS => capacity::PORT_SETS,
        _ => capacity::CONNTRACK,
    }
}

fn load(object: &mut Ebpf, hook: Hook) -> Result<(), Error> {
    let name = program_name(hook);
    let program: &mut Program = object.program_mut(name).ok_or(Error::NoProgram(name))?;
    let program: &mut SchedClassifier = program.try_into().map_err(|_| Error::NoProgram(name))?;
    match program.load() {
        Ok(()) => Ok(()),
        Err(ProgramError::LoadError { io_error, verifier_log }) => {
            const LINES: usize = 30;
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines.split_at(lines.len().saturating_sub(LINES)).1.join("\n");
            Err(Error::Verifier { program: name, source: io_error, log: end })
        }
        Err(error) => Err(Error::Load(format!("{name}: {}", chain(&error)))),
    }
}

const fn attach_type(hook: Hook) -> TcAttachType {
    match hook {
        Hook::FromPod | Hook::FromUplink => TcAttachType::Ingress,
        Hook::ToPod | Hook::ToUplink => TcAttachType::Egress,
    }
}

fn is_dead_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::ENOLINK as i32)
}

fn failure(operation: &'static str, hook: Hook, interface: &str, text: &str) -> AttachError {
    AttachError { operation, program: program_name(hook), interface: interface.to_owned(), text: text.to_owned() }
}

/// An error with its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = text + ": " + &more;
        }
        cause = error.source();
    }
    text
}
