//! `--via`, `-x` and `-J`: what is gone through, in the order in which it was typed.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use tuyau::{Allow, UriError, Via};

use crate::exit::Failure;

/// The spellings, each with the scheme of what has none: as curl and ssh have them.
const FLAGS: [(&str, &str); 3] = [("via", ""), ("proxy", "http://"), ("jump", "ssh://")];

/// What was typed of the hops, nearest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hops(Vec<Typed>);

/// One value, and the flag that it was given to.
#[derive(Clone, Debug)]
struct Typed {
    flag: &'static str,
    scheme: &'static str,
    value: String,
}

impl Hops {
    /// The hops. (Not while arguments are parsed: what is wrong with a URI is not told as what is wrong with them.)
    pub(crate) fn parse(&self) -> Result<Vec<Via>, Failure> {
        let hops = self.0.iter().flat_map(|typed| split(&typed.value).map(move |hop| (typed, hop)));
        let parsed = hops.map(|(typed, hop)| {
            parse(hop, typed.scheme).map_err(|error| Failure::Usage(format!("--{}: {error}", typed.flag)))
        });
        parsed.collect()
    }
}

impl Args for Hops {
    fn augment_args(command: Command) -> Command {
        let arg =
            |name, help| Arg::new(name).long(name).value_name("URI").action(ArgAction::Append).help(help);
        let heading = Some("Connecting");
        command
            .arg(arg("via", "Go through URI, a proxy or bastion: see `tuyau schemes`. May be given several times, or be \
                several with commas between them: the nearest first. What follows an exec: belongs to it, and in \
                options (?…) only a comma before another hop's scheme parts them")
                .help_heading(heading))
            .arg(arg("proxy", "The same, for a proxy: of HTTP, if there is no scheme. HTTP proxies are gone through by CONNECT, \
                for http URLs too, unlike with curl")
                .short('x')
                .help_heading(heading))
            .arg(arg("jump", "The same, as ssh has it: [user@]host[:port] of an SSH server, if there is no scheme")
                .short('J')
                .help_heading(heading))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Hops {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Vec::new();
        for (flag, scheme) in FLAGS {
            let values = matches.get_many::<String>(flag).into_iter().flatten().cloned();
            let typed = values.map(|value| Typed { flag, scheme, value });
            given.extend(matches.indices_of(flag).into_iter().flatten().zip(typed));
        }
        given.sort_by_key(|(at, _)| *at);
        Ok(Self(given.into_iter().map(|(_, typed)| typed).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The hops of several values, which have schemes.
pub(crate) fn parse_all(values: &[String]) -> Result<Vec<Via>, UriError> {
    values.iter().flat_map(|value| split(value)).map(|hop| parse(hop, "")).collect()
}

/// The hops of one value. A command may have commas of its own, and so may a password and options.
fn split(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        if text.starts_with("exec:") {
            return Some(text);
        }
        let ends = |&(at, _): &(usize, &str)| {
            let (before, after) = (&text[..at], &text[at + 1..]);
            !in_password(before, after) && (!before.contains('?') || has_scheme(after))
        };
        match text.match_indices(',').find(ends) {
            Some((at, _)) => {
                rest = Some(&text[at + 1..]);
                Some(&text[..at])
            }
            None => Some(text),
        }
    })
}

/// Whether the comma between these is part of a password: one has begun (`user:`, and not a port), and what
/// follows ends it before another hop begins.
fn in_password(before: &str, after: &str) -> bool {
    let authority = before.split_once("://").map_or(before, |(_, authority)| authority);
    let begun = !authority.contains(['@', '/', '?']) && authority.contains(':') && !rest_is_port(authority);
    let end = after.find(['@', '/', '?']).filter(|end| after[*end..].starts_with('@'));
    begun && end.is_some_and(|end| !after[..end].contains("://"))
}

/// What the user typed, to whom everything is allowed.
fn parse(hop: &str, default: &str) -> Result<Via, UriError> {
    let bare = !hop.contains("://") && (!has_scheme(hop) || rest_is_port(hop));
    let text = if bare && !hop.is_empty() { format!("{default}{hop}") } else { hop.into() };
    Ok(tuyau::via(&text)?.allow(Allow::ALL))
}

/// Whether `hop` begins with the name of one.
fn has_scheme(hop: &str) -> bool {
    let mut names = tuyau::hops().iter().map(|known| known.name);
    names.any(|name| hop.strip_prefix(name).is_some_and(|rest| rest.starts_with([':', '+'])))
}

/// Whether it is `host:port`: a host may be called as a scheme is.
fn rest_is_port(hop: &str) -> bool {
    hop.split_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hops(args: &[&str]) -> Result<Vec<String>, String> {
        let command = Hops::augment_args(Command::new("x").no_binary_name(true));
        let matches = command.try_get_matches_from(args).map_err(|error| error.to_string())?;
        let typed = Hops::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        let hops = typed.parse().map_err(|failure| failure.message().unwrap_or_default().to_owned())?;
        Ok(hops.iter().map(Via::to_string).collect())
    }

    #[test]
    fn a_command_keeps_its_commas() {
        assert_eq!(split("a,b,exec:c,d").collect::<Vec<_>>(), ["a", "b", "exec:c,d"]);
        assert_eq!(split("a,").collect::<Vec<_>>(), ["a", ""]);
        assert_eq!(hops(&["--via", "exec:nc -o a,b %h %p"]).unwrap(), ["exec:nc -o a,b %h %p"]);
    }

    #[test]
    fn a_password_keeps_its_commas() {
        for (value, hops) in [
            ("socks5h://bob:correct,horse@h:1", &["socks5h://bob:correct,horse@h:1"][..]),
            ("http://a:b,c,d@h,ssh://e@i", &["http://a:b,c,d@h", "ssh://e@i"]),
            ("socks5h://h:1080,ssh://ops@i", &["socks5h://h:1080", "ssh://ops@i"]),
            ("h:22,ops@i", &["h:22", "ops@i"]),
            ("a@h,b@i", &["a@h", "b@i"]),
        ] {
            assert_eq!(split(value).collect::<Vec<_>>(), hops, "{value}");
        }
        let error = hops(&["--via", "socks5h://bob:correct,horse@h:port"]).unwrap_err();
        assert!(!error.contains("correct") && !error.contains("horse"), "{error}");
    }

    #[test]
    fn options_keep_their_commas() {
        for (value, hops) in [
            ("tap:tap0?addr=10.0.0.2/24,fd09::2/64", &["tap:tap0?addr=10.0.0.2/24,fd09::2/64"][..]),
            (
                "tap:?addr=10.0.0.2/24,fd09::2/64,ssh://a@b,c",
                &["tap:?addr=10.0.0.2/24,fd09::2/64", "ssh://a@b", "c"],
            ),
            ("ssh://a?identity=x,y,exec:nc %h,%p", &["ssh://a?identity=x,y", "exec:nc %h,%p"]),
            ("a,b?identity=x,y", &["a", "b?identity=x,y"]),
        ] {
            assert_eq!(split(value).collect::<Vec<_>>(), hops, "{value}");
        }
    }

    #[test]
    fn what_is_no_hop_is_an_error() {
        for bad in ["", "tcp://h:1", "bastion", ",", "exec:"] {
            assert!(hops(&["--via", bad]).is_err(), "{bad}");
        }
    }
}
