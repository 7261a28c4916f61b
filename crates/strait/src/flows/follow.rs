//! Following several agents at once, in order of time.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::mpsc::{self, RecvTimeoutError, SyncSender},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use strait_agent::api::FlowsRequest;
use strait_flow::{Printer, Record};

use crate::agents::Agent;

/// Records wait this long for older ones of other nodes.
const HOLD: SignedDuration = SignedDuration::from_millis(200);
const TICK: Duration = Duration::from_millis(50);
/// How often an agent that went away is looked for.
const LOOK: Duration = Duration::from_millis(250);
/// Records between the readers and the printer; beyond it the agents are left to count what they drop.
const QUEUE: usize = 1024;

/// What a reader tells.
enum News {
    Record(Record),
    /// A line for people: the agent went away, or is back.
    Agent(String),
}

/// Prints until every agent is gone for good. One that is started again is followed again, from where it was.
pub(crate) fn run(
    agents: &[Agent],
    request: &FlowsRequest,
    printer: &mut Printer,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (sender, receiver) = mpsc::sync_channel::<News>(QUEUE);
    for agent in agents {
        // The first answer of each is waited for: an agent that is not there at all is an error.
        let flows = agent.ask(|client| client.flows(request.clone()))?;
        let (agent, request, sender) = (agent.clone(), request.clone(), sender.clone());
        std::thread::spawn(move || read(&agent, request, flows, &sender));
    }
    drop(sender);

    // One agent alone is in order already.
    let hold = if agents.len() > 1 { HOLD } else { SignedDuration::ZERO };
    let mut waiting: BTreeMap<(Timestamp, u64), Record> = BTreeMap::new();
    let mut number = 0;
    loop {
        let over = match receiver.recv_timeout(TICK) {
            Ok(News::Record(record)) => {
                number += 1;
                waiting.insert((record.time, number), record);
                false
            }
            Ok(News::Agent(line)) => {
                eprintln!("{line}");
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        let due = Timestamp::now().checked_sub(hold).unwrap_or(Timestamp::MAX);
        let mut fresh = false;
        while let Some(entry) = waiting.first_entry() {
            if !over && entry.key().0 > due && waiting.len() < QUEUE {
                break;
            }
            if let Some((_, record)) = waiting.pop_first() {
                printer.write(&record, out)?;
                fresh = true;
            }
        }
        if fresh {
            printer.flush(out)?;
            out.flush()?;
        }
        if over {
            anyhow::bail!("no agent is left to follow");
        }
    }
}

/// Reads one agent, and looks for it again while its run directory is there.
fn read(agent: &Agent, mut request: FlowsRequest, first: strait_agent::client::Flows, news: &SyncSender<News>) {
    let mut flows = Some(first);
    let mut since = Timestamp::now();
    loop {
        for record in flows.into_iter().flatten() {
            let Ok(record) = record else { break };
            since = record.time;
            if news.send(News::Record(record)).is_err() {
                return;
            }
        }
        if news.send(News::Agent(format!("{}: its agent went away; waiting for it", agent.label))).is_err() {
            return;
        }
        // What comes behind the last record that was read.
        request.since = since.checked_add(SignedDuration::from_nanos(1)).ok();
        request.last = None;
        flows = loop {
            if !agent.client.path().parent().is_some_and(std::path::Path::exists) {
                let _ = news.send(News::Agent(format!("{}: gone", agent.label)));
                return;
            }
            std::thread::sleep(LOOK);
            if let Ok(flows) = agent.client.flows(request.clone()) {
                break Some(flows);
            }
        };
        if news.send(News::Agent(format!("{}: its agent is back", agent.label))).is_err() {
            return;
        }
    }
}
