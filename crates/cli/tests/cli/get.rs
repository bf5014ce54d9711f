//! `tuyau get`: against servers of other programs, and compared with curl.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread::{self, JoinHandle};

use nix::fcntl::{Flock, FlockArg};
use tuyau_testing::certs::Ca;
use tuyau_testing::{free_port, peers};

use crate::peers::{Peer, Place, listening, peer, run, tuyau};

/// nginx, with the directory `www` of `place`; `more` is what its server has besides.
fn nginx(place: &Place, listen: &str, more: &str) -> Peer {
    fs::create_dir_all(place.path("www")).expect("a directory");
    let dir = place.dir().display();
    peers::nginx(place, &format!("server {{ listen {listen}; root {dir}/www; {more} }}"))
}

/// Answers one connection per answer, each with these bytes, and gives the requests' heads.
fn scripted(answers: &'static [&'static str]) -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let serving = thread::spawn(move || {
        let mut heads = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                head.push(byte[0]);
            }
            heads.push(String::from_utf8(head).expect("text"));
            stream.write_all(answer.as_bytes()).expect("it reads");
        }
        heads
    });
    (port, serving)
}

fn data(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at * 31 % 251).expect("a byte")).collect()
}

#[test]
fn gets_what_curl_gets() {
    let (place, port) = (Place::new(), free_port());
    let _nginx = nginx(&place, &format!("127.0.0.1:{port}"), "location /r { return 302 /file; }");
    let content = data(300_000);
    fs::write(place.path("www/file"), &content).expect("a file");
    let url = format!("http://127.0.0.1:{port}/file");
    assert!(run(tuyau(["get", &url]), b"").code(0).stdout == content);
    assert!(run(peer("curl", ["-s", &url]), b"").code(0).stdout == content);
    // Whole, or not there at all.
    let file = place.path("got");
    let ended = run(tuyau(["get", &url, "-o", &file]), b"").code(0);
    assert_eq!((ended.text(), ended.stderr.as_str()), ("", ""), "no terminal, no progress");
    assert!(fs::read(&file).expect("the file") == content);
    assert!(
        fs::metadata(place.path("got.part")).is_err()
            && fs::metadata(place.path("got.part.version")).is_err()
    );
    // What is there already need not come again.
    let ended = run(tuyau(["get", &url, "-o", &file, "-C", "-"]), b"").code(0);
    assert!(ended.stderr.contains("all 300000 bytes were there already"), "{}", ended.stderr);
    assert!(fs::read(&file).expect("the file") == content);
    // A part of another program's.
    fs::write(&file, &content[..1000]).expect("a file");
    run(tuyau(["get", &url, "-o", &file, "-C", "-"]), b"").code(0);
    assert!(fs::read(&file).expect("the file") == content);
    // The end of it alone.
    assert!(run(tuyau(["get", &url, "-C", "299990"]), b"").code(0).stdout == content[299_990..]);

    let missing = format!("http://127.0.0.1:{port}/missing");
    assert!(run(tuyau(["get", &missing]), b"").code(0).text().contains("404 Not Found"), "as curl");
    let ended = run(tuyau(["get", "-f", &missing, "-o", &file]), b"").code(22);
    assert!(ended.stderr.contains("the server answered 404 Not Found"), "{}", ended.stderr);
    assert!(fs::read(&file).expect("the file") == content, "nothing of it is touched");

    let redirect = format!("http://127.0.0.1:{port}/r");
    let ended = run(tuyau(["get", "-i", &redirect]), b"").code(0);
    assert!(ended.text().starts_with("HTTP/1.1 302 Found\r\n") && ended.text().contains("\r\nlocation: "));
    assert!(run(tuyau(["get", "-L", &redirect]), b"").code(0).stdout == content);
    let ended = run(tuyau(["get", "-I", "-v", &url]), b"").code(0);
    assert!(ended.text().contains("content-length: 300000\r\n"), "{}", ended.text());
    assert!(ended.stderr.starts_with("connected: tcp 127.0.0.1:"), "{}", ended.stderr);
}

