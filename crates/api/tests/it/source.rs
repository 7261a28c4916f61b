//! The directory source on a real filesystem. Nothing sleeps: each test waits on the directory's descriptor for what it expects.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use strait_api::{
    Change, Directory, Problem,
    source::{Detail, InForce},
};

/// Far beyond what any step takes; only a failing test waits this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn policy(name: &str, port: u32) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  podSelector: {{}}\n  ingress:\n  - ports:\n    - port: {port}\n"
    )
}

/// Refreshes as events come until `done`.
#[track_caller]
pub(crate) fn until(directory: &mut Directory, done: impl Fn(&Directory) -> bool) -> Vec<Change> {
    let mut changes = Vec::new();
    loop {
        changes.push(directory.refresh());
        if done(directory) {
            return changes;
        }
        assert!(directory.wait(DEADLINE).unwrap(), "never came: {}", describe(directory));
    }
}

pub(crate) fn describe(directory: &Directory) -> String {
    let objects = directory.objects().iter().map(|object| format!("{} {object:?}", object.key()));
    objects.chain(directory.problems().map(ToString::to_string)).collect::<Vec<_>>().join("\n")
}

fn names(directory: &Directory) -> Vec<String> {
    directory.objects().network_policies().map(|policy| policy.meta.name.to_string()).collect()
}

fn ports(directory: &Directory) -> Vec<String> {
    let rules = directory.objects().network_policies().flat_map(|policy| &policy.ingress);
    rules.flat_map(|rule| &rule.ports).map(|port| format!("{:?}", port.port.as_ref().unwrap())).collect()
}

fn errors(directory: &Directory) -> Vec<String> {
    directory.problems().filter(|problem| problem.is_error()).map(ToString::to_string).collect()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn open(&self) -> Directory {
        Directory::open(&[self.path()]).unwrap()
    }
}

#[test]
fn written_in_place() {
    let folder = Folder::new();
    folder.write("a.yaml", &policy("a", 80));
    let mut directory = folder.open();
    assert_eq!((names(&directory), directory.generation()), (vec!["a".to_owned()], 1));
    let path = folder.write("a.yaml", &policy("a", 81));
    let changes = until(&mut directory, |d| ports(d) == ["Number(81)"]);
    let last = changes.last().unwrap();
    assert_eq!((last.generation, &*last.files[0]), (2, path.to_str().unwrap()));
    assert_eq!(directory.refresh(), Change { generation: 2, ..Change::default() });
}

/// A change of one file among many costs that file, however it is saved; a link among them has all looked at, as it may lead to any.
#[test]
fn others_are_not_looked_at() {
    let folder = Folder::new();
    for index in 0..50 {
        folder.write(&format!("below/{index}.yaml"), &policy(&format!("p{index}"), 80));
    }
    let mut directory = folder.open();
    let has = |port: u32| move |d: &Directory| ports(d).contains(&format!("Number({port})"));
    let sums =
        |changes: &[Change]| changes.iter().fold((0, 0), |sum, of| (sum.0 + of.looked_at.0, sum.1 + of.looked_at.1));
    let saved = folder.write(".7.yaml", &policy("p7", 81));
    fs::rename(saved, folder.path().join("below/7.yaml")).unwrap();
    assert_eq!(sums(&until(&mut directory, has(81))), (1, 1), "renamed");
    folder.write("below/new.yaml", &policy("new", 82));
    assert_eq!(sums(&until(&mut directory, has(82))), (1, 1), "new");
    fs::remove_file(folder.path().join("below/new.yaml")).unwrap();
    let first = directory.refresh();
    assert_eq!((first.looked_at, first.pending), ((1, 0), true), "gone, for now");
    until(&mut directory, |d| !has(82)(d));
    symlink("7.yaml", folder.path().join("below/link.yaml")).unwrap();
    until(&mut directory, |d| d.objects().len() == 50);
    folder.write("below/8.yaml", &policy("p8", 83));
    let changes = until(&mut directory, has(83));
    assert_eq!(changes.last().unwrap().looked_at, (50, 1), "with a link");
}

