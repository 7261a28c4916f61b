//! What stays as it is when something else changes.

use std::collections::BTreeMap;

use strait_api::Objects;
use strait_cluster::{Options, expand};

use crate::{nodes, objects, pod, workload};

fn by_name(objects: &Objects) -> BTreeMap<String, String> {
    crate::pods(objects).lines().map(|line| line.split_once(' ').unwrap()).map(|(a, b)| (a.into(), b.into())).collect()
}

/// Every pod that is in both keeps node and addresses.
#[track_caller]
fn check(before: &str, after: &str) -> (Objects, Objects) {
    let first = expand(&objects(before), &Options::default(), None).objects;
    let second = expand(&objects(after), &Options::default(), Some(&first)).objects;
    let (then, now) = (by_name(&first), by_name(&second));
    for (pod, place) in then.iter().filter(|(pod, _)| now.contains_key(*pod)) {
        assert_eq!(now.get(pod), Some(place), "{pod} moved");
    }
    (first, second)
}

#[test]
fn pods_that_come_and_go() {
    let many: Vec<String> = ["d", "e", "f", "g"].iter().map(|name| pod(name, "", "")).collect();
    let (_, after) = check(&many.concat(), &(pod("a", "", "") + &many[1..].concat()));
    assert_eq!(after.pods().count(), 4);
    check(&many.concat(), &many[3]);
    check(&many[3], &many.concat());
}

#[test]
fn scaling() {
    let at = |replicas: u32| {
        workload("Deployment", "web", &format!("replicas: {replicas},")) + &workload("StatefulSet", "db", "")
    };
    let (_, after) = check(&at(5), &at(2));
    assert_eq!(after.pods().count(), 3);
    check(&at(2), &at(9));
}

#[test]
fn an_address_that_another_asks_for_later() {
    let first = expand(&objects(&pod("b", "nodeName: node-1,", "")), &Options::default(), None).objects;
    assert_eq!(by_name(&first)["default/b"], "node-1 10.244.1.10 fd00:10:244:1::10 Running");
    let both = pod("a", "nodeName: node-1,", "podIP: 10.244.1.10") + &pod("b", "nodeName: node-1,", "");
    let second = by_name(&expand(&objects(&both), &Options::default(), Some(&first)).objects);
    assert_eq!(second["default/a"], "node-1 10.244.1.10 fd00:10:244:1::11 Running");
    assert_eq!(second["default/b"], "node-1 10.244.1.11 fd00:10:244:1::10 Running");
}

#[test]
fn nodes_that_come_and_go() {
    let node = |name: &str| format!("---\n{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}}}\n");
    let web = workload("Deployment", "web", "replicas: 4,");
    let (before, after) = check(&(node("m") + &node("z") + &web), &(node("a") + &node("m") + &node("z") + &web));
    let kept: Vec<String> = nodes(&before).lines().map(str::to_owned).collect();
    assert!(kept.iter().all(|line| nodes(&after).contains(line)), "{}\n{}", nodes(&before), nodes(&after));
    let without = expand(&objects(&(node("z") + &web)), &Options::default(), Some(&before)).objects;
    assert!(by_name(&without).values().all(|place| place.starts_with("z 10.244.2.")), "{:?}", by_name(&without));
}

#[test]
fn services_keep_their_addresses() {
    let service = |name: &str| {
        format!("---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{ports: [{{port: 80}}]}}}}\n")
    };
    let first = expand(&objects(&(service("m") + &service("z"))), &Options::default(), None).objects;
    let second = expand(&objects(&(service("a") + &service("z"))), &Options::default(), Some(&first)).objects;
    let of = |objects: &Objects, name: &str| {
        objects
            .services()
            .find(|service| &*service.meta.name == name)
            .map(|service| crate::joined(&service.cluster_ips))
    };
    assert_eq!(of(&first, "z").as_deref(), Some("10.96.0.12 fd00:10:96::12"));
    assert_eq!(of(&second, "z").as_deref(), Some("10.96.0.12 fd00:10:96::12"));
    assert_eq!(of(&second, "a").as_deref(), Some("10.96.0.11 fd00:10:96::11"));
}
