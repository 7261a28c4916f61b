//! The Huffman code of strings (RFC 7541, 5.2 and appendix B).

use super::NotHpack;

/// Bits of the code of each byte, and of the end of a string. The code is canonical: they say all of it.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];
const END: u16 = 256;
const LONGEST: usize = 30;
/// Codes up to so many bits are looked up at once: all that texts are made of.
const FAST: usize = 10;

struct Codes {
    /// By symbol: its code.
    code: [u32; 257],
    /// Symbols in the order of their codes.
    sorted: [u16; 257],
    /// By length: where its symbols begin in `sorted`.
    first: [u16; LONGEST + 1],
    /// By length: its first code, and the first that is longer, both from the left of 32 bits.
    from: [u32; LONGEST + 1],
    below: [u64; LONGEST + 1],
    /// By the next bits: a symbol, and above it the bits of its code; 0 where it is longer.
    fast: [u16; 1 << FAST],
}

const CODES: Codes = codes();

const fn codes() -> Codes {
    let mut all = Codes {
        code: [0; 257],
        sorted: [0; 257],
        first: [0; LONGEST + 1],
        from: [0; LONGEST + 1],
        below: [0; LONGEST + 1],
        fast: [0; 1 << FAST],
    };
    let (mut code, mut count, mut length) = (0_u32, 0, 1);
    while length <= LONGEST {
        code <<= 1;
        all.first[length] = count as u16;
        all.from[length] = code << (32 - length);
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                all.code[symbol] = code;
                all.sorted[count] = symbol as u16;
                if length <= FAST {
                    let mut at = (code as usize) << (FAST - length);
                    let end = (code as usize + 1) << (FAST - length);
                    while at < end {
                        all.fast[at] = symbol as u16 | (length as u16) << 9;
                        at += 1;
                    }
                }
                count += 1;
                code += 1;
            }
            symbol += 1;
        }
        all.below[length] = (code as u64) << (32 - length);
        length += 1;
    }
    all
}

/// How many bytes `text` takes.
pub(crate) fn encoded_len(text: &[u8]) -> usize {
    text.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum::<usize>().div_ceil(8)
}

/// Writes the code of `text`.
pub(crate) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0_u64, 0);
    for byte in text {
        let length = LENGTHS[usize::from(*byte)];
        bits = bits << length | u64::from(CODES.code[usize::from(*byte)]);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        // The end's code is all ones, and its beginning fills the last byte.
        out.push((bits << (8 - count)) as u8 | 0xff >> count);
    }
}

/// Writes the text whose code `input` is.
///
/// # Errors
/// More than seven bits of padding, other padding than ones, or the end within.
pub(crate) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), NotHpack> {
    out.reserve(input.len() * 8 / 5);
    let (mut bits, mut count) = (0_u64, 0_u32);
    let mut rest = input.iter();
    loop {
        while count <= 56 {
            let Some(byte) = rest.next() else { break };
            bits |= u64::from(*byte) << (56 - count);
            count += 8;
        }
        let found = CODES.fast[(bits >> (64 - FAST)) as usize];
        let (symbol, length) = if found == 0 { long(bits)? } else { (found & 0x1ff, u32::from(found >> 9)) };
        if length > count {
            // Less than a code is left: the padding.
            let padding = if count == 0 { 0 } else { !bits >> (64 - count) };
            return if count < 8 && padding == 0 { Ok(()) } else { Err(NotHpack) };
        }
        if symbol == END {
            return Err(NotHpack);
        }
        out.push(symbol as u8);
        bits <<= length;
        count -= length;
    }
}

/// The symbol of a code that is not looked up at once, and its bits.
fn long(bits: u64) -> Result<(u16, u32), NotHpack> {
    let next = (bits >> 32) as u32;
    for length in FAST + 1..=LONGEST {
        if u64::from(next) < CODES.below[length] {
            let at = usize::from(CODES.first[length]) + ((next - CODES.from[length]) >> (32 - length)) as usize;
            return Ok((CODES.sorted[at], length as u32));
        }
    }
    Err(NotHpack)
}
