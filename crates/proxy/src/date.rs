//! The `Date` of responses (RFC 9110, 6.6.1), written once a second by each worker.

use std::{
    cell::Cell,
    time::{SystemTime, UNIX_EPOCH},
};

/// As `Tue, 15 Nov 1994 08:12:31 GMT`.
pub(crate) type Text = [u8; 29];

thread_local! {
    /// A worker has a thread of its own.
    static NOW: Cell<(u64, Text)> = const { Cell::new((u64::MAX, [0; 29])) };
}

/// Looks at the clock.
pub(crate) fn tick() {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if NOW.get().0 != seconds {
        NOW.set((seconds, text(seconds)));
    }
}

/// The value, as of the last look.
pub(crate) fn now() -> Text {
    if NOW.get().0 == u64::MAX {
        tick();
    }
    NOW.get().1
}

/// Writes the field.
pub(crate) fn write(out: &mut Vec<u8>) {
    out.extend_from_slice(b"date: ");
    out.extend_from_slice(&now());
    out.extend_from_slice(b"\r\n");
}

fn text(seconds: u64) -> Text {
    const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: [&[u8; 3]; 12] =
        [b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec", b"Jan", b"Feb"];
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March, so that the leap day is their last (H. Hinnant, "chrono-compatible low-level date algorithms").
    let since = days + 719_468;
    let (era, of_era) = (since / 146_097, since % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + u64::from(month >= 10);
    let mut out = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let index = |number: u64| usize::try_from(number).unwrap_or(0);
    out[..3].copy_from_slice(DAYS[index(days % 7)]);
    out[8..11].copy_from_slice(MONTHS[index(month % 12)]);
    let mut digits = |at: usize, number: u64| {
        let digit = |number: u64| b'0' + u8::try_from(number % 10).unwrap_or(0);
        out[at..at + 2].copy_from_slice(&[digit(number / 10), digit(number)]);
    };
    digits(5, day);
    digits(12, year / 100);
    digits(14, year);
    digits(17, time / 3600);
    digits(20, time / 60 % 60);
    digits(23, time % 60);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let cases = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_887_151, "Tue, 15 Nov 1994 08:12:31 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_077_926_399, "Fri, 27 Feb 2004 23:59:59 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (1_709_251_200, "Fri, 01 Mar 2024 00:00:00 GMT"),
            (4_102_444_799, "Thu, 31 Dec 2099 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(std::str::from_utf8(&text(seconds)).unwrap(), expected);
        }
    }
}