#[test]
fn replaced_by_rename() {
    let folder = Folder::new();
    folder.write("a.yaml", &policy("a", 80));
    let mut directory = folder.open();
    for port in 81..90 {
        let temporary = folder.write(".a.yaml.tmp", &policy("a", port));
        fs::rename(temporary, folder.path().join("a.yaml")).unwrap();
        until(&mut directory, |d| ports(d) == [format!("Number({port})")]);
    }
}

/// As vim saves: the old file is moved away, a new one written under its name.
#[test]
fn deleted_and_created() {
    let folder = Folder::new();
    let path = folder.write("a.yaml", &policy("a", 80));
    let mut directory = folder.open();
    for port in 81..90 {
        fs::rename(&path, folder.path().join("a.yaml~")).unwrap();
        directory.refresh();
        assert_eq!(names(&directory), ["a"], "in force while it is being saved");
        fs::write(&path, policy("a", port)).unwrap();
        until(&mut directory, |d| ports(d) == [format!("Number({port})")]);
        fs::remove_file(folder.path().join("a.yaml~")).unwrap();
    }
}

#[test]
fn deleted() {
    let folder = Folder::new();
    let path = folder.write("a.yaml", &policy("a", 80));
    folder.write("b.yaml", &policy("b", 80));
    let mut directory = folder.open();
    fs::remove_file(&path).unwrap();
    let first = directory.refresh();
    assert!(first.pending && !first.changed, "{first:?}");
    until(&mut directory, |d| names(d) == ["b"]);
    fs::remove_file(folder.path().join("b.yaml")).unwrap();
    until(&mut directory, |d| names(d).is_empty());
    assert_eq!(errors(&directory), [""; 0]);
}

#[test]
fn renamed_is_never_out_of_force() {
    let folder = Folder::new();
    folder.write("a.yaml", &policy("a", 80));
    let mut directory = folder.open();
    fs::rename(folder.path().join("a.yaml"), folder.path().join("z.yaml")).unwrap();
    let file = |d: &Directory| d.objects().network_policies().next().unwrap().meta.location.file.to_string();
    until(&mut directory, |d| {
        assert_eq!((names(d), errors(d)), (vec!["a".to_owned()], vec![]));
        file(d).ends_with("z.yaml")
    });
}

#[test]
fn half_written_is_not_looked_at() {
    let folder = Folder::new();
    folder.write("a.yaml", &format!("{}---\n{}", policy("a", 80), policy("b", 80)));
    let mut directory = folder.open();
    let mut file = fs::File::create(folder.path().join("a.yaml")).unwrap();
    std::io::Write::write_all(&mut file, policy("a", 81).as_bytes()).unwrap();
    // Another file changes meanwhile, so that the folder is looked at.
    folder.write("c.yaml", &policy("c", 80));
    until(&mut directory, |d| {
        assert!(names(d).starts_with(&["a".to_owned(), "b".to_owned()]), "{}", describe(d));
        names(d).len() == 3
    });
    assert_eq!((ports(&directory)[0].as_str(), errors(&directory)), ("Number(80)", vec![]));
    std::io::Write::write_all(&mut file, format!("---\n{}", policy("b", 82)).as_bytes()).unwrap();
    drop(file);
    until(&mut directory, |d| ports(d) == ["Number(81)", "Number(82)", "Number(80)"]);
}

