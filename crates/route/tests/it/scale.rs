//! What a large set of routes costs.

use std::{collections::BTreeSet, fmt::Write as _};

use strait_route::{Assigned, Compiled, assign, compile};

use crate::{
    bed::{NOW, objects},
    matching::{Asked, taken},
};

/// Routes for hosts of their own and for one that all share, on listeners of as many sets as there are hundreds of them.
fn many(routes: usize) -> String {
    let mut short = "Gateway d/g\nspec: {gatewayClassName: strait, allowedListeners: {namespaces: {from: Same}}, listeners: [{name: web, port: 80, protocol: HTTP}]}\n---\nService d/web\nspec: {ports: [{port: 80}]}\n".to_owned();
    for index in 0..routes / 100 {
        let port = 1000 + index;
        write!(short, "---\nListenerSet d/s{index}\nspec: {{parentRef: {{name: g}}, listeners: [{{name: l, port: {port}, protocol: HTTP}}]}}\n").unwrap();
    }
    for index in 0..routes {
        write!(
            short,
            "---\nHTTPRoute d/r{index}\nspec: {{parentRefs: [{{name: g}}, {{kind: ListenerSet, name: s{}}}], hostnames: [h{index}.com, all.com], rules: [{{matches: [{{path: {{value: /p{index}}}}}], backendRefs: [{{name: web, port: 80}}]}}]}}\n",
            index % (routes / 100)
        )
        .unwrap();
    }
    short
}

/// Every one of many routes is found, by its host and by the host that all share. `STRAIT_ROUTES` says how many: up to 7,000, which are as many values
/// as are read from one file.
#[test]
fn many_routes() {
    let count = std::env::var("STRAIT_ROUTES").map_or(500, |text| text.parse().unwrap());
    let objects = objects(&many(count));
    let assigned = assign(Compiled::gateways(&objects), "10.0.0.0/24".parse().unwrap(), &Assigned::new());
    let compiled = compile(&objects, &assigned, NOW);
    assert_eq!(compiled.plan.ports.len(), 1 + count / 100);
    assert_eq!(compiled.plan.backends.iter().count(), 1);
    let mut names = BTreeSet::new();
    for index in 0..count {
        for host in [format!("h{index}.com"), "all.com".to_owned()] {
            let found = taken(&compiled.plan, 80, &Asked::new(&format!("GET {host} /p{index}/x"), &[]));
            assert_eq!(found, format!("d/r{index}/0"));
            names.insert(found);
        }
    }
    assert_eq!(names.len(), count);
}
