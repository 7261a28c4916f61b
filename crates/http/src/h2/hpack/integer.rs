//! Integers (RFC 7541, 5.1).

use super::NotHpack;

/// Takes an integer from `input`, whose first byte has it in its last `bits` bits.
///
/// # Errors
/// One that is not all there, or beyond 2^28: no string, index or table is as large.
pub(crate) fn take(input: &mut &[u8], bits: u32) -> Result<usize, NotHpack> {
    let (first, mut rest) = input.split_first().ok_or(NotHpack)?;
    let most = (1_usize << bits) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (next, behind) = rest.split_first().ok_or(NotHpack)?;
            rest = behind;
            if shift > 21 {
                return Err(NotHpack);
            }
            value += usize::from(next & 0x7f) << shift;
            shift += 7;
            if next & 0x80 == 0 {
                break;
            }
        }
    }
    *input = rest;
    Ok(value)
}

/// Writes an integer whose first byte has it in its last `bits` bits, and `mark` in the others.
pub(crate) fn put(mark: u8, bits: u32, value: usize, out: &mut Vec<u8>) {
    let most = (1_usize << bits) - 1;
    if value < most {
        out.push(mark | value as u8);
        return;
    }
    out.push(mark | most as u8);
    let mut rest = value - most;
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
