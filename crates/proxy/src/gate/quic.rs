//! Sockets for HTTP/3, beside those of HTTPS listeners.

use std::{collections::BTreeMap, sync::Arc};

use socket2::Socket;
use strait_route::{PortPlan, Serve, TlsThen};

use super::{Gate, GateError};
use crate::listen::{self, Listening, Place, Sockets};

impl Gate {
    /// Opens sockets for datagrams where HTTPS is served, but for ports whose datagrams are a UDP listener's. Gives where it could not.
    pub(super) fn open_quic(
        &self,
        ports: &[Arc<PortPlan>],
        sockets: &mut Sockets,
        inherited: &mut BTreeMap<Place, Vec<Socket>>,
        errors: &mut Vec<GateError>,
    ) -> Vec<Place> {
        let mut missing = Vec::new();
        if !self.http3 {
            return missing;
        }
        for port in ports {
            let Serve::Tls(listeners) = &port.serve else { continue };
            if !listeners.iter().any(|(_, listener)| matches!(listener.then, TlsThen::Http(..))) {
                continue;
            }
            let at = listen::place(port.address, port.port, &self.ports);
            let place = (at, true);
            let Some(connections) = sockets.get(&(at, false)).map(|streams| Arc::clone(streams.connections())) else {
                continue;
            };
            if sockets.contains_key(&place) {
                continue;
            }
            let opened = if let Some(there) = self.sockets.get(&place).filter(|there| there.is_quic()) {
                Ok(Arc::clone(there))
            } else {
                let left = inherited.remove(&place).unwrap_or_default();
                let half = self.generation as usize % 2;
                Listening::open_halves(place, self.threads.len(), left, half, connections).map(Arc::new)
            };
            match opened {
                Ok(listening) => _ = sockets.insert(place, listening),
                Err(source) => {
                    missing.push(place);
                    let gateway = Arc::clone(&port.gateway);
                    errors.push(GateError::Listen { at, gateway, port: port.port, udp: true, source });
                }
            }
        }
        missing
    }

    /// Has new connections come to this process again, after another one that was to take over did not.
    pub(super) fn steer(&self) {
        for listening in self.sockets.values() {
            // The sockets are the same as when it could be done.
            let _ = listening.steer();
        }
    }
}
