//! Following several agents at once, in order of time.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use strait_agent::{ClientError, api::FlowsRequest};
use strait_flow::{Printer, Record};

use crate::agents::Agent;

/// Records wait this long for older ones of other nodes.
const HOLD: SignedDuration = SignedDuration::from_millis(200);
const TICK: Duration = Duration::from_millis(50);
/// Records between the readers and the printer; beyond it the agents are left to count what they drop.
const QUEUE: usize = 1024;

/// Prints until every agent hangs up; an agent that goes away is named, the others go on.
pub(crate) fn run(
    agents: &[Agent],
    request: &FlowsRequest,
    printer: &mut Printer,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (sender, receiver) = mpsc::sync_channel::<(usize, Result<Record, ClientError>)>(QUEUE);
    let mut readers = 0;
    for (index, agent) in agents.iter().enumerate() {
        let flows = agent.ask(|client| client.flows(request.clone()))?;
        let sender = sender.clone();
        readers += 1;
        std::thread::spawn(move || {
            for record in flows {
                let over = record.is_err();
                if sender.send((index, record)).is_err() || over {
                    return;
                }
            }
        });
    }
    drop(sender);

    // One agent alone is in order already.
    let hold = if readers > 1 { HOLD } else { SignedDuration::ZERO };
    let mut waiting: BTreeMap<(Timestamp, u64), Record> = BTreeMap::new();
    let mut number = 0;
    let mut failures = Vec::new();
    loop {
        let over = match receiver.recv_timeout(TICK) {
            Ok((_, Ok(record))) => {
                number += 1;
                waiting.insert((record.time, number), record);
                false
            }
            Ok((index, Err(error))) => {
                eprintln!("{}: {error}", agents[index].label);
                failures.push(error);
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        let due = Timestamp::now().checked_sub(hold).unwrap_or(Timestamp::MAX);
        let mut fresh = false;
        while let Some(entry) = waiting.first_entry() {
            if !over && (entry.key().0 > due && waiting.len() < QUEUE) {
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
            // Every agent went away by itself: the reader should know that there is nothing to wait for.
            return match failures.into_iter().next() {
                Some(error) => Err(error.into()),
                None => anyhow::bail!("the agents hung up"),
            };
        }
    }
}
