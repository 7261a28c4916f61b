//! `nghttp` and `h2load`, nghttp2's clients.

use std::process::Command;

use super::{noise, program, ran};
use crate::{
    bed::{Gate, app},
    h2::{gateway, h2c, route, to},
};

fn gate() -> Gate {
    let rules = to("/one", "one", 8080) + &to("/two", "two", 8080);
    Gate::of(&[("all.yaml", &[gateway(), app("one"), h2c("two"), route("HTTPRoute", "route", &rules)].concat())])
}

/// Every request of many at once succeeds, whatever either side speaks.
#[test]
fn h2load() {
    let Some(h2load) = program("h2load") else { return };
    let gate = gate();
    let (plain, tls) = (format!("http://{}", gate.at("edge", 80)), format!("https://{}", gate.at("edge", 443)));
    for (origin, arguments) in
        [(&plain, &["-m", "20"][..]), (&tls, &["-m", "20"]), (&plain, &["--h1"]), (&tls, &["--h1"])]
    {
        for path in ["/one/x", "/two/x"] {
            let mut load = Command::new(&h2load);
            load.args(["-n", "2000", "-c", "5", "-T", "20", "-N", "20"]).args(arguments).arg(format!("{origin}{path}"));
            let text = ran(&mut load);
            let done = "2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout";
            assert!(text.contains(done) && text.contains("2000 2xx"), "{load:?}\n{text}");
        }
    }
}

/// Frames as nghttp reads them: answers on many streams, an uploaded body with trailers.
#[test]
fn nghttp() {
    let Some(nghttp) = program("nghttp") else { return };
    let gate = gate();
    let body = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(body.path(), noise(300_000)).unwrap();
    let upload = body.path().to_str().unwrap();
    for origin in [format!("http://{}", gate.at("edge", 80)), format!("https://{}", gate.at("edge", 443))] {
        for path in ["/one/x", "/two/x"] {
            for (arguments, answers) in [
                (&["-m", "30"][..], 30),
                (&["-d", upload, "--trailer", "x-sum: 42"], 1),
                (&["-d", upload, "-H", "content-type: application/octet-stream", "-w", "16", "-W", "16"], 1),
            ] {
                let mut ask = Command::new(&nghttp);
                ask.args(["-n", "-v", "-y", "-t", "20"]).args(arguments).arg(format!("{origin}{path}"));
                let text = ran(&mut ask);
                assert_eq!(text.matches(":status: 200").count(), answers, "{ask:?}\n{text}");
                assert!(!text.contains("recv RST_STREAM"), "{ask:?}\n{text}");
            }
        }
    }
}