#[test]
fn heads_on_the_way_are_printed_as_curl_prints_them() {
    const FOUND: &str =
        "HTTP/1.1 302 Found\r\nlocation: /b\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc";
    const OK: &str = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n\
                      HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    const MISSING: &str = "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno";
    const FILE: &str =
        "HTTP/1.1 302 Found\r\nlocation: file:///b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    for (flags, answers, theirs, ours) in [
        (["-i", "-L"].as_slice(), [FOUND, OK].as_slice(), 0, 0),
        (&["-I", "-L"], &["HTTP/1.1 302 Found\r\nlocation: /b\r\nconnection: close\r\n\r\n", MISSING], 0, 0),
        (&["-i", "-L", "-f"], &[FOUND, MISSING], 22, 22),
        (&["-i", "-L", "--max-redirs", "1"], &[FOUND, FOUND], 47, 1),
        (&["-i", "-L"], &[FILE], 1, 1),
    ] {
        let answers: &'static [&'static str] = Vec::leak(answers.to_vec());
        let printed = |mut command: Command, code| {
            let (port, serving) = scripted(answers);
            command.arg("-s").args(flags).arg(format!("http://127.0.0.1:{port}/"));
            let ended = run(command, b"");
            serving.join().expect("it was asked");
            ended.code(code).text().to_owned()
        };
        let expected = printed(peer("curl", [""; 0]), theirs);
        assert!(expected.contains(" 302 Found\r\n"), "{expected}");
        assert_eq!(printed(tuyau(["get"]), ours), expected, "{flags:?}");
    }
}

#[test]
fn over_tls_with_http2_and_through_a_proxy() {
    let (place, port) = (Place::new(), free_port());
    let ca = Ca::new("CA of the test");
    let (cert, key) = ca.leaf(&["localhost"]).files(&place, "server");
    let cacert = ca.file(&place, "ca.pem");
    let tls = format!("ssl_certificate {cert}; ssl_certificate_key {key};");
    let _nginx = nginx(&place, &format!("127.0.0.1:{port} ssl http2"), &tls);
    fs::write(place.path("www/file"), "over TLS").expect("a file");
    let url = format!("https://localhost:{port}/file");
    let ended = run(tuyau(["get", "-i", &url, "--cacert", &cacert, "-4"]), b"").code(0);
    assert!(
        ended.text().starts_with("HTTP/2.0 200 OK\r\n") && ended.text().ends_with("over TLS"),
        "{}",
        ended.text()
    );
    let ended = run(tuyau(["get", "-i", "--http1.1", &url, "--cacert", &cacert, "-4"]), b"").code(0);
    assert!(ended.text().starts_with("HTTP/1.1 200 OK\r\n"), "{}", ended.text());
    let ended =
        run(tuyau(["get", &url, "--cacert", &cacert, "--via", "exec:nc -N 127.0.0.1 %p"]), b"").code(0);
    assert_eq!(ended.text(), "over TLS");
    // Why, for the same URL.
    let ended = run(tuyau(["explain", &url, "--cacert", &cacert, "-4"]), b"").code(0);
    assert!(ended.text().contains("ALPN: h2"), "{}", ended.text());
    let ended = run(tuyau(["explain", &url, "--cacert", &cacert, "-4", "--alpn", "http/1.1"]), b"").code(0);
    assert!(ended.text().contains("ALPN: http/1.1"), "{}", ended.text());
    let ended = run(tuyau(["get", &url, "-4"]), b"").code(1);
    assert!(ended.stderr.contains("certificate"), "{}", ended.stderr);
    let clear = format!("http://localhost:{port}/file");
    let ended = run(tuyau(["get", &clear, "--cacert", &cacert]), b"").code(2);
    assert!(ended.stderr.contains("--cacert has no use with"), "{}", ended.stderr);
}

