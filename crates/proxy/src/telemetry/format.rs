//! Formats of access logs: from text with `%COMMANDS%` to a list of pieces, and from that list to lines.

use super::{
    command::{Command, Part, Value},
    entry::Entry,
    text::{self, Times},
};

/// How lines are written, as Istio's `accessLogEncoding` has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Encoding {
    /// As text.
    #[default]
    Text,
    /// As one object of JSON a line.
    Json,
}

/// A format that is none.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A command that is not known.
    #[error("%{0}% is not known; `%%` stands for a percent sign")]
    Unknown(String),
    /// A command with an argument that it does not take, or without one that it needs.
    #[error("%{0}% with this argument, or without one, means nothing")]
    Argument(String),
    /// A percent sign that nothing ends.
    #[error("the percent sign in {0:?} begins a command that does not end")]
    Open(String),
    /// A format of JSON lines that is no object.
    #[error("a format for JSON is an object of names and formats: {0}")]
    NotJson(String),
}

/// Istio's default format of text (`telemetry_logging.go` of its pilot).
const TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
    %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
    \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%";

/// Istio's default names for JSON.
const JSON: &[(&str, &str)] = &[
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("route_name", "%ROUTE_NAME%"),
];

/// A format, ready to write lines.
#[derive(Debug)]
pub(crate) struct Format {
    pieces: Box<[Piece]>,
}

#[derive(PartialEq, Eq, Debug)]
enum Piece {
    Literal(Box<[u8]>),
    Command { command: Command, most: usize, within: Within },
}

/// What a value stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Within {
    Text,
    /// A string of JSON that has other parts too.
    JsonString,
    /// Alone as a value of JSON: a number, a string or null.
    Json,
}

impl Within {
    fn write(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Text => text::plain(bytes, out),
            Self::Json | Self::JsonString => text::json(bytes, out),
        }
    }
}

/// A format while it is read.
#[derive(Default)]
struct Compiler {
    pieces: Vec<Piece>,
}

impl Format {
    /// Reads a format: for text as Envoy's `text_format`, for JSON as its `json_format`. Istio's default where none is given.
    pub(crate) fn new(encoding: Encoding, format: Option<&str>) -> Result<Self, FormatError> {
        let mut compiler = Compiler::default();
        match (encoding, format) {
            (Encoding::Text, format) => {
                // A line is ended here, whether the format says so or not.
                let format = format.unwrap_or(TEXT);
                compiler.string(format.strip_suffix('\n').unwrap_or(format), Within::Text)?;
            }
            (Encoding::Json, None) => {
                for (index, (name, command)) in JSON.iter().enumerate() {
                    let before = if index == 0 { "{\"" } else { ",\"" };
                    compiler.literal(format!("{before}{name}\":").as_bytes());
                    compiler.json_string(command)?;
                }
                compiler.literal(b"}");
            }
            (Encoding::Json, Some(format)) => {
                let value = serde_json::from_str(format).map_err(|error| FormatError::NotJson(error.to_string()))?;
                let serde_json::Value::Object(_) = value else {
                    return Err(FormatError::NotJson("it is another value".to_owned()));
                };
                compiler.json(&value)?;
            }
        }
        compiler.literal(b"\n");
        Ok(Self { pieces: compiler.pieces.into() })
    }

    /// Writes a line, its end included.
    pub(crate) fn write(&self, entry: &Entry<'_>, times: &mut Times, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Command { command, most, within } => {
                    write_value(&command.value(entry), command.is_number(), *most, *within, times, out);
                }
            }
        }
    }
}

fn write_value(value: &Value<'_>, is_number: bool, most: usize, within: Within, times: &mut Times, out: &mut Vec<u8>) {
    if matches!(value, Value::Absent) {
        return out.extend_from_slice(if within == Within::Json { b"null" } else { b"-" });
    }
    let quoted = within == Within::Json && !is_number;
    if quoted {
        out.push(b'"');
    }
    match *value {
        Value::Absent => {}
        Value::Number(number) => text::number(number, out),
        Value::Text(bytes) => within.write(cut(bytes, most), out),
        Value::Path(path, query) => {
            within.write(cut(path, most), out);
            if let Some(query) = query {
                let most = most.saturating_sub(path.len());
                within.write(cut(b"?", most), out);
                within.write(cut(query, most.saturating_sub(1)), out);
            }
        }
        Value::ForwardedFor(request) => {
            let mut most = most;
            for value in request.head.head.all("x-forwarded-for", request.bytes) {
                for part in [value.bytes(request.bytes), b", "] {
                    within.write(cut(part, most), out);
                    most = most.saturating_sub(part.len());
                }
            }
            within.write(cut(request.client.as_bytes(), most), out);
        }
        Value::Word(word) => out.extend_from_slice(word.as_bytes()),
        Value::Address(address, Part::Ip) => text::ip(address, out),
        Value::Address(address, Part::Whole | Part::Port) => text::address(address, out),
        Value::Time(time) => times.write(time, out),
        Value::TimeAs(time, format) => {
            // The format was tried when it was read.
            let written = jiff::fmt::strtime::format(format, text::timestamp(time)).unwrap_or_default();
            within.write(written.as_bytes(), out);
        }
    }
    if quoted {
        out.push(b'"');
    }
}

