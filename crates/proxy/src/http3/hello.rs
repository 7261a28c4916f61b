//! Handshakes: the listener of a port is chosen by the server name before anything is answered, as over TCP.
//!
//! quinn asks for a configuration before it has read the client's first words. [`ByName`] is one that waits for them: its session reads the
//! `ClientHello`, finds the listener, and is that listener's session from there on.

use std::{any::Any, net::IpAddr, sync::Arc};

use quinn::{
    ConnectionId, Side,
    crypto::{
        ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session, UnsupportedVersion,
        rustls::QuicServerConfig,
    },
};
use quinn_proto::{TransportError, TransportErrorCode, transport_parameters::TransportParameters};
use rustls::{
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use strait_http::client_hello;
use strait_route::{Serve, TlsThen};

use super::ALPN;
use crate::live::Live;

/// TLS alerts (RFC 8446, 6.2).
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;
const UNRECOGNIZED_NAME: u8 = 112;

/// What does for every connection before its listener is known: keys that follow from its first packet alone.
pub(super) fn before() -> Option<Arc<QuicServerConfig>> {
    #[derive(Debug)]
    struct Nobody;

    impl ResolvesServerCert for Nobody {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            None
        }
    }

    let builder = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).ok()?;
    let config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Nobody));
    Some(Arc::new(QuicServerConfig::try_from(config).ok()?))
}

/// How the handshakes of a port are done: by a plan, and the server name.
pub(super) struct ByName {
    pub(super) before: Arc<QuicServerConfig>,
    pub(super) live: Arc<Live>,
    pub(super) place: (IpAddr, u16),
}

/// Which listener a handshake was for.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) name: String,
    pub(super) listener: Arc<str>,
}

impl ByName {
    fn choose(&self, name: &str) -> Result<(Arc<str>, Arc<QuicServerConfig>), u8> {
        let port = self.live.port(self.place.0, self.place.1).ok_or(UNRECOGNIZED_NAME)?;
        let Serve::Tls(listeners) = &self.live.plan.ports[port].serve else { return Err(UNRECOGNIZED_NAME) };
        let listener = listeners.find(name).ok_or(UNRECOGNIZED_NAME)?;
        let TlsThen::Http(terminate, _) = &listener.then else { return Err(UNRECOGNIZED_NAME) };
        if !terminate.versions.tls13 {
            return Err(PROTOCOL_VERSION);
        }
        let config = self.live.server(port, &listener.name).ok_or(UNRECOGNIZED_NAME)?;
        // The same certificates, validation and tickets; a copy is a few pointers.
        let mut config = rustls::ServerConfig::clone(config);
        config.alpn_protocols = vec![ALPN.to_vec()];
        let config = QuicServerConfig::try_from(config).map_err(|_| PROTOCOL_VERSION)?;
        Ok((Arc::clone(&listener.name), Arc::new(config)))
    }
}

impl ServerConfig for ByName {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.before.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.before.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
        let session = Arc::clone(&self.before).start_session(version, params);
        Box::new(Waiting { config: self, version, params: *params, hello: Vec::new(), session, chosen: None })
    }
}

/// A session whose listener is not known before its `ClientHello` is.
struct Waiting {
    config: Arc<ByName>,
    version: u32,
    params: TransportParameters,
    hello: Vec<u8>,
    /// Before, one that knows the keys of first packets and reads nothing.
    session: Box<dyn Session>,
    chosen: Option<Chosen>,
}

/// A record of TLS around what came of the handshake, as [`client_hello`] reads it.
const RECORD: [u8; 3] = [22, 3, 1];
/// The most bytes of a handshake's first message.
const MOST: usize = 16 << 10;

fn alert(code: u8, reason: &'static str) -> TransportError {
    TransportError { code: TransportErrorCode::crypto(code), frame: None, reason: reason.to_owned() }
}

impl Waiting {
    /// The server name, once the whole message is here; empty where the client gives none.
    fn name(&self) -> Result<Option<String>, TransportError> {
        // Its type, and its length in three bytes.
        let Some((head, body)) = self.hello.split_at_checked(4) else { return Ok(None) };
        let length = usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]);
        if length > MOST || self.hello.len() > 2 * MOST {
            return Err(alert(DECODE_ERROR, "the ClientHello is too large"));
        }
        if body.len() < length {
            return Ok(None);
        }
        let message = &self.hello[..4 + length];
        let [.., high, low] = message.len().to_be_bytes();
        let record = [&RECORD[..], &[high, low], message].concat();
        match client_hello(&record) {
            Ok(Some(hello)) => Ok(Some(hello.server_name.unwrap_or_default())),
            Ok(None) | Err(_) => Err(alert(DECODE_ERROR, "the ClientHello is malformed")),
        }
    }
}

impl Session for Waiting {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.session.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.session.handshake_data()?;
        Some(Box::new(self.chosen.clone()?))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.session.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.session.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        if self.chosen.is_some() {
            return self.session.read_handshake(buf);
        }
        self.hello.extend_from_slice(buf);
        let Some(name) = self.name()? else { return Ok(false) };
        let (listener, config) =
            self.config.choose(&name).map_err(|code| alert(code, "no listener for that server name"))?;
        self.session = config.start_session(self.version, &self.params);
        self.chosen = Some(Chosen { name, listener });
        self.session.read_handshake(&std::mem::take(&mut self.hello))
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.session.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        self.session.write_handshake(buf)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.session.next_1rtt_keys()
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.session.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.session.export_keying_material(output, label, context)
    }
}