#[test]
fn by_a_unix_socket() {
    let place = Place::new();
    let path = place.path("a socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let serving = thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut head = [0; 4096];
            let n = stream.read(&mut head).expect("a request");
            let said = String::from_utf8_lossy(&head[..n]).into_owned();
            let line = said.lines().next().unwrap_or_default();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len());
            stream.write_all(answer.as_bytes()).expect("it reads");
        }
    });
    let ended = run(tuyau(["get", "http://svc/v1?q", "--unix-socket", &path]), b"").code(0);
    assert_eq!(ended.text(), "GET /v1?q HTTP/1.1");
    let url = format!("http+unix://{}/v2", path.replace('/', "%2F").replace(' ', "%20"));
    assert_eq!(run(tuyau(["get", &url, "-X", "DELETE"]), b"").code(0).text(), "DELETE /v2 HTTP/1.1");
    let ended = run(tuyau(["plan", &url]), b"").code(0);
    assert!(ended.text().contains(&path), "{}", ended.text());
    let over = format!("unix:{}", path.replace(' ', "%20"));
    assert_eq!(
        run(tuyau(["get", "svc/v3", "--over", &over, "-d", "x"]), b"").code(0).text(),
        "POST /v3 HTTP/1.1"
    );
    serving.join().expect("all came");
}

#[test]
fn on_a_terminal_it_says_how_far_it_is() {
    let (place, port) = (Place::new(), free_port());
    let _nginx = nginx(&place, &format!("127.0.0.1:{port}"), "");
    fs::write(place.path("www/file"), data(3_000_000)).expect("a file");
    let file = place.path("got");
    let said = |more: &str| {
        let tuyau = env!("CARGO_BIN_EXE_tuyau");
        let line = format!("{tuyau} get http://127.0.0.1:{port}/file -o {file} {more}");
        let mut command = peer("script", ["-qec", &line, "/dev/null"]);
        command.env("TERM", "xterm").env("COLUMNS", "100");
        run(command, b"").code(0).text().to_owned()
    };
    let bar = said("");
    assert!(bar.contains("100% ") && bar.contains("2.86 MiB/2.86 MiB"), "{}", bar.escape_debug());
    assert_eq!(fs::read(&file).expect("the file").len(), 3_000_000);
    assert_eq!(said("-s"), "");
}

#[test]
fn what_breaks_off_is_never_taken_for_all() {
    const FIRST: &str = "HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: 10\r\n\r\n01234";
    let (port, serving) = scripted(&[
        FIRST,
        // The rest.
        "HTTP/1.1 206 Partial Content\r\netag: \"1\"\r\ncontent-range: bytes 5-9/10\r\ncontent-length: 5\r\n\r\n56789",
        FIRST,
        // It changed in the meantime.
        "HTTP/1.1 200 OK\r\netag: \"2\"\r\ncontent-length: 3\r\n\r\nnew",
        FIRST,
        // What was not asked for.
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 4-9/10\r\ncontent-length: 6\r\n\r\n456789",
        // Not all that was asked for.
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 5-7/10\r\ncontent-length: 3\r\n\r\n567",
        "HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\nOops",
        "HTTP/1.1 416 Range Not Satisfiable\r\ncontent-range: bytes */3\r\ncontent-length: 0\r\n\r\n",
        // A part of what was not asked for.
        "HTTP/1.1 206 Partial Content\r\netag: \"2\"\r\ncontent-range: bytes 5-9/10\r\ncontent-length: 5\r\n\r\nother",
    ]);
    let place = Place::new();
    let (file, part) = (place.path("file"), place.path("file.part"));
    let url = format!("http://127.0.0.1:{port}/");
    let get = |more: &[&str]| run(tuyau(["get", &url, "-o", &file].iter().chain(more)), b"");
    let breaks = || {
        let ended = get(&[]).code(3);
        assert!(
            ended.stderr.contains("5 bytes of 10 came") && ended.stderr.contains("-C -"),
            "{}",
            ended.stderr
        );
        assert_eq!(fs::read(&part).expect("the part"), b"01234");
    };
    breaks();
    assert!(fs::metadata(&file).is_err());
    get(&["-C", "-"]).code(0);
    assert_eq!(fs::read(&file).expect("the file"), b"0123456789");
    breaks();
    assert!(get(&["-C", "-"]).code(0).stderr.contains("got anew"));
    assert_eq!(fs::read(&file).expect("the file"), b"new");
    breaks();
    for _ in 0..2 {
        assert!(get(&["-C", "-"]).code(1).stderr.contains("another range"));
    }
    assert!(get(&["-C", "-"]).code(1).stderr.contains("is left as it was"));
    assert!(get(&["-C", "-"]).code(1).stderr.contains("5 bytes here, and 3 at the server"));
    assert!(get(&["-C", "-"]).code(1).stderr.contains("another version by now"));
    assert_eq!(fs::read(&part).expect("the part"), b"01234");
    assert_eq!(fs::read(&file).expect("the file"), b"new");
    let heads = serving.join().expect("all came");
    assert!(!heads[0].contains("range:"), "{}", heads[0]);
    assert!(
        heads[1].contains("range: bytes=5-\r\n") && heads[1].contains("if-range: \"1\"\r\n"),
        "{}",
        heads[1]
    );
}

