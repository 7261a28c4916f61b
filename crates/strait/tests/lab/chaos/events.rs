//! Every connection is told of at both its ends, or the loss is.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use strait_agent::api::FlowsRequest;
use strait_flow::{FilterBuilder, Layer4, What};

use super::{load::reaches, updates::LEDGER};
use crate::bed::{Bed, eventually_or};

/// Connections to a port of their own.
const CONNECTIONS: u64 = 300;

/// Connects from `client` across nodes while agents' flows are followed: all ends are told, or as many lost.
pub(super) fn accounted(bed: &Bed, client: &str, server: IpAddr) -> String {
    let told = Arc::new(Mutex::new(BTreeSet::new()));
    let lost = Arc::new(AtomicU64::new(0));
    for node in bed.lab.agents().keys() {
        let mut filter = FilterBuilder::default();
        filter.add("to-port", &LEDGER.to_string(), false).unwrap();
        let request = FlowsRequest { filter: filter.build(), follow: true, ..FlowsRequest::default() };
        let flows = bed.lab.agent(node).flows(request).unwrap();
        let (told, lost) = (Arc::clone(&told), Arc::clone(&lost));
        // Ends when the agent does.
        thread::spawn(move || {
            for record in flows.map_while(Result::ok) {
                match record.what {
                    What::Flow(flow) => {
                        if let Some(Layer4::Tcp(ports)) = &flow.l4 {
                            told.lock().unwrap().insert((record.node_name, ports.source_port));
                        }
                    }
                    What::LostEvents(events) => _ = lost.fetch_add(events.num_events_lost, Relaxed),
                }
            }
        });
    }
    for _ in 0..CONNECTIONS {
        assert!(reaches(bed, client, SocketAddr::new(server, LEDGER), true));
    }
    let count = || told.lock().unwrap().len() as u64;
    let summary = || format!("{} of {} ends told, {} lost and counted", count(), 2 * CONNECTIONS, lost.load(Relaxed));
    let alone = || {
        let told = told.lock().unwrap();
        let once = |port: &u16| told.iter().filter(|(_, other)| other == port).count() == 1;
        told.iter().filter(|(_, port)| once(port)).cloned().collect::<Vec<_>>()
    };
    eventually_or(
        || format!("both ends of every connection are told of, or a loss is: {}; one end of {:?}", summary(), alone()),
        || count() + lost.load(Relaxed) >= 2 * CONNECTIONS,
    );
    summary()
}
