//! Labs come and go, and leave nothing behind.

use std::{fs, path::Path};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use strait_lab::{Error, Lab, leak::Traces};

use crate::bed::{Bed, eventually, kill, options, possible, strait};

const TWO_PODS: &str = "\
kind: Pod
apiVersion: v1
metadata: {name: one}
spec: {containers: [{name: c, ports: [{containerPort: 80}]}]}
---
kind: Pod
apiVersion: v1
metadata: {name: two}
spec: {containers: [{name: c, ports: [{containerPort: 80}, {containerPort: 53, protocol: UDP}]}]}
";

#[test]
fn nothing_is_left_behind() {
    let Some(bed) = Bed::up("left", &[("pods.yaml", TWO_PODS)]) else { return };
    assert!(bed.reaches("default/one", "default/two", 80));
    bed.down();
}

#[test]
fn nothing_is_left_behind_after_a_crash() {
    let Some(bed) = Bed::up("crash", &[("pods.yaml", TWO_PODS)]) else { return };
    let status = bed.lab.status().unwrap();
    kill(status.supervisor);
    eventually("the supervisor is gone", || !bed.lab.supervised());
    // Without it everything goes on.
    let to = status.pods.iter().find(|pod| &*pod.name.name == "two").unwrap().addresses[0].to_string();
    assert!(bed.prints("default/one", &["curl", "-s", "--max-time", "5", &format!("http://{to}/")]).contains("two"));
    assert!(matches!(bed.lab.status(), Err(Error::Abandoned(_))));
    assert!(matches!(Lab::up(options("crash", bed.folder()), |_| {}), Err(Error::Abandoned(_))));
    bed.down();
}

#[test]
fn what_fails_on_the_way_up_is_taken_away() {
    if !possible("fails") {
        return;
    }
    let before = Traces::now();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pods.yaml"), TWO_PODS).unwrap();
    let mut broken = options("fails", folder.path());
    let name = broken.name.clone();
    // Starts as supervisor, and then cannot be an agent.
    let script = folder.path().join("strait");
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *'agent --node'*) echo no agent today >&2; exit 3;; esac\nexec {} \"$@\"\n",
        env!("CARGO_BIN_EXE_strait")
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    broken.executable = script;
    let error = Lab::up(broken, |_| {}).unwrap_err().to_string();
    assert!(error.contains("no agent today"), "{error}");
    let left = Traces::now().since(&before).of(&name);
    assert!(left.is_empty(), "left behind:\n{left}");

    let error = Lab::up(options("fails", Path::new("/nowhere")), |_| {}).unwrap_err().to_string();
    assert!(error.contains("/nowhere"), "{error}");
    let left = Traces::now().since(&before).of(&name);
    assert!(left.is_empty(), "left behind:\n{left}");
}

#[test]
fn one_of_a_name() {
    let Some(bed) = Bed::up("name", &[("pods.yaml", TWO_PODS)]) else { return };
    let error = Lab::up(options("name", bed.folder()), |_| {}).unwrap_err().to_string();
    assert!(error.contains("is running") && error.contains("strait lab down --lab"), "{error}");
    // The attempt did the running one no harm.
    assert!(bed.reaches("default/one", "default/two", 80));
    let list = strait().args(["lab", "list", "-o", "json"]).output().unwrap();
    assert!(String::from_utf8_lossy(&list.stdout).contains(&format!("\"{}\"", bed.lab.name())));
    bed.down();
}

#[test]
fn not_from_inside() {
    let Some(bed) = Bed::up("inside-down", &[("pods.yaml", TWO_PODS)]) else { return };
    let name = bed.lab.name().to_string();
    let output = bed.exec("default/one", &[env!("CARGO_BIN_EXE_strait"), "lab", "down", "--lab", &name]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("outside of the lab"));
    bed.down();
}

#[test]
fn side_by_side() {
    let Some(first) = Bed::up("a", &[("pods.yaml", TWO_PODS)]) else { return };
    let Some(second) = Bed::up("b", &[("pods.yaml", TWO_PODS)]) else { return };
    assert_eq!(first.address("default/two", true), second.address("default/two", true));
    let deny =
        "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {name: deny}\nspec: {podSelector: {}}\n";
    first.save("deny.yaml", deny);
    first.lab.sync().unwrap();
    assert!(first.denied("default/one", "default/two", 80));
    assert!(second.reaches("default/one", "default/two", 80));
    first.down();
    assert!(second.reaches("default/one", "default/two", 80));
    second.down();
}

#[test]
fn down_is_for_ever() {
    if !possible("for-ever") {
        return;
    }
    for _ in 0..2 {
        let output = strait().args(["lab", "down", "--lab", "never-there"]).output().unwrap();
        assert!(output.status.success());
    }
}

#[test]
fn a_lab_that_nobody_waits_for_is_taken_away() {
    if !possible("orphan") {
        return;
    }
    let before = Traces::now();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pods.yaml"), TWO_PODS).unwrap();
    let name = options("orphan", folder.path()).name;
    let mut up = strait();
    up.args(["lab", "up", "--name", &name.to_string(), "-f"]).arg(folder.path());
    let mut up = up.spawn().unwrap();
    eventually("the lab is half made", || Traces::now().since(&before).of(&name).to_string().contains("_node_node-2"));
    up.kill().unwrap();
    up.wait().unwrap();
    eventually("all is taken away", || Traces::now().since(&before).of(&name).is_empty());
}

/// A lab goes on after the command that started it, and must not hold what that had open: a lock would never be free again.
#[test]
fn a_lab_keeps_nothing_open_that_its_starter_had() {
    let held = tempfile::NamedTempFile::new().unwrap();
    if possible("a_lab_keeps_nothing_open_that_its_starter_had") {
        fcntl(held.as_file(), FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        held.as_file().lock().unwrap();
    }
    let Some(bed) = Bed::up("held", &[("pods.yaml", TWO_PODS)]) else { return };
    let (file, path) = held.into_parts();
    drop(file);
    fs::File::open(&path).unwrap().try_lock().unwrap();
    bed.down();
}
