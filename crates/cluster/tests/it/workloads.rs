//! Which pods workloads come to.

use expect_test::{Expect, expect};

use crate::{expanded, labels, notes, pod, pods, workload};

#[track_caller]
fn check(text: &str, expect: &Expect) {
    expect.assert_eq(&pods(&expanded(text).objects));
}

#[test]
fn every_kind() {
    check(
        &workload("Deployment", "web", "replicas: 3,"),
        &expect![[r#"
        default/web-0 node-1 10.244.1.10 fd00:10:244:1::10 Running
        default/web-1 node-2 10.244.2.10 fd00:10:244:2::10 Running
        default/web-2 node-1 10.244.1.11 fd00:10:244:1::11 Running
    "#]],
    );
    check(
        &workload("ReplicaSet", "web", ""),
        &expect![[r#"
        default/web-0 node-1 10.244.1.10 fd00:10:244:1::10 Running
    "#]],
    );
    check(
        &workload("StatefulSet", "web", "serviceName: web, replicas: 2,"),
        &expect![[r#"
        default/web-0 node-1 10.244.1.10 fd00:10:244:1::10 Running
        default/web-1 node-2 10.244.2.10 fd00:10:244:2::10 Running
    "#]],
    );
    check(
        &workload("DaemonSet", "web", ""),
        &expect![[r#"
        default/web-node-1 node-1 10.244.1.10 fd00:10:244:1::10 Running
        default/web-node-2 node-2 10.244.2.10 fd00:10:244:2::10 Running
    "#]],
    );
    check(
        &workload("ReplicationController", "web", "replicas: 2,"),
        &expect![[r#"
        default/web-0 node-1 10.244.1.10 fd00:10:244:1::10 Running
        default/web-1 node-2 10.244.2.10 fd00:10:244:2::10 Running
    "#]],
    );
    check(
        &workload("Job", "web", "parallelism: 2,"),
        &expect![[r#"
        default/web-0 node-1 10.244.1.10 fd00:10:244:1::10 Running
        default/web-1 node-2 10.244.2.10 fd00:10:244:2::10 Running
    "#]],
    );
    check(
        &workload("CronJob", "web", ""),
        &expect![[r#"
        default/web-0 node-1 10.244.1.10 fd00:10:244:1::10 Running
    "#]],
    );
}

#[test]
fn none() {
    check(&workload("Deployment", "web", "replicas: 0,"), &expect![[""]]);
    check(&workload("Job", "web", "suspend: true,"), &expect![[""]]);
    check(&workload("CronJob", "web", "suspend: true,"), &expect![[""]]);
}

#[test]
fn labels_of_controllers() {
    let all = ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController", "Job", "CronJob"];
    let text: String = all.iter().map(|kind| workload(kind, &kind.to_lowercase(), "")).collect();
    expect![[r#"
        cronjob-0 app=web,batch.kubernetes.io/controller-uid=1e4bfca1-4da3-5492-a268-96645315ed97,batch.kubernetes.io/job-name=cronjob,controller-uid=1e4bfca1-4da3-5492-a268-96645315ed97,job-name=cronjob
        daemonset-node-1 app=web,controller-revision-hash=d55759785,pod-template-generation=1
        daemonset-node-2 app=web,controller-revision-hash=d55759785,pod-template-generation=1
        deployment-0 app=web,pod-template-hash=d55759785
        job-0 app=web,batch.kubernetes.io/controller-uid=03d80b52-1245-5496-a24f-64f1d9f5e928,batch.kubernetes.io/job-name=job,controller-uid=03d80b52-1245-5496-a24f-64f1d9f5e928,job-name=job
        replicaset-0 app=web
        replicationcontroller-0 app=web
        statefulset-0 app=web,apps.kubernetes.io/pod-index=0,controller-revision-hash=statefulset-d55759785,statefulset.kubernetes.io/pod-name=statefulset-0
    "#]].assert_eq(&labels(&expanded(&text).objects));
}

#[test]
fn a_template_that_changes_has_another_hash() {
    let of = |port: &str| {
        let text = workload("Deployment", "web", "").replace("80", port);
        expanded(&text).objects.pods().next().unwrap().meta.labels.get("pod-template-hash").unwrap().to_owned()
    };
    assert_eq!(of("80"), of("80"));
    assert_ne!(of("80"), of("81"));
}

#[test]
fn stateful_pods_have_host_names() {
    let expansion = expanded(&workload("StatefulSet", "web", "serviceName: headless, replicas: 2,"));
    let names: Vec<_> = expansion
        .objects
        .pods()
        .map(|pod| (pod.spec.hostname.as_deref().unwrap(), pod.spec.subdomain.as_deref().unwrap()))
        .collect();
    assert_eq!(names, [("web-0", "headless"), ("web-1", "headless")]);
}

#[test]
fn pods_know_their_workload() {
    let expansion = expanded(&workload("DaemonSet", "web", ""));
    let names: Vec<_> = expansion.objects.pods().map(|pod| strait_cluster::workload(pod)).collect();
    assert_eq!(names, [Some("DaemonSet/web"); 2]);
    let bare = expanded(&pod("bare", "", ""));
    assert_eq!(strait_cluster::workload(bare.objects.pods().next().unwrap()), None);
}

#[test]
fn names_that_are_taken() {
    let text = pod("web-0", "", "")
        + &workload("StatefulSet", "web", "replicas: 2,")
        + &workload("Deployment", "web", "replicas: 2,");
    let expansion = expanded(&text);
    expect![[r#"
        default/web-0 node-1 10.244.1.10 fd00:10:244:1::10 Running
        default/web-1 node-2 10.244.2.10 fd00:10:244:2::10 Running
        default/web-deployment-0 node-1 10.244.1.11 fd00:10:244:1::11 Running
        default/web-deployment-1 node-2 10.244.2.11 fd00:10:244:2::11 Running
    "#]]
    .assert_eq(&pods(&expansion.objects));
    expect![[r#"
        in.yaml:4:1: StatefulSet default/web: there is another pod default/web-0; the StatefulSet cannot make its own
        in.yaml:6:1: Deployment default/web: there is another pod default/web-0; this one is called web-deployment-0
        in.yaml:6:1: Deployment default/web: there is another pod default/web-1; this one is called web-deployment-1
    "#]]
    .assert_eq(&notes(&expansion));
}

#[test]
fn more_than_a_cluster_holds() {
    let text = workload("Deployment", "a", "replicas: 4000000,") + &workload("Deployment", "b", "replicas: 2,");
    let expansion = strait_cluster::expand(&crate::objects(&text), &strait_cluster::Options::default(), None);
    assert_eq!(expansion.objects.pods().count(), usize::try_from(strait_cluster::MAX_PODS).unwrap());
    expect![[r#"
        in.yaml:2:1: Deployment default/a asks for 4000000 pods; 50000 are made, as there may be 50000 in all
        in.yaml:4:1: Deployment default/b asks for 2 pods; 0 are made, as there may be 50000 in all
        pod CIDR 10.244.1.0/24 is full: 24755 pods get no address of it; declare the Node with a larger podCIDR, or more nodes
        pod CIDR 10.244.2.0/24 is full: 24755 pods get no address of it; declare the Node with a larger podCIDR, or more nodes
    "#]].assert_eq(&notes(&expansion));
}

#[test]
fn daemon_sets_go_where_they_may() {
    let nodes = "
---
{apiVersion: v1, kind: Node, metadata: {name: gpu, labels: {accelerator: 'yes'}}}
---
{apiVersion: v1, kind: Node, metadata: {name: plain}}
";
    let on_gpu = workload("DaemonSet", "web", "")
        .replace("spec: {containers", "spec: {nodeSelector: {accelerator: 'yes'}, containers");
    check(
        &(nodes.to_owned() + &on_gpu),
        &expect![[r#"
        default/web-gpu gpu 10.244.1.10 fd00:10:244:1::10 Running
    "#]],
    );
    let on_linux = workload("DaemonSet", "web", "")
        .replace("spec: {containers", "spec: {nodeSelector: {kubernetes.io/os: linux}, containers");
    check(
        &(nodes.to_owned() + &on_linux),
        &expect![[r#"
        default/web-gpu gpu 10.244.1.10 fd00:10:244:1::10 Running
        default/web-plain plain 10.244.2.10 fd00:10:244:2::10 Running
    "#]],
    );
}