#[test]
fn broken_then_fixed() {
    let folder = Folder::new();
    folder.write("a.yaml", &policy("a", 80));
    let mut directory = folder.open();
    folder.write("a.yaml", &policy("a", 70000));
    let changes = until(&mut directory, |d| !errors(d).is_empty());
    assert_eq!((ports(&directory), directory.generation()), (vec!["Number(80)".to_owned()], 1));
    assert!(matches!(&changes.last().unwrap().new_problems[..], [Problem::Wrong { in_force: InForce::LastGood, .. }]));
    folder.write("a.yaml", &policy("a", 82));
    let changes = until(&mut directory, |d| errors(d).is_empty());
    assert_eq!((ports(&directory), changes.last().unwrap().solved), (vec!["Number(82)".to_owned()], 1));
}

#[test]
fn one_wrong_document_holds_up_its_file() {
    let folder = Folder::new();
    folder.write("a.yaml", &format!("{}---\n{}", policy("a", 80), policy("b", 80)));
    folder.write("other.yaml", &policy("c", 80));
    let mut directory = folder.open();
    folder.write("a.yaml", &format!("{}---\n{}", policy("a", 81), policy("b", 0)));
    folder.write("other.yaml", &policy("c", 81));
    until(&mut directory, |d| !errors(d).is_empty() && ports(d)[2] == "Number(81)");
    assert_eq!(ports(&directory), ["Number(80)", "Number(80)", "Number(81)"]);
}

#[test]
fn wrong_from_the_start() {
    let folder = Folder::new();
    folder.write("a.yaml", &policy("a", 0));
    folder.write("b.yaml", &policy("b", 80));
    let directory = folder.open();
    assert_eq!(names(&directory), ["b"]);
    let problems: Vec<_> = directory.problems().collect();
    assert!(matches!(problems[..], [Problem::Wrong { in_force: InForce::Nothing, .. }]), "{problems:?}");
    assert!(problems[0].to_string().ends_with("(NOTHING of this file is in force)"), "{}", problems[0]);
}

#[test]
fn emptied_stays_in_force() {
    let folder = Folder::new();
    folder.write("a.yaml", &policy("a", 80));
    let mut directory = folder.open();
    folder.write("a.yaml", "");
    until(&mut directory, |d| !errors(d).is_empty());
    assert_eq!(names(&directory), ["a"]);
    folder.write("a.yaml", "# nothing\n");
    until(&mut directory, |d| errors(d).is_empty());
    assert_eq!(names(&directory), [""; 0]);
}

#[test]
fn folders_come_and_go() {
    let folder = Folder::new();
    let mut directory = folder.open();
    folder.write("x/y/a.yaml", &policy("a", 80));
    until(&mut directory, |d| names(d) == ["a"]);
    folder.write("x/y/b.json", r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}"#);
    until(&mut directory, |d| d.objects().namespaces().count() == 1);
    fs::rename(folder.path().join("x"), folder.path().join("w")).unwrap();
    until(&mut directory, |d| {
        assert_eq!(names(d), ["a"]);
        d.objects().network_policies().all(|policy| policy.meta.location.file.contains("/w/y/"))
    });
    folder.write("w/y/a.yaml", &policy("a", 81));
    until(&mut directory, |d| ports(d) == ["Number(81)"]);
    fs::remove_dir_all(folder.path().join("w")).unwrap();
    until(&mut directory, |d| d.objects().is_empty());
}

/// As the kubelet swaps a ConfigMap mount.
#[test]
fn config_map_swap() {
    let folder = Folder::new();
    let version = |number: u32| {
        folder.write(&format!("..v{number}/a.yaml"), &policy("a", number));
        symlink(format!("..v{number}"), folder.path().join("..data_tmp")).unwrap();
        fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    };
    version(1);
    symlink("..data/a.yaml", folder.path().join("a.yaml")).unwrap();
    let mut directory = folder.open();
    assert_eq!(ports(&directory), ["Number(1)"]);
    for number in 2..9 {
        version(number);
        fs::remove_dir_all(folder.path().join(format!("..v{}", number - 1))).unwrap();
        until(&mut directory, |d| {
            assert_eq!(errors(d), [""; 0]);
            ports(d) == [format!("Number({number})")]
        });
    }
}

