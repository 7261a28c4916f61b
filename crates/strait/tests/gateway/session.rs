//! Clients that stay at one endpoint.

use std::fmt::Write as _;

use crate::bed::{Answer, Gate, curl};

/// A service with three pods.
fn pods(name: &str) -> String {
    crate::bed::app(name).replace("spec:\n  selector: {matchLabels", "spec:\n  replicas: 3\n  selector: {matchLabels")
}

fn manifests(rules: &[&str]) -> String {
    let mut out = pods("one") + &pods("two") + &pods("three");
    out.push_str(
        "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\nmetadata: {name: three}\n\
         spec: {targetRefs: [{group: '', kind: Service, name: three}], sessionPersistence: {sessionName: policy}}\n---\n",
    );
    out.push_str(&crate::bed::http(""));
    for rule in rules {
        let _ = writeln!(out, "  - {rule}");
    }
    out
}

const RULES: &[&str] = &[
    "{matches: [{path: {value: /plain}}], backendRefs: [{name: one, port: 8080}]}",
    "{name: cookie, matches: [{path: {value: /cookie}}, {path: {value: /cookie/deep}}], backendRefs: [{name: one, port: 8080}], sessionPersistence: {sessionName: id}}",
    "{matches: [{path: {value: /header}}], backendRefs: [{name: one, port: 8080}], sessionPersistence: {type: Header, sessionName: X-Session}}",
    "{matches: [{path: {value: /permanent}}], backendRefs: [{name: one, port: 8080}], sessionPersistence: {absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}}",
    "{matches: [{path: {value: /short}}], backendRefs: [{name: one, port: 8080}], sessionPersistence: {sessionName: short, absoluteTimeout: 1ms}}",
    "{matches: [{path: {value: /idle}}], backendRefs: [{name: one, port: 8080}], sessionPersistence: {sessionName: idle, idleTimeout: 1h}}",
    "{matches: [{path: {value: /split}}], backendRefs: [{name: one, port: 8080, weight: WEIGHT}, {name: two, port: 8080, weight: 1}], sessionPersistence: {sessionName: split}}",
    "{matches: [{path: {value: /policy}}], backendRefs: [{name: three, port: 8080}]}",
    "{matches: [{path: {value: /over}}], backendRefs: [{name: three, port: 8080}], sessionPersistence: {sessionName: over}}",
];

fn cookie(answer: &Answer) -> String {
    let whole = answer.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {answer:?}"));
    whole.split(';').next().unwrap().to_owned()
}

#[test]
fn at_one_endpoint() {
    let rules: Vec<String> = RULES.iter().map(|rule| rule.replace("WEIGHT", "1")).collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let gate = Gate::of(&[("all.yaml", &manifests(&rules))]);
    let ask = |path: &str, field: &str| {
        curl(
            &["-H", if field.is_empty() { "X-None: 1" } else { field }],
            &format!("http://{}{path}", gate.at("edge", 80)),
        )
    };
    let others: std::collections::BTreeSet<String> = (0..6).map(|_| ask("/plain", "").pod()).collect();
    assert_eq!(others.len(), 3, "without sessions every pod has its turn: {others:?}");

    // Session cookie: its path is that of the match, it has no end of its own, scripts don't see it, other sites don't send it.
    let first = ask("/cookie/deep/x", "");
    let attributes = first.header("set-cookie").unwrap();
    assert!(attributes.ends_with("; HttpOnly; SameSite=Strict; Path=/cookie/deep"), "{attributes}");
    let token = cookie(&first);
    assert!(token.starts_with("id=") && token.len() > 80, "{token}");
    let with = format!("Cookie: a=b; {token}; id2=c");
    for _ in 0..6 {
        let again = ask("/cookie", &with);
        assert_eq!((again.pod(), again.header("set-cookie")), (first.pod(), None));
    }
    // A token of another rule, one that was changed, and none at all begin a new session.
    for other in [token.replace("id=", "split="), format!("{token}x"), "id=".to_owned(), "id=AAAA".to_owned()] {
        let path = if other.starts_with("split") { "/split" } else { "/cookie" };
        assert!(ask(path, &format!("Cookie: {other}")).header("set-cookie").is_some(), "{other}");
    }

    let first = ask("/header", "");
    let token = first.header("x-session").unwrap().to_owned();
    for _ in 0..6 {
        let again = ask("/header", &format!("X-Session: {token}"));
        assert_eq!((again.pod(), again.header("x-session")), (first.pod(), None));
    }

    let attributes = ask("/permanent", "").header("set-cookie").unwrap().to_owned();
    assert!(
        attributes.starts_with("strait-") && attributes.ends_with("; Path=/permanent; Max-Age=3600"),
        "{attributes}"
    );

    // An absolute timeout ends a session that is in use; an idle one is put off with every answer.
    let token = cookie(&ask("/short", ""));
    let deadline = jiff::Timestamp::now() + crate::bed::PATIENCE;
    while ask("/short", &format!("Cookie: {token}")).header("set-cookie").is_none() {
        assert!(jiff::Timestamp::now() < deadline, "the session does not end");
    }
    let first = ask("/idle", "");
    let again = ask("/idle", &format!("Cookie: {}", cookie(&first)));
    assert_eq!(again.pod(), first.pod());
    assert_ne!(cookie(&again), cookie(&first));

    // Of a policy: for all routes to the service, without a path; a rule's own comes first.
    let first = ask("/policy", "");
    let attributes = first.header("set-cookie").unwrap();
    assert!(attributes.starts_with("policy=") && !attributes.contains("Path"), "{attributes}");
    for _ in 0..6 {
        assert_eq!(ask("/policy", &format!("Cookie: {}", cookie(&first))).pod(), first.pod());
    }
    assert!(ask("/over", "").header("set-cookie").unwrap().starts_with("over="));
}

