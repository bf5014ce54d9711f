//! A program, as a process that dies with the test.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Nothing a test waits for takes so long, unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a program that has ended leaves.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

impl Ended {
    /// That it exited with `code`.
    ///
    /// # Panics
    /// If it didn't: with all that it said.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        let said = String::from_utf8_lossy(&self.stdout);
        assert_eq!(self.status.code(), Some(code), "{}\n{said}\n{}", self.status, self.stderr);
        self
    }

    /// Its standard output, which is text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text")
    }
}

/// Runs `command` on `input` to its end.
///
/// # Panics
/// If it can't be started, or hangs.
#[track_caller]
pub fn run(mut command: Command, input: &[u8]) -> Ended {
    let mut peer = Peer::spawn(&mut command);
    let mut stdin = peer.stdin();
    let input = input.to_vec();
    thread::spawn(move || {
        // Whoever does not read it all has a reason.
        let _ = stdin.write_all(&input);
    });
    peer.end()
}

/// A program that runs. Dropped, it is killed, with all that it started.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    stdout: Option<Lines>,
    stderr: Option<Lines>,
}

impl Peer {
    /// Starts `command`. What it says is read in the background, so that it never waits for us.
    ///
    /// # Panics
    /// If it can't be started.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().map(Lines::of);
        let stderr = child.stderr.take().map(Lines::of);
        Self { child, stdout, stderr }
    }

    /// Takes its standard input.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("it was not taken yet")
    }

    /// Waits for the next line of standard output with `pattern` in it.
    ///
    /// # Panics
    /// If there is none: with all that it said.
    #[track_caller]
    pub fn line(&mut self, pattern: &str) -> String {
        self.wait_for(pattern, |peer| &mut peer.stdout)
    }

    /// Waits for the next line of standard error with `pattern` in it.
    ///
    /// # Panics
    /// As [`line`](Self::line).
    #[track_caller]
    pub fn error_line(&mut self, pattern: &str) -> String {
        self.wait_for(pattern, |peer| &mut peer.stderr)
    }

    #[track_caller]
    fn wait_for(&mut self, pattern: &str, stream: impl Fn(&mut Self) -> &mut Option<Lines>) -> String {
        if let Some(line) = stream(self).as_mut().expect("it runs").wait_for(pattern) {
            return line;
        }
        self.kill();
        let [stdout, stderr] = [self.stdout.take(), self.stderr.take()]
            .map(|lines| String::from_utf8_lossy(&lines.map(Lines::all).unwrap_or_default()).into_owned());
        panic!("no `{pattern}` in what it said:\n{stdout}{stderr}");
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    /// Sends it `signal`.
    ///
    /// # Panics
    /// If it has ended, and was seen to.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it runs");
    }

    /// Kills it and all that it started, at once: none of them has the time to say a last word. When this
    /// returns they are gone, and what they had open is closed. No-op if it has ended.
    pub fn kill(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // While it is stopped it can neither start more, nor reap those whom we wait for.
        let _ = kill(self.pid(), Signal::SIGSTOP);
        wait_until(|| state(self.pid()).is_none_or(|state| "TZX".contains(state)));
        kill_children(self.pid());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it by `signal` to end, and waits for that; whoever takes too long is killed.
    pub fn stop(&mut self, signal: Signal) {
        if matches!(self.child.try_wait(), Ok(None)) && kill(self.pid(), signal).is_ok() {
            wait_until(|| !matches!(self.child.try_wait(), Ok(None)));
        }
        self.kill();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it hangs.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let pid = self.pid();
        let (done, is_done) = mpsc::channel::<()>();
        let watchdog = thread::spawn(move || {
            let hangs = is_done.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
            if hangs {
                let _ = kill(pid, Signal::SIGKILL);
            }
            hangs
        });
        // `wait` closes its standard input, if that was not taken.
        let status = self.child.wait().expect("it is our child");
        drop(done);
        let stdout = self.stdout.take().map(Lines::all).unwrap_or_default();
        let stderr = self.stderr.take().map(Lines::all).unwrap_or_default();
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        assert!(!watchdog.join().expect("it does not panic"), "it hung: {stderr}");
        Ended { status, stdout, stderr }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills what the process `parent`, which is stopped, has started, and what those have.
fn kill_children(parent: Pid) {
    let children = children(parent);
    for &child in &children {
        let _ = kill(child, Signal::SIGSTOP);
        wait_until(|| state(child).is_none_or(|state| "TZX".contains(state)));
        kill_children(child);
        let _ = kill(child, Signal::SIGKILL);
    }
    for child in children {
        // A zombie has closed its files, and is detached from shared memory.
        wait_until(|| state(child).is_none_or(|state| "ZX".contains(state)));
    }
}

fn children(parent: Pid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    pids.filter(|&pid| stat(pid).is_some_and(|(_, its_parent)| its_parent == parent)).collect()
}

fn state(pid: Pid) -> Option<char> {
    stat(pid).map(|(state, _)| state)
}

/// The state of a process, and its parent (proc_pid_stat(5)).
fn stat(pid: Pid) -> Option<(char, Pid)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have any character in it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, Pid::from_raw(fields.next()?.parse().ok()?)))
}

