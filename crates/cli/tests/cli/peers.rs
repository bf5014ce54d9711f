//! The program, and those it talks to, each as a process that dies with the test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Nothing here takes so long, unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The program.
pub(crate) fn tuyau<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuyau"));
    command.args(args);
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"] {
        command.env_remove(variable);
    }
    command
}

/// Another program, which must be installed.
pub(crate) fn peer<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Command {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    let package = match program {
        "nc" => "netcat-openbsd",
        "script" => "bsdutils",
        other => other,
    };
    assert!(found, "`{program}` is needed for this test: apt-get install {package}");
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// The ping-pong server in Python.
pub(crate) fn python(args: &[&str]) -> Command {
    peer("python3", [LINE_SERVER].iter().chain(args))
}

/// Where that is.
pub(crate) const LINE_SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/line_server.py");

/// What a program that has ended leaves.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    /// That it exited with `code`; else it shows all it said.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        let said = String::from_utf8_lossy(&self.stdout);
        assert_eq!(self.status.code(), Some(code), "{}\n{said}\n{}", self.status, self.stderr);
        self
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text")
    }
}

/// Runs `command` on `input` to its end.
pub(crate) fn run(mut command: Command, input: &[u8]) -> Ended {
    let mut running = Running::start(&mut command);
    let mut stdin = running.stdin();
    let input = input.to_vec();
    thread::spawn(move || {
        // Whoever does not read it all has a reason.
        let _ = stdin.write_all(&input);
    });
    running.end()
}

/// A program that runs; it is killed if the test ends first.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: Option<Lines>,
    stderr: Option<Lines>,
}

/// A stream, read in the background so that nobody has to wait for us.
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
    fn wait_for(&mut self, pattern: &str) -> String {
        loop {
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            let line = self.lines.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("no `{pattern}` in: {seen}"));
            self.seen.extend_from_slice(&line);
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.contains(pattern) {
                return line;
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

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().map(Lines::of);
        let stderr = child.stderr.take().map(Lines::of);
        Self { child, stdout, stderr }
    }

    /// Starts one that listens, and the URI to connect to it by.
    pub(crate) fn listening<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> (Self, String) {
        let mut running = Self::start(&mut tuyau(args));
        let line = running.error_line("listening on ");
        (running, line.trim_start_matches("listening on ").to_owned())
    }

    pub(crate) fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().expect("it was not taken yet")
    }

    /// The next line of standard output with `pattern` in it.
    pub(crate) fn line(&mut self, pattern: &str) -> String {
        self.stdout.as_mut().expect("it was not taken").wait_for(pattern)
    }

    /// The next line of standard error with `pattern` in it.
    pub(crate) fn error_line(&mut self, pattern: &str) -> String {
        self.stderr.as_mut().expect("it was not taken").wait_for(pattern)
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it runs");
    }

    /// Its end: whoever hangs is killed, and the test fails.
    pub(crate) fn end(mut self) -> Ended {
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

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of the test's own, and a path in it.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("cli-").tempdir().expect("a temporary directory"))
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("text").to_owned()
    }

    /// What is in it.
    pub(crate) fn entries(&self) -> Vec<std::ffi::OsString> {
        let entries = std::fs::read_dir(self.0.path()).expect("it is there");
        entries.map(|entry| entry.expect("readable").file_name()).collect()
    }

    /// A name that no other test uses.
    pub(crate) fn name(&self) -> &str {
        self.0.path().file_name().and_then(OsStr::to_str).expect("text")
    }
}