#[test]
fn links_are_followed_once() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    folder.write("a.yaml", &policy("a", 80));
    elsewhere.write("more/b.yaml", &policy("b", 80));
    let target = elsewhere.write("c.txt", &policy("c", 80));
    symlink(".", folder.path().join("loop")).unwrap();
    symlink("a.yaml", folder.path().join("again.yaml")).unwrap();
    symlink(elsewhere.path().join("more"), folder.path().join("more")).unwrap();
    symlink(elsewhere.path(), elsewhere.path().join("more/up")).unwrap();
    symlink(&target, folder.path().join("c.yaml")).unwrap();
    symlink("self.yaml", folder.path().join("self.yaml")).unwrap();
    symlink("nowhere.yaml", folder.path().join("dangling.yaml")).unwrap();
    let mut directory = folder.open();
    assert_eq!(names(&directory), ["a", "b", "c"], "{}", describe(&directory));
    assert_eq!(errors(&directory).len(), 2, "{:?}", errors(&directory));
    // What links lead to is watched where it is.
    fs::write(&target, policy("c", 81)).unwrap();
    elsewhere.write("more/b.yaml", &policy("b", 81));
    until(&mut directory, |d| ports(d) == ["Number(80)", "Number(81)", "Number(81)"]);
    let replacement = elsewhere.write("c.new", &policy("c", 82));
    fs::rename(replacement, &target).unwrap();
    until(&mut directory, |d| ports(d)[2] == "Number(82)");
}

#[test]
fn root_replaced() {
    let folder = Folder::new();
    folder.write("root/a.yaml", &policy("a", 80));
    let root = folder.path().join("root");
    let mut directory = Directory::open(&[&root]).unwrap();
    fs::rename(&root, folder.path().join("old")).unwrap();
    until(&mut directory, |d| errors(d).iter().any(|error| error.contains("not there any more")));
    assert_eq!(names(&directory), ["a"]);
    folder.write("new/b.yaml", &policy("b", 80));
    fs::rename(folder.path().join("new"), &root).unwrap();
    until(&mut directory, |d| names(d) == ["b"]);
    assert_eq!(errors(&directory), [""; 0]);
    // The replacement is watched as the first was.
    folder.write("root/b.yaml", &policy("b", 81));
    until(&mut directory, |d| ports(d) == ["Number(81)"]);
}

#[test]
fn root_is_a_file() {
    let folder = Folder::new();
    let path = folder.write("policies.txt", &policy("a", 80));
    folder.write("other.yaml", &policy("b", 80));
    let mut directory = Directory::open(&[&path]).unwrap();
    assert_eq!(names(&directory), ["a"]);
    fs::write(&path, policy("a", 81)).unwrap();
    until(&mut directory, |d| ports(d) == ["Number(81)"]);
    let temporary = folder.write("tmp", &policy("a", 82));
    fs::rename(temporary, &path).unwrap();
    until(&mut directory, |d| ports(d) == ["Number(82)"]);
    fs::write(&path, policy("a", 83)).unwrap();
    until(&mut directory, |d| ports(d) == ["Number(83)"]);
}

#[test]
fn same_object_in_two_files() {
    let folder = Folder::new();
    folder.write("b.yaml", &policy("a", 80));
    let mut directory = folder.open();
    // Sorts before the one in force, and still does not take its place.
    folder.write("a.yaml", &policy("a", 81));
    until(&mut directory, |d| !errors(d).is_empty());
    assert_eq!(ports(&directory), ["Number(80)"]);
    let error = &errors(&directory)[0];
    assert!(error.contains("a.yaml:1:1: NetworkPolicy/shop/a is also at") && error.contains("b.yaml:1:1"), "{error}");
    fs::remove_file(folder.path().join("b.yaml")).unwrap();
    until(&mut directory, |d| {
        assert_eq!(names(d), ["a"]);
        ports(d) == ["Number(81)"] && errors(d).is_empty()
    });
}

