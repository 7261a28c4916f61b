//! The programs in the kernel among the judges of `strait-testkit`: random policies of all kinds, asked by `BPF_PROG_TEST_RUN` with the frames that
//! the host's tables are asked with.

use strait_datapath::{
    Attachment, Bpf, Datapath, EventReader, Happening, Options,
    table::{Conntrack, Table},
    testbed::Testbed,
};
use strait_model::NodePlan;
use strait_packet::abi::{Hook, action, event_flags};
use strait_testkit::{
    mixed_case,
    packets::{Machine, Place, Seen, Told, telling},
    trial::{Figures, try_case},
};

use crate::{
    bed::{self, Bed},
    kernel,
};

/// Cases on trial unless `STRAIT_CASES` says otherwise.
const CASES: u64 = 1_000;
/// Questions about each of them.
const QUESTIONS: usize = 100;
/// Pods that a node of a case has at most.
const PODS: u8 = 8;
/// Connections of one case are fewer. To forget them is to look at each place in the map.
const CONNECTIONS: u32 = 4_096;

/// One loaded datapath, given one plan after the other.
struct InKernel {
    datapath: Datapath<Bpf>,
    events: EventReader,
    places: Vec<Place>,
}

impl InKernel {
    fn open(bed: &Bed) -> Self {
        let mut options = Options::new(&bed.instance);
        options.capacities.insert(Conntrack::NAME, CONNECTIONS);
        let mut datapath = Datapath::open(&options).unwrap();
        let config = telling(datapath.config());
        datapath.set_config(&config).unwrap();
        let events = datapath.events().unwrap();
        let places = bed.bed.pods.iter().map(|pod| Place { ifindex: pod.interface.index, mac: pod.mac }).collect();
        Self { datapath, events, places }
    }
}

impl Machine for InKernel {
    const NAME: &'static str = "kernel";
    const PACKAGE: &'static str = "strait-datapath";

    fn places(&self) -> Vec<Place> {
        self.places.clone()
    }

    fn renew(&mut self) -> Result<(), String> {
        bed::clear::<Conntrack>(self.datapath.kernel_mut());
        Ok(())
    }

    fn load(&mut self, plan: &NodePlan, attachments: &[Attachment]) -> Result<(), String> {
        self.datapath.apply(plan, attachments).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn run(&mut self, hook: Hook, ifindex: u32, frame: &[u8]) -> Result<Seen, String> {
        let (returned, _) =
            self.datapath.kernel().test_run(hook, frame, ifindex, 1).map_err(|error| error.to_string())?;
        let mut told = None;
        while let Some(event) = self.events.next() {
            let reason = match event.happening {
                Happening::Opened => None,
                Happening::Dropped(reason) => Some(reason),
                Happening::Active | Happening::Closed(_) => return Err(format!("{event:?}")),
            };
            told = Some(Told { reason, origin: event.origin, audited: event.flags & event_flags::AUDIT != 0 });
        }
        let delivered = returned == action::REDIRECT;
        Ok(Seen { passed: delivered || returned == action::PASS, delivered, told })
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is wanted")))
}

/// Cases from seed `STRAIT_SEED_BASE` (0), `STRAIT_CASES` (1,000) of them. `STRAIT_SEED=n` asks everything about one.
#[test]
fn random_mixed_policies_in_the_kernel() {
    if !kernel("random_mixed_policies_in_the_kernel") {
        return;
    }
    let bed = Bed::with(Testbed::new(PODS).unwrap(), "trials");
    bed.at_router(|| {
        let mut machine = InKernel::open(&bed);
        if let Some(seed) = number("STRAIT_SEED") {
            match try_case(&mixed_case(seed), None, &mut machine) {
                Ok(figures) => println!("seed {seed}: {figures:?}"),
                Err(failure) => panic!("{failure}"),
            }
            return;
        }
        let first = number("STRAIT_SEED_BASE").unwrap_or(0);
        let count = number("STRAIT_CASES").unwrap_or(CASES);
        let mut figures = Figures::default();
        for seed in first..first + count {
            match try_case(&mixed_case(seed), Some(QUESTIONS), &mut machine) {
                Ok(of_case) => figures = figures.plus(of_case),
                Err(failure) => panic!("{failure}"),
            }
        }
        println!("{figures:?}");
        // A trial in which policies decide nothing would show nothing.
        assert!(figures.frames > figures.connections, "{figures:?}");
        for (what, count) in [
            ("allowed by rules", figures.allowed_by_rules),
            ("denied", figures.denied),
            ("denied by rules", figures.denied_by_rules),
            ("closed", figures.closed),
            ("audited", figures.audited),
            ("of hosts", figures.of_hosts),
        ] {
            assert!(count * 2000 > figures.connections, "{what}: {figures:?}");
        }
    });
}
