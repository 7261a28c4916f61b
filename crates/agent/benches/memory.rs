//! What an agent holds in memory on a node with 100 of 50,000 pods: `cargo bench -p strait-agent --bench memory`.
//!
//! 500 nodes, 50 namespaces, 5,000 workloads of ten replicas with two addresses each, 1,000 policies. The agent is the real one but for the
//! kernel, whose maps are in its memory as well (`Fake`), which counts against it. What takes how much is told by a process that takes the
//! agent's steps one by one (`partsMb`).

use std::{
    fs, io,
    path::Path,
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use serde_json::json;
use strait_agent::{
    Client, DenyResponse, Host, Links, Options,
    api::{EndpointSpec, Mac, PodName, SOCKET},
};
use strait_api::source::{Detail, Directory};
use strait_datapath::{Datapath, Fake, give_back_memory};
use strait_model::{AllocatorState, Compiler, Snapshot};

const NODES: usize = 500;
const NAMESPACES: usize = 50;
const APPS: usize = 100;
const REPLICAS: usize = 10;
/// Of each namespace: apps with a policy.
const POLICIES: usize = 20;
const NODE: &str = "node-0";
const GOAL_MB: f64 = 100.0;
/// How often the agent is asked whether it is there, a tenth of a second apart.
const ATTEMPTS: usize = 3000;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let folder = |role| words.iter().find_map(|word| word.strip_prefix(role)).map(Path::new);
    let result = match (folder("agent="), folder("parts=")) {
        (Some(folder), _) => agent(folder),
        (None, Some(folder)) => parts(folder),
        (None, None) => measure(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn agent(folder: &Path) -> Outcome {
    let options = Options {
        node: NODE.into(),
        roots: vec![folder.join("manifests")],
        run_dir: folder.join("run"),
        uplinks: Vec::new(),
        host: Host::default(),
        host_legacy_routing: true,
        deny_response: DenyResponse::Silent,
        state_dir: folder.join("state"),
        host_policy_confirm: Duration::ZERO,
    };
    let lock = strait_agent::lock(&options)?;
    let links = Links {
        index_of: |name| name.trim_start_matches('v').parse().map_err(io::Error::other),
        addresses: || Ok(Vec::new()),
    };
    Ok(strait_agent::run(options, lock, Datapath::over(Fake::new().unrecorded())?, None, links, None)?)
}

/// Takes the steps of an agent's start and tells what memory each leaves behind, without the program's own pages.
fn parts(folder: &Path) -> Outcome {
    let mut before = 0.0;
    let mut grown = || -> Outcome<f64> {
        give_back_memory();
        let now = resident(std::process::id(), "RssAnon")?;
        Ok(now - std::mem::replace(&mut before, now))
    };
    grown()?;
    let directory = Directory::open_with(&[folder.join("manifests")], Detail::Traffic)?;
    let objects = grown()?;
    let snapshot = Snapshot::new(directory.objects());
    let facts = grown()?;
    let mut compiler = Compiler::new(AllocatorState::default());
    let plan = compiler.compile(&snapshot, NODE);
    let planned = grown()?;
    let mut datapath = Datapath::over(Fake::new().unrecorded())?;
    datapath.apply(&plan, &[])?;
    let tables = grown()?;
    let kernel = datapath.into_kernel();
    let mirror = -grown()?;
    drop((kernel, compiler, plan, snapshot, directory));
    let figures = json!({
        "objects": objects, "snapshot": facts, "planAndCompiler": planned,
        "mirror": mirror, "fakeKernel": tables - mirror,
    });
    println!("{figures}");
    Ok(())
}

fn measure() -> Outcome {
    let folder = std::env::temp_dir().join(format!("strait-bench-memory-{}", std::process::id()));
    let result = write(&folder.join("manifests")).and_then(|()| observe(&folder));
    fs::remove_dir_all(&folder)?;
    let figures = result?;
    println!("{figures}");
    Ok(())
}

fn observe(folder: &Path) -> Outcome<serde_json::Value> {
    let told = Command::new(std::env::current_exe()?).arg(format!("parts={}", folder.display())).output()?;
    let parts: serde_json::Value = serde_json::from_slice(&told.stdout)?;
    let mut agent = Command::new(std::env::current_exe()?).arg(format!("agent={}", folder.display())).spawn()?;
    let result = (|| {
        let client = Client::new(folder.join("run").join(SOCKET));
        await_agent(&client)?;
        let [started, peak] = memory(agent.id())?;
        let program = resident(agent.id(), "RssFile")?;
        for number in (0..NAMESPACES * APPS * REPLICAS).step_by(NODES) {
            client.endpoint_add(endpoint(number))?;
        }
        let status = client.status()?;
        fs::write(folder.join("manifests/more.yaml"), policy(7, 3, "more"))?;
        let [changed, _] = await_generation(&client, status.generation, agent.id())?;
        let (status, ipcache) = (client.status()?, client.ipcache()?.len());
        let [answered, peak_after] = memory(agent.id())?;
        Ok(json!({
            "pods": NAMESPACES * APPS * REPLICAS,
            "endpoints": status.endpoints.ready, "closed": status.endpoints.closed,
            "ipcache": ipcache, "problems": status.problems.len(),
            "rssMb": { "started": started, "ofWhichProgram": program, "afterAChange": changed, "afterAnswers": answered },
            "peakMb": { "started": peak, "afterAnswers": peak_after },
            "partsMb": parts, "goalMb": GOAL_MB, "hit": started.max(changed) <= GOAL_MB,
        }))
    })();
    agent.kill()?;
    agent.wait()?;
    result
}

fn await_agent(client: &Client) -> Outcome {
    for _ in 0..ATTEMPTS {
        if client.wait().is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err("the agent does not answer".into())
}

fn await_generation(client: &Client, before: u64, agent: u32) -> Outcome<[f64; 2]> {
    for _ in 0..ATTEMPTS {
        if client.wait()?.generation > before {
            return memory(agent);
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err("the agent takes no change in".into())
}

/// Megabytes that are resident, now and at most.
fn memory(process: u32) -> Outcome<[f64; 2]> {
    Ok([resident(process, "VmRSS")?, resident(process, "VmHWM")?])
}

/// Megabytes, as `/proc/PID/status` names them.
fn resident(process: u32, name: &str) -> Outcome<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next()?.parse::<f64>().ok());
    number.map(|kilobytes| kilobytes / 1024.0).ok_or_else(|| format!("no {name}").into())
}

fn endpoint(number: usize) -> EndpointSpec {
    let (namespace, app, replica) = place(number);
    EndpointSpec {
        name: PodName { namespace: format!("ns-{namespace}").into(), pod: format!("app-{app}-{replica}").into() },
        ifname: format!("v{}", number / NODES + 1),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        addresses: Vec::new(),
    }
}

const fn place(number: usize) -> (usize, usize, usize) {
    (number / REPLICAS / APPS, number / REPLICAS % APPS, number % REPLICAS)
}

/// A file for each namespace, and one for the nodes.
fn write(folder: &Path) -> Outcome {
    fs::create_dir_all(folder)?;
    let nodes: String = (0..NODES).map(node).collect();
    fs::write(folder.join("nodes.yaml"), nodes)?;
    for namespace in 0..NAMESPACES {
        let mut text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: ns-{namespace}}}\n---\n");
        for app in 0..APPS {
            for replica in 0..REPLICAS {
                text.push_str(&pod((namespace * APPS + app) * REPLICAS + replica));
            }
            if app < POLICIES {
                text.push_str(&policy(namespace, app, "app"));
            }
        }
        fs::write(folder.join(format!("ns-{namespace}.yaml")), text)?;
    }
    Ok(())
}

fn node(number: usize) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: node-{number}}}\nstatus: {{addresses: [{{type: InternalIP, address: 172.16.{}.{}}}]}}\n---\n",
        number / 250,
        number % 250 + 1
    )
}

