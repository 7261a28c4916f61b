//! A running gate with one HTTP listener and one TCP listener, a back end, and what the gate tells of what has ended.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use strait_base::Location;
use strait_http::RequestHead;
use strait_proxy::{Client, ConnectionRecord, Gate, Observer, Options, PortMap, Record};
use strait_route::{
    Backend, BackendProtocol, Candidate, Endpoint, HostTable, HttpListener, Path, PathTable, Plan, PortPlan,
    RouteTable, Rule, Serve, Split, WeightedBackend,
};

/// Beds of this process so far.
static BEDS: AtomicU8 = AtomicU8::new(1);

/// How long anything may take that happens at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the gate told of.
#[derive(Debug)]
pub(crate) enum Seen {
    /// A request: its path, and the rest.
    Request(String, Client, Record),
    Connection(Client, ConnectionRecord),
}

#[derive(Debug)]
struct Watch(mpsc::Sender<Seen>);

impl Observer for Watch {
    fn request(&self, _: &Plan, client: &Client, record: &Record, head: &RequestHead, bytes: &[u8]) {
        let _ = self.0.send(Seen::Request(head.path.text(bytes).to_owned(), client.clone(), record.clone()));
    }

    fn connection(&self, _: &Plan, client: &Client, record: &ConnectionRecord) {
        let _ = self.0.send(Seen::Connection(client.clone(), record.clone()));
    }
}

pub(crate) struct Bed {
    gate: Gate,
    address: IpAddr,
    pub(crate) backend: SocketAddr,
    seen: mpsc::Receiver<Seen>,
}

/// Port 80 speaks HTTP, port 90 passes TCP on.
pub(crate) const HTTP: u16 = 80;
pub(crate) const TCP: u16 = 90;
const MAPPED: [(u16, u16); 2] = [(HTTP, 18_080), (TCP, 18_090)];

impl Bed {
    /// A gate in front of a back end that answers each request on a connection with what `answer` makes of it.
    pub(crate) fn new(answer: fn(&str) -> Option<String>) -> Self {
        Self::over(move |stream| serve(stream, answer), true)
    }

    /// A gate in front of a back end that serves each connection so; whether what ends is to be `seen`.
    pub(crate) fn over(serve: impl Fn(TcpStream) + Copy + Send + 'static, seen: bool) -> Self {
        Self::with(serve, seen, Options::default())
    }

    /// The same with options of one's own, but for those that a bed needs.
    pub(crate) fn with(serve: impl Fn(TcpStream) + Copy + Send + 'static, seen: bool, options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let backend = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream));
            }
        });
        let (sender, receiver) = mpsc::channel();
        let observer: Arc<dyn Observer> = Arc::new(Watch(sender));
        let options = Options {
            ports: PortMap::from(MAPPED),
            workers: NonZeroUsize::new(1),
            observer: seen.then_some(observer),
            ..options
        };
        // An address of its own in 127.0.0.0/8, by process and bed: other tests run beside it.
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 40 + high % 60, low, BEDS.fetch_add(1, Ordering::Relaxed));
        let mut bed = Self { gate: Gate::start(&options).unwrap(), address: address.into(), backend, seen: receiver };
        let errors = bed.gate.serve(bed.plan());
        assert!(errors.is_empty(), "{errors:?}");
        bed
    }

    fn plan(&self) -> Plan {
        let backend = |name: &str, endpoints| Backend {
            name: name.into(),
            namespace: "default".into(),
            service: name.into(),
            endpoints,
            protocol: BackendProtocol::Http1,
            tls: None,
            retry_budget: None,
            session: None,
        };
        let here = Endpoint { address: self.backend.ip(), port: self.backend.port() };
        let split = |backend| Split {
            targets: vec![WeightedBackend { weight: 1, backend: Some(backend), filters: Vec::new() }],
            total: 1,
            retired: Vec::new(),
        };
        let rule = |name: &str, split, request_timeout| Rule {
            name: name.into(),
            location: Location::new(&"plan.yaml".into(), 1, 1),
            filters: Vec::new(),
            split,
            request_timeout,
            backend_request_timeout: None,
            retry: None,
            session: None,
            keeps_sessions: false,
        };
        let rules = vec![
            rule("all", split(0), None),
            rule("short", split(0), Some(Duration::from_millis(50))),
            rule("empty", split(1), None),
        ];
        let mut table = PathTable::default();
        for (id, prefix) in (0..).zip(["/", "/short", "/empty"]) {
            let rank = (0, "route".into(), id, 0);
            let candidate = Candidate { rule: id, method: None, headers: Vec::new(), query: Vec::new(), rank };
            table.insert(&Path::Prefix(prefix.into()), candidate);
        }
        let mut hosts = HostTable::default();
        hosts.entry(None, || RouteTable::Precedence(table.into()));
        let mut listeners = HostTable::default();
        listeners.entry(None, || HttpListener { name: "http".into(), hosts });
        let port = |port, serve| {
            Arc::new(PortPlan {
                address: self.address,
                port,
                gateway: "default/gate".into(),
                trusted_proxies: None,
                serve,
            })
        };
        Plan {
            ports: vec![port(HTTP, Serve::Http(listeners)), port(TCP, Serve::Tcp(Some(split(0))))],
            rules: rules.into(),
            backends: vec![backend("here", vec![here]), backend("nowhere", Vec::new())].into(),
            certificates: strait_route::Slots::default(),
        }
    }

    pub(crate) fn connect(&self, port: u16) -> TcpStream {
        let mapped = MAPPED.iter().find(|(from, _)| *from == port).unwrap().1;
        let stream = TcpStream::connect((self.address, mapped)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes on a connection, ends it, and reads what comes until the other side ends it too.
    pub(crate) fn ask(&self, port: u16, text: &str) -> String {
        let mut stream = self.connect(port);
        stream.write_all(text.as_bytes()).unwrap();
        let mut out = Vec::new();
        stream.read_to_end(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The next that has ended.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).unwrap()
    }
}

/// Answers requests whose heads and `Content-Length` bodies come on a connection, until there is no answer.
fn serve(mut stream: TcpStream, answer: fn(&str) -> Option<String>) {
    let (mut text, mut room) = (String::new(), [0; 4096]);
    loop {
        while let Some(head) = text.find("\r\n\r\n") {
            let length = text[..head].lines().find_map(|line| line.strip_prefix("content-length: "));
            let end = head + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap());
            if text.len() < end {
                break;
            }
            let request: String = text.drain(..end).collect();
            let Some(answer) = answer(&request) else { return };
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
        match stream.read(&mut room) {
            Ok(count) if count > 0 => text.push_str(std::str::from_utf8(&room[..count]).unwrap()),
            _ => return,
        }
    }
}
