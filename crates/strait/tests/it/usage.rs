use expect_test::expect;

use crate::Folder;

#[test]
fn wrong_usage() {
    let folder = Folder::new();
    folder.check("policy verdict -f shop --from a --to b --port http", &expect![[r#"
        stderr: error: invalid value 'http' for '--port <PORT/PROTOCOL>': `http` is no port (1-65535), as in 80/TCP; or ICMP
        stderr: 
        stderr: For more information, try '--help'.
        exit 2
    "#]]);
    folder.check("flows --verdict NO", &expect![[r#"
        stderr: error: --verdict NO: expected one of: VERDICT_UNKNOWN, FORWARDED, DROPPED, ERROR, AUDIT, REDIRECTED, TRACED, TRANSLATED
        exit 2
    "#]]);
    folder.check(
        "flows --not",
        &expect![[r#"
            stderr: error: --not needs a filter behind it
            exit 2
        "#]],
    );
    folder.check("status --lab no-such-lab", &expect![[r#"
        stderr: error: there is no lab `no-such-lab` (`strait lab list` shows those there are; start one with `strait lab up -f DIR --name no-such-lab`)
        exit 2
    "#]]);
    folder.check("flows --socket here.sock", &expect![[r#"
        stderr: error: here.sock: no agent answers at here.sock: No such file or directory (os error 2) (is it running? `strait status` shows the lab's agents)
        exit 2
    "#]]);
    folder.check("status --socket here.sock", &expect![[r#"
        here.sock  down: no agent answers at here.sock: No such file or directory (os error 2) (is it running? `strait status` shows the lab's agents)
        exit 1
    "#]]);
}

#[test]
fn every_command_has_help_and_completions() {
    let folder = Folder::new();
    for command in [
        "policy verdict",
        "policy explain",
        "policy matrix",
        "flows",
        "status",
        "identity list",
        "ipcache list",
        "endpoint list",
        "host-policy status",
        "host-policy confirm",
        "host-policy retry",
        "agent",
        "echo",
        "lab up",
        "completions",
    ] {
        let output = folder.run(&format!("{command} --help"));
        assert!(output.status.success(), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = String::from_utf8(folder.run(&format!("completions {shell}")).stdout).unwrap();
        assert!(script.contains("drop-reason-desc"), "{shell}");
    }
}