/// The first bytes, without half a character at their end.
fn cut(bytes: &[u8], most: usize) -> &[u8] {
    let Some(cut) = bytes.get(..most) else { return bytes };
    match std::str::from_utf8(cut) {
        Err(error) if error.error_len().is_none() => &cut[..error.valid_up_to()],
        _ => cut,
    }
}

impl Compiler {
    fn literal(&mut self, bytes: &[u8]) {
        match self.pieces.last_mut() {
            Some(Piece::Literal(last)) => *last = [last, bytes].concat().into(),
            _ if bytes.is_empty() => {}
            _ => self.pieces.push(Piece::Literal(bytes.into())),
        }
    }

    fn json(&mut self, value: &serde_json::Value) -> Result<(), FormatError> {
        use serde_json::Value::{Array, Bool, Null, Number, Object, String};
        match value {
            String(format) => self.json_string(format)?,
            Null | Bool(_) | Number(_) => self.literal(value.to_string().as_bytes()),
            Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    self.literal(if index == 0 { b"[" } else { b"," });
                    self.json(value)?;
                }
                self.literal(if values.is_empty() { b"[]" } else { b"]" });
            }
            Object(members) => {
                for (index, (name, value)) in members.iter().enumerate() {
                    let mut before = vec![if index == 0 { b'{' } else { b',' }, b'"'];
                    text::json(name.as_bytes(), &mut before);
                    before.extend_from_slice(b"\":");
                    self.literal(&before);
                    self.json(value)?;
                }
                self.literal(if members.is_empty() { b"{}" } else { b"}" });
            }
        }
        Ok(())
    }

    /// A string of JSON: a value of its own kind where it is a single command.
    fn json_string(&mut self, format: &str) -> Result<(), FormatError> {
        if let Some(command) = format.strip_prefix('%').filter(|rest| !rest.starts_with('%')) {
            let before = self.pieces.len();
            if self.command(command, Within::Json)?.is_empty() {
                return Ok(());
            }
            self.pieces.truncate(before);
        }
        self.literal(b"\"");
        self.string(format, Within::JsonString)?;
        self.literal(b"\"");
        Ok(())
    }

    /// Text with commands in it.
    fn string(&mut self, format: &str, within: Within) -> Result<(), FormatError> {
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            self.text(&rest[..at], within);
            let command = &rest[at + 1..];
            if let Some(after) = command.strip_prefix('%') {
                self.text("%", within);
                rest = after;
                continue;
            }
            rest = self.command(command, within)?;
        }
        self.text(rest, within);
        Ok(())
    }

    fn text(&mut self, literal: &str, within: Within) {
        if within == Within::Text {
            return self.literal(literal.as_bytes());
        }
        let mut escaped = Vec::new();
        text::json(literal.as_bytes(), &mut escaped);
        self.literal(&escaped);
    }

    /// Reads `NAME%`, `NAME(ARGUMENT)%` or either with `:LENGTH` before the percent sign; gives what comes behind.
    fn command<'a>(&mut self, format: &'a str, within: Within) -> Result<&'a str, FormatError> {
        let open = || FormatError::Open(format!("%{format}"));
        let end = format.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').ok_or_else(open)?;
        let (name, mut rest) = format.split_at(end);
        let mut argument = None;
        if let Some(after) = rest.strip_prefix('(') {
            let (inner, after) = after.split_once(')').ok_or_else(open)?;
            (argument, rest) = (Some(inner), after);
        }
        let mut most = usize::MAX;
        if let Some(after) = rest.strip_prefix(':') {
            let (length, _) = after.split_once('%').ok_or_else(open)?;
            most = length.parse().map_err(|_| FormatError::Argument(name.to_owned()))?;
            rest = &after[length.len()..];
        }
        let rest = rest.strip_prefix('%').ok_or_else(open)?;
        let command = Command::parse(name, argument)?;
        self.pieces.push(Piece::Command { command, most, within });
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use strait_http::{Limits, RequestHead};

    use super::{super::entry::Request, *};

    const REQUEST: &[u8] = b"GET /a/../b?q=\"1\" HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: cu\"rl\x1b\r\nX-Forwarded-For: 192.0.2.1\r\n\
        x-forwarded-for: 192.0.2.2\r\nX-Envoy-Original-Path: /forged\r\nX-Long: ab\xc3\xb6cd\r\n\r\n";

    fn connection() -> Entry<'static> {
        Entry {
            start: Duration::from_millis(1_790_000_000_120),
            duration: Duration::from_micros(15_900),
            request: None,
            protocol: None,
            status: 0,
            flags: "",
            details: "",
            termination: "",
            transport_failure: "",
            downstream_failure: "",
            received: 12,
            sent: 34,
            service_time: None,
            upstream_host: Some("10.1.0.1:8080".parse().unwrap()),
            upstream_cluster: "outbound|80||shop.default.svc.cluster.local",
            upstream_local: Some("10.0.0.1:40000".parse().unwrap()),
            downstream_local: "[::1]:443".parse().unwrap(),
            downstream_remote: "203.0.113.9:5555".parse().unwrap(),
            downstream_direct: "203.0.113.9:5555".parse().unwrap(),
            server_name: "shop.example",
            route: "",
            grpc_status: None,
        }
    }

    /// What a format writes of a request and of a connection.
    fn lines(encoding: Encoding, format: Option<&str>) -> [String; 2] {
        let mut head = RequestHead::default();
        // A target with quotes is refused by the codec; the log must stand it all the same.
        let bytes = REQUEST.iter().map(|byte| if *byte == b'"' { b'~' } else { *byte }).collect::<Vec<_>>();
        let harmless: Vec<_> = bytes.iter().map(|byte| if *byte == 0x1b { b'~' } else { *byte }).collect();
        assert!(head.read(&harmless, &Limits::default()).unwrap());
        let request = Request { head: &head, bytes: REQUEST, id: b"6f1c", client: "203.0.113.9" };
        let served = Entry {
            request: Some(request),
            protocol: Some("HTTP/1.1"),
            status: 503,
            flags: "UF",
            details: "upstream_connect_failed",
            transport_failure: "refused",
            service_time: Some(Duration::from_millis(7)),
            route: "HTTPRoute/default/shop/0",
            grpc_status: Some(14),
            ..connection()
        };
        let format = Format::new(encoding, format).unwrap();
        let mut times = Times::default();
        [served, connection()].map(|entry| {
            let mut out = Vec::new();
            format.write(&entry, &mut times, &mut out);
            String::from_utf8(out).unwrap()
        })
    }

    #[test]
    fn default_text_is_istios() {
        let [request, connection] = lines(Encoding::Text, None);
        assert_eq!(
            request,
            "[2026-09-21T14:13:20.120Z] \"GET /a/../b?q=\\x221\\x22 HTTP/1.1\" 503 UF upstream_connect_failed - \"refused\" \
             12 34 15 7 \"192.0.2.1, 192.0.2.2, 203.0.113.9\" \"cu\\x22rl\\x1b\" \"6f1c\" \"shop.example\" \"10.1.0.1:8080\" \
             outbound|80||shop.default.svc.cluster.local 10.0.0.1:40000 [::1]:443 203.0.113.9:5555 shop.example \
             HTTPRoute/default/shop/0\n"
        );
        assert_eq!(
            connection,
            "[2026-09-21T14:13:20.120Z] \"- - -\" 0 - - - \"-\" 12 34 15 - \"-\" \"-\" \"-\" \"-\" \"10.1.0.1:8080\" \
             outbound|80||shop.default.svc.cluster.local 10.0.0.1:40000 [::1]:443 203.0.113.9:5555 shop.example -\n"
        );
    }

    #[test]
    fn default_json_has_istios_names() {
        let [request, connection] = lines(Encoding::Json, None).map(|line| {
            assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
            serde_json::from_str::<serde_json::Value>(&line).unwrap()
        });
        let expected = serde_json::json!({
            "start_time": "2026-09-21T14:13:20.120Z", "method": "GET", "path": "/a/../b?q=\"1\"", "protocol": "HTTP/1.1",
            "response_code": 503, "response_flags": "UF", "response_code_details": "upstream_connect_failed",
            "connection_termination_details": null, "upstream_transport_failure_reason": "refused",
            "bytes_received": 12, "bytes_sent": 34, "duration": 15, "upstream_service_time": "7",
            "x_forwarded_for": "192.0.2.1, 192.0.2.2, 203.0.113.9", "user_agent": "cu\"rl\u{1b}", "request_id": "6f1c",
            "authority": "shop.example", "upstream_host": "10.1.0.1:8080",
            "upstream_cluster": "outbound|80||shop.default.svc.cluster.local", "upstream_local_address": "10.0.0.1:40000",
            "downstream_local_address": "[::1]:443", "downstream_remote_address": "203.0.113.9:5555",
            "requested_server_name": "shop.example", "route_name": "HTTPRoute/default/shop/0",
        });
        assert_eq!(request, expected);
        let absent: Vec<_> = connection.as_object().unwrap().iter().filter(|(_, value)| value.is_null()).collect();
        let absent: Vec<_> = absent.into_iter().map(|(name, _)| name.as_str()).collect();
        let expected = "authority connection_termination_details method path protocol request_id response_code_details route_name \
            upstream_service_time upstream_transport_failure_reason user_agent x_forwarded_for";
        assert_eq!(absent.join(" "), expected);
        assert_eq!(connection["response_code"], 0);
        assert_eq!(connection["response_flags"], "-");
        assert_eq!(connection.as_object().unwrap().len(), JSON.len());
    }

    #[test]
    fn formats_of_ones_own() {
        use Encoding::{Json, Text};
        let cases = [
            (Text, "plain\n", "plain\n"),
            (Text, "100%% %RESPONSE_CODE%", "100% 503\n"),
            (Text, "%REQ(X-Missing?USER-AGENT):2% %REQ(x-missing)%", "cu -\n"),
            (Text, "%REQ(x-long):3%|%REQ(:PATH):6%|%REQ(:PATH):8%", "ab|/a/../|/a/../b?\n"),
            (Text, "%REQ(X-FORWARDED-FOR):12%", "192.0.2.1, 1\n"),
            (Text, "%START_TIME(%Y/%m/%d %s.%3f)%", "2026/09/21 1790000000.120\n"),
            (Text, "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT%", "203.0.113.9 5555\n"),
            (Text, "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT%", "::1 443\n"),
            (Text, "%GRPC_STATUS% %GRPC_STATUS_NUMBER%", "Unavailable 14\n"),
            (Json, r#"{"a": "%RESPONSE_CODE%", "b": "c=%RESPONSE_CODE%"}"#, "{\"a\":503,\"b\":\"c=503\"}\n"),
            (Json, r#"{"a": {"b": ["%REQ(no)%", 1, null, true, []]}}"#, "{\"a\":{\"b\":[null,1,null,true,[]]}}\n"),
            (Json, r#"{"\"": "%% %REQ(no)% \n"}"#, "{\"\\\"\":\"% - \\u000a\"}\n"),
            (Json, r#"{"a": "%REQ(USER-AGENT)%%REQ(no)%"}"#, "{\"a\":\"cu\\\"rl\\u001b-\"}\n"),
            (Json, "{}", "{}\n"),
        ];
        for (encoding, format, expected) in cases {
            assert_eq!(lines(encoding, Some(format))[0], expected, "{format}");
        }
    }

    #[test]
    fn what_is_no_format() {
        use Encoding::{Json, Text};
        let cases = [
            (Text, "50% of", "the percent sign in \"% of\" begins a command that does not end"),
            (Text, "%PROTOCOL", "the percent sign in \"%PROTOCOL\" begins a command that does not end"),
            (Text, "%REQ(:PATH", "the percent sign in \"%REQ(:PATH\" begins a command that does not end"),
            (Text, "%FILTER_STATE(a)%", "%FILTER_STATE% is not known; `%%` stands for a percent sign"),
            (Text, "%REQ%", "%REQ% with this argument, or without one, means nothing"),
            (Text, "%REQ()%", "%REQ% with this argument, or without one, means nothing"),
            (Text, "%REQ(a):x%", "%REQ% with this argument, or without one, means nothing"),
            (Text, "%RESP(SERVER)%", "%RESP% with this argument, or without one, means nothing"),
            (Text, "%DURATION(x)%", "%DURATION% with this argument, or without one, means nothing"),
            (Text, "%START_TIME(%!)%", "%START_TIME% with this argument, or without one, means nothing"),
            (Json, "[]", "a format for JSON is an object of names and formats: it is another value"),
        ];
        for (encoding, format, expected) in cases {
            assert_eq!(Format::new(encoding, Some(format)).unwrap_err().to_string(), expected);
        }
        assert!(matches!(Format::new(Json, Some("%PROTOCOL%")), Err(FormatError::NotJson(_))));
    }
}
