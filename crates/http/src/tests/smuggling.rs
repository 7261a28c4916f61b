//! Messages that two programs may read differently. Each is refused, and with the right status.

use super::request;

include!("corpus.rs");

#[test]
fn refused() {
    for (status, text) in REFUSED {
        let text = message(text);
        let found = request(text.as_bytes());
        assert_eq!(found.as_ref().err().map(|error| error.status()), Some(status), "{text:?}: {found:?}");
    }
}

/// They are refused no matter where the first read ends, and never taken for complete meanwhile.
#[test]
fn refused_in_pieces() {
    for (_, text) in REFUSED {
        let text = format!("{}\r\n\r\n", text.trim_start_matches('!').replace('|', "\r\n"));
        for end in 0..text.len() {
            assert!(!matches!(request(&text.as_bytes()[..end]), Ok(Some(_))), "{text:?} up to {end}");
        }
    }
}
