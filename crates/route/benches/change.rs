//! What it costs to follow a change of one among many routes: CPU of the thread, from the saved file to the plan.
//!
//! `cargo bench -p strait-route --bench change`; `STRAIT_ROUTES` says how many routes there are, 5,000 unless it does.

use std::{error::Error, fs, path::Path};

use strait_api::{Directory, Object, ObjectKey};
use strait_route::{Assigned, Compiled, Compiler, Resolved, assign};

const CHANGES: u64 = 200;
const NOW: &str = "2026-01-01T00:00:00Z";

const EDGE: &str = r#"{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"name":"edge"},"spec":{"gatewayClassName":"strait","listeners":[{"name":"edge","port":80,"protocol":"HTTP"}]}}
---
{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"ports":[{"port":80}]}}
---
{"apiVersion":"v1","kind":"Service","metadata":{"name":"b"},"spec":{"ports":[{"port":80}]}}"#;

fn write(folder: &Path, draft: &Path, number: usize, backend: &str) -> std::io::Result<()> {
    let route = format!(
        r#"{{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{{"name":"r{number}"}},"spec":{{"parentRefs":[{{"name":"edge"}}],"hostnames":["r{number}.example.com"],"rules":[{{"matches":[{{"path":{{"type":"PathPrefix","value":"/p{number}"}}}}],"timeouts":{{"request":"15s"}},"backendRefs":[{{"name":"{backend}","port":80}}]}}]}}}}"#
    );
    fs::write(draft, route)?;
    fs::rename(draft, folder.join(format!("route-{number}.json")))
}

/// CPU time of this thread in microseconds.
fn cpu() -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let spent = text.split_whitespace().next().ok_or("no time in schedstat")?;
    Ok(spent.parse::<u64>()? / 1_000)
}

fn resident_mib() -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split_whitespace().nth(1).ok_or("no memory in statm")?.parse()?;
    Ok(pages * 4 / 1024)
}

fn main() -> Result<(), Box<dyn Error>> {
    let routes: usize = std::env::var("STRAIT_ROUTES").map_or(Ok(5_000), |text| text.parse())?;
    let home = std::env::temp_dir().join(format!("strait-change-{}", std::process::id()));
    let (folder, draft) = (home.join("manifests"), home.join("draft"));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("edge.yaml"), EDGE)?;
    for number in 0..routes {
        write(&folder, &draft, number, "a")?;
    }
    let before = cpu()?;
    let mut directory = Directory::open(&[&folder])?;
    let read = cpu()?;
    let assigned = assign(Compiled::gateways(directory.objects()), "127.77.0.0/24".parse()?, &Assigned::new());
    let mut compiler = Compiler::new();
    let all: Vec<ObjectKey> = directory.objects().iter().map(Object::key).collect();
    compiler.update(directory.objects(), &all, &assigned, &Resolved::new(), NOW);
    let mut plan = compiler.plan();
    let made = cpu()?;
    println!("{routes} routes: read {} µs, compiled {} µs, {} MiB", read - before, made - read, resident_mib()?);
    let (mut refresh, mut update, mut snapshot) = (0, 0, 0);
    for change in 0..CHANGES {
        write(&folder, &draft, routes / 2, if change % 2 == 0 { "b" } else { "a" })?;
        let start = cpu()?;
        let changed = directory.refresh();
        let refreshed = cpu()?;
        let recompiled = compiler.update(directory.objects(), &changed.objects, &assigned, &Resolved::new(), NOW);
        let updated = cpu()?;
        plan = compiler.plan();
        let taken = cpu()?;
        assert_eq!((changed.looked_at, recompiled.routes), ((1, 1), 1));
        (refresh, update, snapshot) =
            (refresh + (refreshed - start), update + (updated - refreshed), snapshot + (taken - updated));
    }
    let each = |sum: u64| sum / CHANGES;
    println!(
        "one of them changed: refresh {} µs, compile {} µs, plan {} µs, {} MiB",
        each(refresh),
        each(update),
        each(snapshot),
        resident_mib()?
    );
    assert_eq!(plan.ports.len(), 1);
    fs::remove_dir_all(&home)?;
    Ok(())
}
