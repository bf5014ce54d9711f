//! Child processes, FIFOs and the standard streams: what the suite for flows does not know of them.
#![cfg(unix)]

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::Stdio as Standard;

use tuyau_core::names::POLICY;
use tuyau_core::{ConnectCx, ConnectErrorKind, Context, Flow, FlowErrorKind, Policy, Protocol};
use tuyau_testing::rerun;
use tuyau_tokio::{
    ChildFailed, Command, EXIT_STATUS, Exec, Fifo, FifoPair, Stdio, StdioEndpoint, listen_fifo, serve,
};

fn cx() -> ConnectCx<'static> {
    ConnectCx::new(&Context::new()).unwrap()
}

async fn run(command: Command) -> Flow {
    Exec.connect(command, &cx()).await.unwrap()
}

async fn rest(flow: &mut Flow) -> Result<Vec<u8>, tuyau_core::FlowError> {
    let (mut all, mut part) = (Vec::new(), [0; 512]);
    loop {
        match flow.read(&mut part).await? {
            0 => return Ok(all),
            n => all.extend_from_slice(&part[..n]),
        }
    }
}

#[tokio::test]
async fn arguments_are_passed_on_as_they_are() {
    let mut flow = run(Command::argv(["printf", "%s|", "a b", "$HOME", "*"])).await;
    assert_eq!(rest(&mut flow).await.unwrap(), b"a b|$HOME|*|");
    assert!(flow.fact(&EXIT_STATUS).unwrap().success());
}

#[tokio::test]
async fn a_child_that_ends_badly_is_no_clean_end() {
    let mut flow = run(Command::shell("echo partial; exit 3")).await;
    let mut got = [0; 8];
    flow.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"partial\n");
    for _ in 0..2 {
        let error = flow.read(&mut got).await.unwrap_err();
        assert_eq!(error.kind(), FlowErrorKind::UnexpectedEof);
        let failed = error.source().and_then(|source| source.downcast_ref::<ChildFailed>()).unwrap();
        assert_eq!(failed.status().code(), Some(3));
        assert!(failed.to_string().contains("exit 3"), "{failed}");
    }
    assert_eq!(flow.fact(&EXIT_STATUS).unwrap().code(), Some(3));
}

#[tokio::test]
async fn a_child_that_takes_no_more_says_how_it_ended() {
    let mut flow = run(Command::shell("exec <&-; echo partial; exit 3")).await;
    let error = loop {
        if let Err(error) = flow.write_all(&[0; 4096]).await {
            break error;
        }
    };
    assert_eq!(error.kind(), FlowErrorKind::BrokenPipe);
    let failed = error.source().and_then(|source| source.downcast_ref::<ChildFailed>()).unwrap();
    assert_eq!(failed.status().code(), Some(3));
    // What it said before is there all the same.
    let mut got = [0; 8];
    flow.read_exact(&mut got).await.unwrap();
    assert_eq!(
        (&got, flow.read(&mut [0]).await.unwrap_err().kind()),
        (b"partial\n", FlowErrorKind::UnexpectedEof)
    );
    // One that has only closed its input has not failed.
    let mut flow = run(Command::shell("exec <&-; echo; exec sleep 1000")).await;
    assert_eq!(flow.read(&mut [0]).await.unwrap(), 1);
    let error = flow.write_all(b"x").await.unwrap_err();
    assert_eq!(error.kind(), FlowErrorKind::BrokenPipe);
    assert!(error.source().unwrap().downcast_ref::<ChildFailed>().is_none());
}

#[tokio::test]
async fn what_was_written_before_a_shutdown_is_passed_on_though_the_flow_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passed-on");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut passed_on =
        tokio::net::unix::pipe::OpenOptions::new().read_write(true).open_receiver(&path).unwrap();
    let mut flow =
        run(Command::shell(format!("line=$(cat); printf %s \"$line\" > {}", path.display()))).await;
    flow.write_all(b"cancel").await.unwrap();
    flow.shutdown().await.unwrap();
    drop(flow);
    let mut got = [0; 6];
    tokio::io::AsyncReadExt::read_exact(&mut passed_on, &mut got).await.unwrap();
    assert_eq!(&got, b"cancel");
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_not_found() {
    let error = Exec.connect(Command::argv(["no-such-program"]), &cx()).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::NotFound);
    assert!(error.hint().unwrap().contains("`no-such-program`"));
    let error = Exec.connect(Command::argv([""; 0]), &cx()).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Misuse);
}

