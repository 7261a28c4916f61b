//! Log lines on standard error: `time level message key=value …`, one event a line. Values of secrets never get here: what is
//! logged are names, places and counts.

use std::{
    fmt::{Display, Write as _},
    io::Write as _,
};

use jiff::Timestamp;

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    Info,
    Warn,
    Error,
}

/// Writes one line. A log that cannot be written is no reason to stop.
pub(crate) fn log(level: Level, message: &str, fields: &[(&str, &dyn Display)]) {
    let line = format(Timestamp::now(), level, message, fields);
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

fn format(time: Timestamp, level: Level, message: &str, fields: &[(&str, &dyn Display)]) -> String {
    let level = match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    let mut line = format!("{time:.3} {level:5} {}", escaped(message));
    for (key, value) in fields {
        let value = escaped(&value.to_string());
        let quoted = value.is_empty() || value.contains([' ', '"', '=']);
        let _ = if quoted { write!(line, " {key}={value:?}") } else { write!(line, " {key}={value}") };
    }
    line.push('\n');
    line
}

/// Without line breaks and other control characters: a name from a manifest cannot forge a line.
fn escaped(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_an_event() {
        let time = "2026-11-22T22:40:01.1234Z".parse().unwrap();
        let line =
            format(time, Level::Warn, "manifest refused", &[("file", &"a b.yaml"), ("line", &3), ("what", &"x\ny")]);
        assert_eq!(line, "2026-11-22T22:40:01.123Z warn  manifest refused file=\"a b.yaml\" line=3 what=x\u{fffd}y\n");
    }
}
