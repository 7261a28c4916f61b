//! The key that gates share, so that each knows the sessions that the others began.

use std::path::Path;

use anyhow::{Context as _, bail};
use strait_proxy::SessionKey;

/// Reads a key of 64 hexadecimal digits. What is in the file is never repeated.
pub(super) fn read(path: &Path) -> anyhow::Result<SessionKey> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = text.trim();
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!("{} does not hold 64 hexadecimal digits (openssl rand -hex 32 makes them)", path.display());
    }
    let mut key = [0; 32];
    for (index, digit) in text.chars().filter_map(|digit| digit.to_digit(16)).enumerate() {
        key[index / 2] = key[index / 2] << 4 | u8::try_from(digit)?;
    }
    Ok(SessionKey(key))
}
