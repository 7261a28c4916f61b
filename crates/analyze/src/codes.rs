//! Every sort of finding. `docs/analyze.md` has the same table, and a test compares them.

#![expect(clippy::doc_markdown, reason = "the texts are for terminals as well")]

use crate::finding::{
    Code,
    Severity::{self, Error, Info, Warning},
};

const fn code(name: &'static str, severity: Severity, means: &'static str) -> Code {
    Code { name, severity, means }
}

macro_rules! codes {
    ($($id:ident = $name:literal, $severity:ident, $means:literal;)*) => {
        $(#[doc = $means] pub static $id: Code = code($name, $severity, $means);)*
        /// All of them, in the order of the documentation.
        pub static ALL: &[&Code] = &[$(&$id),*];
    };
}

codes! {
    MANIFEST_INVALID = "manifest-invalid", Error, "a manifest cannot be read as what it says it is: nothing of it is in force";
    DUPLICATE_OBJECT = "duplicate-object", Error, "two manifests have the same kind, namespace and name: one of them is not in force";
    UNKNOWN_VERSION = "unknown-version", Error, "a kind of policy in a version that is not served, or misspelt: it is not in force";
    KIND_NOT_ENFORCED = "kind-not-enforced", Warning, "a kind of policy that nothing here enforces";
    FIELD_NOT_ENFORCED = "field-not-enforced", Warning, "a field that is read and that nothing here enforces yet";
    KIND_SUPERSEDED = "kind-superseded", Info, "a kind or version that another has taken the place of";
    VERSION_NOT_READ = "version-not-read", Warning, "an object in a version that is not read: as if it were not there";
    UNKNOWN_FIELD = "unknown-field", Warning, "a field that its kind does not have and that looks like one that it has";
    SKIPPED = "skipped", Warning, "something in a manifest that is not used, or reads other than it looks";
    NAMESPACE_UNKNOWN = "namespace-unknown", Warning, "a policy in a namespace that does not exist";
    SUBJECT_SELECTS_NOTHING = "subject-selects-nothing", Warning, "a policy whose selector selects no pod (or node)";
    SUBJECT_NAMES_OTHER_NAMESPACE = "subject-names-other-namespace", Warning, "a namespaced Cilium policy whose selector names another namespace";
    HOST_NETWORK = "host-network", Warning, "a selector that selects pods of the host network only, which policies do not see as pods";
    PEER_SELECTS_NOTHING = "peer-selects-nothing", Warning, "a peer whose selector selects no pod";
    NAMESPACE_SELECTOR_SELECTS_NOTHING = "namespace-selector-selects-nothing", Warning, "a peer or subject whose selector selects no namespace";
    NODE_SELECTOR_SELECTS_NOTHING = "node-selector-selects-nothing", Warning, "a selector of nodes that selects none";
    SERVICE_ACCOUNT_UNKNOWN = "service-account-unknown", Warning, "a selector by a service account that no pod runs as";
    LABEL_VALUE_UNKNOWN = "label-value-unknown", Warning, "one of several values of a selector that no pod has, and that looks like one that pods have";
    CILIUM_KEY = "cilium-key", Warning, "a selector of a Kubernetes policy asks for a label that only Cilium's selectors know";
    UNKNOWN_LABEL_SOURCE = "unknown-label-source", Warning, "a label source that nothing has labels of";
    CIDR_GROUP_MISSING = "cidr-group-missing", Warning, "a cidrGroupRef to a CiliumCIDRGroup that does not exist";
    CIDR_GROUP_SELECTOR_SELECTS_NOTHING = "cidr-group-selector-selects-nothing", Warning, "a cidrGroupSelector that selects no CiliumCIDRGroup";
    CIDR_GROUP_UNUSED = "cidr-group-unused", Info, "a CiliumCIDRGroup that no policy refers to";
    SERVICE_MISSING = "service-missing", Warning, "a toServices entry that names no Service";
    SERVICE_WITHOUT_BACKENDS = "service-without-backends", Warning, "a toServices entry whose Service has no pods and no addresses";
    SERVICE_SELECTS_NOTHING = "service-selects-nothing", Warning, "a Service whose selector selects no pod";
    SERVICE_TARGET_PORT = "service-target-port", Warning, "a Service whose targetPort no selected pod declares";
    ENTITY_IS_NOBODY = "entity-is-nobody", Info, "an entity that nobody here is";
    NAMED_PORT_UNKNOWN = "named-port-unknown", Warning, "a port name that no destination declares";
    PORT_PROTOCOL = "port-protocol", Warning, "a port that destination pods declare with another protocol";
    PORT_NOT_DECLARED = "port-not-declared", Warning, "a port that no destination pod declares";
    SERVICE_PORT = "service-port", Warning, "the port of a Service where policies see the pods' port";
    CIDR_IN_CLUSTER = "cidr-in-cluster", Warning, "a CIDR of a Cilium policy over addresses of pods or nodes, which it never matches";
    CIDR_OF_SERVICE = "cidr-of-service", Warning, "a CIDR that is a Service's cluster address, which policies never see";
    CIDR_HOST_BITS = "cidr-host-bits", Warning, "a CIDR with bits set behind its length";
    EXCEPT_COVERS_CIDR = "except-covers-cidr", Warning, "exceptions that leave nothing of a CIDR";
    EXCEPT_WITHOUT_EFFECT = "except-without-effect", Warning, "an exception outside of its CIDR or inside another exception";
    MATCHES_NOTHING = "matches-nothing", Warning, "a rule or an entry that matches nothing whoever there is";
    EMPTY_LIST_ALLOWS_ALL = "empty-list-allows-all", Warning, "an empty list of peers or ports, which means all of them";
    ALLOWS_ALL = "allows-all", Warning, "a rule that allows everyone everything, as if no policy isolated";
    DEFAULT_DENY_UNDONE = "default-deny-undone", Warning, "a policy that denies all beside one that allows all to the same pods";
    SPLIT_PEER = "split-peer", Warning, "namespaceSelector and podSelector as two peers where one peer with both seems meant";
    SPLIT_RULE = "split-rule", Warning, "peers and ports as two rules where one rule with both seems meant";
    RULES_WITHOUT_POLICY_TYPE = "rules-without-policy-type", Warning, "rules of a direction that policyTypes does not name";
    POLICY_TYPES_INFERRED = "policy-types-inferred", Warning, "a policy with egress rules only that closes ingress too, as it has no policyTypes";
    NO_RULES = "no-rules", Warning, "a policy without rules, or without a spec";
    REDUNDANT_RULE = "redundant-rule", Warning, "a rule that others wholly cover";
    REDUNDANT_PEER = "redundant-peer", Warning, "a peer that another of its rule covers";
    REDUNDANT_PORT = "redundant-port", Warning, "a port that another of its rule covers";
    SHADOWED_RULE = "shadowed-rule", Warning, "a rule of a tier that earlier rules of the tier leave nothing to decide";
    ALLOW_DENIED = "allow-denied", Warning, "a rule that allows only what another rule denies";
    DENY_OVERRIDDEN = "deny-overridden", Warning, "a rule that denies only what an earlier tier accepts";
    L7_BYPASSED = "l7-bypassed", Warning, "an L7 rule for traffic that another rule allows outright";
    PRIORITY_TIE = "priority-tie", Warning, "two policies of one tier and priority that decide the same traffic differently";
    PASS_WITHOUT_EFFECT = "pass-without-effect", Info, "a Pass rule that no later rule makes a difference to";
    BASELINE_NEVER_REACHED = "baseline-never-reached", Info, "a Baseline policy about pods that policies before it isolate";
    ALLOW_WITHOUT_ISOLATION = "allow-without-isolation", Warning, "a policy that only allows, for pods that nothing isolates";
    EGRESS_WITHOUT_DNS = "egress-without-dns", Warning, "pods that may connect to others but not look up names";
    DNS_OVER_TCP_ONLY = "dns-over-tcp-only", Warning, "pods that may look up names over TCP but not over UDP";
    NAMESPACE_WITHOUT_DEFAULT_DENY = "namespace-without-default-deny", Info, "a namespace in which policies isolate some pods but not all";
    EXPOSED_SERVICE_CLOSED = "exposed-service-closed", Warning, "a NodePort or LoadBalancer Service whose pods let nobody from outside in";
    WORLD_OPEN = "world-open", Warning, "a port of a database or of administration that is open to the whole world";
    REFUSED_BY_DESTINATION = "refused-by-destination", Warning, "an egress rule to pods whose own policies let none of it in";
    REFUSED_BY_SOURCE = "refused-by-source", Warning, "an ingress rule for pods whose own policies let none of it out";
    L7_NOT_ENFORCED = "l7-not-enforced", Warning, "L7, TLS, server-name or listener members: what they are about is denied";
    AUTHENTICATION_NOT_ENFORCED = "authentication-not-enforced", Warning, "authentication: what the rule is about is denied";
    DOMAIN_NAMES_NOT_ENFORCED = "domain-names-not-enforced", Warning, "domain names: they stand for nobody";
    CLOUD_GROUPS_NOT_RESOLVED = "cloud-groups-not-resolved", Warning, "security groups of a cloud: they stand for nobody, in a deny for everyone outside";
    AUDIT_ONLY = "audit-only", Info, "a policy that only reports";
    AUDIT_VALUE = "audit-value", Warning, "the annotation strait.dev/audit with a value that does not turn it on";
    NO_PODS = "no-pods", Info, "policies without any pod beside them: what their selectors select was not looked at";
    GATEWAY_CLASS_UNKNOWN = "gateway-class-unknown", Warning, "a Gateway of a class that no manifest declares";
    GATEWAY_NOT_ACCEPTED = "gateway-not-accepted", Error, "a Gateway that asks for what cannot be had: nothing of it is served";
    LISTENER_CONFLICT = "listener-conflict", Error, "listeners of one Gateway that cannot be told apart: they are not served";
    LISTENER_INVALID = "listener-invalid", Error, "a listener whose protocol, TLS or kinds of routes cannot be";
    LISTENER_PORT_PROTOCOL = "listener-port-protocol", Warning, "HTTP on the port of HTTPS, or the other way round";
    LISTENER_SET_NOT_ALLOWED = "listener-set-not-allowed", Error, "a ListenerSet that its Gateway does not allow";
    CERTIFICATE_EXPIRED = "certificate-expired", Error, "a certificate of a listener that is not valid any more, or not yet";
    CERTIFICATE_HOSTNAME = "certificate-hostname", Warning, "a listener whose certificates are for other names than its hostname";
    REFERENCE_MISSING = "reference-missing", Warning, "a reference of a Gateway, route or policy to an object or port that does not exist";
    REFERENCE_INVALID = "reference-invalid", Warning, "a reference of a Gateway, route or policy to a kind of object that it cannot be to";
    REFERENCE_NOT_PERMITTED = "reference-not-permitted", Error, "a reference to another namespace that no ReferenceGrant there permits";
    POLICY_NOT_IN_FORCE = "policy-not-in-force", Error, "a policy of back ends that another one wins over, or that asks for what cannot be";
    BACKEND_PROTOCOL = "backend-protocol", Warning, "a back end that speaks TLS and that nothing says how to speak TLS to";
    ROUTE_WITHOUT_PARENT = "route-without-parent", Warning, "a route that names no parent";
    ROUTE_PARENT_MISSING = "route-parent-missing", Warning, "a route or ListenerSet whose parent does not exist";
    ROUTE_NOT_ATTACHED = "route-not-attached", Error, "a route that its parent does not take";
    ROUTE_HOSTNAME_UNUSED = "route-hostname-unused", Warning, "a hostname of a route that no listener of its parents has";
    HOST_PATH_CLAIMED_TWICE = "host-path-claimed-twice", Warning, "two routes that claim the same of one host: one of them gets none of it";
    MATCH_SHADOWED = "match-shadowed", Warning, "a match of a route that another one of it leaves nothing to";
    RULE_WITHOUT_BACKEND = "rule-without-backend", Warning, "a rule that has no back end and does not answer itself";
    WEIGHTS_ALL_ZERO = "weights-all-zero", Warning, "a rule whose back ends all have the weight 0";
    FILTER_UNSUPPORTED = "filter-unsupported", Error, "a filter that is not known: what its rule would take is answered with 500";
    GATEWAY_NOT_SELECTED = "gateway-not-selected", Warning, "an Istio Gateway whose selector selects no workload of the gate";
    MATCH_UNUSABLE = "match-unusable", Warning, "a match or an expression of a VirtualService that can take no request";
    REDIRECT_LOOP = "redirect-loop", Error, "a redirect to where the request came from";
}
