//! What users are told in place of what the libraries say, which know of no flags and no signals.

use crate::signals;

/// Hints of the libraries, each short enough to be in one line, and what they mean here.
const HINTS: [(&str, &str); 14] = [
    ("give its certificate as root", "give its certificate: --cacert FILE"),
    ("give that very certificate as root", "give that very certificate: --cacert FILE"),
    ("or give the server name to expect", "or say which of them to expect: --sni NAME"),
    ("give a certificate and its key", "give one, with its key: --cert FILE --key FILE"),
    ("offer another protocol (ALPN), or none", "offer another protocol (--alpn NAMES), or none"),
    ("give both: cert=FILE and key=FILE", "give both: --cert FILE and --key FILE"),
    ("name its files: cert=FILE and key=FILE", "name its files: --cert FILE and --key FILE"),
    (
        "use a transport that encrypts, or loosen the policy",
        "use one that encrypts (tls://, --via ssh://), or do without --require",
    ),
    (
        "use an allowed protocol, or add this one to the policy",
        "use one of those, or add this one to --only-protocols",
    ),
    (
        "if it is to be dialled, add its network to the policy",
        "if it is to be dialled, add its network to --only-networks",
    ),
    (
        "give user name and password, if the proxy takes them",
        "give them in its URI, if it takes them: SCHEME://USER:PASSWORD@HOST",
    ),
    ("name a key whose public part", "name a key (?identity=FILE) whose public part"),
    ("and speak it", "and speak it, as `tuyau get` does"),
    ("give the proxy's user name and password", "give them in its URI: SCHEME://USER:PASSWORD@HOST"),
];

/// `text` as users are told it.
pub(crate) fn told(mut text: String) -> String {
    for (theirs, ours) in HINTS {
        if text.contains(theirs) {
            text = text.replace(theirs, ours);
        }
    }
    // It was no deadline that anybody set.
    if signals::has_come() { text.replace("the deadline passed", "interrupted") } else { text }
}
