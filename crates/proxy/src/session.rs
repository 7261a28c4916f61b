//! Tokens that keep a client's requests at one endpoint (GEP-1619).
//!
//! A token is sealed: clients can neither read an endpoint's address in it nor make one up, and it holds for the rule or policy that it was
//! given by alone. Whether its endpoint is still there is asked of the plan, not of the token.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    error::Unspecified,
    rand,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use strait_http::RequestHead;
use strait_route::{BackendId, Plan, Rule, Session, SessionType};

/// Address, port, back end, beginning and last use.
const PLAIN: usize = 16 + 2 + 8 + 8 + 8;
/// So many tokens of a request are looked at.
const MOST_TOKENS: usize = 4;

/// A key that several gates share, so that each knows the sessions that the others began. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey(pub [u8; 32]);

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey")
    }
}

impl SessionKey {
    /// A key that nobody else has.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub(crate) fn random() -> Result<Self, Unspecified> {
        let mut key = [0; 32];
        rand::fill(&mut key)?;
        Ok(Self(key))
    }
}

/// What seals the tokens of all workers.
pub(crate) struct Seal(LessSafeKey);

/// What a token says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token {
    endpoint: SocketAddr,
    /// Of the back end's name: one endpoint may be of several.
    backend: u64,
    /// When the session began, in seconds since 1970.
    created: u64,
    used: u64,
}

/// What a request with a session, or for one, is remembered by until its answer.
pub(crate) struct Asked {
    pub(crate) kept: Option<Kept>,
    /// The path that was asked for, in its one spelling.
    pub(crate) path: String,
    pub(crate) https: bool,
}

/// A session that goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    /// The share of the rule's split.
    pub(crate) share: usize,
    pub(crate) backend: BackendId,
    pub(crate) endpoint: SocketAddr,
    created: u64,
}

impl Seal {
    /// A seal by that key.
    ///
    /// # Errors
    /// The key is none; all are.
    pub(crate) fn new(key: &SessionKey) -> Result<Self, Unspecified> {
        Ok(Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &key.0)?)))
    }

    fn close(&self, scope: &str, token: &Token) -> Result<String, Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce)?;
        let mut sealed = Vec::with_capacity(PLAIN + 16);
        let address = match token.endpoint.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        sealed.extend_from_slice(&address.octets());
        sealed.extend_from_slice(&token.endpoint.port().to_be_bytes());
        for number in [token.backend, token.created, token.used] {
            sealed.extend_from_slice(&number.to_be_bytes());
        }
        // The key may be used under equal nonces by chance: this way of sealing bears that.
        let with = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(with, Aad::from(scope.as_bytes()), &mut sealed)?;
        Ok(BASE64.encode([&nonce[..], &sealed].concat()))
    }

    fn open(&self, scope: &str, text: &[u8]) -> Option<Token> {
        let mut bytes = BASE64.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk_mut::<NONCE_LEN>()?;
        let plain =
            self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(scope.as_bytes()), sealed).ok()?;
        let (address, rest) = plain.split_first_chunk::<16>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let [backend, created, used] = *rest.as_chunks::<8>().0 else { return None };
        Some(Token {
            endpoint: SocketAddr::new(Ipv6Addr::from(*address).to_canonical(), u16::from_be_bytes(*port)),
            backend: u64::from_be_bytes(backend),
            created: u64::from_be_bytes(created),
            used: u64::from_be_bytes(used),
        })
    }
}

/// How sessions with a back end are kept: as the rule says, else as the back end's policy does.
fn of<'a>(plan: &'a Plan, rule: &'a Rule, backend: BackendId) -> Option<&'a Session> {
    rule.session.as_ref().or_else(|| plan.backends.get(backend as usize)?.session.as_ref())
}

/// The session that a request goes on with: its token was given by this rule, has not expired, and its endpoint is still there. It
/// comes before weights, one of zero included.
pub(crate) fn find(seal: &Seal, plan: &Plan, rule: &Rule, head: &RequestHead, bytes: &[u8], now: u64) -> Option<Kept> {
    rule.split.shares().enumerate().find_map(|(share, target)| {
        let id = target.backend?;
        let session = of(plan, rule, id)?;
        let backend = plan.backends.get(id as usize)?;
        let name = hash(&backend.name);
        tokens(session, head, bytes, |text| {
            let token = seal.open(&session.scope, text)?;
            let there = backend
                .endpoints
                .iter()
                .any(|endpoint| endpoint.address == token.endpoint.ip() && endpoint.port == token.endpoint.port());
            (token.backend == name && there && is_valid(session, &token, now)).then_some(Kept {
                share,
                backend: id,
                endpoint: token.endpoint,
                created: token.created,
            })
        })
    })
}

