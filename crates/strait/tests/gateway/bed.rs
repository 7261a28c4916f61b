//! A running `strait try`, and what asks it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

/// How long anything may take that happens at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A gate with an echo server for every pod; it ends with the value.
pub(crate) struct Gate {
    pub(crate) child: Child,
    pub(crate) folder: Arc<tempfile::TempDir>,
    /// By name of the gateway and port of the listener.
    places: BTreeMap<(String, u16), SocketAddr>,
    pub(crate) status: std::path::PathBuf,
    /// What it said when it was ready.
    pub(crate) lines: Vec<String>,
}

impl Gate {
    /// Serves these manifests, by file name, with echo servers.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self::with(files, &[])
    }

    /// The same, with more arguments.
    pub(crate) fn with(files: &[(&str, &str)], arguments: &[&str]) -> Self {
        Self::start("try", folder(files), arguments)
    }

    /// Serves a folder, with echo servers.
    pub(crate) fn over(folder: tempfile::TempDir) -> Self {
        Self::start("try", Arc::new(folder), &[])
    }

    /// Serves these manifests; their back ends are there already.
    pub(crate) fn alone(files: &[(&str, &str)], arguments: &[&str]) -> Self {
        Self::start("gateway", folder(files), arguments)
    }

    /// A process over another folder, and the same addresses as all of this test.
    pub(crate) fn over_again(folder: tempfile::TempDir, arguments: &[&str]) -> Self {
        Self::start("gateway", Arc::new(folder), arguments)
    }

    /// Another process over the same folder and addresses.
    pub(crate) fn again(&self, arguments: &[&str]) -> Self {
        Self::start("gateway", Arc::clone(&self.folder), arguments)
    }

    /// The same, of a folder that is somebody else's.
    pub(crate) fn beside(folder: Arc<tempfile::TempDir>, arguments: &[&str]) -> Self {
        Self::start("gateway", folder, arguments)
    }

    fn start(role: &str, folder: Arc<tempfile::TempDir>, arguments: &[&str]) -> Self {
        let status = folder.path().with_extension("status");
        let mut command = command(role, folder.path(), arguments);
        command.arg("--status").arg(&status);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut places = BTreeMap::new();
        let said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let lines: Vec<_> = said.take_while(|line| line != "ready").collect();
        for line in &lines {
            // Gateway NAMESPACE/NAME: ADDRESS:PORT (port 80, HTTP)
            let Some((name, rest)) = line.strip_prefix("Gateway ").and_then(|line| line.split_once(": ")) else {
                continue;
            };
            let (at, port) = rest.split_once(" (port ").unwrap();
            let port = port.split_once(',').unwrap().0.parse().unwrap();
            places.insert((name.split_once('/').unwrap().1.to_owned(), port), at.parse().unwrap());
        }
        Self { child, folder, places, status, lines }
    }

    /// Where a gateway listens for a port of its listeners.
    pub(crate) fn at(&self, gateway: &str, port: u16) -> SocketAddr {
        *self.places.get(&(gateway.to_owned(), port)).unwrap_or_else(|| panic!("{gateway}:{port} of {:?}", self.places))
    }

    /// Waits until it has ended; gives its exit code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let deadline = jiff::Timestamp::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(jiff::Timestamp::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Saves a manifest in place of the one before, at once.
    pub(crate) fn save(&self, name: &str, text: &str) {
        let part = self.folder.path().join("part");
        fs::write(&part, text).unwrap();
        fs::rename(part, self.folder.path().join(name)).unwrap();
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    /// All places of a gateway.
    pub(crate) fn places<'a>(&'a self, gateway: &'a str) -> impl Iterator<Item = (u16, SocketAddr)> + 'a {
        self.places.iter().filter(move |((name, _), _)| name == gateway).map(|((_, port), at)| (*port, *at))
    }

    /// Waits until the status file says something that `expected` accepts.
    pub(crate) fn until_status(&self, what: &str, expected: impl Fn(&str) -> bool) -> String {
        let deadline = jiff::Timestamp::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&self.status).unwrap_or_default();
            if expected(&text) {
                return text;
            }
            assert!(jiff::Timestamp::now() < deadline, "no {what} in\n{text}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.child.kill();
        }
        // Twice: connections that a failed test left open are not waited for.
        for _ in 0..2 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            self.terminate();
        }
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.status);
    }
}

fn folder(files: &[(&str, &str)]) -> Arc<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    Arc::new(folder)
}

/// A gate over a folder, not started yet.
pub(crate) fn command(role: &str, folder: &Path, arguments: &[&str]) -> Command {
    // Addresses of its own in 127.0.0.0/8, by process: other tests may run beside it.
    let pid = std::process::id();
    let (high, low) = (100 + pid / 256 % 64, pid % 256);
    let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
    command.arg(role).arg("-f").arg(folder);
    if !arguments.contains(&"--address-pool") {
        command.args(["--address-pool", &format!("127.{high}.{low}.0/24")]);
    }
    if role == "try" {
        command.args(["--pod-pool", &format!("127.{}.{low}.0/24", high + 64)]);
    }
    command.args(["--map-port", "80=18080", "--map-port", "443=18443", "--map-port", "53=18053"]);
    if !arguments.contains(&"--workers") {
        command.args(["--workers", "2"]);
    }
    command.args(arguments);
    command
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = jiff::Timestamp::now() + PATIENCE;
    while !is_so() {
        assert!(jiff::Timestamp::now() < deadline, "no {what}");
        std::thread::yield_now();
    }
}

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// What the echo server says it got.
    pub(crate) fn echo(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The echo server's pod, without its number.
    pub(crate) fn pod(&self) -> String {
        self.echo()["pod"].as_str().unwrap_or_default().to_owned()
    }
}

/// Asks curl; `arguments` come before the URL.
pub(crate) fn curl(arguments: &[&str], url: &str) -> Answer {
    let output = Command::new("curl")
        .args(["-s", "-i", "-k", "--max-time", "20", "--path-as-is"])
        .args(arguments)
        .arg(url)
        .output()
        .expect("curl is installed");
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// Sends bytes as they are and reads until the other side closes.
pub(crate) fn raw(at: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// One response; interim ones before it are left out.
pub(crate) fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    if (100..200).contains(&status) && status != 101 {
        return parse(body);
    }
    let pair = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    Answer { status, headers: lines.filter_map(pair).collect(), body: body.to_owned() }
}

/// Where the shared manifests are, if they are here.
pub(crate) fn shared(path: &str) -> Option<std::path::PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(path);
    if root.exists() {
        return Some(root);
    }
    eprintln!("SKIPPED: no manifests at {}", root.display());
    None
}

/// A service with a deployment of one pod behind it.
pub(crate) fn app(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, ports: [{{port: 8080, targetPort: 3000}}]}}\n---\n\
         apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    \
         metadata: {{labels: {{app: {name}}}}}\n    spec: {{containers: [{{name: echo, image: echo}}]}}\n---\n"
    )
}

/// A gateway named `edge` with one plain listener, and a route to it with these rules.
pub(crate) fn http(rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec: {{gatewayClassName: strait, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: route}}\nspec:\n  parentRefs: [{{name: edge}}]\n  rules:\n{rules}"
    )
}
