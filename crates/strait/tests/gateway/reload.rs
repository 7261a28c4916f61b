//! Changes while requests are served.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use crate::bed::{Gate, PATIENCE, app, curl, http};

/// A saved change is served, on connections that are open already too; a broken file changes nothing.
#[test]
fn saved_changes() {
    let to = |name: &str| http(&format!("  - backendRefs: [{{name: {name}, port: 8080}}]\n"));
    let apps = format!("{}{}", app("one"), app("two"));
    let gate = Gate::of(&[("apps.yaml", &apps), ("route.yaml", &to("one"))]);
    let at = gate.at("edge", 80);
    let mut open = TcpStream::connect(at).unwrap();
    open.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut ask = || {
        open.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let (mut text, mut part) = (String::new(), [0; 4096]);
        while !text.trim_end().ends_with('}') {
            let length = open.read(&mut part).unwrap();
            assert!(length > 0, "closed after {text:?}");
            text.push_str(std::str::from_utf8(&part[..length]).unwrap());
        }
        text
    };
    assert!(ask().contains("\"pod\": \"one-0\""));
    let save = |text: &str| {
        fs::write(gate.folder.path().join("new"), text).unwrap();
        fs::rename(gate.folder.path().join("new"), gate.folder.path().join("route.yaml")).unwrap();
    };
    save(&to("two"));
    let deadline = jiff::Timestamp::now() + PATIENCE;
    while !ask().contains("\"pod\": \"two-0\"") {
        assert!(jiff::Timestamp::now() < deadline, "the change is not served");
    }
    save("kind: [");
    save(&to("one").replace("8080", "80800"));
    assert!(ask().contains("\"pod\": \"two-0\""));
    assert_eq!(curl(&[], &format!("http://{at}/")).pod(), "two-0");
}
