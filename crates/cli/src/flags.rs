//! Flags that are options of a part of the way: of the one part that takes them.

use tuyau::{Uri, Via};

use crate::exit::Failure;

/// The URIs of a command line, in the order of the way.
pub(crate) struct Way<'a> {
    /// Where is listened.
    pub(crate) listen: Option<&'a mut Uri>,
    pub(crate) hops: &'a mut [Via],
    pub(crate) connect: Option<&'a mut Uri>,
}

/// One URI that takes an option, and how that is spelt there.
type Place = (String, Vec<String>);

impl Way<'_> {
    /// Gives `value`, of the flag, to the part that takes the option `name`.
    pub(crate) fn give(&mut self, flag: &str, name: &str, value: Option<&str>) -> Result<(), Failure> {
        let Some(value) = value else { return Ok(()) };
        let places = self.places(name);
        match places.iter().map(|(_, spellings)| spellings.len()).sum() {
            0 => Err(self.unused(flag, name)),
            1 => self.give_all(name, value),
            _ => {
                let spelt = places.iter().flat_map(|(uri, names)| {
                    names.iter().map(move |name| {
                        format!("{uri}{}{name}=…", if uri.contains('?') { '&' } else { '?' })
                    })
                });
                let spelt: Vec<_> = spelt.collect();
                Err(Failure::Usage(format!(
                    "{flag} could mean several parts of the way: write which\n  {}",
                    spelt.join("\n  ")
                )))
            }
        }
    }

    /// Gives `value`, of the flag, to all parts that take the option `name`.
    pub(crate) fn give_each(&mut self, flag: &str, name: &str, value: Option<&str>) -> Result<(), Failure> {
        match value {
            Some(_) if self.places(name).is_empty() => Err(self.unused(flag, name)),
            Some(value) => self.give_all(name, value),
            None => Ok(()),
        }
    }

    fn unused(&self, flag: &str, name: &str) -> Failure {
        let listen = self.listen.as_ref().map(|uri| uri.to_string());
        let hops = self.hops.iter().map(Via::to_string);
        let way: Vec<_> =
            listen.into_iter().chain(hops).chain(self.connect.as_ref().map(|it| it.to_string())).collect();
        Failure::Usage(format!(
            "{flag} has no use with {}: nothing there takes the option `{name}`",
            way.join(", ")
        ))
    }

    fn places(&self, name: &str) -> Vec<Place> {
        let listen = self.listen.as_ref().map(|uri| (uri.to_string(), uri.listen_option_spellings(name)));
        let hops = self.hops.iter().map(|hop| (hop.to_string(), hop.option_spellings(name)));
        let connect = self.connect.as_ref().map(|uri| (uri.to_string(), uri.option_spellings(name)));
        listen.into_iter().chain(hops).chain(connect).filter(|(_, spellings)| !spellings.is_empty()).collect()
    }

    fn give_all(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        if let Some(uri) = &mut self.listen {
            for spelt in uri.listen_option_spellings(name) {
                **uri = uri.clone().with_option(&spelt, value)?;
            }
        }
        for hop in &mut *self.hops {
            for spelt in hop.option_spellings(name) {
                *hop = hop.clone().with_option(&spelt, value)?;
            }
        }
        if let Some(uri) = &mut self.connect {
            for spelt in uri.option_spellings(name) {
                **uri = uri.clone().with_option(&spelt, value)?;
            }
        }
        Ok(())
    }
}
