//! `strait status render`.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use serde_json::{Value, json};
use strait_api::Directory;
use strait_route::Status;

use super::{compiled, yaml};

/// The status that every Gateway API object of manifests would get
///
/// Needs no cluster and no root. Exit code 0; 1 when a manifest cannot be read or a condition does not hold.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait status render -f manifests/\n  \
    strait status render -f manifests/ -o json")]
pub(crate) struct RenderArgs {
    /// File or folder of manifests; may be repeated
    #[arg(short, long, value_name = "DIR", required = true)]
    filename: Vec<PathBuf>,

    /// Addresses for Gateways
    #[arg(long, value_name = "CIDR", default_value = "127.77.0.0/24")]
    address_pool: IpNet,

    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum Form {
    #[default]
    Yaml,
    Json,
}

pub(crate) fn render(args: &RenderArgs) -> anyhow::Result<ExitCode> {
    let directory = Directory::open(&args.filename)?;
    let mut ok = true;
    for problem in directory.problems() {
        eprintln!("{problem}");
        ok = false;
    }
    let expanded = strait_cluster::expand(directory.objects(), &strait_cluster::Options::default(), None);
    let compiled = compiled(&expanded.objects, args.address_pool);
    let text = match args.output {
        Form::Yaml => documents(&compiled.statuses),
        Form::Json => {
            let all: Vec<Value> = compiled.statuses.iter().map(document).collect();
            format!("{}\n", serde_json::to_string_pretty(&all)?)
        }
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    ok &= compiled.statuses.iter().all(|status| holds(&status.status));
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether every condition that should hold does. `Conflicted`, `PartiallyInvalid` and the insecure mode of validation should not.
fn holds(value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            let wrong = fields.get("type").and_then(Value::as_str).is_some_and(|kind| {
                let wrong = matches!(kind, "Conflicted" | "InsecureFrontendValidationMode" | "PartiallyInvalid");
                let wanted = if wrong { "False" } else { "True" };
                fields.get("status").and_then(Value::as_str).is_some_and(|status| status != wanted)
            });
            !wrong && fields.values().all(holds)
        }
        Value::Array(items) => items.iter().all(holds),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// All statuses as YAML documents.
pub(super) fn documents(statuses: &[Status]) -> String {
    let mut out = String::new();
    for status in statuses {
        out.push_str("---\n");
        yaml::write(&document(status), &mut out);
    }
    out
}

fn document(status: &Status) -> Value {
    let mut metadata = json!({"name": &*status.object.name});
    if !status.object.namespace.is_empty() {
        metadata["namespace"] = json!(&*status.object.namespace);
    }
    json!({
        "apiVersion": status.api_version,
        "kind": status.object.kind.as_str(),
        "metadata": metadata,
        "status": status.status,
    })
}
