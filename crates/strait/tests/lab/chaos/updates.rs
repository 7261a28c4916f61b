//! Changes of policies, one after the other. Most touch the subjects of the traffic and leave what it may do; every fifth
//! changes what one pod may do. Each follows from its number alone.

use crate::bed::Bed;

/// Pods: clients and a server on each node, one that may not, one whose permission changes and its goal, and one that nothing
/// is asked of.
pub(super) fn pods() -> String {
    let pods = [
        ("client-a", "client", "node-1"),
        ("client-b", "client", "node-2"),
        ("server-1", "server", "node-1"),
        ("server-2", "server", "node-2"),
        ("stranger", "stranger", "node-1"),
        ("prober", "prober", "node-1"),
        ("goal", "goal", "node-2"),
    ];
    let pod = |(name, app, node): (&str, &str, &str)| {
        format!(
            "kind: Pod\napiVersion: v1\nmetadata: {{name: {name}, labels: {{app: {app}}}}}\n\
             spec: {{nodeName: {node}, containers: [{{name: c}}]}}\n---\n"
        )
    };
    pods.map(pod).concat()
}

/// Where connections go, transfers, iperf3; and what no policy allows.
pub(super) const CONNECT: [u16; 4] = [8001, 8002, 8003, 8004];
pub(super) const TRANSFER: u16 = 8000;
pub(super) const IPERF: u16 = 5201;
pub(super) const LEDGER: u16 = 8005;
pub(super) const FORBIDDEN: u16 = 8999;

/// What the traffic's permissions come from; never changed.
pub(super) const BASE: &str = "\
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {name: server}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress:
    - from: [{podSelector: {matchLabels: {app: client}}}]
      ports: [{port: 8000, endPort: 8005}, {port: 5201}]
---
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {name: client}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Ingress, Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: server}}}]}]
";

/// What the prober may: reach its goal, or not.
pub(super) fn prober(allowed: bool) -> String {
    let port = if allowed { CONNECT[0] } else { FORBIDDEN };
    format!(
        "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {{name: prober}}\nspec:\n  \
         podSelector: {{matchLabels: {{app: prober}}}}\n  policyTypes: [Egress]\n  \
         egress: [{{to: [{{podSelector: {{matchLabels: {{app: goal}}}}}}], ports: [{{port: {port}}}]}}]\n"
    )
}

/// Makes change `number`; says what the prober may from now on where that is what changed.
pub(super) fn update(bed: &Bed, number: u32) -> Option<bool> {
    let round = number / 5;
    let port = 9000 + number % 100;
    match number % 5 {
        // One more rule of the servers, for the same peers, at other ports; or one less.
        0 => {
            let peer = "podSelector: {matchLabels: {app: client}}";
            let ports = format!("{{port: {port}, endPort: {}}}", port + number % 50);
            toggle(bed, "more.yaml", round, &ingress("more", peer, &ports));
        }
        // Addresses that tell the clients apart: they get identities of their own, and then no longer.
        1 => {
            let peer =
                format!("ipBlock: {{cidr: 10.244.{}.0/24, except: [10.244.1.{}/32]}}", 1 + round % 2, 9 + number % 4);
            toggle(bed, "block.yaml", round, &ingress("block", &peer, &format!("{{port: {port}}}")));
        }
        // A denial of others; of what the clients do not do.
        2 => {
            let text = format!(
                "kind: CiliumNetworkPolicy\napiVersion: cilium.io/v2\nmetadata: {{name: deny}}\nspec:\n  \
                 endpointSelector: {{matchLabels: {{app: server}}}}\n  ingressDeny:\n    \
                 - fromEndpoints: [{{matchLabels: {{app: stranger}}}}]\n    \
                 - fromEndpoints: [{{matchLabels: {{app: client}}}}]\n      toPorts: [{{ports: [{{port: \"{port}\", protocol: TCP}}]}}]\n"
            );
            toggle(bed, "deny.yaml", round, &text);
        }
        // What the clients may, said once more and for more and more ports; and somebody comes or changes whom nobody talks to.
        3 => {
            let ports: Vec<_> = (0..=round.min(100)).map(|more| format!("{{port: {}}}", 10_001 + 2 * more)).collect();
            let ports = ports.join(", ");
            let text = format!(
                "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {{name: again}}\nspec:\n  \
                 podSelector: {{matchLabels: {{app: client}}}}\n  policyTypes: [Egress]\n  \
                 egress: [{{to: [{{podSelector: {{}}}}], ports: [{ports}]}}]\n---\n\
                 kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {{name: other-{number}}}\nspec:\n  \
                 podSelector: {{matchLabels: {{app: other-{number}}}}}\n"
            );
            bed.save("again.yaml", &text);
        }
        _ => {
            let allowed = round % 2 == 1;
            bed.save("prober.yaml", &prober(allowed));
            return Some(allowed);
        }
    }
    None
}

/// There in two rounds of three, each time another one.
fn toggle(bed: &Bed, file: &str, round: u32, text: &str) {
    if round % 3 == 2 {
        let _not_there = std::fs::remove_file(bed.folder().join(file));
    } else {
        bed.save(file, text);
    }
}

fn ingress(name: &str, peer: &str, ports: &str) -> String {
    format!(
        "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {{name: {name}}}\nspec:\n  \
         podSelector: {{matchLabels: {{app: server}}}}\n  ingress: [{{from: [{{{peer}}}], ports: [{ports}]}}]\n"
    )
}
