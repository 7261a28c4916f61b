//! One spelling for each path, so that what is matched is what the back end sees.

/// A path that is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathError {
    /// `%` without two hexadecimal digits.
    #[error("a % in the path is not followed by two hexadecimal digits")]
    Escape,
    /// An encoded NUL.
    #[error("the path holds an encoded NUL")]
    Nul,
    /// `..` beyond the root.
    #[error("the path leaves the root")]
    AboveRoot,
}

/// Writes the normal form of `path` to `out` where it differs, and tells whether it does (RFC 3986, 6.2.2): encoded letters, digits,
/// `-`, `.`, `_` and `~` are decoded, other escapes get capital digits, `.` and `..` elements are resolved. Empty elements stay, an
/// encoded `/` stays encoded: both mean something to some back ends.
///
/// # Errors
/// Paths that different back ends read differently.
pub fn normalize(path: &[u8], out: &mut Vec<u8>) -> Result<bool, PathError> {
    if memchr::memchr(b'%', path).is_none() && !has_dot_element(path) {
        return Ok(false);
    }
    out.clear();
    let mut at = 0;
    while at < path.len() {
        let byte = path[at];
        if byte != b'%' {
            out.push(byte);
            at += 1;
            continue;
        }
        let (high, low) = match path.get(at + 1..at + 3) {
            Some([high, low]) => (hex(*high).ok_or(PathError::Escape)?, hex(*low).ok_or(PathError::Escape)?),
            _ => return Err(PathError::Escape),
        };
        match high << 4 | low {
            0 => return Err(PathError::Nul),
            plain if plain.is_ascii_alphanumeric() || matches!(plain, b'-' | b'.' | b'_' | b'~') => out.push(plain),
            _ => out.extend_from_slice(&[b'%', HEX[usize::from(high)], HEX[usize::from(low)]]),
        }
        at += 3;
    }
    if has_dot_element(out) {
        resolve(out)?;
    }
    Ok(out != path)
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn has_dot_element(path: &[u8]) -> bool {
    memchr::memmem::find_iter(path, b"/.")
        .any(|at| matches!(&path[at + 2..], [] | [b'/', ..] | [b'.'] | [b'.', b'/', ..]))
}

/// Resolves `.` and `..` in place: what is kept never grows.
fn resolve(path: &mut Vec<u8>) -> Result<(), PathError> {
    let mut kept = 0;
    let mut at = 0;
    let end = path.len();
    while at < end {
        // An element: its '/' and what follows up to the next.
        let next = memchr::memchr(b'/', &path[at + 1..]).map_or(end, |next| at + 1 + next);
        match &path[at + 1..next] {
            b"." | b".." => {
                if next - at == 3 {
                    kept = memchr::memrchr(b'/', &path[..kept]).ok_or(PathError::AboveRoot)?;
                }
                if next == end {
                    path[kept] = b'/';
                    kept += 1;
                }
            }
            _ => {
                path.copy_within(at..next, kept);
                kept += next - at;
            }
        }
        at = next;
    }
    path.truncate(kept);
    Ok(())
}
