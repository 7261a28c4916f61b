//! Istio's sample, as it is.

use std::{fs, path::Path};

use expect_test::expect;

use crate::{expanded, notes, pods};

#[test]
fn comes_up_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/bookinfo/platform/kube/bookinfo.yaml");
    let Ok(text) = fs::read_to_string(&path) else {
        eprintln!("SKIPPED: no {}; it is not part of this repository", path.display());
        return;
    };
    let expansion = expanded(&text);
    expect![[r#"
        default/details-v1-0 node-1 10.244.1.10 fd00:10:244:1::10 Running
        default/productpage-v1-0 node-2 10.244.2.10 fd00:10:244:2::10 Running
        default/ratings-v1-0 node-1 10.244.1.11 fd00:10:244:1::11 Running
        default/reviews-v1-0 node-2 10.244.2.11 fd00:10:244:2::11 Running
        default/reviews-v2-0 node-1 10.244.1.12 fd00:10:244:1::12 Running
        default/reviews-v3-0 node-2 10.244.2.12 fd00:10:244:2::12 Running
    "#]]
    .assert_eq(&pods(&expansion.objects));
    expect![[""]].assert_eq(&notes(&expansion));
    assert_eq!(expansion.objects.services().filter(|service| service.cluster_ips.len() == 2).count(), 4);
    let reviews =
        expansion.objects.endpoint_slices().find(|slice| slice.meta.name.starts_with("reviews-ipv4-")).unwrap();
    assert_eq!(reviews.endpoints.len(), 3);
}