#[test]
fn later_roots_win() {
    let (first, second) = (Folder::new(), Folder::new());
    first.write("a.yaml", &policy("a", 80));
    second.write("a.yaml", &policy("a", 81));
    let mut directory = Directory::open(&[first.path(), second.path()]).unwrap();
    assert_eq!((ports(&directory), errors(&directory)), (vec!["Number(81)".to_owned()], vec![]));
    fs::remove_file(second.path().join("a.yaml")).unwrap();
    until(&mut directory, |d| {
        assert_eq!(names(d), ["a"]);
        ports(d) == ["Number(80)"]
    });
}

#[test]
fn unreadable_keeps_the_last_good() {
    let folder = Folder::new();
    folder.write("sub/a.yaml", &policy("a", 80));
    let path = folder.path().join("sub/a.yaml");
    let mut directory = folder.open();
    // A link to itself is unreadable for root too, whom permissions do not stop.
    fs::remove_file(&path).unwrap();
    symlink("a.yaml", &path).unwrap();
    until(&mut directory, |d| !errors(d).is_empty());
    assert_eq!(names(&directory), ["a"]);
    assert!(errors(&directory)[0].contains("cannot be read"), "{:?}", errors(&directory));
    fs::remove_file(&path).unwrap();
    fs::write(&path, policy("a", 81)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    until(&mut directory, |d| ports(d) == ["Number(81)"] && errors(d).is_empty());
}

#[test]
fn what_is_no_manifest_is_left_alone() {
    let folder = Folder::new();
    for name in [".hidden.yaml", "#a.yaml#", ".a.yaml.swp", "a.yaml~", "README.md", ".git/x.yaml", "a.yaml.bak"] {
        folder.write(name, "not: [valid");
    }
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("pipe.yaml"), rustix::fs::Mode::RWXU).unwrap();
    let directory = folder.open();
    assert!(directory.objects().is_empty());
    assert_eq!(errors(&directory).len(), 1, "{:?}", errors(&directory));
    assert!(errors(&directory)[0].contains("pipe.yaml: cannot be read: not a regular file"));
}

#[test]
fn roots_must_be_there() {
    let folder = Folder::new();
    let missing = folder.path().join("missing");
    let error = Directory::open(&[&missing]).err().unwrap().to_string();
    assert!(error.starts_with(missing.to_str().unwrap()), "{error}");
    assert!(Directory::open::<&Path>(&[]).is_err());
}

/// More events than the kernel keeps: everything is looked at again.
#[test]
fn lost_events() {
    let folder = Folder::new();
    let path = folder.write("a.yaml", &policy("a", 80));
    let mut directory = folder.open();
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let (one, other) = (folder.write("one.txt", ""), folder.path().join("other.txt"));
    for _ in 0..=(limit / 4) {
        fs::rename(&one, &other).unwrap();
        fs::rename(&other, &one).unwrap();
    }
    fs::write(&path, policy("a", 81)).unwrap();
    folder.write("b.yaml", &policy("b", 82));
    until(&mut directory, |d| ports(d) == ["Number(81)", "Number(82)"]);
    // And it goes on as before.
    fs::write(&path, policy("a", 83)).unwrap();
    until(&mut directory, |d| ports(d) == ["Number(83)", "Number(82)"]);
}

#[test]
fn too_many_files() {
    let folder = Folder::new();
    folder.write("z.yaml", &policy("z", 80));
    let mut directory = folder.open();
    let empty = folder.write("0.yaml", "");
    for number in 1..10_000 {
        fs::hard_link(&empty, folder.path().join(format!("{number}.yaml"))).unwrap();
    }
    until(&mut directory, |d| !errors(d).is_empty());
    assert_eq!(names(&directory), ["z"], "what was in force stays");
    assert!(errors(&directory)[0].contains("more than 10000"), "{:?}", errors(&directory));
}

