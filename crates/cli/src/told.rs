//! What users are told in place of what the libraries say, which know of no flags and no signals.

use std::mem::take;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tuyau::Report;
use tuyau::report::{Outcome, ReadOutcome};

use crate::signals;

/// Hints of the libraries, each short enough to be in one line, and what they mean here.
const HINTS: [(&str, &str); 17] = [
    ("give its certificate as root", "give its certificate: --cacert FILE"),
    ("give that very certificate as root", "give that very certificate: --cacert FILE"),
    ("bind `names::SERVER_NAME` or `names::HOST` in the context", "say whose it must be: --sni NAME"),
    ("or give the server name to expect", "or say which of them to expect: --sni NAME"),
    ("give a certificate and its key", "give one, with its key: --cert FILE --key FILE"),
    ("offer another protocol (ALPN), or none", "offer another protocol (--alpn NAMES), or none"),
    ("give both: cert=FILE and key=FILE", "give both: --cert FILE and --key FILE"),
    ("name its files: cert=FILE and key=FILE", "name its files: --cert FILE and --key FILE"),
    (
        "use an allowed protocol, or add this one to the policy",
        "use one that it allows, or add this one to --only-protocols",
    ),
    (
        "if it is to be dialled, add its network to the policy",
        "if it is to be dialled, add its network to --only-networks",
    ),
    (
        "go through a proxy whose names are looked up here (socks5://)",
        "go through a proxy whose names are looked up here (--via socks5://)",
    ),
    ("do without that policy", "do without --only-networks"),
    ("go through a proxy that looks names up", "go through a proxy that looks names up (--via socks5h://)"),
    (
        "give user name and password, if the proxy takes them",
        "give them in its URI, if it takes them: SCHEME://USER:PASSWORD@HOST",
    ),
    ("name a key whose public part", "name a key (?identity=FILE) whose public part"),
    ("and speak it", "and speak it, as `tuyau get` does"),
    ("give the proxy's user name and password", "give them in its URI: SCHEME://USER:PASSWORD@HOST"),
];

/// What is said where a policy wants encryption: meant is a transport, HTTP, or a hop.
const ENCRYPT: &str = "use a transport that encrypts, or loosen the policy";
const ENCRYPTED: [&str; 3] = [
    "use one that encrypts (tls://), or do without --require",
    "ask for it by https://, or do without --require",
    "go through one that encrypts (--via https:// or ssh://), or do without --require",
];

/// Whether what is connected is to be asked by HTTP.
static OF_HTTP: AtomicBool = AtomicBool::new(false);

/// From now on advice is told in terms of HTTP.
#[cfg(feature = "web")]
pub(crate) fn of_http() {
    OF_HTTP.store(true, Relaxed);
}

/// Flags that are for the target, and how a hop is told the same.
const OPTIONS: [(&str, &str); 4] = [
    ("--cacert FILE", "?cacert=FILE in its URI"),
    ("--sni NAME", "?sni=NAME in its URI"),
    ("--cert FILE --key FILE", "?cert=FILE&key=FILE in its URI"),
    ("--alpn NAMES", "?alpn=NAMES in its URI"),
];

/// What is said of a hop that failed.
const OF_A_HOP: [&str; 2] = [" can't be reached", " broke off "];

/// `report` as users are told it, without the lines of this program's own source.
pub(crate) fn report(report: Report) -> Report {
    let mut report = report.without_places();
    let candidates = report.candidates.iter_mut().filter_map(|it| match &mut it.outcome {
        Outcome::Absent(cause) | Outcome::Failed(cause) | Outcome::Refused(cause) => Some(cause),
        _ => None,
    });
    let reads = report.reads.iter_mut().filter_map(|it| match &mut it.outcome {
        ReadOutcome::Failed(cause) => Some(cause),
        _ => None,
    });
    for cause in candidates.chain(reads) {
        let of_a_hop = is_of_a_hop(&cause.what);
        for text in cause.hint.iter_mut().chain([&mut cause.what]) {
            *text = put_otherwise(take(text), of_a_hop);
        }
    }
    for note in &mut report.notes {
        *note = told(take(note));
    }
    report
}

/// `text` as users are told it.
pub(crate) fn told(text: String) -> String {
    let of_a_hop = is_of_a_hop(&text);
    put_otherwise(text, of_a_hop)
}

fn is_of_a_hop(text: &str) -> bool {
    OF_A_HOP.iter().any(|said| text.contains(said))
}

fn put_otherwise(mut text: String, of_a_hop: bool) -> String {
    for (theirs, ours) in HINTS.iter().chain(OPTIONS.iter().filter(|_| of_a_hop)) {
        if text.contains(theirs) {
            text = text.replace(theirs, ours);
        }
    }
    if text.contains(ENCRYPT) {
        let of_a_hop = of_a_hop || text.contains(" can't be used: exec");
        let meant = if of_a_hop { 2 } else { usize::from(OF_HTTP.load(Relaxed)) };
        text = text.replace(ENCRYPT, ENCRYPTED[meant]);
    }
    // It was no deadline that anybody set.
    if signals::has_come() { text.replace("the deadline passed", "interrupted") } else { text }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// All sources of the libraries below `dir`.
    fn sources(dir: &Path, text: &mut String) {
        for entry in fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                sources(&entry, text);
            } else if entry.extension().is_some_and(|it| it == "rs") {
                text.push_str(&fs::read_to_string(&entry).expect("a source"));
            }
        }
    }

    #[test]
    fn the_libraries_do_say_what_is_said_otherwise_here() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("beside the others");
        let mut text = String::new();
        for library in ["core", "proxy", "ssh", "tls", "tuyau"] {
            sources(&crates.join(library).join("src"), &mut text);
        }
        for theirs in
            super::HINTS.iter().map(|(theirs, _)| theirs).chain(&super::OF_A_HOP).chain([&super::ENCRYPT])
        {
            assert!(text.contains(theirs), "nobody says `{theirs}` any more");
        }
    }
}