/// Neither by it, nor by a date that comes with it (RFC 9110 section 13.1.5).
#[test]
fn what_is_there_keeps_its_links_and_mode() {
    let (place, port) = (Place::new(), free_port());
    let _nginx = nginx(&place, &format!("127.0.0.1:{port}"), "");
    fs::write(place.path("www/file"), "new").expect("a file");
    let url = format!("http://127.0.0.1:{port}/file");
    let (file, link, dangling) = (place.path("file"), place.path("link"), place.path("dangling"));
    fs::write(&file, "old, and longer").expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is ours");
    symlink("file", &link).expect("a link");
    symlink(place.path("nothing"), &dangling).expect("a link");
    for link in [&link, &dangling] {
        run(tuyau(["get", &url, "-o", link]), b"").code(0);
        assert!(fs::symlink_metadata(link).expect("the link").is_symlink());
        assert_eq!(fs::read_to_string(link).expect("the file"), "new");
    }
    assert_eq!(fs::metadata(&file).expect("the file").mode() & 0o777, 0o600);
    // A link to what standard output is, as /dev/stdout is one.
    let (own, out) = (place.path("own"), place.path("out"));
    symlink("/proc/self/fd/1", &own).expect("a link");
    let mut stdout = fs::File::create(&out).expect("a file");
    stdout.write_all(b"before ").expect("a file");
    let status = tuyau(["get", &url, "-o", &own]).stdout(stdout).status().expect("it runs");
    assert!(status.success() && fs::symlink_metadata(&own).expect("the link").is_symlink());
    assert_eq!(fs::read_to_string(&out).expect("the file"), "before new");
    // Nor is a link followed that is in the way of a part.
    symlink(&out, place.path("file.part")).expect("a link");
    let said = run(tuyau(["get", &url, "-o", &file]), b"").code(1).stderr;
    assert!(said.contains("file.part: it is no file"), "{said}");
    assert_eq!(fs::read_to_string(&out).expect("the file"), "before new");
}

