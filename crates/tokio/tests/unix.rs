//! Unix sockets: their files, their credentials, and what systemd hands over.
#![cfg(unix)]

use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use tuyau_core::names::PEER;
use tuyau_core::{ConnectCx, ConnectErrorKind, Context, Net, Target};
use tuyau_testing::rerun;
use tuyau_tokio::{CREDENTIALS, Host, systemd};

fn cx() -> ConnectCx<'static> {
    ConnectCx::new(&Context::new()).unwrap()
}

fn target(path: &Path) -> Target {
    Target::path(path.as_os_str().as_bytes())
}

#[tokio::test]
async fn a_stale_socket_file_is_replaced_and_removed_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves the file");
    let listener = Host::new().listen(&target(&path), &cx()).await.unwrap();
    Host::new().connect(&target(&path), &cx()).await.unwrap();
    drop(listener);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "files stay behind");
}

#[tokio::test]
async fn a_socket_that_somebody_listens_on_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _live = UnixListener::bind(&path).unwrap();
    let error = Host::new().listen(&target(&path), &cx()).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Environment);
    assert!(error.hint().is_some_and(|hint| hint.contains("another process listens")), "{error:?}");
    Host::new().connect(&target(&path), &cx()).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    std::fs::write(&path, "precious").unwrap();
    let error = Host::new().listen(&target(&path), &cx()).await.unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("no socket")), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_file_that_is_no_longer_ours_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let ours = Host::new().listen(&target(&path), &cx()).await.unwrap();
    std::fs::rename(&path, dir.path().join("moved")).unwrap();
    let _theirs = UnixListener::bind(&path).unwrap();
    drop(ours);
    assert!(path.exists());
}

#[tokio::test]
async fn paths_that_cant_be_are_misuse() {
    for path in [&b""[..], b"a\0b", &[b'a'; 200], &[0; 200]] {
        for result in [
            Host::new().connect(&Target::path(path), &cx()).await.map(drop),
            Host::new().listen(&Target::path(path), &cx()).await.map(drop),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ConnectErrorKind::Misuse);
            assert!(error.hint().is_some());
        }
    }
}

#[tokio::test]
async fn the_peer_is_known_by_its_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut listener = Host::new().listen(&target(&path), &cx()).await.unwrap();
    let _client = Host::new().connect(&target(&path), &cx()).await.unwrap();
    let server = listener.accept().await.unwrap().finish().await.unwrap();
    let peer = server.fact(&CREDENTIALS).unwrap();
    assert_eq!(peer.uid, std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir.path()).unwrap()));
    assert_eq!(peer.pid, Some(std::process::id() as i32));
    assert!(server.fact(&PEER).unwrap().to_string().contains("process"));
}

const INHERITING: &str = "TUYAU_TEST_SYSTEMD";

/// A shell plays systemd: it knows the process id before it becomes the child.
fn start(line: &str, listener: Option<UnixListener>) -> std::process::Output {
    let child = rerun("sockets_are_inherited_from_systemd", INHERITING);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &format!("{line} exec \"$0\" \"$@\"")])
        .arg(child.get_program())
        .args(child.get_args());
    command.env(INHERITING, "1").stdin(match listener {
        Some(listener) => Stdio::from(std::os::fd::OwnedFd::from(listener)),
        None => Stdio::null(),
    });
    command.output().unwrap()
}

#[test]
fn sockets_are_inherited_from_systemd() {
    if std::env::var_os(INHERITING).is_some() {
        return inherit();
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    // Waits in the queue until the child accepts.
    let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let handed = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web;";
    let expect = |output: std::process::Output, text: &str| {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.contains(text), "no `{text}` in {out} {err}");
    };
    expect(start(handed, Some(listener)), "accepted on web, close-on-exec true");
    expect(start("export LISTEN_PID=1 LISTEN_FDS=1;", None), "nothing was handed over");
    expect(start("export LISTEN_PID=$$ LISTEN_FDS=x;", None), "LISTEN_FDS is not a number");
    expect(
        start("exec 3</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1;", None),
        "descriptor 3 (`unknown`) can't",
    );
}

#[tokio::main(flavor = "current_thread")]
async fn inherit() {
    let mut listeners = match systemd() {
        Ok(listeners) => listeners,
        Err(error) => return println!("{error}"),
    };
    let Some((name, listener)) = listeners.first_mut() else { return println!("nothing was handed over") };
    listener.accept().await.unwrap();
    let info = std::fs::read_to_string("/proc/self/fdinfo/3").unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
    let close_on_exec = i64::from_str_radix(flags, 8).unwrap() & i64::from(nix::libc::O_CLOEXEC) != 0;
    println!("accepted on {name}, close-on-exec {close_on_exec}");
}
