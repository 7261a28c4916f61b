//! What reading the manifests has to say.

use strait_api::{ErrorKind, Note, ParseError, Problem, Severity, Topic};
use strait_base::Location;

use crate::{
    Report, codes,
    finding::{Code, Finding, ObjectRef},
};

pub(crate) fn check(problems: &[Problem], report: &mut Report<'_>) {
    for finding in problems.iter().filter_map(finding) {
        let object = finding.object.clone().or_else(|| report.files.object_around(&finding.location));
        report.findings.push(Finding { object, ..finding });
    }
}

fn finding(problem: &Problem) -> Option<Finding> {
    let whole = |file: &std::sync::Arc<str>| Location::new(file, 1, 1);
    match problem {
        Problem::Wrong { error, .. } => Some(wrong(error)),
        Problem::Note(note) => noted(note),
        Problem::Conflict { key, kept, refused } => Some(Finding {
            code: &codes::DUPLICATE_OBJECT,
            object: Some(ObjectRef {
                kind: key.kind.as_str().into(),
                namespace: key.namespace.clone(),
                name: key.name.clone(),
            }),
            path: "metadata.name".to_owned(),
            location: refused.clone(),
            message: format!("the same object is also at {kept}, which is the one in force"),
            remedy: "remove one of them or give it another name".to_owned(),
        }),
        Problem::Unreadable { file, cause, .. } => {
            Some(broken(whole(file), format!("the file cannot be read: {cause}"), "make it readable"))
        }
        Problem::Emptied { file } => Some(broken(whole(file), "the file is empty".into(), "fill or delete it")),
        Problem::TooMany { root, limit } => Some(broken(
            whole(&root.display().to_string().into()),
            format!("there are more than {limit} manifests or folders, and the others are not read"),
            "name a smaller folder",
        )),
        Problem::RootMissing { root } => {
            Some(broken(whole(&root.display().to_string().into()), "it is not there any more".into(), "name another"))
        }
        // That changes will not be noticed is nothing to somebody who asks once.
        Problem::NotWatched { .. } => None,
    }
}

fn broken(location: Location, message: String, remedy: &str) -> Finding {
    let (code, path, remedy) = (&codes::MANIFEST_INVALID, String::new(), remedy.to_owned());
    Finding { code, object: None, path, location, message, remedy }
}

fn wrong(error: &ParseError) -> Finding {
    let code: &Code = match error.kind {
        ErrorKind::UnknownVersion => &codes::UNKNOWN_VERSION,
        ErrorKind::Value if error.path == "kind" => &codes::UNKNOWN_VERSION,
        ErrorKind::Duplicate if error.path == "metadata.name" => &codes::DUPLICATE_OBJECT,
        ErrorKind::Syntax
        | ErrorKind::Limit
        | ErrorKind::Duplicate
        | ErrorKind::UnknownField
        | ErrorKind::Missing
        | ErrorKind::Type
        | ErrorKind::Value => &codes::MANIFEST_INVALID,
    };
    Finding {
        code,
        object: None,
        path: error.path.clone(),
        location: error.location.clone(),
        message: format!("found {}, allowed {}: nothing of the object is in force", error.found, error.allowed),
        remedy: error.remedy.clone().unwrap_or_else(|| "correct it".to_owned()),
    }
}

fn noted(note: &Note) -> Option<Finding> {
    if note.severity == Severity::Info {
        return None;
    }
    let (code, remedy): (&Code, &str) = match note.topic {
        Topic::UnenforcedKind => (&codes::KIND_NOT_ENFORCED, "say the same with a kind that is enforced"),
        Topic::OtherVersion => (&codes::VERSION_NOT_READ, "write the version that is read"),
        Topic::UnknownField => (&codes::UNKNOWN_FIELD, "correct its name or remove it"),
        Topic::NoRules => (&codes::NO_RULES, "add the rules that are meant, or remove the policy"),
        Topic::UnnamedDirection => (&codes::RULES_WITHOUT_POLICY_TYPE, "name the direction in policyTypes"),
        Topic::HostBits => (&codes::CIDR_HOST_BITS, "write the address of the network, or a longer prefix"),
        Topic::EmptyList => (&codes::MATCHES_NOTHING, "name a peer, or remove the rule"),
        Topic::MatchesNothing => (&codes::MATCHES_NOTHING, "say what it is about, or remove it"),
        Topic::UnknownSource => (&codes::UNKNOWN_LABEL_SOURCE, "write the key without a source, or with k8s:"),
        Topic::OtherNamespace => {
            (&codes::SUBJECT_NAMES_OTHER_NAMESPACE, "put the policy in that namespace, or remove the label")
        }
        Topic::NoObject | Topic::Skipped | Topic::UnknownKind => (&codes::SKIPPED, "remove it, or write what is meant"),
        Topic::NotEnforced => (&codes::FIELD_NOT_ENFORCED, "do not count on it, or remove it"),
        Topic::NullString | Topic::LeadingZeros | Topic::VoidL7 => (&codes::SKIPPED, "write what is meant"),
    };
    // The message has the path before it.
    let prefix = format!("{}: ", note.path);
    let message = note.message.strip_prefix(&prefix).filter(|_| !note.path.is_empty()).unwrap_or(&note.message);
    Some(Finding {
        code,
        object: None,
        path: note.path.clone(),
        location: note.location.clone(),
        message: message.to_owned(),
        remedy: remedy.to_owned(),
    })
}
