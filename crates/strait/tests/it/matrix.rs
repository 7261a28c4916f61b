use expect_test::expect;

use crate::Folder;

#[test]
fn text() {
    let folder = Folder::new();
    folder.check(
        "policy matrix -f shop --probe 5432 --probe 8080/TCP",
        &expect![[r#"
        5432/TCP  (row: from, column: to)
            FROM         1   2   3
        1   shop/db-0    ✓   ✓   ✓
        2   shop/web-0   ✓   ✓   ✗
        3   shop/web-1   ✓   ✗   ✓

        8080/TCP  (row: from, column: to)
            FROM         1   2   3
        1   shop/db-0    ✓   ✓   ✓
        2   shop/web-0   ✗   ✓   ✗
        3   shop/web-1   ✗   ✗   ✓
        exit 0
    "#]],
    );
}

#[test]
fn json() {
    let folder = Folder::new();
    let output = folder.run("policy matrix -f shop --probe 5432/TCP --probe 53/UDP -o json");
    let cells: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(cells.len(), 3 * 3 * 2);
    let allowed: Vec<String> = cells
        .iter()
        .filter(|cell| cell["allowed"] == true)
        .map(|cell| format!("{} {} {}/{}", cell["from"], cell["to"], cell["port"], cell["protocol"]))
        .collect();
    expect![[r#"
        "shop/db-0" "shop/db-0" 5432/"TCP"
        "shop/db-0" "shop/web-0" 5432/"TCP"
        "shop/db-0" "shop/web-1" 5432/"TCP"
        "shop/web-0" "shop/db-0" 5432/"TCP"
        "shop/web-0" "shop/web-0" 5432/"TCP"
        "shop/web-1" "shop/db-0" 5432/"TCP"
        "shop/web-1" "shop/web-1" 5432/"TCP"
        "shop/db-0" "shop/db-0" 53/"UDP"
        "shop/db-0" "shop/web-0" 53/"UDP"
        "shop/db-0" "shop/web-1" 53/"UDP"
        "shop/web-0" "shop/web-0" 53/"UDP"
        "shop/web-1" "shop/web-1" 53/"UDP""#]]
    .assert_eq(&allowed.join("\n"));
}

#[test]
fn pods_that_run_nowhere_are_not_in_it() {
    let folder = Folder::new();
    folder.write("shop/shop.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: done}\nspec: {containers: [{name: a, image: a}]}\nstatus: {phase: Succeeded}\n");
    folder.check(
        "policy matrix -f shop --probe 80",
        &expect![[r#"
        stderr: error: the manifests have no pod with an address
        exit 2
    "#]],
    );
}
