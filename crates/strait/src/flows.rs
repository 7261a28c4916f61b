//! `strait flows`.

mod filter;
mod follow;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use strait_agent::api::FlowsRequest;
use strait_flow::{Output, Printer, Record};

use self::filter::FilterArgs;
use crate::{
    agents::{Agent, AgentsArgs},
    ui::Ui,
};

/// What happens on the network, as `hubble observe` shows it: who, to whom, verdict, deciding rule with file and line
///
/// Shows the last 20 flows of all agents, merged by time. Values of one filter flag are alternatives, different flags
/// must all match; a flag without from-/to- asks for either side; `--not` takes away what the next flag matches.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait flows --follow                                    as it happens\n  \
    strait flows --verdict DROPPED --follow                  what is dropped, and why\n  \
    strait flows --from-pod shop/web --to-port 5432          from pods whose names start with web\n  \
    strait flows --namespace shop --not --protocol udp       everything of shop but UDP\n  \
    strait flows --to-label app=db --since 5m -o json        for programs: the JSON of `hubble observe -o json`")]
pub(crate) struct FlowsArgs {
    #[command(flatten)]
    agents: AgentsArgs,

    /// Go on with what happens from now on, until interrupted
    #[arg(short, long)]
    follow: bool,

    /// Only the newest N [default: 20, and with --follow 0]
    #[arg(long, value_name = "N", conflicts_with = "first")]
    last: Option<u64>,

    /// Only the oldest N
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    first: Option<u64>,

    /// Everything the agents still hold
    #[arg(long, conflicts_with_all = ["last", "first"])]
    all: bool,

    /// Not before: an RFC 3339 time, or how long ago (90s, 5m, 2h)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,

    /// Not after: an RFC 3339 time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "follow")]
    until: Option<Timestamp>,

    /// compact, json, jsonpb, dict, table or tab
    #[arg(short, long, default_value = "compact", value_name = "FORM")]
    output: Output,

    /// Say which node reports each flow
    #[arg(long)]
    print_node_name: bool,

    #[command(flatten)]
    filter: FilterArgs,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let wrong = |_| "expected an RFC 3339 time or how long ago, as 90s, 5m or 2h".to_owned();
    match text.parse::<SignedDuration>() {
        Ok(ago) => Timestamp::now().checked_sub(ago.abs()).map_err(wrong),
        Err(_) => text.parse().map_err(wrong),
    }
}

const DEFAULT_LAST: u64 = 20;

pub(crate) fn run(args: FlowsArgs, ui: Ui) -> anyhow::Result<ExitCode> {
    let bounded = args.all || args.first.is_some() || args.since.is_some() || args.until.is_some();
    let last = match args.last {
        None if bounded => None,
        None if args.follow => Some(0),
        None => Some(DEFAULT_LAST),
        last => last,
    };
    let request = FlowsRequest {
        filter: args.filter.filter.map_err(anyhow::Error::msg)?,
        follow: args.follow,
        first: args.first,
        last,
        since: args.since,
        until: args.until,
    };
    let agents = args.agents.resolve()?;
    let mut printer = Printer::new(args.output, ui.color, args.print_node_name);
    let mut out = io::stdout().lock();
    if request.follow {
        follow::run(&agents, &request, &mut printer, &mut out)?;
    } else {
        for record in held(&agents, &request)? {
            printer.write(&record, &mut out)?;
        }
        printer.flush(&mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// What all agents hold, merged: each gives at most `first` or `last`, and so does the merger.
fn held(agents: &[Agent], request: &FlowsRequest) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    for agent in agents {
        let flows = agent.ask(|client| client.flows(request.clone()))?;
        for record in flows {
            records.push(record?);
        }
    }
    records.sort_by_key(|record| record.time);
    let limit = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    if let Some(first) = request.first {
        records.truncate(limit(first));
    }
    if let Some(last) = request.last {
        records.drain(..records.len().saturating_sub(limit(last)));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for text in ["5m", "90s", "2h", "1h30m", "2026-11-22T22:40:01Z"] {
            assert!(moment(text).unwrap() < Timestamp::now(), "{text}");
        }
        for text in ["", "5", "yesterday"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
