//! Who the server is, and who we are.

mod support;

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tuyau_core::{ConnectErrorKind, Net, Target};
use tuyau_ssh::{Asker, HostKeys, Identity, Question, Secret, Ssh, SshHop};
use tuyau_testing::Place;
use tuyau_testing::peers::{Sshd, keygen, ssh_agent, sshd, sshd_with};

use support::{accept, counting, cx, hop, known, listener, outer, to_port, told};

/// Connects through the server: it, or why not.
async fn try_it(hop: SshHop, sshd: &Sshd) -> Result<(), (ConnectErrorKind, String)> {
    try_from(hop, outer(sshd)).await
}

async fn try_from(hop: SshHop, outer: tuyau_core::Context) -> Result<(), (ConnectErrorKind, String)> {
    let mut listener = listener().await;
    let target = listener.local();
    let (ssh, cx) = (Ssh::new(hop, outer), cx());
    tokio::select! {
        connected = ssh.connect(&target, &cx) => {
            connected.map(drop).map_err(|error| (error.kind(), told(&error)))
        }
        _ = async { loop { accept(&mut listener).await; } } => unreachable!(),
    }
}

fn with_hosts(sshd: &Sshd, hosts: &str) -> SshHop {
    fs::write(sshd.known_hosts(), hosts).expect("write");
    hop(sshd)
}