#[tokio::test]
async fn a_child_is_killed_and_reaped_with_its_flow() {
    let mut flow = run(Command::shell("echo $$; exec cat")).await;
    let mut line = [0; 16];
    let n = flow.read(&mut line).await.unwrap();
    let pid: u32 = std::str::from_utf8(&line[..n]).unwrap().trim().parse().unwrap();
    assert!(exists(pid));
    drop(flow);
    tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while exists(pid) {
            // tokio reaps when it hears of the child's end.
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the child is still there, or a zombie");
}

/// All ends of the pipe that the grandchild alone has by then are closed once it has ended.
#[tokio::test(start_paused = true)]
async fn what_a_child_has_started_is_killed_with_its_group() {
    for finish in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("held");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut held = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&path).unwrap();
        let line = format!("(exec 3>{}; echo started; exec sleep 1000 >&3) | cat", path.display());
        let mut flow = run(Command::shell(line).in_own_group()).await;
        flow.read_exact(&mut [0; 8]).await.unwrap();
        if finish {
            flow.shutdown().await.unwrap();
        }
        drop(flow);
        assert_eq!(tokio::io::AsyncReadExt::read(&mut held, &mut [0]).await.unwrap(), 0);
    }
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_policy_of_networks_refuses_what_dials_in_its_own_way() {
    let ctx = Context::new().with(&POLICY, Policy::new().only_networks(["10.0.0.0/8".parse().unwrap()]));
    let cx = ConnectCx::new(&ctx).unwrap();
    let error = Exec.connect(Command::argv(["true"]), &cx).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Policy);
    let error = Fifo.connect(FifoPair::client("/nowhere"), &cx).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Policy);
}

#[tokio::test]
async fn clients_of_a_fifo_pair_each_get_their_own_connection() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("f");
    let serving = serve(listen_fifo(FifoPair::server(&base)).unwrap(), |mut flow: Flow| async move {
        let mut byte = [0];
        while let Ok(1) = flow.read(&mut byte).await {
            flow.write_all(&byte).await.unwrap();
        }
    });
    let serving = tokio::spawn(serving.into_future());
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..8_u8 {
        let base = base.clone();
        clients.spawn(async move {
            let mut flow = Fifo.connect(FifoPair::client(&base), &cx()).await.unwrap();
            for byte in [n, n + 100] {
                flow.write_all(&[byte]).await.unwrap();
                let mut got = [0];
                flow.read_exact(&mut got).await.unwrap();
                assert_eq!(got, [byte]);
            }
            flow.shutdown().await.unwrap();
            assert_eq!(flow.read(&mut [0; 1]).await.unwrap(), 0);
        });
    }
    clients.join_all().await;
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "FIFOs stay behind");
}

#[tokio::test]
async fn fifos_without_a_server_are_not_found_and_other_files_are_misuse() {
    let dir = tempfile::tempdir().unwrap();
    let error = Fifo.connect(FifoPair::client(dir.path().join("f")), &cx()).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::NotFound);
    std::fs::write(dir.path().join("g.in"), "").unwrap();
    let error = listen_fifo(FifoPair::server(dir.path().join("g"))).unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Misuse);
    assert!(dir.path().join("g.in").exists());
}

const ECHOING: &str = "TUYAU_TEST_STDIO";

/// In a process of its own, whose standard streams are ours to use.
#[test]
fn the_standard_streams_are_a_flow_with_a_half_close() {
    if std::env::var_os(ECHOING).is_some() {
        return echo();
    }
    let mut child = rerun("the_standard_streams_are_a_flow_with_a_half_close", ECHOING)
        .stdin(Standard::piped())
        .stdout(Standard::piped())
        .spawn()
        .unwrap();
    let sent: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
    let mut input = child.stdin.take().unwrap();
    let writing = std::thread::spawn({
        let sent = sent.clone();
        move || {
            input.write_all(&sent).unwrap();
            // The child's half-close must not wait for the end of its input.
            input
        }
    });
    let mut output = child.stdout.take().unwrap();
    let mut got = Vec::new();
    std::io::Read::read_to_end(&mut output, &mut got).unwrap();
    let echoed = got.windows(8).position(|window| window == &sent[..8]).map(|start| &got[start..]);
    assert!(echoed == Some(&sent[..]), "the bytes differ");
    drop(writing.join().unwrap());
    assert!(child.wait().unwrap().success());
}

#[tokio::main(flavor = "current_thread")]
async fn echo() {
    let endpoint = StdioEndpoint::new();
    let mut flow = Stdio.connect(endpoint.clone(), &cx()).await.unwrap();
    assert_eq!(Stdio.connect(endpoint, &cx()).await.unwrap_err().kind(), ConnectErrorKind::Misuse);
    let (mut left, mut part) = (1_200_000, vec![0; 10_000]);
    while left > 0 {
        let n = flow.read(&mut part).await.unwrap();
        assert!(n > 0, "the input ended early");
        flow.write_all(&part[..n]).await.unwrap();
        left -= n;
    }
    flow.shutdown().await.unwrap();
    let error = flow.write_all(b"more").await.unwrap_err();
    assert_eq!(error.kind(), FlowErrorKind::WriteAfterShutdown);
    assert_eq!(flow.read(&mut part).await.unwrap(), 0);
}
