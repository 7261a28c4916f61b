//! Files under `/etc` of a pod.

use std::{fmt::Write as _, fs, io, os::unix::fs::symlink};

use crate::{
    dns::DOMAIN,
    error::Error,
    names::{Paths, Place, PodName},
    process::write_atomically,
    topology::PodPlace,
};

/// Writes `resolv.conf`, `hosts` and `hostname` of a pod.
pub(super) fn write(paths: &Paths, name: &PodName, pod: &PodPlace) -> Result<(), Error> {
    let place = Place::Pod(name.clone());
    let folder = paths.place(&place);
    fs::create_dir_all(&folder).map_err(Error::io("making", &folder))?;
    for (file, text) in
        [("resolv.conf", resolv_conf(&name.namespace, pod)), ("hosts", hosts(pod)), ("hostname", pod.hostname.clone())]
    {
        let path = folder.join(file);
        // Running processes have mounted the file itself, so one that stays right is left alone.
        if fs::read(&path).is_ok_and(|old| old == text.as_bytes()) {
            continue;
        }
        // In place, for the same reason: they are to see the change.
        if path.exists() { fs::write(&path, &text) } else { write_atomically(&path, text.as_bytes()) }
            .map_err(Error::io("writing", &path))?;
    }
    if pod.host_network {
        let link = paths.namespace(&place);
        let target = Place::Node(pod.node.clone()).file_name();
        match symlink(target, &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("linking", link)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes them away.
pub(super) fn remove(paths: &Paths, name: &PodName, pod: &PodPlace) -> Result<(), Error> {
    let place = Place::Pod(name.clone());
    if pod.host_network {
        let link = paths.namespace(&place);
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("removing", link)(error)),
            _ => {}
        }
    }
    crate::teardown::remove(&paths.place(&place))
}

/// As the kubelet writes it for `dnsPolicy: ClusterFirst`.
fn resolv_conf(namespace: &str, pod: &PodPlace) -> String {
    let mut text = String::new();
    for server in &pod.name_servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    let _ = writeln!(text, "search {namespace}.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}\noptions ndots:5");
    text
}

fn hosts(pod: &PodPlace) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for address in &pod.addresses {
        let _ = writeln!(text, "{address}\t{}", pod.hostname);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_kubelet_writes_them() {
        let pod = PodPlace {
            node: "node-1".into(),
            addresses: vec!["10.244.1.10".parse().unwrap()],
            host_network: false,
            name_servers: vec!["10.244.2.10".parse().unwrap()],
            hostname: "web-0".to_owned(),
            programs: Vec::new(),
        };
        assert_eq!(
            resolv_conf("shop", &pod),
            "nameserver 10.244.2.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
        );
        assert!(hosts(&pod).ends_with("10.244.1.10\tweb-0\n"));
    }
}
