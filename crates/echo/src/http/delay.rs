//! `?delay=1.5s`: how long a client asks its answer to take.

use std::time::Duration;

/// The delay a query string asks for, in the words of Go's `time.ParseDuration`; none asked is zero.
///
/// # Errors
/// What is wrong with the value, or that it is longer than `longest`.
pub(super) fn asked(query: &str, longest: Duration) -> Result<Duration, String> {
    let Some(text) = query.split('&').find_map(|pair| pair.strip_prefix("delay=")).filter(|text| !text.is_empty())
    else {
        return Ok(Duration::ZERO);
    };
    let delay =
        parse(text).ok_or_else(|| format!("found delay `{text}`; write a duration such as 300ms, 1.5s or 1m"))?;
    if delay > longest { Err(format!("found delay `{text}`; at most {longest:?} is allowed")) } else { Ok(delay) }
}

/// A sequence of decimal numbers with units, `1m30s`; or `0`.
pub(super) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number_end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = next;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays() {
        let longest = Duration::from_mins(1);
        for (query, expected) in [
            ("", Ok(0)),
            ("x=1", Ok(0)),
            ("delay=", Ok(0)),
            ("delay=0", Ok(0)),
            ("delay=300ms", Ok(300)),
            ("x=1&delay=1.5s&y", Ok(1500)),
            ("delay=1m0s", Ok(60_000)),
            ("delay=2m", Err("found delay `2m`; at most 60s is allowed")),
            ("delay=5", Err("found delay `5`; write a duration such as 300ms, 1.5s or 1m")),
            ("delay=s", Err("found delay `s`; write a duration such as 300ms, 1.5s or 1m")),
            ("delay=1d", Err("found delay `1d`; write a duration such as 300ms, 1.5s or 1m")),
        ] {
            assert_eq!(
                asked(query, longest).map(|delay| delay.as_millis()),
                expected.map_err(str::to_owned),
                "{query}"
            );
        }
    }
}