/// Gives up after [`LIMIT`], as what follows fails then.
pub(super) fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    let mut pause = Duration::from_micros(50);
    while !done() && start.elapsed() < LIMIT {
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// A stream, read in the background.
#[derive(Debug)]
struct Lines {
    lines: mpsc::Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                if send.send(std::mem::take(&mut line)).is_err() {
                    break;
                }
            }
        });
        Self { lines, seen: Vec::new() }
    }

    /// The next line that has `pattern` in it.
    fn wait_for(&mut self, pattern: &str) -> Option<String> {
        loop {
            let line = self.lines.recv_timeout(LIMIT).ok()?;
            self.seen.extend_from_slice(&line);
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.contains(pattern) {
                return Some(line);
            }
        }
    }

    fn all(mut self) -> Vec<u8> {
        while let Ok(line) = self.lines.recv_timeout(LIMIT) {
            self.seen.extend_from_slice(&line);
        }
        self.seen
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;
    use std::thread;

    use nix::unistd::Pid;

    use super::{Peer, state, wait_until};
    use crate::peers;

    fn is_dead(pid: Pid) -> bool {
        state(pid).is_none_or(|state| "ZX".contains(state))
    }

    #[test]
    fn what_a_peer_started_dies_with_it() {
        let script = "setsid sh -c 'sleep 1000 & echo sleep $!; wait' & wait";
        let mut peer = Peer::spawn(Command::new("sh").args(["-c", script]));
        let line = peer.line("sleep ");
        let sleep = Pid::from_raw(line.trim_start_matches("sleep ").parse().expect("its pid"));
        assert!(!is_dead(sleep));
        let pid = peer.pid();
        drop(peer);
        assert!(is_dead(pid) && is_dead(sleep));
    }

    #[test]
    fn a_peer_dies_with_a_test_that_could_not_drop_it() {
        let test = thread::spawn(|| {
            let mut peer =
                Peer::spawn(peers::command("sh", "dash").args(["-c", "echo here; exec sleep 1000"]));
            // Before that it is not bound to this thread yet.
            peer.line("here");
            let pid = peer.pid();
            std::mem::forget(peer);
            pid
        });
        let pid = test.join().expect("it does not panic");
        wait_until(|| is_dead(pid));
        assert!(is_dead(pid));
    }

    #[test]
    #[should_panic(expected = "no `never` in what it said:\nout\nerr\n")]
    fn a_peer_that_ends_too_soon_shows_what_it_said() {
        Peer::spawn(Command::new("sh").args(["-c", "echo out; echo err >&2"])).line("never");
    }
}
