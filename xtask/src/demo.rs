//! `cargo xtask demo`: a shop comes up in network namespaces; what its policies say is compared with real packets.

use std::{io::IsTerminal, net::SocketAddr, path::Path, thread};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{
    bpf,
    lab::{Lab, strait},
    run::{Alone, cargo, is_root, printed, shown, step},
    table,
};

const MANIFESTS: &str = "samples/shop";

/// Seconds until silence is silence.
const PATIENCE: &str = "2";
/// curl's exit code for that.
const TIMED_OUT: i32 = 28;

/// Whether the lab stays.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    Keep,
    Down,
}

/// A question: may `from` reach `to` on this TCP port? Addresses are hosts outside the cluster.
struct Row {
    from: &'static str,
    to: &'static str,
    port: u16,
    /// What the people who wrote the manifests mean.
    meant: Meant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Meant {
    Allow,
    Deny,
}

const fn allow(from: &'static str, to: &'static str, port: u16) -> Row {
    Row { from, to, port, meant: Meant::Allow }
}

const fn deny(from: &'static str, to: &'static str, port: u16) -> Row {
    Row { from, to, port, meant: Meant::Deny }
}

/// What the manifests promise, both sides of each promise.
const ROWS: &[Row] = &[
    allow("203.0.113.10", "shop/web-0", 8080),
    deny("203.0.113.129", "shop/web-0", 8080),
    deny("203.0.113.10", "shop/cart-0", 8080),
    allow("shop/web-0", "shop/catalog-0", 8080),
    allow("shop/web-0", "shop/cart-0", 8080),
    deny("shop/catalog-0", "shop/cart-0", 8080),
    allow("shop/cart-0", "shop/cart-db-0", 6379),
    deny("shop/web-0", "shop/cart-db-0", 6379),
    allow("shop/cart-0", "payments/payments-0", 8443),
    deny("shop/web-0", "payments/payments-0", 8443),
    allow("payments/payments-0", "payments/payments-db-0", 5432),
    deny("shop/cart-0", "payments/payments-db-0", 5432),
    allow("payments/payments-0", "203.0.113.65", 443),
    deny("payments/payments-0", "203.0.113.97", 443),
    deny("shop/cart-0", "203.0.113.65", 443),
    allow("monitoring/prometheus-0", "shop/cart-0", 9100),
    deny("monitoring/prometheus-0", "shop/cart-0", 8080),
    deny("shop/cart-0", "monitoring/prometheus-0", 9090),
];

/// The deny that is explained in full.
const EXPLAINED: Row = deny("shop/catalog-0", "shop/cart-0", 8080);

pub(crate) fn run(afterwards: Afterwards) -> Result<()> {
    ensure!(is_root(), "the demo makes network namespaces and loads programs into the kernel: run it as root");
    step("build the kernel's programs", || bpf::build().map(drop))?;
    step("build strait", || shown(cargo().args(["build", "--package", "strait"])))?;
    compare(afterwards)
}

/// The demo with the binary that is there.
pub(crate) fn compare(afterwards: Afterwards) -> Result<()> {
    let _alone = Alone::at("demo")?;
    let lab =
        step(&format!("strait lab up -f {MANIFESTS} --name demo"), || Lab::up("demo", Path::new(MANIFESTS), &[]))?;
    let result = show(&lab);
    if afterwards == Afterwards::Down {
        step("strait lab down --lab demo", || lab.down())?;
    } else {
        println!(
            "The lab stays. Try:\n  target/debug/strait flows --lab demo --follow\n  target/debug/strait lab exec --lab \
             demo shop/web-0 -- curl -s http://catalog:8080/\n  target/debug/strait lab down --lab demo"
        );
    }
    result
}

fn show(lab: &Lab) -> Result<()> {
    let answers = step("ask the policy, then ask with packets", || ask_all(lab))?;
    let paint = Paint(std::io::stdout().is_terminal());
    let rows: Vec<_> = ROWS.iter().zip(&answers).map(|(row, answer)| answer.cells(row, &paint)).collect();
    println!("{}", table::render(&["who", "to whom", "port", "expected", "seen", "deciding rule"], &rows));
    step("the last flows, as the kernel reported them", || {
        shown(strait().args(["flows", "--lab", lab.name(), "--last", "12", "--protocol", "tcp"]))
    })?;
    step(&format!("why {} may not reach {}", EXPLAINED.from, EXPLAINED.to), || {
        // Its exit code is the verdict: 1, denied.
        let (text, code) = printed(strait().args(["policy", "explain", "-f", MANIFESTS]).args(EXPLAINED.flags()))?;
        print!("{text}");
        ensure!(code == Some(1), "it is not denied: exit code {code:?}");
        Ok(())
    })?;
    let differing = answers.iter().filter(|answer| answer.expected != answer.seen.reached()).count();
    if differing > 0 {
        bail!("{differing} of {} rows were not seen as expected", ROWS.len());
    }
    println!("All {} connections were seen as the policies say.\n", ROWS.len());
    Ok(())
}

struct Answer {
    expected: bool,
    rule: String,
    seen: Seen,
}

/// What a client got.
enum Seen {
    /// Who answered.
    Reached(String),
    Silence,
}

impl Seen {
    fn reached(&self) -> bool {
        matches!(self, Self::Reached(_))
    }
}

impl Row {
    fn flags(&self) -> [String; 6] {
        let port = format!("{}/TCP", self.port);
        ["--from".into(), self.from.into(), "--to".into(), self.to.into(), "--port".into(), port]
    }

