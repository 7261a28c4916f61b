//! The first message of a TLS connection (RFC 8446, 4.1.2): enough of it to know where it goes.

/// What is read of a `ClientHello`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientHello {
    /// The server name in small letters, where given; checked to be a DNS name.
    pub server_name: Option<String>,
    /// The application protocols, in the client's order.
    pub alpn: Vec<Vec<u8>>,
}

/// Why there is no `ClientHello`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotClientHello {
    /// Another protocol.
    #[error("the connection does not begin with a TLS handshake")]
    NotTls,
    /// Lengths that contradict each other, or names that are none.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// Larger than any real one.
    #[error("the ClientHello is larger than 16 KiB")]
    TooLarge,
}

/// The most bytes of the message; those with post-quantum key shares have about two thousand.
const MOST: usize = 16 << 10;

/// Reads the `ClientHello` at the start of a connection. None where more bytes are needed.
///
/// # Errors
/// As soon as it is certain that there is none.
pub fn client_hello(bytes: &[u8]) -> Result<Option<ClientHello>, NotClientHello> {
    let Some(message) = handshake(bytes)? else { return Ok(None) };
    let mut rest = Reader(message);
    let mut hello = ClientHello::default();
    // legacy_version and random, session id, cipher suites, compression methods.
    rest.take(34)?;
    rest.vector8()?;
    rest.vector16()?;
    rest.vector8()?;
    if rest.0.is_empty() {
        return Ok(Some(hello));
    }
    let mut extensions = rest.vector16()?;
    if !rest.0.is_empty() {
        return Err(NotClientHello::Malformed);
    }
    let mut seen = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let body = extensions.vector16()?;
        match kind {
            0 if std::mem::replace(&mut seen.0, true) => return Err(NotClientHello::Malformed),
            0 => hello.server_name = server_name(body)?,
            16 if std::mem::replace(&mut seen.1, true) => return Err(NotClientHello::Malformed),
            16 => hello.alpn = alpn(body)?,
            _ => {}
        }
    }
    Ok(Some(hello))
}

/// The handshake message, put together from its records.
fn handshake(bytes: &[u8]) -> Result<Option<&[u8]>, NotClientHello> {
    match bytes {
        [] => return Ok(None),
        [22, rest @ ..] if rest.first().is_none_or(|major| *major == 3) => {}
        _ => return Err(NotClientHello::NotTls),
    }
    let Some((head, body)) = bytes.split_at_checked(9) else { return Ok(None) };
    let record = usize::from(u16::from_be_bytes([head[3], head[4]]));
    let length = usize::from(head[6]) << 16 | usize::from(head[7]) << 8 | usize::from(head[8]);
    if head[5] != 1 {
        return Err(NotClientHello::NotTls);
    }
    if length > MOST {
        return Err(NotClientHello::TooLarge);
    }
    // A message that is cut into records is legal and sent by nobody but those who hide a name from whoever reads it.
    if record < length + 4 {
        return Err(NotClientHello::Malformed);
    }
    Ok(body.get(..length))
}

fn server_name(mut body: Reader<'_>) -> Result<Option<String>, NotClientHello> {
    let mut names = body.vector16()?;
    if !body.0.is_empty() || names.0.is_empty() {
        return Err(NotClientHello::Malformed);
    }
    let mut found = None;
    while !names.0.is_empty() {
        let kind = names.take(1)?;
        let name = names.vector16()?.0;
        if kind != [0] {
            continue;
        }
        let valid = !name.is_empty()
            && name.len() <= 255
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        if found.is_some() || !valid {
            return Err(NotClientHello::Malformed);
        }
        found = Some(String::from_utf8_lossy(name).to_ascii_lowercase());
    }
    Ok(found)
}

fn alpn(mut body: Reader<'_>) -> Result<Vec<Vec<u8>>, NotClientHello> {
    let mut names = body.vector16()?;
    let mut all = Vec::new();
    while !names.0.is_empty() {
        let name = names.vector8()?.0;
        if name.is_empty() || all.len() == 64 {
            return Err(NotClientHello::Malformed);
        }
        all.push(name.to_vec());
    }
    if body.0.is_empty() && !all.is_empty() { Ok(all) } else { Err(NotClientHello::Malformed) }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], NotClientHello> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(NotClientHello::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number16(&mut self) -> Result<u16, NotClientHello> {
        let taken = self.take(2)?;
        Ok(u16::from_be_bytes([taken[0], taken[1]]))
    }

    fn vector8(&mut self) -> Result<Reader<'a>, NotClientHello> {
        let length = usize::from(self.take(1)?[0]);
        self.take(length).map(Reader)
    }

    fn vector16(&mut self) -> Result<Reader<'a>, NotClientHello> {
        let length = usize::from(self.number16()?);
        self.take(length).map(Reader)
    }
}
