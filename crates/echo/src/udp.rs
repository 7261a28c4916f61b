//! UDP: each datagram goes back to where it came from.

use tokio::net::UdpSocket;

/// The largest UDP payload.
const LARGEST: usize = 65_535;

/// Echoes until the task is dropped.
pub(crate) async fn serve(socket: UdpSocket) {
    let mut buffer = vec![0; LARGEST];
    loop {
        // An error here is a late ICMP answer to an earlier datagram, or a moment without buffers; neither concerns
        // the next datagram. Yielding keeps a run of them from holding the thread.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let _lost_like_any_datagram = socket.send_to(&buffer[..length], from).await;
    }
}