fn pod(number: usize) -> String {
    let (namespace, app, replica) = place(number);
    let (high, middle, low, node) = (number / 62_500, number / 250 % 250, number % 250 + 1, number % NODES);
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: app-{app}-{replica}
  namespace: ns-{namespace}
  labels: {{app: app-{app}, tier: tier-{}, version: v1, pod-template-hash: h{app}}}
  annotations: {{strait.dev/workload: Deployment/app-{app}}}
spec:
  nodeName: node-{node}
  serviceAccountName: app-{app}
  containers:
  - name: main
    image: registry.example/team/app-{app}:v1
    args: [--listen, ':8080']
    env: [{{name: MODE, value: production}}]
    ports: [{{name: http, containerPort: 8080}}, {{name: metrics, containerPort: 9090}}]
status: {{phase: Running, podIPs: [{{ip: 10.{high}.{middle}.{low}}}, {{ip: 'fd00::{high}:{middle}:{low}'}}]}}
---
",
        app % 3
    )
}

fn policy(namespace: usize, app: usize, name: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: {name}-{app}, namespace: ns-{namespace}}}
spec:
  podSelector: {{matchLabels: {{app: app-{app}}}}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{{podSelector: {{matchLabels: {{app: app-{}}}}}}}]
    ports: [{{port: http}}]
  - from: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: ns-{}}}}}}}]
  egress:
  - to: [{{podSelector: {{matchLabels: {{tier: tier-1}}}}}}]
  - to: [{{ipBlock: {{cidr: 203.0.{}.0/24}}}}]
---
",
        (app + 1) % APPS,
        (namespace + 1) % NAMESPACES,
        app % 10,
    )
}
