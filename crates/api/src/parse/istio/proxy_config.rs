//! `ProxyConfig`, as the annotation `proxy.istio.io/config` has it and a mesh's configuration under `defaultConfig`.

use std::sync::Arc;

use crate::{
    parse::{
        text::documents,
        tree::{Node, Reads, Value},
    },
    types::istio::ProxyConfig,
};

/// Reads the value of the annotation `proxy.istio.io/config`.
///
/// # Errors
/// What was found and what is allowed, for people.
pub fn proxy_config(text: &str) -> Result<ProxyConfig, String> {
    match document(text)? {
        Some(node) => read(&node),
        None => Ok(ProxyConfig::default()),
    }
}

/// Reads what a mesh's configuration (`mesh` of the config map `istio`) says of all proxies under `defaultConfig`. The rest is not looked at.
///
/// # Errors
/// As [`proxy_config`].
pub fn mesh_proxy_config(text: &str) -> Result<ProxyConfig, String> {
    let node = document(text)?;
    match node.as_ref().and_then(|node| node.get("defaultConfig")) {
        Some(entry) => read(&entry.value).map_err(|why| format!("defaultConfig.{why}")),
        None => Ok(ProxyConfig::default()),
    }
}

fn document(text: &str) -> Result<Option<Arc<Node>>, String> {
    let mut all = Vec::new();
    let faults = documents("proxy.istio.io/config", text.as_bytes(), &mut |node| all.push(node));
    if let Some(fault) = faults.first() {
        return Err(format!("found {}, allowed {}", fault.found, fault.allowed));
    }
    match all.as_slice() {
        [] => Ok(None),
        [node] => Ok(Some(Arc::clone(node))),
        _ => Err(format!("found {} documents, allowed one", all.len())),
    }
}

fn fields<'n>(node: &'n Node, name: &str) -> Result<Vec<(&'n str, &'n Node)>, String> {
    match &node.value {
        Value::Mapping(entries) => Ok(entries.iter().map(|entry| (&*entry.key, &*entry.value)).collect()),
        Value::Scalar(_) if node.is_null() => Ok(Vec::new()),
        Value::Scalar(_) | Value::Sequence(_) => Err(format!("{name}: found {}, allowed a mapping", node.found())),
    }
}

fn read(node: &Node) -> Result<ProxyConfig, String> {
    let mut config = ProxyConfig::default();
    for (name, value) in fields(node, "the configuration")? {
        if name != "gatewayTopology" {
            config.others.push(name.into());
            continue;
        }
        for (name, value) in fields(value, "gatewayTopology")? {
            if name != "numTrustedProxies" {
                config.others.push(format!("gatewayTopology.{name}").into());
                continue;
            }
            let count = match &value.value {
                Value::Scalar(scalar) => match scalar.reads {
                    Reads::Int(count) => u8::try_from(count).ok(),
                    Reads::Null | Reads::Bool(_) | Reads::Float | Reads::String => None,
                },
                Value::Mapping(_) | Value::Sequence(_) => None,
            };
            let allowed = || format!("gatewayTopology.numTrustedProxies: found {}, allowed 0 to 255", value.found());
            config.num_trusted_proxies = Some(count.ok_or_else(allowed)?);
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number and the names of the other fields, or what is wrong.
    type Read = Result<(Option<u8>, &'static [&'static str]), &'static str>;

    #[test]
    fn annotations() {
        let cases: &[(&str, Read)] = &[
            ("", Ok((None, &[]))),
            ("{}", Ok((None, &[]))),
            ("gatewayTopology: {numTrustedProxies: 2}", Ok((Some(2), &[]))),
            (r#"{"gatewayTopology": {"numTrustedProxies": 0}}"#, Ok((Some(0), &[]))),
            ("gatewayTopology:", Ok((None, &[]))),
            (
                "gatewayTopology: {forwardClientCertDetails: SANITIZE, numTrustedProxies: 1}\nconcurrency: 2",
                Ok((Some(1), &["gatewayTopology.forwardClientCertDetails", "concurrency"])),
            ),
            ("gatewayTopology: {numTrustedProxies: -1}", Err("found -1, allowed 0 to 255")),
            ("gatewayTopology: {numTrustedProxies: 256}", Err("found 256, allowed 0 to 255")),
            ("gatewayTopology: {numTrustedProxies: many}", Err("allowed 0 to 255")),
            ("gatewayTopology: 3", Err("gatewayTopology: found 3, allowed a mapping")),
            ("- a", Err("allowed a mapping")),
            ("a: {", Err("allowed valid YAML")),
            ("{}\n---\n{}", Err("found 2 documents, allowed one")),
        ];
        for (text, expected) in cases {
            match (proxy_config(text), expected) {
                (Ok(found), Ok((count, others))) => {
                    let names: Vec<&str> = found.others.iter().map(|name| &**name).collect();
                    assert_eq!((found.num_trusted_proxies, names.as_slice()), (*count, *others), "{text}");
                }
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
                (found, expected) => panic!("{text}: {found:?}, {expected:?}"),
            }
        }
        let mesh = "accessLogFile: /dev/stdout\ndefaultConfig: {gatewayTopology: {numTrustedProxies: 3}}";
        assert_eq!(mesh_proxy_config(mesh).map(|of| of.num_trusted_proxies), Ok(Some(3)));
        assert_eq!(mesh_proxy_config("accessLogFile: x").map(|of| of.num_trusted_proxies), Ok(None));
        assert!(mesh_proxy_config("defaultConfig: 1").is_err_and(|why| why.starts_with("defaultConfig.")));
    }
}
