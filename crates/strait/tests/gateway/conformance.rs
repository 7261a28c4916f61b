//! The specification's own cases, asked with curl.

use std::{collections::BTreeSet, fs, net::SocketAddr, path::Path};

use serde_json::Value;
use strait_api::{Object, parse};

use crate::bed::{Answer, Gate, curl, shared};

/// Every request of the conformance suite that is at hand gets the response that the suite expects.
#[test]
fn every_case() {
    let Some(root) = shared("gateway-api") else { return };
    let tests: Value = serde_json::from_slice(&fs::read(root.join("expected-cases.json")).unwrap()).unwrap();
    let (mut asked, mut wrong) = (0, Vec::new());
    for test in tests.as_array().unwrap() {
        let name = test["test"].as_str().unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::copy(root.join("base/manifests.yaml"), folder.path().join("base.yaml")).unwrap();
        let mut parents = BTreeSet::new();
        for (index, manifest) in test["manifests"].as_array().unwrap().iter().enumerate() {
            let path = root.join(manifest.as_str().unwrap());
            parents.extend(parents_of(&path));
            fs::copy(&path, folder.path().join(format!("{index}.yaml"))).unwrap();
        }
        let gate = Gate::over(folder);
        for (index, case) in test["cases"].as_array().unwrap().iter().enumerate() {
            // The suite takes the grant away before the last request of this test.
            if name == "HTTPRouteReferenceGrant" && index == 1 {
                without_grant(&gate);
            }
            asked += 1;
            let places = parents.iter().flat_map(|gateway| gate.places(gateway));
            let refusals: Vec<String> = places.filter_map(|(port, at)| refused(case, port, at).err()).collect();
            if refusals.len() == parents.len() {
                wrong.push(format!("{name}, case {index}: {}", refusals.join("; ")));
            }
        }
    }
    assert!(asked >= 115, "{asked} cases");
    assert!(wrong.is_empty(), "{} of {asked} cases fail:\n{}", wrong.len(), wrong.join("\n"));
}

/// The gateways that the routes of a file name as parents.
fn parents_of(path: &Path) -> Vec<String> {
    let parsed = parse(&"file.yaml".into(), &fs::read(path).unwrap());
    let names = parsed.objects.iter().flat_map(|object| {
        let Object::Route(route) = object else { return Vec::new() };
        route.parents.iter().map(|parent| parent.name.to_string()).collect()
    });
    names.collect()
}

fn without_grant(gate: &Gate) {
    let path = gate.folder.path().join("0.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> = text.split("\n---\n").filter(|document| !document.contains("kind: ReferenceGrant")).collect();
    fs::write(gate.folder.path().join("new"), kept.join("\n---\n")).unwrap();
    fs::rename(gate.folder.path().join("new"), path).unwrap();
    gate.until_status("refused reference", |text| text.contains("RefNotPermitted"));
}

/// Sends the request of a case to one listener.
fn refused(case: &Value, port: u16, at: SocketAddr) -> Result<(), String> {
    let request = &case["Request"];
    let path = request["Path"].as_str().unwrap_or("/");
    let host = request["Host"].as_str().unwrap_or_default();
    let mut arguments = vec!["-X".to_owned(), request["Method"].as_str().unwrap_or("GET").to_owned()];
    for (name, value) in request["Headers"].as_object().into_iter().flatten() {
        arguments.extend(["-H".to_owned(), format!("{name}: {}", value.as_str().unwrap())]);
    }
    let url = if port == 443 {
        arguments.extend(["--connect-to".to_owned(), format!("::{at}")]);
        format!("https://{host}{path}")
    } else {
        if !host.is_empty() {
            arguments.extend(["-H".to_owned(), format!("Host: {host}")]);
        }
        format!("http://{at}{path}")
    };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    check(case, &curl(&arguments, &url))
}

fn check(case: &Value, answer: &Answer) -> Result<(), String> {
    let want = &case["Response"];
    let codes: Vec<u64> = match want["StatusCodes"].as_array() {
        Some(codes) => codes.iter().filter_map(Value::as_u64).collect(),
        None => vec![want["StatusCode"].as_u64().unwrap_or(200)],
    };
    if !codes.contains(&u64::from(answer.status)) {
        return Err(format!("{} for {}, not {codes:?}", answer.status, case["Request"]));
    }
    if let Some(host) = case["RedirectRequest"]["Host"].as_str() {
        let location = answer.header("location").unwrap_or_default();
        return if location.contains(&format!("://{host}/")) { Ok(()) } else { Err(format!("location {location}")) };
    }
    if answer.status != 200 {
        return Ok(());
    }
    let echo = answer.echo();
    let backend = case["Backend"].as_str().unwrap_or_default();
    if !answer.pod().starts_with(backend) || echo["namespace"] != case["Namespace"] {
        return Err(format!("answered by {}/{}", echo["namespace"], echo["pod"]));
    }
    let expected = &case["ExpectedRequest"];
    let arrived = |name: &str| {
        let headers = echo["headers"].as_object()?;
        let (_, values) = headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        let values: Vec<&str> = values.as_array()?.iter().filter_map(Value::as_str).collect();
        Some(values.join(","))
    };
    if let Some(path) = expected["Request"]["Path"].as_str()
        && echo["path"] != path
    {
        return Err(format!("path {} arrived", echo["path"]));
    }
    for (name, value) in expected["Request"]["Headers"].as_object().into_iter().flatten() {
        if arrived(name).as_deref() != value.as_str() {
            return Err(format!("{name}: {:?} arrived", arrived(name)));
        }
    }
    for name in expected["AbsentHeaders"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if arrived(name).is_some() {
            return Err(format!("{name} arrived"));
        }
    }
    Ok(())
}
