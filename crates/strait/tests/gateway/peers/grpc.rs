//! tonic on both sides: all four kinds of calls, over plain connections and TLS.

use std::process::Command;

use serde_json::{Value, json};

use super::{Server, grpc_program, place, ran};
use crate::{
    bed::Gate,
    h2::{gateway, outside, route},
};

/// What comes of each call, as the client tells it.
fn expected() -> Vec<Value> {
    let said = |service: &str| json!({ "number": 42, "data": vec![7; 10], "service": service });
    // Each message is one more than the answer to the one before, and each answer twice its message.
    let answers: Vec<u32> = std::iter::successors(Some(2), |last| Some((last % 1000 + 1) * 2)).take(20).collect();
    vec![
        json!({ "unary": said("Echo"), "other": said("Other") }),
        json!({ "metadata": { "text": ["one", "two"], "bytes": [0, 10, 13, 255], "timeoutSeen": true } }),
        json!({ "clientStream": { "messages": 100, "bytes": 100_000, "inOrder": true } }),
        json!({ "serverStream": { "messages": 100, "bytes": 100_000, "inOrder": true } }),
        json!({ "serverStreamError": { "messages": 3, "status": { "code": 10, "message": "no more", "details": [9], "metadata": [0, 1, 255] } } }),
        json!({ "bidirectional": { "answers": answers, "ended": true } }),
        json!({ "large": { "bytes": 8 << 20, "same": true } }),
        json!({ "error": { "code": 9, "message": "not now: 100% \u{fc}", "details": [1, 2, 3], "metadata": [0, 1, 255] } }),
        // A method that the server does not have, and a service that no route takes.
        json!({ "noMethod": 12, "noService": 12 }),
        json!({ "deadline": { "stopped": true } }),
        json!({ "cancelled": { "givenUp": true, "stopped": true } }),
    ]
}

/// Services and methods go to the back ends of their rules; deadlines and cancelled calls reach the server.
#[test]
fn calls_of_tonic() {
    let Some(program) = grpc_program() else { return };
    let (echo, other) = (place(18_095), place(18_096));
    let servers = [echo, other].map(|at| {
        let mut command = Command::new(&program);
        command.args(["serve", &at.to_string()]);
        Server::start(command, at)
    });
    let rules = "  - matches: [{method: {service: strait.peer.Echo}}]\n    backendRefs: [{name: echo, port: 80}]\n  \
                 - matches: [{method: {service: strait.peer.Other, method: Say}}]\n    backendRefs: [{name: other, port: 80}]\n";
    let gateway = gateway();
    let services = outside("echo", echo, "") + &outside("other", other, "");
    let gate = Gate::alone(&[("all.yaml", &[&*gateway, &services, &route("GRPCRoute", "calls", rules)].concat())], &[]);
    // The certificate is its own authority.
    let pem: Vec<_> =
        gateway.lines().map(str::trim).skip_while(|line| *line != "-----BEGIN CERTIFICATE-----").collect();
    let end = pem.iter().position(|line| *line == "-----END CERTIFICATE-----").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, pem[..=end].join("\n") + "\n").unwrap();
    let (plain, tls) = (gate.at("edge", 80), gate.at("edge", 443));
    let believed = ["--ca", authority.to_str().unwrap(), "--name", "a.example"];
    for (url, more) in [(format!("http://{plain}"), &[][..]), (format!("https://{tls}"), &believed)] {
        let told = ran(Command::new(&program).arg("call").arg(&url).args(more));
        let mut told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        // Which of both ends sees a deadline first is not certain: CANCELLED or DEADLINE_EXCEEDED.
        let code = told[9]["deadline"].as_object_mut().unwrap().remove("code");
        assert!(matches!(code.as_ref().and_then(Value::as_u64), Some(1 | 4)), "{url}: {code:?}");
        for (told, expected) in told.iter().zip(expected()) {
            assert_eq!(*told, expected, "{url}");
        }
        assert_eq!(told.len(), expected().len(), "{url}");
    }
    drop(servers);
}
