//! The commands behind the programs of a lab.

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    process::{Command, Stdio},
};

use strait_base::Protocol;

use crate::{
    error::Error,
    lab::{Settings, enter},
    names::{Paths, Place, PodName, agent_file_name},
    outside::Outside,
    topology::{Program, UPLINK},
};

/// What serves the addresses outside.
pub(super) fn outside(outside: &Outside) -> Program {
    // Each address by itself: a datagram that came to one of them must be answered from it.
    Program::Echo { ports: outside.ports.clone(), listen: outside.addresses.clone(), service: String::new() }
}

/// How status calls it.
pub(super) fn name(program: &Program) -> String {
    match program {
        Program::Echo { .. } => "echo".to_owned(),
        Program::Dns => "dns".to_owned(),
        Program::Host { container, .. } => container.to_string(),
    }
}

/// The ports that show that the program is ready. There are no SCTP sockets to look for: probes of SCTP ask the kernel.
pub(super) fn listening(program: &Program) -> BTreeSet<(Protocol, u16)> {
    program.ports().into_iter().filter(|(protocol, _)| *protocol != Protocol::Sctp).collect()
}

/// The process of `program` in `place`, its output going to the place's log. `None` where there is nothing to run.
pub(super) fn command(
    settings: &Settings,
    paths: &Paths,
    place: &Place,
    program: &Program,
) -> Result<Option<Command>, Error> {
    let mut command = enter(&settings.executable, &settings.name, place);
    command.arg("--");
    match program {
        Program::Echo { ports, listen, service } => {
            let ports: Vec<_> = ports.iter().filter(|(protocol, _)| *protocol != Protocol::Sctp).collect();
            if ports.is_empty() {
                return Ok(None);
            }
            command.arg(&settings.executable).arg("echo");
            for (protocol, port) in ports {
                command.args(["--port", &format!("{port}/{protocol}")]);
            }
            for address in listen {
                command.args(["--listen", &address.to_string()]);
            }
            command.env("SERVICE_NAME", service);
            match place {
                Place::Pod(PodName { namespace, name }) => {
                    command.env("NAMESPACE", &**namespace).env("POD_NAME", &**name)
                }
                Place::Node(_) | Place::Outside => command.env("POD_NAME", place.to_string()),
            };
        }
        Program::Dns => {
            command.arg(&settings.executable).args(["lab", "dns", "--zone"]).arg(paths.zone());
        }
        Program::Host { command: program, environment, .. } => {
            command.args(program.iter().map(|argument| &**argument));
            command.envs(environment.iter().map(|(name, value)| (&**name, &**value)));
        }
    }
    logged(&mut command, paths, &place.file_name())?;
    Ok(Some(command))
}

/// The agent of `node`.
pub(super) fn agent(settings: &Settings, paths: &Paths, node: &str) -> Result<Command, Error> {
    let mut command = enter(&settings.executable, &settings.name, &Place::Node(node.into()));
    command.args(["--agent", "--"]).arg(&settings.executable).args(["agent", "--node", node]);
    for manifests in &settings.manifests {
        command.arg("-f").arg(manifests);
    }
    command.arg("-f").arg(paths.generated());
    command.args(["--instance", &paths.instance(node), "--uplink", UPLINK]);
    command.arg("--run-dir").arg(paths.agent(node)).arg("--state-dir").arg(paths.agent(node));
    command.arg(format!("--host-policy-confirm={}ms", settings.host_policy_confirm.as_millis()));
    command.args(&settings.agent_options);
    logged(&mut command, paths, &agent_file_name(node))?;
    Ok(command)
}

fn logged(command: &mut Command, paths: &Paths, name: &str) -> Result<(), Error> {
    let path = paths.log(name);
    let open = || {
        let log = OpenOptions::new().create(true).append(true).open(&path)?;
        Ok((log.try_clone()?, log))
    };
    let (out, err) = open().map_err(Error::io("opening the log", &path))?;
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    Ok(())
}
