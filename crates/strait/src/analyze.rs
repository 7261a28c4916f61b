//! `strait analyze`: mistakes in manifests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde::Serialize;
use strait_analyze::{Code, Finding, Manifests, ObjectRef, codes};
use strait_api::{
    Objects, parse,
    source::{Directory, Problem},
};

use crate::ui::{Output, Paint, Ui, print_json};

/// Mistakes in manifests: selectors that select nobody, rules without effect, pods cut off or open without meaning to
///
/// Each finding has a code, a severity, the object, the field, file, line and column, what was found and what to do. What
/// the manifests cannot tell is not reported: analyze policies together with the workloads that they are for. Exit code 0
/// nothing was found, 1 something was, 2 the manifests could not be read.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    strait analyze -f shop/\n  \
    strait analyze -f shop/ -f policies/ --severity warning      (without what is merely worth knowing)\n  \
    strait analyze -f shop/ -o json | jq -r '.[] | [.code, .file, .line] | @tsv'\n  \
    strait analyze --codes                                       (every code and what it means)")]
pub(crate) struct AnalyzeArgs {
    /// Manifests: a file or a folder (*.yaml, *.yml, *.json, recursive); may be repeated
    #[arg(short = 'f', long = "filename", value_name = "DIR", required_unless_present = "codes")]
    roots: Vec<PathBuf>,

    /// The least severity that is reported
    #[arg(long, value_enum, default_value_t, value_name = "SEVERITY")]
    severity: SeverityArg,

    /// Leave findings with this code out; may be repeated
    #[arg(long, value_name = "CODE", value_parser = code)]
    ignore: Vec<&'static Code>,

    /// List every code with its severity and what it means
    #[arg(long, conflicts_with_all = ["roots", "severity", "ignore"])]
    codes: bool,

    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum SeverityArg {
    /// Everything
    #[default]
    Info,
    /// What is probably not what was meant, and errors
    Warning,
    /// What is not in force
    Error,
}

impl SeverityArg {
    const fn severity(self) -> strait_analyze::Severity {
        match self {
            Self::Info => strait_analyze::Severity::Info,
            Self::Warning => strait_analyze::Severity::Warning,
            Self::Error => strait_analyze::Severity::Error,
        }
    }
}

fn code(name: &str) -> Result<&'static Code, String> {
    let found = codes::ALL.iter().copied().find(|code| code.name == name);
    found.ok_or_else(|| "no such code; strait analyze --codes lists them".to_owned())
}

pub(crate) fn run(args: &AnalyzeArgs, ui: Ui) -> anyhow::Result<ExitCode> {
    if args.codes {
        list_codes(args.output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut findings = find(&args.roots)?;
    findings
        .retain(|finding| finding.code.severity >= args.severity.severity() && !args.ignore.contains(&finding.code));
    match args.output {
        Output::Json => print_json(&findings.iter().map(Shown::new).collect::<Vec<_>>())?,
        Output::Text => print(&findings, ui)?,
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn find(roots: &[PathBuf]) -> anyhow::Result<Vec<Finding>> {
    let directory = Directory::open(roots)?;
    let problems: Vec<Problem> = directory.problems().cloned().collect();
    let mut declared = directory.objects().clone();
    for problem in &problems {
        let Problem::Wrong { error, .. } = problem else { continue };
        let file = &error.location.file;
        // One wrong document is no reason to miss the others of its file, and to find that what they hold is not there.
        for object in parse(file, &fs::read(&**file)?).objects {
            if declared.get(&object.key()).is_none() {
                declared.replace(object);
            }
        }
    }
    if declared.is_empty() && problems.is_empty() {
        let roots: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
        bail!("no objects in {} (manifests are *.yaml, *.yml and *.json)", roots.join(", "));
    }
    // What cannot be read is a problem already.
    let texts: BTreeMap<Arc<str>, Vec<u8>> = files(&declared, &problems)
        .into_iter()
        .filter_map(|file| Some((Arc::clone(&file), fs::read(&*file).ok()?)))
        .collect();
    let expansion = strait_cluster::expand(&declared, &strait_cluster::Options::default(), None);
    for note in &expansion.notes {
        eprintln!("note: {note}");
    }
    let now = jiff::Timestamp::now().as_second();
    let manifests =
        Manifests { declared: &declared, expanded: &expansion.objects, problems: &problems, texts: &texts, now };
    Ok(strait_analyze::analyze(&manifests))
}

/// The files that findings can be in: workloads alone are not looked at field by field.
fn files(declared: &Objects, problems: &[Problem]) -> BTreeSet<Arc<str>> {
    use strait_api::Kind;
    let of_objects = declared
        .iter()
        .filter(|object| object.kind().is_strict() || matches!(object.kind(), Kind::Service | Kind::Namespace))
        .map(|object| Arc::clone(&object.meta().location.file));
    let of_problems = problems.iter().filter_map(Problem::location).map(|location| Arc::clone(&location.file));
    of_objects.chain(of_problems).collect()
}

/// A finding as programs read it.
#[derive(Serialize)]
struct Shown<'a> {
    code: &'static str,
    severity: strait_analyze::Severity,
    #[serde(flatten)]
    object: Option<&'a ObjectRef>,
    path: &'a str,
    file: &'a str,
    line: u32,
    column: u32,
    message: &'a str,
    remedy: &'a str,
}

impl<'a> Shown<'a> {
    fn new(finding: &'a Finding) -> Self {
        Self {
            code: finding.code.name,
            severity: finding.code.severity,
            object: finding.object.as_ref(),
            path: &finding.path,
            file: &finding.location.file,
            line: finding.location.line,
            column: finding.location.column,
            message: &finding.message,
            remedy: &finding.remedy,
        }
    }
}

fn print(findings: &[Finding], ui: Ui) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for finding in findings {
        let word = format!("{}[{}]", finding.code.severity, finding.code.name);
        let paint = match finding.code.severity {
            strait_analyze::Severity::Info => Paint::Dim,
            strait_analyze::Severity::Warning => Paint::Yellow,
            strait_analyze::Severity::Error => Paint::Red,
        };
        let object = finding.object.as_ref().map(|object| format!(" {object}")).unwrap_or_default();
        let path = if finding.path.is_empty() { String::new() } else { format!(" {}", finding.path) };
        writeln!(out, "{}: {}{}{path}", finding.location, ui.paint(paint, &word), ui.paint(Paint::Bold, &object))?;
        writeln!(out, "    {}", finding.message)?;
        writeln!(out, "    {}", ui.paint(Paint::Dim, &finding.remedy))?;
    }
    if let [_, _, ..] = findings {
        writeln!(out, "{} findings", findings.len())?;
    }
    out.flush()?;
    Ok(())
}

fn list_codes(output: Output) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Row {
        code: &'static str,
        severity: strait_analyze::Severity,
        means: &'static str,
    }
    let row = |code: &&'static Code| Row { code: code.name, severity: code.severity, means: code.means };
    match output {
        Output::Json => print_json(&codes::ALL.iter().map(row).collect::<Vec<_>>()),
        Output::Text => {
            let mut table = crate::ui::Table::new(["CODE", "SEVERITY", "MEANS"]);
            for code in codes::ALL {
                table.row([code.name.to_owned(), code.severity.to_string(), code.means.to_owned()]);
            }
            table.print(&mut io::stdout().lock())?;
            Ok(())
        }
    }
}
