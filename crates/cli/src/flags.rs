//! Flags that are options of a part of the way: of the one part that takes them and was not told itself.

use std::fmt;

use tuyau::{Uri, UriError, Via};

use crate::exit::Failure;

/// The URIs of a command line, in the order of the way.
pub(crate) struct Way<'a>(pub(crate) Vec<Part<'a>>);

/// What the others are told where a flag is meant for the server of a URL.
const OTHER: &str = "OTHER";

/// A URI of the way, and what it is there for.
pub(crate) enum Part<'a> {
    Listen(&'a mut Uri),
    Hop(&'a mut Via),
    Connect(&'a mut Uri),
    /// The server of a URL of HTTP, which can be told nothing itself.
    Site(&'a mut Uri),
}

/// Which part takes an option, and how that is spelt there.
type Place = (usize, String);

impl Way<'_> {
    /// Gives `value`, of the flag, to the part that takes the option `name`.
    pub(crate) fn give(&mut self, flag: &str, name: &str, value: Option<&str>) -> Result<(), Failure> {
        let Some(value) = value else { return Ok(()) };
        let places = self.places(flag, name)?;
        if places.len() == 1 {
            return self.tell(places, value);
        }
        let told = places.iter().enumerate().map(|(index, (part, spelling))| {
            if !matches!(self.0[*part], Part::Site(_)) {
                return self.0[*part].would_be(spelling, value);
            }
            let others = places.iter().enumerate().filter(|(other, _)| *other != index);
            let others = others.map(|(_, (part, spelling))| self.0[*part].would_be(spelling, OTHER));
            Ok(format!("{flag} '{value}' {}", others.collect::<Result<Vec<_>, _>>()?.join(" ")))
        });
        Err(Failure::Usage(format!(
            "{flag} could mean several parts of the way: tell one of them itself\n  {}",
            told.collect::<Result<Vec<_>, _>>()?.join("\n  ")
        )))
    }

    /// Gives `value`, of the flag, to all parts that take the option `name`.
    pub(crate) fn give_each(&mut self, flag: &str, name: &str, value: Option<&str>) -> Result<(), Failure> {
        let Some(value) = value else { return Ok(()) };
        let places = self.places(flag, name)?;
        self.tell(places, value)
    }

    /// The parts that take the option `name` and were not told: one at least.
    fn places(&self, flag: &str, name: &str) -> Result<Vec<Place>, Failure> {
        let all = self.0.iter().enumerate();
        let all = all.flat_map(|(index, part)| part.spellings(name).into_iter().map(move |it| (index, it)));
        let (told, untold): (Vec<_>, Vec<_>) = all.partition(|(index, it)| self.0[*index].has(it));
        if !untold.is_empty() {
            return Ok(untold);
        }
        let way: Vec<_> = self.0.iter().map(Part::to_string).collect();
        let why = match told.is_empty() {
            true => format!("nothing there takes the option `{name}`"),
            false => format!("what takes the option `{name}` was told itself"),
        };
        Err(Failure::Usage(format!("{flag} has no use with {}: {why}", way.join(", "))))
    }

    fn tell(&mut self, places: Vec<Place>, value: &str) -> Result<(), Failure> {
        for (index, spelling) in places {
            match &mut self.0[index] {
                Part::Listen(uri) | Part::Connect(uri) | Part::Site(uri) => {
                    **uri = uri.clone().with_option(&spelling, value)?
                }
                Part::Hop(hop) => **hop = hop.clone().with_option(&spelling, value)?,
            }
        }
        Ok(())
    }
}

impl Part<'_> {
    fn spellings(&self, name: &str) -> Vec<String> {
        match self {
            Self::Listen(uri) => uri.listen_option_spellings(name),
            Self::Hop(hop) => hop.option_spellings(name),
            Self::Connect(uri) | Self::Site(uri) => uri.option_spellings(name),
        }
    }

    fn has(&self, spelling: &str) -> bool {
        match self {
            Self::Listen(uri) => uri.has_listen_option(spelling),
            Self::Hop(hop) => hop.has_option(spelling),
            Self::Connect(uri) | Self::Site(uri) => uri.has_option(spelling),
        }
    }

    /// How it is typed with that option.
    fn would_be(&self, spelling: &str, value: &str) -> Result<String, UriError> {
        Ok(match self {
            Self::Listen(uri) | Self::Connect(uri) | Self::Site(uri) => {
                format!("'{}'", Uri::clone(uri).with_option(spelling, value)?)
            }
            Self::Hop(hop) => format!("--via '{}'", Via::clone(hop).with_option(spelling, value)?),
        })
    }
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(uri) | Self::Connect(uri) | Self::Site(uri) => uri.fmt(f),
            Self::Hop(hop) => hop.fmt(f),
        }
    }
}