    fn ask(&self, lab: &Lab) -> Result<Answer> {
        let mut explain = strait();
        explain.args(["policy", "explain", "-o", "json", "-f", MANIFESTS]).args(self.flags());
        let (text, code) = printed(&mut explain)?;
        let explanation: Value = serde_json::from_str(&text).context("`strait policy explain` printed no JSON")?;
        let expected = explanation["allowed"].as_bool().context("the explanation says not whether it is allowed")?;
        ensure!(code == Some(i32::from(!expected)), "allowed is {expected}, and the exit code {code:?}");
        ensure!(expected == (self.meant == Meant::Allow), "the policies say {expected}, which is not what was meant");
        Ok(Answer { expected, rule: deciding_rule(&explanation)?, seen: self.knock(lab)? })
    }

    /// Asks over HTTP, from inside the pod or from a host outside: every port of the lab's pods answers with who it is.
    fn knock(&self, lab: &Lab) -> Result<Seen> {
        let address = self.to.parse().or_else(|_| lab.address(self.to))?;
        let url = format!("http://{}/", SocketAddr::new(address, self.port));
        let mut curl = vec!["curl", "--silent", "--noproxy", "*", "--max-time", PATIENCE, &url];
        // Hosts outside are addresses of one namespace.
        let place = if self.from.contains('/') { self.from } else { "outside" };
        if place == "outside" {
            curl.extend(["--interface", self.from]);
        }
        let (text, code) = printed(&mut lab.command(place, &curl))?;
        match code {
            Some(0) => {
                let answer: Value = serde_json::from_str(&text).with_context(|| format!("{url} answered `{text}`"))?;
                let who = |field: &str| answer[field].as_str().unwrap_or_default();
                Ok(Seen::Reached(who("pod").to_owned()))
            }
            Some(TIMED_OUT) => Ok(Seen::Silence),
            other => bail!("curl {url} ended with {other:?}"),
        }
    }
}

fn ask_all(lab: &Lab) -> Result<Vec<Answer>> {
    thread::scope(|scope| {
        let running: Vec<_> = ROWS.iter().map(|row| scope.spawn(|| row.ask(lab))).collect();
        let joined = running.into_iter().zip(ROWS).map(|(answer, row)| {
            let answer = answer.join().unwrap_or_else(|_| bail!("the thread that asked ended"));
            answer.with_context(|| format!("asking {} → {}:{}", row.from, row.to, row.port))
        });
        joined.collect()
    })
}

impl Answer {
    fn cells(&self, row: &Row, paint: &Paint) -> Vec<String> {
        let seen = match &self.seen {
            Seen::Reached(who) if who.is_empty() => "answered".to_owned(),
            Seen::Reached(who) => format!("answered: {who}"),
            Seen::Silence => "silence".to_owned(),
        };
        let agrees = self.expected == self.seen.reached();
        vec![
            row.from.to_owned(),
            row.to.to_owned(),
            row.port.to_string(),
            if self.expected { paint.green("allow") } else { paint.red("deny") },
            if agrees { seen } else { paint.red(&format!("{seen} (!)")) },
            self.rule.clone(),
        ]
    }
}

/// Of the side that denied, the policy nobody's rules of which allow it; or else the last rule that allowed.
fn deciding_rule(explanation: &Value) -> Result<String> {
    let steps = explanation["connections"][0]["steps"].as_array().context("the explanation has no steps")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let shown = |step: &Value, what: &str, origin: &Value| {
        let file = text(&origin["location"]["file"]);
        let file = file.strip_prefix(MANIFESTS).map_or(file.as_str(), |inside| inside.trim_start_matches('/'));
        let (namespace, name) = (text(&origin["namespace"]), text(&origin["name"]));
        format!("{}: {what}{namespace}/{name} {file}:{}", text(&step["direction"]), origin["location"]["line"])
    };
    let decided_by = |step: &Value, what: &str| {
        let origin = step["decision"]["origins"].get(0);
        origin.map_or_else(|| text(&step["decision"]["reason"]), |origin| shown(step, what, origin))
    };
    if let Some(step) = steps.iter().find(|step| step["decision"]["allowed"] == false) {
        return Ok(decided_by(step, "no rule, isolated by "));
    }
    let rule = steps.iter().rev().find(|step| step["decision"]["reason"] == "rule");
    Ok(rule.map_or_else(|| "no policy selects either side".to_owned(), |step| decided_by(step, "")))
}

/// Colours, where a terminal shows them.
struct Paint(bool);

impl Paint {
    fn green(&self, text: &str) -> String {
        self.colour("32", text)
    }

    fn red(&self, text: &str) -> String {
        self.colour("31", text)
    }

    fn colour(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
