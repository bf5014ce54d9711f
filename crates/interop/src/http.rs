//! An HTTP proxy that knows CONNECT alone, and half-closes: most real ones end both directions with the first.

use tuyau_core::{ConnectCx, ConnectError, Flow, Target, copy_bidirectional};
use tuyau_tokio::host;

/// Serves one client.
pub(crate) async fn serve(mut client: Flow, cx: &ConnectCx<'_>) -> Result<(), ConnectError> {
    let mut head = Vec::new();
    let mut byte = [0];
    // One by one: what comes behind the head is not the proxy's.
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).await?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head);
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let Some(address) = target.and_then(|target| target.parse().ok()) else {
        client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await?;
        return Ok(client.shutdown().await?);
    };
    let mut far = match host().connect(&Target::Addr(address), cx).await {
        Ok(far) => far,
        Err(_) => {
            client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await?;
            return Ok(client.shutdown().await?);
        }
    };
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    // Each side has seen how the other ended.
    let _ = copy_bidirectional(&mut client, &mut far).await;
    Ok(())
}
