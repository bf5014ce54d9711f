//! OpenSSH's configuration, and the ways that it describes.

mod support;

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tuyau_core::Net;
use tuyau_core::names::{HOST, PORT};
use tuyau_ssh::{Asker, ConfigError, OpenSsh, Question, Secret, Ssh, SshHop, Step};
use tuyau_testing::Place;
use tuyau_testing::peers::{command, run, sshd, sshd_with};

use support::{accept, cx, listener, to_port};

fn read(place: &Place, config: &str) -> Result<OpenSsh, ConfigError> {
    fs::create_dir_all(place.dir().join(".ssh")).expect("create");
    fs::write(place.path(".ssh/config"), config).expect("write");
    OpenSsh::new(place.dir(), "me", Some("/run/agent".into())).file(&place.dir().join(".ssh/config"))
}

fn told(error: &ConfigError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn server(step: &Step) -> (String, &SshHop) {
    match step {
        Step::Server { host, port, hop } => (format!("{host}:{port}"), hop),
        other => panic!("{other:?}"),
    }
}

/// What `Debug` shows of a hop: its fields are private.
fn shown(hop: &SshHop) -> String {
    format!("{hop:?}")
}

#[test]
fn hosts_includes_and_first_values() {
    let place = Place::new();
    fs::create_dir_all(place.dir().join(".ssh/more")).expect("create");
    fs::write(place.path(".ssh/more/db"), "Host db\n  HostName %h.internal\n  Port 2222\n").expect("write");
    let config = "Include more/*\nHost db web\n  User ops\n  Port 1\n  IdentityFile ~/.ssh/%r_key\n  IdentitiesOnly yes\n\
                  Host *\n  User nobody\n  ServerAliveInterval 7\n  ServerAliveCountMax 2\n  ConnectTimeout 9\n\
                  \n  HostKeyAlias alias\n  UserKnownHostsFile \"~/hosts a\" /b\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking accept-new\n  SendEnv LANG\n";
    let config = read(&place, config).expect("read");
    let steps = config.route(None, "db", None).expect("route");
    let [step] = steps.as_slice() else { panic!("{steps:?}") };
    let (at, hop) = server(step);
    assert_eq!(at, "db.internal:2222");
    let hop = shown(hop);
    for part in [
        "user: \"ops\"".to_owned(),
        format!("{:?}", place.dir().join(".ssh/ops_key")),
        "identities_only: true".into(),
        "interval: 7s, count: 2".into(),
        "connect_timeout: Some(9s)".into(),
        "host_key_alias: Some(\"alias\")".into(),
        "\"/b\"], trust: AcceptNew".into(),
        "agent: Some(\"/run/agent\")".into(),
    ] {
        assert!(hop.contains(&part), "{part} in {hop}");
    }
    // What is asked for wins.
    let steps = config.route(Some("root"), "web", Some(22)).expect("route");
    let (at, hop) = server(&steps[0]);
    assert_eq!(at, "web:22");
    assert!(shown(hop).contains("user: \"root\""));
    // Nobody reads anything that is not there.
    let nothing = OpenSsh::new("/home/me", "me", None).file("/no/such/file".as_ref()).expect("empty");
    let hop = shown(server(&nothing.route(None, "a", None).expect("route")[0]).1);
    assert!(hop.contains("/home/me/.ssh/known_hosts2") && hop.contains("id_ed25519"), "{hop}");
}

#[test]
fn ways() {
    let place = Place::new();
    let config = "Host inner\n ProxyJump a@[::1]:2,second\nHost second\n HostName 10.0.0.2\n ProxyJump never\n\
                  Host gate\n ProxyJump inner\nHost cmd\n ProxyCommand ssh -W %h:%p %r@bastion\n HostName real\n\
                  Host direct\n ProxyJump none\n";
    let config = read(&place, config).expect("read");
    let way = |host| {
        let mut way = String::new();
        for step in config.route(None, host, None).expect("route") {
            let _ = match step {
                Step::Server { host, port, .. } => write!(way, "{host} {port}, "),
                Step::Command(line) => write!(way, "`{line}`, "),
                other => panic!("{other:?}"),
            };
        }
        way
    };
    assert_eq!(way("gate"), "::1 2, 10.0.0.2 22, inner 22, gate 22, ");
    assert_eq!(way("cmd"), "`ssh -W real:22 me@bastion`, real 22, ");
    assert_eq!(way("direct"), "direct 22, ");
}

#[test]
fn conditions_hold_as_in_openssh() {
    let place = Place::new();
    let mut id = command("id", "coreutils");
    id.arg("-un");
    let me = run(id, b"").code(0).text().trim().to_owned();
    let blocks = [
        "Host a*\n  HostName %h.internal",
        "Host *.internal\n  Port 5",
        "Host renamed\n  HostName a.internal\n  User ops",
        "Match all\n  Port 1",
        "Match host *.internal\n  Port 2",
        "Match originalhost a,b\n  Port 3",
        "Match !host *.internal user ME\n  Port 4",
        "Match user ops,!root\n  Port 6",
        "Match user=ops\n  Port 13",
        "Match localuser ME host \"a?internal\"\n  Port 7 # why",
        "Match localuser !ME,*\n  Port 8",
        "Match final host a.internal\n  User final",
        "Match !final host a\n  User early",
        "Match final all\n  Port 9",
        "match HOST A,*.INTERNAL originalhost *,!b\n  Port 10",
        "Match host nobody exec false\n  Port 11",
        "Match host a,b # a comment\n  Port 12",
    ];
    let mut count = 0;
    for (first, second) in (0..blocks.len()).flat_map(|first| (0..blocks.len()).map(move |it| (first, it))) {
        count += compared(&place, &me, &[blocks[first], blocks[second], blocks[0]].join("\n"), "");
    }
    assert_eq!(count, 17 * 17 * 3);
    // In a file that is included, where something holds, or does not; and what comes after that.
    let around = [
        "",
        "Host a",
        "Host b renamed",
        "Host !*",
        "Match host *.internal",
        "Match final all",
        "Match user ops",
        "User first\nUser second\nMatch !host b",
    ];
    for (around, included) in around.iter().flat_map(|around| blocks.map(move |block| (around, block))) {
        let text = format!("{around}\n  Include {}\n  Port 77\n{}", place.path("[i]ncluded"), blocks[0]);
        count += compared(&place, &me, &text, included);
    }
    // What includes itself is the same for ever.
    let endless = format!("Include {}", place.path("included"));
    fs::write(place.path("included"), &endless).expect("write");
    let error = OpenSsh::new(place.dir(), &*me, None).file(&place.dir().join("included")).map(drop);
    assert!(told(&error.expect_err("endless")).contains("line 1: too many files that include files"));
    assert_eq!(count, 17 * 17 * 3 + 8 * 17 * 3);
}

/// For how many hosts this says the same to OpenSSH, by which `ME` runs.
fn compared(place: &Place, me: &str, text: &str, included: &str) -> usize {
    let (text, included) = (text.replace("ME", me), included.replace("ME", me));
    let file = place.dir().join("config");
    fs::write(&file, &text).expect("write");
    fs::write(place.path("included"), &included).expect("write");
    let config = OpenSsh::new(place.dir(), me, None).file(&file).expect("read");
    let hosts = ["a", "b", "renamed"];
    for host in hosts {
        let steps = config.route(None, host, None).unwrap_or_else(|error| panic!("{text}\n{error}"));
        let [step] = steps.as_slice() else { panic!("{steps:?}") };
        let (at, hop) = server(step);
        let user = shown(hop).split('"').nth(1).expect("a user").to_owned();
        let mut ssh = command("ssh", "openssh-client");
        ssh.args(["-G", "-F", &place.path("config"), host]);
        let ended = run(ssh, b"").code(0);
        let said = |word: &str| {
            let mut lines = ended.text().lines();
            lines.find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')).expect("a line").to_owned()
        };
        let theirs = (format!("{}:{}", said("hostname"), said("port")), said("user"));
        assert_eq!((at, user), theirs, "{host}:\n{text}\nincluded:\n{included}");
    }
    hosts.len()
}

#[test]
fn what_would_change_the_way_or_the_trust_is_never_ignored() {
    let place = Place::new();
    for (config, expected) in [
        ("\nMatch host a exec true\n User b", "config:2: for a: `exec` of a `Match` is not supported"),
        ("Match !tagged x", "config:1: for a: `!tagged` of a `Match` is not supported"),
        ("Match host", "config:1: for a: `host` of a `Match` wants a pattern"),
        ("Match", "config:1: for a: a `Match` wants criteria"),
        ("Match all host a", "config:1: for a: `all` must be the last word of a `Match`"),
        ("Match host a all", "config:1: for a: `all` can't be combined with other criteria of a `Match`"),
        ("BindAddress 10.0.0.1", "`BindAddress` for a is not supported"),
        ("Ciphers 3des-cbc", "`Ciphers` for a is not supported"),
        ("HostKeyAlgorithms +ssh-rsa", "`HostKeyAlgorithms` for a is not supported"),
        ("KnownHostsCommand /bin/true", "`knownhostscommand` for a is not supported"),
        ("RevokedHostKeys /revoked", "`revokedhostkeys` for a is not supported"),
        ("PKCS11Provider x.so", "`pkcs11provider` for a is not supported"),
        ("CanonicalizeHostname yes", "`canonicalizehostname` for a is not supported"),
        ("NewInOpenSSH13 yes", "`newinopenssh13` for a is not supported"),
        ("StrictHostKeyChecking no", "`StrictHostKeyChecking no` for a: that trusts whoever answers"),
        ("IdentityFile ~/%C", "the token `%C` is not supported"),
        ("IdentityFile ${HOME}/key", "variables of the environment are not supported"),
        ("IdentityAgent $OTHER", "only SSH_AUTH_SOCK is supported"),
        ("ProxyJump a", "`ProxyJump`: the way to a by way of a never begins"),
        ("ProxyJump b:x", "`ProxyJump b:x` is not [user@]host[:port]"),
        ("Port many", "expected port number"),
    ] {
        let error = read(&place, config).and_then(|config| config.route(None, "a", None)).map(drop);
        let text = told(&error.expect_err(config));
        assert!(text.contains(expected), "{text}");
    }
    read(&place, "Host b\n Ciphers 3des-cbc\n")
        .expect("read")
        .route(None, "a", None)
        .expect("another host's");
    let obeyed = read(&place, "StrictHostKeyChecking no").expect("read").dangerous_obey_no_checking();
    assert!(shown(server(&obeyed.route(None, "a", None).expect("route")[0]).1).contains("trust: Any"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_through_two_servers() {
    let (near, far) = (sshd(), sshd());
    let place = Place::new();
    let mut config = String::new();
    for (name, sshd) in [("near", &near), ("far", &far)] {
        let (identity, hosts) = (sshd.identity(), sshd.known_hosts());
        let _ = writeln!(
            config,
            "Host {name}\n HostName 127.0.0.1\n Port {}\n User {}",
            sshd.port(),
            sshd.user()
        );
        let _ =
            writeln!(config, " IdentityFile {}\n UserKnownHostsFile {}", identity.display(), hosts.display());
    }
    config += "Host far\n ProxyJump near\n";
    let steps = read(&place, &config).expect("read").route(None, "far", None).expect("route");
    let mut ctx = to_port(0);
    for step in steps {
        let Step::Server { host, port, hop } = step else { panic!("{step:?}") };
        ctx = ctx.replace(&HOST, host.into()).replace(&PORT, port).via(hop);
    }
    let mut listener = listener().await;
    let target = listener.local();
    let net = ctx.get(&tuyau_core::names::NET).await.expect("get").expect("a net");
    let cx = cx();
    let (flow, mut accepted) = tokio::join!(net.connect(&target, &cx), accept(&mut listener));
    flow.expect("connect").write_all(b"two hops").await.expect("write");
    let mut got = [0; 8];
    accepted.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"two hops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_the_agent_named_by_its_public_part() {
    let sshd = sshd_with(|_| String::new());
    let agent = tuyau_testing::peers::ssh_agent();
    agent.add(&sshd.identity());
    let public = PathBuf::from(sshd.place().path("id_ed25519.pub"));
    let hop = support::known(&sshd)
        .agent(agent.socket())
        .identities_only()
        .identity(tuyau_ssh::Identity::file(public));
    let ssh = Ssh::new(hop, support::outer(&sshd));
    let listener = listener().await;
    ssh.connect(&listener.local(), &cx()).await.expect("connect");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batch_mode_asks_nobody() {
    let sshd = sshd();
    let place = Place::new();
    tuyau_testing::peers::keygen(&["-t", "ed25519", "-N", "secret", "-f", &place.path("locked")]);
    fs::copy(place.path("locked.pub"), sshd.place().path("authorized_keys")).expect("copy");
    let asked = Arc::new(Mutex::new(0));
    let counter = asked.clone();
    let asker = Asker::new(move |_: Question| {
        *counter.lock().expect("no panic") += 1;
        async { Some(Secret::new("secret")) }
    });
    for (batch, expected) in [("yes", 0), ("no", 1)] {
        let config = format!(
            "IdentityFile {}\nUserKnownHostsFile {}\nBatchMode {batch}\nIdentityAgent none\n",
            place.path("locked"),
            sshd.known_hosts().display()
        );
        let config = read(&place, &config).expect("read").ask(asker.clone());
        let mut steps = config.route(Some(&sshd.user()), "127.0.0.1", Some(sshd.port())).expect("route");
        let Some(Step::Server { hop, .. }) = steps.pop() else { panic!() };
        let ssh = Ssh::new(*hop, support::outer(&sshd));
        let listener = listener().await;
        assert_eq!(ssh.connect(&listener.local(), &cx()).await.is_ok(), batch == "no");
        assert_eq!(*asked.lock().expect("no panic"), expected);
    }
}