#[test]
fn too_large_a_file() {
    let folder = Folder::new();
    folder.write("a.yaml", &policy("a", 80));
    let mut directory = folder.open();
    folder.write("a.yaml", &"#".repeat(9 << 20));
    until(&mut directory, |d| !errors(d).is_empty());
    assert_eq!(names(&directory), ["a"]);
    assert!(errors(&directory)[0].contains("allowed at most 8388608 bytes"), "{:?}", errors(&directory));
}

/// The root is named through a link that is replaced.
#[test]
fn root_is_a_link() {
    let folder = Folder::new();
    folder.write("v1/sub/a.yaml", &policy("a", 80));
    folder.write("v2/sub/a.yaml", &policy("a", 81));
    symlink("v1", folder.path().join("current")).unwrap();
    let mut directory = Directory::open(&[folder.path().join("current/sub")]).unwrap();
    assert_eq!(ports(&directory), ["Number(80)"]);
    symlink("v2", folder.path().join("next")).unwrap();
    fs::rename(folder.path().join("next"), folder.path().join("current")).unwrap();
    until(&mut directory, |d| ports(d) == ["Number(81)"]);
    folder.write("v2/sub/a.yaml", &policy("a", 82));
    until(&mut directory, |d| ports(d) == ["Number(82)"]);
    assert_eq!(errors(&directory), [""; 0]);
}

/// Nothing to do costs nothing and changes nothing; what is not a manifest does not count.
#[test]
fn noise() {
    let folder = Folder::new();
    folder.write("a.yaml", &policy("a", 80));
    let mut directory = folder.open();
    for _ in 0..3 {
        folder.write("notes.txt", "x");
        folder.write(".a.yaml.swp", "x");
        let change = directory.refresh();
        assert_eq!((change.changed, change.generation, change.files.len(), change.pending), (false, 1, 0, false));
    }
    assert!(!directory.wait(Duration::ZERO).unwrap());
    // The same text again is no change.
    folder.write("a.yaml", &policy("a", 80));
    assert!(!directory.refresh().changed);
}

#[test]
fn what_no_traffic_is_judged_by() {
    let text = |image: &str, annotation: &str| {
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: a, namespace: shop, labels: {{app: a}}, annotations: {{strait.dev/workload: {annotation}, note: kept-out}}}}
spec:
  containers:
  - {{name: main, image: {image}, command: [run], args: [fast], env: [{{name: MODE, value: kept-out}}], ports: [{{containerPort: 80}}]}}
  volumes: [{{name: tls, secret: {{secretName: kept-out}}}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: s, namespace: shop}}
stringData: {{kept-out: kept-out}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: c, namespace: shop}}
data: {{kept-out: kept-out}}
"
        )
    };
    for (detail, kept) in [(Detail::Whole, true), (Detail::Traffic, false)] {
        let folder = Folder::new();
        folder.write("a.yaml", &text("one", "one"));
        let mut directory = Directory::open_with(&[folder.path()], detail).unwrap();
        let shown = describe(&directory);
        assert_eq!(shown.contains("kept-out"), kept, "{detail:?}: {shown}");
        assert_eq!(directory.objects().len(), 3, "{detail:?}");
        let pod = directory.objects().pods().next().unwrap();
        assert_eq!(pod.spec.containers[0].ports[0].container_port, 80, "{detail:?}");

        folder.write("a.yaml", &text("two", "one"));
        let changes = until(&mut directory, |d| {
            d.is_in_force(folder.path().join("a.yaml").to_str().unwrap(), text("two", "one").as_bytes())
        });
        assert_eq!(changes.last().unwrap().changed, kept, "{detail:?}");
        folder.write("a.yaml", &text("two", "two"));
        until(&mut directory, |d| describe(d).contains("strait.dev/workload\": \"two"));
    }
}