fn is_valid(session: &Session, token: &Token, now: u64) -> bool {
    let within = |since: u64, most: Option<std::time::Duration>| {
        most.is_none_or(|most| u128::from(now.saturating_sub(since)) * 1000 <= most.as_millis())
    };
    within(token.created, session.absolute_timeout) && within(token.used, session.idle_timeout)
}

/// The first of a request's tokens that `read` takes.
fn tokens<T>(
    session: &Session,
    head: &RequestHead,
    bytes: &[u8],
    mut read: impl FnMut(&[u8]) -> Option<T>,
) -> Option<T> {
    match session.by {
        SessionType::Header => {
            head.head.all(&session.name, bytes).take(MOST_TOKENS).find_map(|field| read(field.bytes(bytes)))
        }
        SessionType::Cookie => {
            let cookies =
                head.head.all("cookie", bytes).flat_map(|field| field.bytes(bytes).split(|byte| *byte == b';'));
            let named = cookies.filter_map(|cookie| {
                let (name, value) = cookie.trim_ascii().split_at_checked(session.name.len())?;
                if name == session.name.as_bytes() { value.strip_prefix(b"=") } else { None }
            });
            named.take(MOST_TOKENS).find_map(read)
        }
    }
}

/// The field that a response has for a session: none where the client's token goes on as it is.
pub(crate) fn field(
    seal: &Seal,
    plan: &Plan,
    rule: &Rule,
    answered: (BackendId, SocketAddr),
    asked: &Asked,
    now: u64,
) -> Option<(String, String)> {
    let (id, endpoint) = answered;
    let session = of(plan, rule, id)?;
    let kept = asked.kept.as_ref().filter(|kept| kept.endpoint == endpoint && kept.backend == id);
    if kept.is_some() && session.idle_timeout.is_none() {
        return None;
    }
    let backend = hash(&plan.backends.get(id as usize)?.name);
    let created = kept.map_or(now, |kept| kept.created);
    let token = seal.close(&session.scope, &Token { endpoint, backend, created, used: now }).ok()?;
    if session.by == SessionType::Header {
        return Some((session.name.to_string(), token));
    }
    let mut cookie = format!("{}={token}; HttpOnly; SameSite=Strict", session.name);
    if asked.https {
        cookie.push_str("; Secure");
    }
    if let Some(path) = session.path(&asked.path) {
        cookie.push_str("; Path=");
        cookie.push_str(path);
    }
    if let Some(most) = session.absolute_timeout.filter(|_| session.permanent) {
        let left = most.as_millis().div_ceil(1000).saturating_sub(u128::from(now.saturating_sub(created)));
        cookie.push_str("; Max-Age=");
        cookie.push_str(&left.to_string());
    }
    Some(("set-cookie".to_owned(), cookie))
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn session() -> Session {
        Session {
            scope: "HTTPRoute/d/r/0".into(),
            name: "id".into(),
            by: SessionType::Cookie,
            absolute_timeout: Some(Duration::from_secs(100)),
            idle_timeout: Some(Duration::from_secs(10)),
            permanent: false,
            paths: None,
        }
    }

    #[test]
    fn sealed() {
        let seal = Seal::new(&SessionKey([7; 32])).unwrap();
        for endpoint in ["10.0.0.1:8080", "[2001:db8::1]:80"] {
            let token = Token { endpoint: endpoint.parse().unwrap(), backend: 5, created: 1, used: 2 };
            let text = seal.close("scope", &token).unwrap();
            assert_eq!(seal.open("scope", text.as_bytes()), Some(token));
            assert_ne!(seal.close("scope", &token).unwrap(), text, "two tokens of one endpoint are not alike");
            assert_eq!(seal.open("other", text.as_bytes()), None);
            assert_eq!(Seal::new(&SessionKey::random().unwrap()).unwrap().open("scope", text.as_bytes()), None);
            for at in 0..text.len() {
                let mut forged = text.clone().into_bytes();
                forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
                // Bits behind the last byte are refused by the coding.
                assert_eq!(seal.open("scope", &forged), None, "{at}");
            }
        }
        assert_eq!(seal.open("scope", b""), None);
        assert_eq!(seal.open("scope", b"AAAA"), None);
    }

    #[test]
    fn expires() {
        let token = Token { endpoint: "10.0.0.1:80".parse().unwrap(), backend: 0, created: 1000, used: 1090 };
        for (now, expected) in [(1090, true), (1100, true), (1101, false), (900, true)] {
            assert_eq!(is_valid(&session(), &token, now), expected, "{now}");
        }
        let fresh = Token { used: 1095, ..token };
        assert!(is_valid(&session(), &fresh, 1100) && !is_valid(&session(), &fresh, 1101), "however it is used");
        let endless = Session { absolute_timeout: None, idle_timeout: None, ..session() };
        assert!(is_valid(&endless, &token, u64::MAX));
    }
}