#[test]
fn a_part_of_nobody_knows_what_is_put_to_nothing() {
    let (place, port) = (Place::new(), free_port());
    let _nginx = nginx(&place, &format!("127.0.0.1:{port}"), "");
    fs::write(place.path("www/file"), "0123456789").expect("a file");
    let url = format!("http://127.0.0.1:{port}/file");
    let (file, part) = (place.path("file"), place.path("file.part"));
    fs::write(&part, "old").expect("a file");
    fs::write(&file, "whole").expect("a file");
    let said = run(tuyau(["get", &url, "-o", &file, "-C", "-"]), b"").code(1).stderr;
    assert!(said.contains("nothing says which version that is a part of"), "{said}");
    assert_eq!(fs::read_to_string(&file).expect("the file"), "whole");
    // Whoever writes a part has it alone.
    let locked = fs::File::open(&part).expect("the part");
    let locked = Flock::lock(locked, FlockArg::LockExclusive).expect("nobody has it");
    let said = run(tuyau(["get", &url, "-o", &file]), b"").code(1).stderr;
    assert!(said.contains("file.part: another program is writing it"), "{said}");
    assert_eq!(fs::read_to_string(&part).expect("the part"), "old");
    drop(locked);
    run(tuyau(["get", &url, "-o", &file]), b"").code(0);
    assert_eq!(fs::read_to_string(&file).expect("the file"), "0123456789");
}

#[test]
fn nothing_is_resumed_by_a_weak_entity_tag() {
    let (port, serving) = scripted(&[
        "HTTP/1.1 200 OK\r\netag: W/\"1\"\r\nlast-modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
         content-length: 10\r\n\r\n01234",
        "HTTP/1.1 200 OK\r\netag: W/\"1\"\r\ncontent-length: 10\r\n\r\n0123456789",
    ]);
    let place = Place::new();
    let (file, url) = (place.path("file"), format!("http://127.0.0.1:{port}/"));
    run(tuyau(["get", &url, "-o", &file]), b"").code(3);
    let ended = run(tuyau(["get", &url, "-o", &file, "-C", "-"]), b"").code(0);
    assert!(ended.stderr.contains("weak ETag") && ended.stderr.contains("got anew"), "{}", ended.stderr);
    assert_eq!(fs::read(&file).expect("the file"), b"0123456789");
    let heads = serving.join().expect("all came");
    assert!(!heads[1].contains("range:"), "{}", heads[1]);
}

#[test]
fn what_takes_too_long_in_all_did_not_stall() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let serving = thread::spawn(move || {
        let (mut flow, _) = listener.accept().expect("it comes");
        assert!(flow.read(&mut [0; 1024]).expect("it asks") > 0);
        flow.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234").expect("it reads");
        // Until it hangs up.
        let _ = flow.read_to_end(&mut Vec::new());
    });
    let ended = run(tuyau(["get", &url, "-m", "0.2"]), b"").code(3);
    assert!(ended.stderr.contains("the time for the whole exchange was over"), "{}", ended.stderr);
    serving.join().expect("no panic");
    // Nor was it connected if a proxy is silent, or a server that is to speak TLS: who, it says.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = listener.local_addr().expect("an address");
    let via = format!("socks5h://{silent}");
    let ended = run(tuyau(["get", "http://h.test/", "-m", "1", "--via", &via]), b"").code(1);
    assert!(ended.stderr.contains(&format!("at socks5h {silent} to h.test:80")), "{}", ended.stderr);
    let url = format!("https://localhost:{}/", silent.port());
    let ended = run(tuyau(["get", &url, "-m", "1"]), b"").code(1);
    assert!(ended.stderr.contains(&silent.to_string()), "{}", ended.stderr);
}

#[test]
fn what_has_no_use_is_an_error() {
    for (args, says) in [
        (&["get", "ftp://a/"][..], "its scheme is to be one of http"),
        (&["get", "htps://a/"], "did you mean https?"),
        (&["load", "htp://a/"], "did you mean http?"),
        (&["proxy", "--to", "htps://a/"], "did you mean https?"),
        (&["get", "http://:80/x"], "it has no host"),
        (&["get", "http://a/", "-C", "-"], "-C - has no use without -o"),
        (&["get", "http://a/", "-C", "x"], "it is a number of bytes, or -"),
        (&["get", "http://a/", "-H", "nonsense"], "it is `Name: value`"),
        (&["get", "http://a/", "-o", "/"], "is a directory"),
        (&["get", "http+unix://%2Fx/", "--over", "unix:/y"], "--over has no use"),
        (&["get", "http://a/", "-C", "1", "-X", "POST"], "only GET can be resumed"),
    ] {
        let ended = run(tuyau(args), b"").code(2);
        assert!(ended.stderr.contains(says), "{args:?}: {}", ended.stderr);
    }
    let ended = run(tuyau(["get", "http://127.0.0.1:1/"]), b"").code(1);
    assert!(ended.stderr.contains("refused"), "{}", ended.stderr);
}

