//! The server of our own: passwords, and flows without OpenSSH.

mod support;

use std::sync::{Arc, Mutex};

use tuyau_core::names::RUNTIME;
use tuyau_core::{ConnectErrorKind, Context, Net, Policy, Target, names};
use tuyau_ssh::{Asker, HostKeys, Identity, Question, Secret, Ssh, SshHop, SshServer};
use tuyau_testing::peers::keygen;
use tuyau_testing::{Abilities, Pair, Place, flow_conformance};
use tuyau_tokio::{host, runtime};

use support::{accept, cx, listener, to_port, told};

fn server() -> SshServer {
    SshServer::new(&[7; 32]).allow_password("me", Secret::new("mellon"))
}

/// Serves everybody who comes, and gives its port. Ends with the test.
async fn serve(server: SshServer, ctx: Context) -> u16 {
    let mut listener = listener().await;
    let Target::Addr(address) = listener.local() else { panic!() };
    tokio::spawn(async move {
        loop {
            let (flow, server, ctx) = (accept(&mut listener).await, server.clone(), ctx.clone());
            // How a client fares is seen at its end.
            tokio::spawn(async move { drop(server.serve(flow, host(), &ctx).await) });
        }
    });
    address.port()
}

fn plain() -> Context {
    Context::new().with(&RUNTIME, runtime())
}

fn hop(server: &SshServer) -> SshHop {
    SshHop::new("me").host_keys(HostKeys::only([server.host_key().as_str()]).expect("a key"))
}

fn says(answer: &'static str) -> Asker {
    Asker::new(move |_| async move { Some(Secret::new(answer)) })
}

async fn pair() -> Pair {
    let port = serve(server(), plain()).await;
    let mut listener = listener().await;
    let (target, cx) = (listener.local(), cx());
    let ssh = Ssh::new(hop(&server()).ask(says("mellon")), to_port(port));
    let (a, b) = tokio::join!(ssh.connect(&target, &cx), accept(&mut listener));
    Pair::new(a.expect("connect"), b).keep(listener)
}

/// Our server copies between flows, and ends both when one breaks: less than OpenSSH's can do.
const RELAYED: Abilities = Abilities { reset: false, ..Abilities::ALL };

flow_conformance!(over_our_own, RELAYED, pair);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_are_asked_for_and_shown_nowhere() {
    let port = serve(server(), plain()).await;
    let mut far = listener().await;
    let target = far.local();
    tokio::spawn(async move {
        loop {
            accept(&mut far).await;
        }
    });
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let asker = Asker::new(move |question| {
        let wrong = log.lock().expect("no panic").is_empty();
        log.lock().expect("no panic").push(question);
        async move { Some(Secret::new(if wrong { "a wrong one" } else { "mellon" })) }
    });
    let ssh = Ssh::new(hop(&server()).ask(asker), to_port(port));
    ssh.connect(&target, &cx()).await.expect("the second was right");
    let asked = std::mem::take(&mut *asked.lock().expect("no panic"));
    let [Question::Challenge { server: at, prompt, echo: false, .. }, Question::Challenge { .. }] =
        asked.as_slice()
    else {
        panic!("{asked:?}");
    };
    assert_eq!((&**at, prompt.as_str()), (format!("me@127.0.0.1:{port}").as_str(), "Password: "));

    let wrong = Asker::password(Secret::new("swordfish"));
    let ssh = Ssh::new(hop(&server()).ask(wrong), to_port(port));
    let error = ssh.connect(&target, &cx()).await.expect_err("let in");
    let text = told(&error);
    assert_eq!(text.matches("refused").count(), 2, "what was refused is not said again: {text}");
    assert_eq!(
        error.hint(),
        Some("are the user and the password right, and does the server let this user in by password?")
    );
    assert_eq!(error.kind(), ConnectErrorKind::Authentication);
    assert!(text.contains("tried keyboard-interactive: refused"), "{text}");
    assert!(text.contains("password: refused; the server accepts"), "{text}");
    assert!(!format!("{text} {error:?} {:?}", server()).contains("swordfish"), "{text}");

    let nobody = Asker::new(|_| async { None });
    let ssh = Ssh::new(hop(&server()).ask(nobody), to_port(port));
    let text = told(&ssh.connect(&target, &cx()).await.expect_err("let in"));
    assert!(text.contains("no answer was given"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_open_and_what_it_does_not_do_it_says() {
    let place = Place::new();
    keygen(&["-t", "ed25519", "-N", "", "-f", &place.path("key")]);
    let key = std::fs::read_to_string(place.path("key.pub")).expect("a key");
    let server = server().allow_key("me", &key).expect("a key");
    let elsewhere = Policy::new().only_networks(["192.0.2.0/24".parse().expect("a network")]);
    let port = serve(server.clone(), plain().with(&names::POLICY, elsewhere)).await;
    let ssh = Ssh::new(hop(&server).identity(Identity::file(place.path("key"))), to_port(port));
    let (cx, far) = (cx(), listener().await);
    let error = ssh.connect(&far.local(), &cx).await.expect_err("allowed");
    assert!(told(&error).contains("it is prohibited there"), "{}", told(&error));
    let error = ssh.listen(&far.local(), &cx).await.expect_err("listens");
    assert_eq!(error.kind(), ConnectErrorKind::Refused);

    let open = serve(server.clone(), plain()).await;
    let ssh = Ssh::new(hop(&server).identity(Identity::file(place.path("key"))), to_port(open));
    ssh.connect(&far.local(), &cx).await.expect("connect");
    drop(far);
    let error = ssh.connect(&Target::path("/no/such/socket"), &cx).await.expect_err("connected");
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
}
