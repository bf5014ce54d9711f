//! What is a URI and what isn't, and how the errors read.

mod any_text;
mod errors;
mod forms;
mod options;
mod used;

use super::{Uri, UriError, uri};

fn parsed(text: &str) -> Uri {
    uri(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> UriError {
    match uri(text) {
        Ok(uri) => panic!("{text} is {uri}"),
        Err(error) => error,
    }
}

/// What using `uri` to connect is refused with.
fn refusal(uri: Uri) -> String {
    match uri.apply(crate::context()) {
        Ok(_) => panic!("{uri} can be used"),
        Err(error) => error.to_string(),
    }
}
