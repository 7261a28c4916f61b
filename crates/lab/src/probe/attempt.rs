//! TCP and UDP: sockets that ask once.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use nix::errno::Errno;
use tokio::net::{TcpSocket, UdpSocket};

use super::{Answer, prohibited::Prohibited, wire};

fn local(source: Option<IpAddr>, to: IpAddr) -> SocketAddr {
    let any = if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    SocketAddr::new(source.unwrap_or(any), 0)
}

/// Connects. Pending until the destination answers or the kernel gives up. A refusal by policy is an error: permission denied.
pub(super) async fn tcp(source: Option<IpAddr>, to: SocketAddr, prohibited: &Prohibited) -> io::Result<Answer> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Its port must be known when it is refused.
    socket.bind(local(source, to.ip()))?;
    let port = socket.local_addr()?.port();
    // Reset when closed: thousands of probes would leave as many ports in TIME_WAIT.
    socket.set_zero_linger()?;
    match socket.connect(to).await {
        Ok(_) => Ok(Answer::Accepted),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if prohibited.refused(to, port) {
                Err(Errno::EACCES.into())
            } else {
                Ok(Answer::Refused)
            }
        }
        Err(error) => Err(error),
    }
}

/// Sends a datagram. Pending until one comes back, or an ICMP error.
pub(super) async fn udp(source: Option<IpAddr>, to: SocketAddr) -> io::Result<Answer> {
    let socket = UdpSocket::bind(local(source, to.ip())).await?;
    socket.connect(to).await?;
    let asked = match socket.send(&wire::DATAGRAM).await {
        Ok(_) => socket.recv(&mut [0; 512]).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(_) => Ok(Answer::Accepted),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Answer::Refused),
        Err(error) => Err(error),
    }
}