/// The process that takes over knows the sessions of the one before, though nobody gave either a key.
#[test]
fn over_a_hot_restart() {
    let rules = "  - backendRefs: [{name: one, port: 8080}]\n    sessionPersistence: {sessionName: id}\n";
    let manifests = crate::backend::service("one", crate::backend::http().0) + &crate::bed::http(rules);
    let beside = tempfile::tempdir().unwrap();
    let path = beside.path().join("restart");
    let arguments = ["--hot-restart-path", path.to_str().unwrap(), "--drain-time", "600"];
    let mut first = Gate::alone(&[("all.yaml", &manifests)], &arguments);
    let url = format!("http://{}/", first.at("edge", 80));
    let given = curl(&[], &url);
    let with = format!("Cookie: {}", cookie(&given));
    let knows = || curl(&["-H", &with], &url).header("set-cookie").is_none();
    assert!(knows());
    let mut second = first.again(&arguments);
    assert_eq!(first.exit_code(), Some(0));
    assert!(knows(), "a token of the process before");
    // And so on.
    let _third = second.again(&arguments);
    assert_eq!(second.exit_code(), Some(0));
    assert!(knows());
    let answer = curl(&["-H", "Cookie: id=forged"], &url);
    assert!(answer.header("set-cookie").is_some(), "{answer:?}");
}

/// Sessions come before weights, also where a weight becomes zero; new clients go by weight. Other keys mean other tokens.
#[test]
fn over_changes() {
    let rules = |weight: &str| -> String {
        let rules: Vec<String> = RULES.iter().map(|rule| rule.replace("WEIGHT", weight)).collect();
        manifests(&rules.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let gate = Gate::of(&[("all.yaml", &rules("1000000"))]);
    let url = format!("http://{}/split", gate.at("edge", 80));
    let first = curl(&[], &url);
    assert!(first.pod().starts_with("one"), "{}", first.pod());
    let with = format!("Cookie: {}", cookie(&first));
    std::fs::write(gate.folder.path().join("new"), rules("0")).unwrap();
    std::fs::rename(gate.folder.path().join("new"), gate.folder.path().join("all.yaml")).unwrap();
    let deadline = jiff::Timestamp::now() + crate::bed::PATIENCE;
    while !curl(&[], &url).pod().starts_with("two") {
        assert!(jiff::Timestamp::now() < deadline, "the weights do not change");
    }
    for _ in 0..6 {
        assert_eq!(curl(&["-H", &with], &url).pod(), first.pod());
    }
    // Both would listen at the same addresses.
    drop(gate);
    let other = Gate::of(&[("all.yaml", &rules("1"))]);
    let answer = curl(&["-H", &with], &format!("http://{}/split", other.at("edge", 80)));
    assert!(answer.header("set-cookie").is_some(), "a token of another gate");
}
