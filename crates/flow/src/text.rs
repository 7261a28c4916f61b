//! Records for people, as `hubble observe` prints them, with the deciding rule at the end of the line.

use std::{fmt::Write as _, io, net::IpAddr, str::FromStr};

use strait_base::IdentityId;
use strait_packet::abi::DropReason;

use crate::record::{
    Counters, Endpoint, EventType, Flow, Layer4, LostSource, ObservationPoint, Origin, Record, Verdict, What,
};

/// How records are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Output {
    /// One line a record.
    #[default]
    Compact,
    /// Aligned columns under a header.
    Table,
    /// One field a line.
    Dict,
    /// One JSON object a line: Hubble's `GetFlowsResponse`.
    Json,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "compact" => Ok(Self::Compact),
            "table" | "tab" => Ok(Self::Table),
            "dict" => Ok(Self::Dict),
            "json" | "jsonpb" => Ok(Self::Json),
            _ => Err("expected compact, json, jsonpb, dict, table or tab".to_owned()),
        }
    }
}

/// Writes records.
#[derive(Debug)]
pub struct Printer {
    output: Output,
    color: bool,
    node_names: bool,
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
    started: bool,
}

const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";
const CYAN: &str = "36";
const MAGENTA: &str = "35";
const DIM: &str = "2";

/// Rows of a table that are collected before widths are settled.
const TABLE_ROWS: usize = 512;

impl Printer {
    /// `color`: ANSI colours (compact and dict); `node_names`: with the reporting node.
    pub fn new(output: Output, color: bool, node_names: bool) -> Self {
        Self { output, color, node_names, rows: Vec::new(), widths: Vec::new(), started: false }
    }

    /// Writes one record; a table's rows may wait for [`Self::flush`].
    pub fn write(&mut self, record: &Record, out: &mut impl io::Write) -> io::Result<()> {
        if self.output == Output::Json {
            serde_json::to_writer(&mut *out, record)?;
            return writeln!(out);
        }
        let flow = match &record.what {
            What::Flow(flow) => flow,
            What::LostEvents(lost) => {
                self.flush(out)?;
                let reason = match lost.source {
                    LostSource::PerfEventRingBuffer => "the kernel's event ring was full",
                    LostSource::HubbleRingBuffer => "this reader was too slow",
                };
                let text = format!("EVENTS LOST: {} on {} ({reason})", lost.num_events_lost, record.node_name);
                return writeln!(out, "{}", self.paint(RED, &text));
            }
        };
        match self.output {
            Output::Compact => writeln!(out, "{}", self.compact(flow)),
            Output::Dict => self.dict(flow, out),
            Output::Table => {
                self.rows.push(self.row(flow));
                if self.rows.len() >= TABLE_ROWS { self.flush(out) } else { Ok(()) }
            }
            Output::Json => Ok(()),
        }
    }