/// A little that is a lot once it is decoded: it goes by, and is never all there.
#[test]
fn what_is_decoded_is_not_kept() {
    let (place, size) = (Place::new(), 1_u64 << 27);
    let zeros = fs::File::create(place.path("zeros")).expect("a file");
    zeros.set_len(size).expect("a sparse file");
    run(peer("gzip", ["-1", "--keep", &place.path("zeros")]), b"").code(0);
    let (mut served, uri) = listening(["serve", &place.path(""), "--listen", "tcp://127.0.0.1:0"]);
    let url = format!("{}/zeros", uri.replace("tcp:", "http:"));
    let script = "
import resource, subprocess, sys
got = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
bytes = sum(map(len, iter(lambda: got.stdout.read(1 << 20), b'')))
print(got.wait(), bytes, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let get = [env!("CARGO_BIN_EXE_tuyau"), "get", "--compressed", &url];
    let got = run(peer("python3", [&["-c", script][..], &get].concat()), b"").code(0);
    let told: Vec<u64> = got.text().split_whitespace().filter_map(|number| number.parse().ok()).collect();
    // The last is in KiB.
    assert!(matches!(told[..], [0, bytes, most] if bytes == size && most < 80_000), "{got:?}");
    let line = served.error_line("GET /zeros");
    let sent = line.split("\" 200 ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert!(sent.is_some_and(|sent: u64| sent < size / 100), "{line}");
}

#[test]
fn a_password_is_in_no_error() {
    for command in [
        "get",
        "load",
        "explain",
        "plan",
        "ping -n 1",
        "connect",
        "proxy --to",
        "get x --over",
        // Those are errors of the command line.
        "get x",
        "",
    ] {
        for password in ["hunt#er2", "hunt/er2", "hunt?er2", "12#er2", "hunt@er2", "hun%zzter2", "hunter2:9"]
        {
            let url = format!("http://user:{password}@nobody.invalid:x/");
            let said = run(tuyau(command.split_whitespace().chain([url.as_str(), "-4"])), b"").code(2).stderr;
            assert!(!said.contains("er2") && !said.contains("hun"), "{command} {password}: {said}");
        }
    }
    let said = run(tuyau(["get", "http://user:hunt#er2@h/"]), b"").code(2).stderr;
    assert!(said.contains("http://***@h/") && said.contains("%23"), "{said}");
    let said = run(tuyau(["get", "http://us:p#@h/"]), b"").code(2).stderr;
    assert!(said.contains("http://***@h/") && said.contains("%23"), "{said}");
}

#[test]
fn a_url_is_taken_as_people_write_it() {
    let place = Place::new();
    fs::write(place.path("un \u{e9}t\u{e9}.txt"), "chaud").expect("a file");
    let (_served, uri) = listening(["serve", &place.path(""), "--listen", "tcp://127.0.0.1:0"]);
    for path in ["un \u{e9}t\u{e9}.txt", "un%20\u{e9}t%C3%A9.txt?q= \u{e9}"] {
        let url = format!("{}/{path}", uri.replace("tcp:", "http:"));
        assert_eq!(run(tuyau(["get", &url]), b"").code(0).text(), "chaud", "{url}");
    }
    let said = run(tuyau(["get", "http://b\u{fc}cher.invalid/"]), b"").code(1).stderr;
    assert!(said.contains("xn--bcher-kva.invalid"), "{said}");
}
