//! What of Istio's objects is most likely not meant: what compiling them has to say.

use strait_route::{TroubleKind, troubles};

use crate::{
    Context, Report, codes,
    finding::{Code, Finding, ObjectRef},
};

pub(crate) fn check(context: &Context<'_>, report: &mut Report<'_>) {
    let declared = context.declared;
    let is_there = declared.istio_gateways().next().is_some()
        || declared.virtual_services().next().is_some()
        || declared.gateways().next().is_some();
    if !is_there {
        return;
    }
    for trouble in troubles(context.objects) {
        let (code, remedy): (&Code, &str) = match trouble.kind {
            TroubleKind::NotSelected => (&codes::GATEWAY_NOT_SELECTED, "select istio: ingressgateway"),
            TroubleKind::Missing => (&codes::REFERENCE_MISSING, "add what is missing, or correct its name"),
            TroubleKind::Claimed => {
                (&codes::HOST_PATH_CLAIMED_TWICE, "remove one of them, or say what tells them apart")
            }
            TroubleKind::Unusable => (&codes::MATCH_UNUSABLE, "write what can be matched"),
            TroubleKind::NotEnforced => (&codes::FIELD_NOT_ENFORCED, "do not count on it, or remove it"),
        };
        let (object, location) = (trouble.object, trouble.location);
        let object = ObjectRef { kind: object.kind.as_str().into(), namespace: object.namespace, name: object.name };
        let (path, remedy) = (String::new(), remedy.to_owned());
        let object = Some(object);
        report.findings.push(Finding { code, object, path, location, message: trouble.message, remedy });
    }
}