fn host_key(sshd: &Sshd) -> String {
    let key = fs::read_to_string(sshd.place().path("host_ed25519.pub")).expect("a key");
    key.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn other_key(place: &Place, name: &str) -> String {
    keygen(&["-t", "ed25519", "-N", "", "-f", &place.path(name)]);
    fs::read_to_string(place.path(&format!("{name}.pub"))).expect("a key")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_hosts_in_all_forms() {
    let sshd = sshd();
    let (port, key) = (sshd.port(), host_key(&sshd));
    for hosts in [
        format!("[127.0.0.1]:{port} {key}"),
        format!("# a comment\n\nbad line\nother,[127.0.0.*]:{port} \t {key} a comment"),
        format!("[127.0.0.?]:* {key}\n"),
    ] {
        try_it(with_hosts(&sshd, &hosts), &sshd).await.expect(&hosts);
    }
    // Hashed by OpenSSH itself.
    fs::write(sshd.known_hosts(), format!("[127.0.0.1]:{port} {key}\n")).expect("write");
    keygen(&["-H", "-f", sshd.known_hosts().to_str().expect("text")]);
    assert!(fs::read_to_string(sshd.known_hosts()).expect("read").starts_with("|1|"));
    try_it(hop(&sshd), &sshd).await.expect("hashed");
    // A second file.
    let nothing = sshd.place().dir().join("nothing");
    let two = hop(&sshd).host_keys(HostKeys::files([nothing, sshd.known_hosts()]));
    try_it(two, &sshd).await.expect("two files");
    // The key itself.
    try_it(hop(&sshd).host_keys(HostKeys::only([key.as_str()]).expect("a key")), &sshd).await.expect("given");
    let other = other_key(sshd.place(), "other");
    let (kind, text) = try_it(hop(&sshd).host_keys(HostKeys::only([other.as_str()]).expect("a key")), &sshd)
        .await
        .expect_err("trusted");
    assert_eq!(kind, ConnectErrorKind::Verification);
    assert!(text.contains("it is none of those given"), "{text}");
    assert!(HostKeys::only(["ssh-ed25519 nonsense"]).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_changed_and_revoked_keys_are_refused() {
    let sshd = sshd();
    let (port, key) = (sshd.port(), host_key(&sshd));
    let file = sshd.known_hosts();
    for hosts in [
        String::new(),
        format!("127.0.0.1 {key}"),
        format!("!*,[127.0.0.1]:{port} {key}"),
        format!("[127.0.0.1]:{port},![127.0.0.1]:* {key}"),
    ] {
        let (kind, text) = try_it(with_hosts(&sshd, &hosts), &sshd).await.expect_err(&hosts);
        assert_eq!(kind, ConnectErrorKind::Verification);
        assert!(
            text.contains(&format!("host key of [127.0.0.1]:{port} is not known: ssh-ed25519 SHA256:")),
            "{text}"
        );
        let line = format!("add this line to {}: [127.0.0.1]:{port} {key}]", file.display());
        assert!(text.ends_with(&line), "{text}");
    }
    let other = other_key(sshd.place(), "other");
    let (kind, text) = try_it(with_hosts(&sshd, &format!("\n[127.0.0.1]:{port} {other}")), &sshd)
        .await
        .expect_err("changed");
    assert_eq!(kind, ConnectErrorKind::Verification);
    assert!(text.contains("has changed: it shows ssh-ed25519 SHA256:"), "{text}");
    assert!(text.contains(&format!("{} line 2 has ssh-ed25519 SHA256:", file.display())), "{text}");
    assert!(text.contains(&format!("ssh-keygen -f '{}' -R '[127.0.0.1]:{port}'", file.display())), "{text}");
    // Also where new ones are welcome.
    let accept_new = hop(&sshd).host_keys(HostKeys::files([file.clone()]).accept_new());
    assert_eq!(try_it(accept_new, &sshd).await.expect_err("changed").0, ConnectErrorKind::Verification);

    let revoked = format!("@revoked * {key}\n[127.0.0.1]:{port} {key}");
    let (kind, text) = try_it(with_hosts(&sshd, &revoked), &sshd).await.expect_err("revoked");
    assert_eq!(kind, ConnectErrorKind::Verification);
    assert!(text.contains("it is revoked") && text.contains("line 1 revokes it"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_keys_are_added_and_no_key_is_checked_only_on_demand() {
    let sshd = sshd();
    let new = sshd.place().dir().join("new/known_hosts");
    let accept_new = || hop(&sshd).host_keys(HostKeys::files([new.clone()]).accept_new());
    try_it(accept_new(), &sshd).await.expect("new");
    let line = format!("[127.0.0.1]:{} {}\n", sshd.port(), host_key(&sshd));
    assert_eq!(fs::read_to_string(&new).expect("read"), line);
    try_it(accept_new(), &sshd).await.expect("known");
    assert_eq!(fs::read_to_string(&new).expect("read"), line, "added twice");
    try_it(hop(&sshd).host_keys(HostKeys::dangerous_accept_any()), &sshd).await.expect("any");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_certificates() {
    let sign = |place: &Place, extra: &[&str]| {
        other_key(place, "ca");
        let (ca, key) = (place.path("ca"), place.path("host_ed25519.pub"));
        let mut arguments = vec!["-s", &ca, "-I", "the host", "-h"];
        arguments.extend(extra);
        arguments.push(&key);
        keygen(&arguments);
        format!("HostCertificate {}", place.path("host_ed25519-cert.pub"))
    };
    let with = |sshd: &Sshd| {
        let ca = fs::read_to_string(sshd.place().path("ca.pub")).expect("a key");
        with_hosts(sshd, &format!("@cert-authority [127.0.0.1]:* {ca}"))
    };
    let good = sshd_with(|place| sign(place, &["-n", "127.0.0.1"]));
    try_it(with(&good), &good).await.expect("certificate");
    let wrong = sshd_with(|place| sign(place, &["-n", "db.internal"]));
    let (kind, text) = try_it(with(&wrong), &wrong).await.expect_err("for others");
    assert_eq!(kind, ConnectErrorKind::Verification);
    assert!(text.contains("`the host`") && text.contains("it is for other hosts: db.internal"), "{text}");
    try_it(with(&wrong).host_key_alias("db.internal"), &wrong)
        .await
        .expect_err("the line is for another name");
    let expired = sshd_with(|place| sign(place, &["-n", "127.0.0.1", "-V", "20200101:20200102"]));
    let (_, text) = try_it(with(&expired), &expired).await.expect_err("expired");
    assert!(text.contains("it has expired"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_all_types_certificates_and_agents_open() {
    let sshd = sshd();
    let place = sshd.place();
    let authorize = |key: &str| {
        fs::copy(place.path(&format!("{key}.pub")), place.path("authorized_keys")).expect("a key");
    };
    for (kind, bits) in [("rsa", "2048"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521")] {
        let name = format!("{kind}{bits}");
        keygen(&["-t", kind, "-b", bits, "-N", "", "-f", &place.path(&name)]);
        authorize(&name);
        try_it(known(&sshd).identity(Identity::file(place.path(&name))), &sshd).await.expect(&name);
    }
    // PEM, as OpenSSL writes it.
    keygen(&["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", &place.path("pem")]);
    authorize("pem");
    try_it(known(&sshd).identity(Identity::file(place.path("pem"))), &sshd).await.expect("pem");

    let agent = ssh_agent();
    for key in ["rsa2048", "id_ed25519"] {
        agent.add(&place.dir().join(key));
        authorize(key);
        try_it(known(&sshd).agent(agent.socket()), &sshd).await.expect("agent");
    }
    // Only those that are named.
    let named = known(&sshd).agent(agent.socket()).identities_only();
    let (_, text) = try_it(named.clone().identity(Identity::file(place.path("rsa2048"))), &sshd)
        .await
        .expect_err("let in");
    assert!(text.contains("of the agent: refused") && !text.contains("ssh-ed25519"), "{text}");
    try_it(named.identity(Identity::file(sshd.identity())), &sshd).await.expect("named");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_certificates() {
    let sshd = sshd_with(|place| {
        other_key(place, "ca");
        format!("TrustedUserCAKeys {}", place.path("ca.pub"))
    });
    let place = sshd.place();
    fs::write(place.path("authorized_keys"), "").expect("write");
    let user = sshd.user();
    for kind in ["ed25519", "rsa"] {
        let key = place.path(kind);
        keygen(&["-t", kind, "-N", "", "-f", &key]);
        let by_key = known(&sshd).identity(Identity::file(&key));
        let (kind_of, text) = try_it(by_key.clone(), &sshd).await.expect_err("without a certificate");
        assert_eq!(kind_of, ConnectErrorKind::Authentication);
        assert!(text.contains(&format!("of {key}: refused")), "{text}");
        keygen(&["-s", &place.path("ca"), "-I", "me", "-n", &user, &format!("{key}.pub")]);
        try_it(by_key, &sshd).await.expect("with the certificate beside it");
        let agent = ssh_agent();
        agent.add(key.as_ref());
        try_it(known(&sshd).agent(agent.socket()), &sshd).await.expect("of the agent");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passphrases_are_asked_for_when_the_server_wants_the_key_and_shown_nowhere() {
    let sshd = sshd();
    let place = sshd.place();
    keygen(&["-t", "ed25519", "-N", "open sesame", "-f", &place.path("locked")]);
    keygen(&["-t", "ed25519", "-N", "another", "-f", &place.path("unwanted")]);
    fs::copy(place.path("locked.pub"), place.path("authorized_keys")).expect("a key");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asker = |answers: &'static [&'static str]| {
        let asked = asked.clone();
        Asker::new(move |question| {
            let mut asked = asked.lock().expect("no panic");
            let Question::Passphrase { file } = question else { panic!("{question:?}") };
            let answer = answers.get(asked.len()).map(|answer| Secret::new(*answer));
            asked.push(file);
            async move { answer }
        })
    };
    let locked = known(&sshd)
        .identity(Identity::file(place.path("unwanted")))
        .identity(Identity::file(place.path("locked")));
    try_it(locked.clone().ask(asker(&["wrong guess", "open sesame"])), &sshd).await.expect("let in");
    assert_eq!(*asked.lock().expect("no panic"), [place.dir().join("locked"), place.dir().join("locked")]);

    asked.lock().expect("no panic").clear();
    let (kind, text) =
        try_it(locked.clone().ask(asker(&["a wrong guess"; 3])), &sshd).await.expect_err("let in");
    assert_eq!(kind, ConnectErrorKind::Authentication);
    assert!(text.contains("locked: the passphrase is wrong"), "{text}");
    assert!(!text.contains("a wrong guess"), "{text}");
    let (_, text) = try_it(locked.clone(), &sshd).await.expect_err("let in");
    assert!(text.contains("there is nobody to ask for its passphrase"), "{text}");
    assert!(!format!("{:?} {locked:?}", Secret::new("open sesame")).contains("sesame"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_tried_and_what_the_server_accepts_is_told() {
    let sshd = sshd_with(|place| {
        fs::write(place.path("banner"), "Staff only.\nAsk \x1b[31mOps.\n").expect("write");
        format!("Banner {}", place.path("banner"))
    });
    let (kind, text) = try_it(known(&sshd), &sshd).await.expect_err("let in");
    assert_eq!(kind, ConnectErrorKind::Authentication);
    assert!(
        text.contains(
            "there was nothing to try; the server accepts publickey; it says: Staff only. Ask  [31mOps. ["
        ),
        "{text}"
    );
    other_key(sshd.place(), "other");
    let hop = known(&sshd).identity(Identity::file(sshd.place().path("other"))).agent("/no/such/agent");
    let (_, text) = try_it(hop, &sshd).await.expect_err("let in");
    assert!(text.contains("tried the agent at /no/such/agent: No such file"), "{text}");
    assert!(text.contains("other: refused; the server accepts publickey"), "{text}");
    // Too many keys.
    let mut hop = known(&sshd);
    for n in 0..8 {
        other_key(sshd.place(), &format!("key{n}"));
        hop = hop.identity(Identity::file(sshd.place().path(&format!("key{n}"))));
    }
    let (kind, text) = try_it(hop, &sshd).await.expect_err("let in");
    assert_eq!(kind, ConnectErrorKind::Authentication);
    assert!(text.contains("it says: the server ended it: Too many authentication failures"), "{text}");
    assert!(text.contains("use identities only"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cant_be_read_is_told_before_anything_is_dialled() {
    let (sshd, counting) = (sshd(), counting());
    let place = sshd.place();
    fs::write(place.path("garbage"), "this is no key").expect("write");
    fs::create_dir(place.path("directory")).expect("create");
    let directory = place.dir().join("directory");
    for (hop, expected) in [
        (
            known(&sshd).identity(Identity::file(place.path("missing"))),
            "there is no such file; nothing was dialled",
        ),
        (known(&sshd).identity(Identity::file(place.path("garbage"))), "a private key in OpenSSH's format"),
        (known(&sshd).identity(Identity::file(place.path("id_ed25519.pub"))), "that is a public key"),
        (
            known(&sshd).identity(Identity::file(sshd.identity()).certificate(place.path("missing"))),
            "read the certificate",
        ),
        (
            hop(&sshd).host_keys(HostKeys::files([directory])),
            "no host key can be checked, so nothing was dialled",
        ),
    ] {
        let (kind, text) = try_from(hop, counting.under(outer(&sshd))).await.expect_err("connected");
        assert_eq!(kind, ConnectErrorKind::Environment, "{text}");
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(counting.made(), 0);
    try_it(hop(&sshd).identity(Identity::file(place.path("missing")).if_exists()), &sshd)
        .await
        .expect("optional");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_speaks_no_ssh_is_shown() {
    let sshd = sshd();
    for (banner, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "is no SSH server: it says `HTTP/1.1 400 Bad Request`"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "is no SSH server: it says `\\x15\\x03\\x01"),
        (b"", "hung up during the handshake"),
    ] {
        let mut listener = listener().await;
        let Target::Addr(address) = listener.local() else { panic!() };
        tokio::spawn(async move {
            let mut flow = accept(&mut listener).await;
            flow.write_all(banner).await.expect("write");
            flow.shutdown().await.expect("shutdown");
            // Until the client hangs up: closing with bytes unread would be a reset.
            while flow.read(&mut [0; 256]).await.is_ok_and(|n| n > 0) {}
        });
        let (_, text) = try_from(known(&sshd), to_port(address.port())).await.expect_err("connected");
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_common_algorithm_shows_both_lists() {
    let sshd = sshd_with(|_| "Ciphers aes128-cbc,aes256-cbc".into());
    let (kind, text) = try_it(hop(&sshd), &sshd).await.expect_err("connected");
    assert_eq!(kind, ConnectErrorKind::Protocol);
    assert!(text.contains("no common cipher algorithm: ours are aes256-gcm@openssh.com, "), "{text}");
    assert!(text.contains("; the server's are aes128-cbc, aes256-cbc"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connect_timeout_is_kept() {
    let (sshd, silent) = (sshd(), listener().await);
    let Target::Addr(address) = silent.local() else { panic!() };
    let hop = hop(&sshd).connect_timeout(Duration::from_millis(100));
    let (kind, text) = try_from(hop, to_port(address.port())).await.expect_err("connected");
    assert_eq!(kind, ConnectErrorKind::TimedOut);
    assert!(text.contains("within 100ms, its connect timeout"), "{text}");
}
