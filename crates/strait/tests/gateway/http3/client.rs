//! aioquic, driven by lines of JSON.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

use crate::peers::needed;

/// A client with any number of connections; it ends with the value.
pub(super) struct Client {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Client {
    /// Starts it, where `cargo xtask setup test` installed aioquic.
    pub(super) fn start() -> Option<Self> {
        let target = Path::new(env!("CARGO_BIN_EXE_strait")).ancestors().nth(2).unwrap();
        let python = target.join("peers/aioquic/bin/python");
        let python = needed("aioquic", Some(python).filter(|path| path.exists()))?;
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/peers/http3_client.py");
        let mut command = Command::new(python);
        let mut child = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, to, from })
    }

    /// Says something, and hears the answer.
    pub(super) fn say(&mut self, what: &Value) -> Value {
        writeln!(self.to, "{what}").unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{what}: {line:?}"))
    }

    /// Connects; gives the serial number of the certificate that it was shown.
    pub(super) fn connect(&mut self, name: &str, at: SocketAddr, server: &str) -> String {
        let said = self.try_connect(name, at, server, &json!({}));
        said["serial"].as_str().unwrap_or_else(|| panic!("{name} to {server}: {said}")).to_owned()
    }

    /// What comes of an attempt to connect.
    pub(super) fn try_connect(&mut self, name: &str, at: SocketAddr, server: &str, more: &Value) -> Value {
        let mut what = json!({
            "do": "connect", "name": name, "host": at.ip().to_string(), "port": at.port(), "server_name": server,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            what[key] = value.clone();
        }
        self.say(&what)
    }

    /// Why it cannot connect; empty where it can.
    pub(super) fn refused(&mut self, name: &str, at: SocketAddr, server: &str) -> String {
        self.try_connect(name, at, server, &json!({}))["error"].as_str().unwrap_or_default().to_owned()
    }

    /// One request, and its answer.
    pub(super) fn ask(&mut self, name: &str, request: Request) -> Value {
        self.all(name, [request]).remove(0)
    }

    /// Requests all at once, and their answers.
    pub(super) fn all(&mut self, name: &str, requests: impl IntoIterator<Item = Request>) -> Vec<Value> {
        let requests: Vec<Value> = requests.into_iter().map(|request| request.0).collect();
        let said = self.say(&json!({ "do": "ask", "name": name, "requests": requests }));
        said.as_array().unwrap().clone()
    }

    /// Sends a request, and does not wait.
    pub(super) fn begin(&mut self, name: &str, request: &Request) {
        self.say(&json!({ "do": "begin", "name": name, "requests": [request.0] }));
    }

    /// The answer to it.
    pub(super) fn finish(&mut self, name: &str) -> Value {
        self.say(&json!({ "do": "finish", "name": name }))[0].clone()
    }

    /// How often the gate said that it goes away.
    pub(super) fn goaways(&mut self, name: &str) -> u64 {
        self.say(&json!({ "do": "goaway", "name": name })).as_u64().unwrap()
    }

    /// Waits until the connection has ended; gives its code.
    pub(super) fn closed(&mut self, name: &str) -> u64 {
        self.say(&json!({ "do": "closed", "name": name }))["code"].as_u64().unwrap()
    }

    /// Sends a body slowly, until there is an answer.
    pub(super) fn drip(&mut self, name: &str, request: &Request) -> Value {
        self.say(&json!({ "do": "drip", "name": name, "request": request.0 }))
    }

    /// Gives requests up, as many as it may begin and at most so many; gives how many until the connection ended, and with what.
    pub(super) fn flood(&mut self, name: &str, request: &Request, how: &str, most: u32) -> (u64, Option<u64>) {
        let said = self.say(&json!({ "do": "flood", "name": name, "request": request.0, "how": how, "most": most }));
        (said["begun"].as_u64().unwrap(), said["end"]["code"].as_u64())
    }

    /// Sends bytes on a stream of their own; gives how stream or connection ended.
    pub(super) fn raw(&mut self, name: &str, kind: &str, bytes: &[u8], end: bool) -> Value {
        let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        self.say(&json!({ "do": "raw", "name": name, "kind": kind, "hex": hex, "end": end }))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request as the script takes it.
#[derive(Clone, Debug)]
pub(super) struct Request(Value);

fn request(method: &str, path: &str) -> Request {
    Request(
        json!({ "headers": [[":method", method], [":scheme", "https"], [":authority", "a.example"], [":path", path]] }),
    )
}

pub(super) fn get(path: &str) -> Request {
    request("GET", path)
}

pub(super) fn post(path: &str) -> Request {
    request("POST", path)
}

impl Request {
    pub(super) fn method(mut self, method: &str) -> Self {
        self.0["headers"][0][1] = json!(method);
        self
    }

    pub(super) fn is(&self, method: &str) -> bool {
        self.0["headers"][0][1] == method
    }

    pub(super) fn host(mut self, host: &str) -> Self {
        self.0["headers"][2][1] = json!(host);
        self
    }

    pub(super) fn field(mut self, name: &str, value: &str) -> Self {
        self.0["headers"].as_array_mut().unwrap().push(json!([name, value]));
        self
    }

    /// Another name for the field of that number.
    pub(super) fn renamed(mut self, number: usize, name: &str) -> Self {
        self.0["headers"][number][0] = json!(name);
        self
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.0[key] = value;
        self
    }

    pub(super) fn body(self, text: &str) -> Self {
        self.with("body", json!(text))
    }

    /// A body of so many bytes, no two places of which are alike. Its answer says whether the same came back.
    pub(super) fn size(self, size: usize) -> Self {
        self.with("size", json!(size))
    }

    pub(super) fn trailer(self, name: &str, value: &str) -> Self {
        self.with("trailers", json!([[name, value]]))
    }

    /// Its end does not come.
    pub(super) fn open(self) -> Self {
        self.with("end", json!(false))
    }
}

/// A field of an answer.
pub(super) fn of<'a>(answer: &'a Value, name: &str) -> Option<&'a str> {
    let fields = answer["headers"].as_array()?;
    fields.iter().find(|field| field[0] == name)?[1].as_str()
}