    /// Writes what waits.
    pub fn flush(&mut self, out: &mut impl io::Write) -> io::Result<()> {
        let mut rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        if !self.started {
            self.started = true;
            let mut header = vec!["TIMESTAMP", "SOURCE", "DESTINATION", "TYPE", "VERDICT", "SUMMARY"];
            if self.node_names {
                header.insert(1, "NODE");
            }
            rows.insert(0, header.into_iter().map(str::to_owned).collect());
        }
        self.widths.resize(rows[0].len(), 0);
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&self.widths) {
                let _ = write!(line, "{cell:<width$}   ");
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn paint(&self, color: &str, text: &str) -> String {
        if self.color && !text.is_empty() { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn compact(&self, flow: &Flow) -> String {
        let (ports, hosts) = (flow.l4.as_ref().and_then(Layer4::ports), addresses(flow));
        let source = self.side(&flow.source, hosts.map(|hosts| hosts.0), ports.map(|ports| ports.0));
        let destination = self.side(&flow.destination, hosts.map(|hosts| hosts.1), ports.map(|ports| ports.1));
        let (left, arrow, right) = match flow.is_reply {
            None => (source, "<>", destination),
            Some(false) => (source, "->", destination),
            Some(true) => (destination, "<-", source),
        };
        let mut line = timestamp(flow);
        if self.node_names {
            let _ = write!(line, " [{}]", flow.node_name);
        }
        let _ = write!(line, ": {left} {arrow} {right} {} {}", kind(flow), self.verdict(flow));
        let _ = write!(line, " ({})", summary(flow));
        let decided = decided(flow);
        if !decided.is_empty() {
            let _ = write!(line, " {}", self.paint(DIM, &decided));
        }
        line
    }

    fn side(&self, side: &Endpoint, address: Option<IpAddr>, port: Option<u16>) -> String {
        let identity = IdentityId(side.identity);
        let identity = match identity.reserved_name() {
            Some(name) => format!("({name})"),
            None => format!("(ID:{identity})"),
        };
        format!("{} {}", self.paint(CYAN, &host(side, address, port)), self.paint(MAGENTA, &identity))
    }

    fn verdict(&self, flow: &Flow) -> String {
        let judged = flow.event_type.kind == EventType::POLICY_VERDICT;
        let (color, text) = match flow.verdict {
            Verdict::Forwarded | Verdict::Redirected if judged => (GREEN, "ALLOWED"),
            Verdict::Forwarded | Verdict::Redirected => (GREEN, flow.verdict.as_str()),
            Verdict::Dropped | Verdict::Error if judged => (RED, "DENIED"),
            Verdict::Dropped | Verdict::Error => (RED, flow.verdict.as_str()),
            Verdict::Audit if judged => (YELLOW, "AUDITED"),
            Verdict::Audit | Verdict::Traced | Verdict::Translated | Verdict::Unknown => {
                (YELLOW, flow.verdict.as_str())
            }
        };
        self.paint(color, text)
    }

    fn dict(&mut self, flow: &Flow, out: &mut impl io::Write) -> io::Result<()> {
        if self.started {
            writeln!(out, "------------")?;
        }
        self.started = true;
        let (source, destination) = hosts(flow);
        writeln!(out, "  TIMESTAMP: {}", timestamp(flow))?;
        if self.node_names {
            writeln!(out, "       NODE: {}", flow.node_name)?;
        }
        writeln!(out, "     SOURCE: {}", self.paint(CYAN, &source))?;
        writeln!(out, "DESTINATION: {}", self.paint(CYAN, &destination))?;
        writeln!(out, "       TYPE: {}", kind(flow))?;
        writeln!(out, "    VERDICT: {}", self.verdict(flow))?;
        writeln!(out, "    SUMMARY: {}", summary(flow))?;
        let decided = decided(flow);
        if decided.is_empty() { Ok(()) } else { writeln!(out, "    DECIDED: {decided}") }
    }

    fn row(&self, flow: &Flow) -> Vec<String> {
        let (source, destination) = hosts(flow);
        let plain = Self { color: false, rows: Vec::new(), widths: Vec::new(), ..*self };
        let decided = decided(flow);
        let summary = format!("{}{}{decided}", summary(flow), if decided.is_empty() { "" } else { "; " });
        let mut row = vec![timestamp(flow), source, destination, kind(flow), plain.verdict(flow), summary];
        if self.node_names {
            row.insert(1, flow.node_name.to_string());
        }
        row
    }
}

fn addresses(flow: &Flow) -> Option<(IpAddr, IpAddr)> {
    flow.ip.as_ref().map(|ip| (ip.source, ip.destination))
}

fn hosts(flow: &Flow) -> (String, String) {
    let (ports, hosts) = (flow.l4.as_ref().and_then(Layer4::ports), addresses(flow));
    (
        host(&flow.source, hosts.map(|hosts| hosts.0), ports.map(|ports| ports.0)),
        host(&flow.destination, hosts.map(|hosts| hosts.1), ports.map(|ports| ports.1)),
    )
}

/// `shop/web-0:43210`, or the address where there is no pod.
fn host(side: &Endpoint, address: Option<IpAddr>, port: Option<u16>) -> String {
    let named = !side.pod_name.is_empty();
    let host = match address {
        _ if named => format!("{}/{}", side.namespace, side.pod_name),
        Some(IpAddr::V6(v6)) if port.is_some_and(|port| port != 0) => format!("[{v6}]"),
        Some(address) => address.to_string(),
        None => "?".to_owned(),
    };
    // Drops that are told as one may have come from many ports.
    match port {
        Some(port) if port != 0 => format!("{host}:{port}"),
        _ => host,
    }
}

fn timestamp(flow: &Flow) -> String {
    flow.time.strftime("%b %e %H:%M:%S%.3f").to_string()
}

fn kind(flow: &Flow) -> String {
    match flow.event_type.kind {
        EventType::POLICY_VERDICT => {
            let direction = flow.traffic_direction.map_or("TRAFFIC_DIRECTION_UNKNOWN", |direction| direction.as_str());
            format!("policy-verdict:{} {direction}", flow.policy_match_type.as_str())
        }
        EventType::DROP => drop_text(flow.event_type.sub_type).to_owned(),
        _ => flow.trace_observation_point.map_or("UNKNOWN", ObservationPoint::as_str).to_owned(),
    }
}

/// A drop reason in Hubble's words (`pkg/monitor/api/drop.go`), or in ours where it has none.
fn drop_text(number: u8) -> &'static str {
    match DropReason::from_number(number) {
        Some(DropReason::InvalidSourceMac) => "Invalid source mac",
        Some(DropReason::InvalidSourceIp) => "Invalid source ip",
        Some(DropReason::PolicyDenied) => "Policy denied",
        Some(DropReason::PolicyDeny) => "Policy denied by denylist",
        Some(reason) => reason.text(),
        None => "Unknown drop reason",
    }
}

fn summary(flow: &Flow) -> String {
    let mut parts = vec![clean(&flow.summary)];
    // The pod is named for what it is, so the address that it made up shows nowhere else.
    if let (EventType { kind: EventType::DROP, sub_type }, Some(ip)) = (flow.event_type, &flow.ip)
        && DropReason::from_number(sub_type) == Some(DropReason::InvalidSourceIp)
    {
        parts.push(format!("claimed {}", ip.source));
    }
    if let Some(closed) = &flow.strait.closed {
        parts.push(format!("closed: {}", clean(closed)));
    }
    if let Some(counters) = &flow.strait.counters {
        parts.push(traffic(counters, flow.event_type.kind == EventType::DROP));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("; ")
}

fn traffic(counters: &Counters, dropped: bool) -> String {
    let packets = |count: u64| format!("{count} packet{}", if count == 1 { "" } else { "s" });
    if dropped {
        return packets(counters.packets);
    }
    format!(
        "{} {} out, {} {} back",
        packets(counters.packets),
        bytes(counters.bytes),
        packets(counters.reply_packets),
        bytes(counters.reply_bytes)
    )
}

fn bytes(count: u64) -> String {
    let mut unit = 1_u64;
    for name in ["B", "kB", "MB", "GB"] {
        if count / unit < 1000 {
            let (whole, tenth) = (count / unit, count % unit * 10 / unit);
            return if unit == 1 { format!("{whole} {name}") } else { format!("{whole}.{tenth} {name}") };
        }
        unit = unit.saturating_mul(1000);
    }
    format!("{} TB", count / 1_000_000_000_000)
}

/// What decided: `NetworkPolicy shop/db rules.yaml:14`, and how near a drop was to being allowed.
fn decided(flow: &Flow) -> String {
    let origins = &flow.strait.origins;
    let isolated = flow.verdict == Verdict::Dropped && origins.iter().any(|origin| origin.rule.is_none());
    let mut text = if isolated { "isolated by ".to_owned() } else { String::new() };
    let mut last_kind = "";
    for (index, Origin { kind, namespace, name, file, line, .. }) in origins.iter().enumerate() {
        let _ = write!(text, "{}", if index == 0 { "" } else { ", " });
        if **kind != *last_kind {
            let _ = write!(text, "{kind} ");
        }
        last_kind = kind;
        if !namespace.is_empty() {
            let _ = write!(text, "{namespace}/");
        }
        let _ = write!(text, "{name} {file}:{line}");
    }
    if let Some(miss) = &flow.strait.nearest_miss {
        let _ = write!(text, "{}{miss}", if text.is_empty() { "" } else { "; " });
    }
    clean(&text)
}

/// Without control characters: file names are anyone's, and a terminal obeys escapes.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
