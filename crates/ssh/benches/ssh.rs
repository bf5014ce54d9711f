//! Throughput through a forwarded port: ours against `ssh -L`, through the same sshd, alternating.
//!
//! `cargo bench -p tuyau-ssh --bench ssh [ROUNDS [MEBIBYTES]]`

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tuyau_core::names::{HOST, PORT};
use tuyau_core::{ConnectCx, Context, Flow, Net, Target, copy_bidirectional};
use tuyau_ssh::{HostKeys, Identity, Ssh, SshHop};
use tuyau_testing::free_port;
use tuyau_testing::peers::{Peer, Sshd, command, sshd};
use tuyau_tokio::{TCP, derivations};

type Outcome<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let (rounds, size) = (numbers.next().unwrap_or(7), numbers.next().unwrap_or(256) << 20);
    let sshd = sshd();
    let target = far_end().await?;
    let ours = bridge(&sshd, target).await?;
    let (theirs, _peer) = forward(&sshd, target, &[]).await?;
    let (same_cipher, _peer) = forward(&sshd, target, &["-c", "aes256-gcm@openssh.com"]).await?;
    for (name, direction) in [("up", Direction::Up), ("down", Direction::Down)] {
        let mut times: [Vec<f64>; 3] = Default::default();
        for _ in 0..rounds {
            for (times, port) in times.iter_mut().zip([ours, theirs, same_cipher]) {
                times.push(transfer(port, direction, size).await?.as_secs_f64());
            }
        }
        let rate = |times: &[f64]| (size >> 20) as f64 / median(times.to_vec());
        let ratio =
            |other: &[f64]| median(other.iter().zip(&times[0]).map(|(other, ours)| other / ours).collect());
        println!(
            "{name}: ours {:.0} MiB/s; ssh -L {:.0} MiB/s, ratio {:.2}; ssh -L -c aes256-gcm {:.0} MiB/s, ratio {:.2}",
            rate(&times[0]),
            rate(&times[1]),
            ratio(&times[1]),
            rate(&times[2]),
            ratio(&times[2]),
        );
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

/// Sends as many bytes as it is asked for, or reads until the end and says so.
async fn far_end() -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let wanted = stream.read_u64().await?;
                let mut chunk = vec![7; 256 * 1024];
                let mut left = usize::try_from(wanted).unwrap_or(0);
                while left > 0 {
                    let n = left.min(chunk.len());
                    stream.write_all(&chunk[..n]).await?;
                    left -= n;
                }
                while stream.read(&mut chunk).await? > 0 {}
                stream.write_u8(1).await
            });
        }
    });
    Ok(address)
}

async fn transfer(port: u16, direction: Direction, size: usize) -> Outcome<Duration> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let start = Instant::now();
    let mut chunk = vec![7; 256 * 1024];
    match direction {
        Direction::Up => {
            stream.write_u64(0).await?;
            let mut left = size;
            while left > 0 {
                let n = left.min(chunk.len());
                stream.write_all(&chunk[..n]).await?;
                left -= n;
            }
        }
        Direction::Down => {
            stream.write_u64(size as u64).await?;
            let mut left = size;
            while left > 0 {
                match stream.read(&mut chunk).await? {
                    0 => return Err("it ended early".into()),
                    n => left -= n,
                }
            }
        }
    }
    stream.shutdown().await?;
    stream.read_u8().await?;
    Ok(start.elapsed())
}

async fn bridge(sshd: &Sshd, target: SocketAddr) -> Outcome<u16> {
    let outer = Context::new().with(&HOST, "127.0.0.1".into()).with(&PORT, sshd.port());
    let outer = derivations(outer).offer(&TCP);
    let cx = ConnectCx::new(&outer)?;
    let hop = SshHop::new(sshd.user())
        .host_keys(HostKeys::files([sshd.known_hosts()]))
        .identity(Identity::file(sshd.identity()));
    let ssh = Ssh::new(hop, outer);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (ssh, cx) = (ssh.clone(), cx.clone());
            tokio::spawn(async move {
                let mut near = Flow::from_tokio(near);
                let mut far = ssh.connect(&Target::Addr(target), &cx).await?;
                copy_bidirectional(&mut near, &mut far).await?;
                Ok::<_, Box<dyn Error + Send + Sync>>(())
            });
        }
    });
    Ok(port)
}

async fn forward(sshd: &Sshd, target: SocketAddr, more: &[&str]) -> Outcome<(u16, Peer)> {
    let port = free_port();
    let mut ssh = command("ssh", "openssh-client");
    ssh.args([
        "-F",
        "none",
        "-N",
        "-v",
        "-oBatchMode=yes",
        "-oExitOnForwardFailure=yes",
        "-oIdentityAgent=none",
    ]);
    ssh.arg(format!("-oUserKnownHostsFile={}", sshd.known_hosts().display()));
    ssh.arg("-i").arg(sshd.identity()).args(["-p", &sshd.port().to_string(), "-l", &sshd.user()]);
    ssh.arg("-L").arg(format!("127.0.0.1:{port}:{target}")).args(more).arg("127.0.0.1");
    let mut peer = Peer::spawn(&mut ssh);
    peer.error_line("Entering interactive session");
    Ok((port, peer))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
