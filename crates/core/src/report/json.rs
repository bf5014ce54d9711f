//! The shape of the JSON, where it is not that of the types.

use alloc::string::{String, ToString};
use core::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::words::safe;
use super::{Outcome, Place, ReadOutcome};

pub(super) fn text<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&safe(text))
}

pub(super) fn optional_text<S: Serializer>(text: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    text.as_deref().map(|text| safe(text).to_string()).serialize(to)
}

pub(super) fn texts<S: Serializer>(texts: &[String], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(texts.iter().map(|text| safe(text).to_string()))
}

/// Milliseconds, exact to the nanosecond for a hundred days.
pub(super) fn millis<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_nanos() as f64 / 1e6).serialize(to)
}

pub(super) fn place<S: Serializer>(place: &Place, to: S) -> Result<S::Ok, S::Error> {
    place.is_known().then_some(place).serialize(to)
}

pub(super) fn optional_place<S: Serializer>(place: &Option<Place>, to: S) -> Result<S::Ok, S::Error> {
    place.as_ref().filter(|place| place.is_known()).serialize(to)
}

#[derive(Serialize)]
struct Why {
    what: String,
    hint: Option<String>,
}

fn why(what: &str, hint: Option<&str>) -> Why {
    Why { what: safe(what).to_string(), hint: hint.map(|hint| safe(hint).to_string()) }
}

pub(super) fn hop_outcome<S: Serializer>(
    outcome: &Option<Result<(), String>>,
    to: S,
) -> Result<S::Ok, S::Error> {
    let (word, cause) = match outcome {
        Some(Ok(())) => ("ok", None),
        Some(Err(what)) => ("failed", Some(why(what, None))),
        None => ("unfinished", None),
    };
    let mut to = to.serialize_struct("HopOutcome", 2)?;
    to.serialize_field("outcome", word)?;
    to.serialize_field("cause", &cause)?;
    to.end()
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let word = match self {
            Self::Connected => "connected",
            Self::Absent(_) => "absent",
            Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
            Self::Cancelled => "cancelled",
            Self::NotTried => "not-tried",
            Self::WouldConnect => "would-connect",
            Self::WouldDerive => "would-derive",
        };
        let mut to = to.serialize_struct("Outcome", 2)?;
        to.serialize_field("outcome", word)?;
        to.serialize_field("cause", &self.cause().map(|(what, hint)| why(what, hint)))?;
        to.end()
    }
}

impl Serialize for ReadOutcome {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (word, cause) = match self {
            Self::Value => ("value", None),
            Self::Derived { .. } => ("derived", None),
            Self::Missing => ("missing", None),
            Self::Declined(reason) => ("declined", Some(why(reason, None))),
            Self::Failed(cause) => ("failed", Some(why(&cause.what, cause.hint.as_deref()))),
            Self::Unfinished => ("unfinished", None),
            Self::WouldRun => ("would-run", None),
        };
        let (choice, of) = match self {
            Self::Derived { choice, of } => (Some(choice), Some(of)),
            _ => (None, None),
        };
        let mut to = to.serialize_struct("ReadOutcome", 4)?;
        to.serialize_field("outcome", word)?;
        to.serialize_field("cause", &cause)?;
        to.serialize_field("choice", &choice)?;
        to.serialize_field("of", &of)?;
        to.end()
    }
}
