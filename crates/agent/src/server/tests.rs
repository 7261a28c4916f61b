//! The socket over a kernel in memory.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream as Stream,
    path::PathBuf,
    sync::{Arc, mpsc},
};

use strait_datapath::{Fake, Happening};
use strait_model::Direction;
use tokio::{sync::mpsc as tasks, task::LocalSet};

use super::*;
use crate::{
    Client,
    api::{PodName, SOCKET},
    node::tests::{POLICY, Setup, db, event, web},
};

type Task = Box<dyn FnOnce(&Shared<Fake>) + Send>;

/// An agent on a thread of its own.
struct Agent {
    setup: Arc<Setup>,
    socket: PathBuf,
    tasks: tasks::UnboundedSender<Task>,
}

impl Agent {
    fn start() -> Self {
        let setup = Arc::new(Setup::new());
        let socket = setup.path("../run").join(SOCKET);
        let (sender, mut receiver) = tasks::unbounded_channel::<Task>();
        let (ready, started) = mpsc::channel();
        let (theirs, path) = (Arc::clone(&setup), socket.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async {
                let shared = Rc::new(Shared::new(theirs.start(Fake::new())));
                tokio::task::spawn_local(serve(listen(&path).unwrap(), Rc::clone(&shared)));
                ready.send(()).unwrap();
                while let Some(task) = receiver.recv().await {
                    task(&shared);
                }
            });
        });
        started.recv().unwrap();
        Self { setup, socket, tasks: sender }
    }

    fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    /// Has the kernel report a new connection from `port` on.
    fn connections(&self, ports: std::ops::Range<u16>) {
        let task: Task = Box::new(move |shared| {
            let events: Vec<_> = {
                let node = shared.node.borrow();
                let sample = event(&node, Happening::Opened, Direction::Egress, 5432);
                ports
                    .map(|port| {
                        let mut event = sample.clone();
                        event.remote.set_port(port);
                        event
                    })
                    .collect()
            };
            shared.node.borrow_mut().take_events(&events);
            shared.announce();
        });
        self.tasks.send(task).ok().unwrap();
    }

    /// What comes back for these bytes.
    fn say(&self, bytes: &[u8], hang_up: bool) -> String {
        let mut stream = Stream::connect(&self.socket).unwrap();
        // The answer to a request that is too long may come before all of it is sent.
        let _ = stream.write_all(bytes);
        if hang_up {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let mut answer = String::new();
        let _ = BufReader::new(stream).read_line(&mut answer);
        answer
    }
}

#[test]
fn orders_and_questions() {
    let agent = Agent::start();
    let client = agent.client();
    client.endpoint_add(web()).unwrap();
    let before = client.endpoint_add(db()).unwrap();
    assert_eq!(client.status().unwrap().endpoints.ready, 2);
    assert_eq!(client.endpoints().unwrap().len(), 2);
    assert!(client.identities().unwrap().iter().any(|identity| identity.labels.contains(&"k8s:app=db".into())));
    assert!(client.ipcache().unwrap().iter().any(|entry| entry.prefix.to_string() == "10.244.1.11/32"));

    // On disk before the question: in force with the answer.
    agent.setup.write("policy.yaml", &POLICY.replace("port: 5432", "port: 8000, endPort: 8015"));
    let after = client.wait().unwrap();
    assert!(after.generation > before.generation && after.revision > before.revision);
    let entries = client.policy_map(Some(db().name)).unwrap();
    let ports: Vec<String> = entries
        .iter()
        .flat_map(|entry| &entry.ports)
        .filter(|port| &*port.protocol == "TCP")
        .map(|port| format!("{}/{} {:?} {}", port.ports, port.protocol, port.verdict, port.origins[0].name))
        .collect();
    assert!(ports.contains(&"8000-8015/TCP Allow db".to_owned()), "{ports:?}");
    let nobody = PodName { namespace: "shop".into(), pod: "nobody".into() };
    assert_eq!(client.policy_map(Some(nobody)).unwrap_err().to_string(), "shop/nobody is no pod of node node-1");
    client.endpoint_delete(db().name).unwrap();
    assert_eq!(client.endpoints().unwrap().len(), 1);
}

