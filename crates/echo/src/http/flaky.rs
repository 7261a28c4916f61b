//! `/retry…?responseCode=503&succeedAfter=2&uuid=…`: fails so often for a client that names itself, and then succeeds; with
//! `delayRetry=300ms` each failure takes so long.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use hyper::StatusCode;

use super::{delay, status};

/// So many clients are remembered; the first of the alphabet are forgotten then.
const MOST: usize = 4096;
const LONGEST_NAME: usize = 128;

/// How often each client was failed.
#[derive(Default)]
pub(crate) struct Failures(RefCell<BTreeMap<String, u32>>);

/// A failure that a client asked for.
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) after: Duration,
}

impl Failures {
    /// The failure that this request is to get, if it is to get one.
    pub(super) fn next(&self, path: &str, query: &str, longest: Duration) -> Option<Failure> {
        let field = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
                .map(|(_, value)| value)
        };
        if !path.starts_with("/retry") {
            return None;
        }
        let (name, times) = (field("uuid")?, field("succeedAfter")?.parse::<u32>().ok()?);
        if name.len() > LONGEST_NAME {
            return None;
        }
        let mut failures = self.0.borrow_mut();
        if failures.len() >= MOST && !failures.contains_key(name) {
            failures.pop_first();
        }
        let failed = failures.entry(name.to_owned()).or_default();
        if *failed >= times {
            failures.remove(name);
            return None;
        }
        *failed += 1;
        let after = field("delayRetry").and_then(delay::parse).unwrap_or_default().min(longest);
        Some(Failure { status: field("responseCode").map_or(StatusCode::INTERNAL_SERVER_ERROR, status), after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fails_as_often_as_asked() {
        let failures = Failures::default();
        let minute = Duration::from_mins(1);
        let ask = |name: &str| {
            let query = format!("responseCode=503&succeedAfter=2&uuid={name}&delayRetry=300ms");
            failures.next("/retry/x", &query, minute).map(|failure| (failure.status.as_u16(), failure.after))
        };
        let failed = Some((503, Duration::from_millis(300)));
        assert_eq!([ask("a"), ask("b"), ask("a"), ask("a"), ask("b")], [failed, failed, failed, None, failed]);
        assert!(failures.next("/other", "succeedAfter=2&uuid=c", minute).is_none());
        assert!(failures.next("/retry", "succeedAfter=2", minute).is_none());
        for number in 0..2 * MOST {
            ask(&number.to_string());
        }
        assert!(failures.0.borrow().len() <= MOST);
    }
}