#[test]
fn what_is_no_request_gets_an_error() {
    let agent = Agent::start();
    let long = vec![b'x'; REQUEST_LIMIT + 2];
    for (bytes, hang_up, expected) in [
        (&b"hello\n"[..], false, "not a request: expected value"),
        (b"{\"request\":\"reboot\"}\n", false, "not a request: unknown variant `reboot`"),
        (b"{\"request\":\"endpoint-add\"}\n", false, "not a request: missing field"),
        (b"\xff\xfe\n", false, "not a request"),
        (b"{\"request\":\"status\"}", true, "a request ends with a line break"),
        (b"", true, "a request ends with a line break"),
    ] {
        let answer = agent.say(bytes, hang_up);
        assert!(answer.contains("\"answer\":\"error\"") && answer.contains(expected), "{answer}");
    }
    // Cut off: with an error where the client still listens.
    agent.say(&long, false);
    agent.client().status().unwrap();
}

#[test]
fn connections_that_say_nothing_leave_room_for_others() {
    let agent = Agent::start();
    let _silent: Vec<Stream> = (0..CONNECTIONS / 2).map(|_| Stream::connect(&agent.socket).unwrap()).collect();
    agent.client().status().unwrap();
}

#[test]
fn followers_leave_room_for_others() {
    let agent = Agent::start();
    let follow = || agent.client().flows(FlowsRequest { follow: true, ..FlowsRequest::default() });
    let _followers: Vec<_> = (0..FOLLOWERS).map(|_| follow().unwrap()).collect();
    assert_eq!(follow().unwrap_err().to_string(), "32 clients follow the flows already");
    agent.client().status().unwrap();
}

#[test]
fn flows_held_and_followed() {
    let agent = Agent::start();
    let client = agent.client();
    client.endpoint_add(web()).unwrap();
    agent.connections(1..11);
    let ports = |flows: &mut dyn Iterator<Item = Record>| -> Vec<u16> {
        flows
            .filter_map(|record| match record.what {
                What::Flow(flow) => flow.l4.as_ref()?.ports().map(|ports| ports.1),
                What::LostEvents(_) => None,
            })
            .collect()
    };
    let ask = |request: FlowsRequest| ports(&mut client.flows(request).unwrap().map(Result::unwrap));
    assert_eq!(ask(FlowsRequest::default()), (1..11).collect::<Vec<_>>());
    assert_eq!(ask(FlowsRequest { last: Some(2), ..FlowsRequest::default() }), [9, 10]);
    assert_eq!(ask(FlowsRequest { first: Some(2), ..FlowsRequest::default() }), [1, 2]);
    let future = Some(Timestamp::MAX);
    assert_eq!(ask(FlowsRequest { since: future, ..FlowsRequest::default() }), [0_u16; 0]);
    let mut builder = strait_flow::FilterBuilder::default();
    builder.add("to-port", "7", false).unwrap();
    let filter = builder.build();
    assert_eq!(ask(FlowsRequest { filter: filter.clone(), ..FlowsRequest::default() }), [7]);

    let request = FlowsRequest { follow: true, last: Some(1), filter, ..FlowsRequest::default() };
    let mut flows = client.flows(request).unwrap();
    agent.connections(5..9);
    assert_eq!(ports(&mut flows.by_ref().map(Result::unwrap).take(2)), [7, 7]);
}

#[test]
fn a_follower_that_does_not_read_learns_what_it_missed() {
    const ROUNDS: u16 = 40;
    const ROUND: u16 = 1000;
    let agent = Agent::start();
    agent.client().endpoint_add(web()).unwrap();
    let mut stream = Stream::connect(&agent.socket).unwrap();
    stream.write_all(b"{\"request\":\"flows\",\"follow\":true,\"last\":0}\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut greeting = String::new();
    reader.read_line(&mut greeting).unwrap();
    for round in 0..ROUNDS {
        agent.connections(round * ROUND + 1..(round + 1) * ROUND + 1);
    }
    // The last one is read, so what came before was read or is reported as lost.
    let (mut read, mut lost) = (0, 0);
    while read + lost < u64::from(ROUNDS * ROUND) {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match serde_json::from_str::<Record>(&line).unwrap().what {
            What::Flow(_) => read += 1,
            What::LostEvents(events) => {
                assert_eq!(events.source, LostSource::HubbleRingBuffer);
                lost += events.num_events_lost;
            }
        }
    }
    assert_eq!(read + lost, u64::from(ROUNDS * ROUND));
    assert!(lost > 0 && read > 0, "{lost} {read}");
    drop(reader);
    // The agent goes on.
    let mut rest = Vec::new();
    let mut stream = Stream::connect(&agent.socket).unwrap();
    stream.write_all(b"{\"request\":\"flows\"}\n").unwrap();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 1000);
}
