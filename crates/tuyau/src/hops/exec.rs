//! A program as a hop, like ssh's ProxyCommand.

use tuyau_core::{Context, SharedNet};

use crate::schemes::{BASE, Form, HopWiring, Names, Reach, Scheme, SchemeKind, Wiring};
use crate::{Allow, Uri, UriError};

pub(crate) const HOP: Scheme = Scheme {
    name: "exec",
    what: "a program whose standard streams lead to %h:%p (%% is %): no shell",
    example: "exec:ssh -W %h:%p bastion",
    kind: SchemeKind::Hop,
    feature: Some("exec"),
    available: cfg!(all(unix, feature = "exec")),
    listens: false,
    wants: Allow::EXEC,
    form: Form::Argv,
    reach: Reach::Local,
    names: Names::Program,
    wiring: Wiring::Hop(HopWiring { default_port: |_| 0, net }),
    ..BASE
};

#[cfg(not(unix))]
fn net(_: &Uri, _: Context, _: bool) -> Result<SharedNet, UriError> {
    unreachable!("a scheme that is not available is not parsed")
}

#[cfg(unix)]
fn net(uri: &Uri, outer: Context, _: bool) -> Result<SharedNet, UriError> {
    proxy_command::net(uri, outer)
}

#[cfg(unix)]
mod proxy_command {
    use std::net::IpAddr;
    use std::sync::Arc;

    use tuyau_core::{
        BoxFuture, ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, Listener, Many, Net, Policy,
        SharedNet, Target,
    };
    use tuyau_tokio::{Command, EXEC};

    use crate::uri::Address;
    use crate::{Uri, UriError};

    pub(super) fn net(uri: &Uri, outer: Context) -> Result<SharedNet, UriError> {
        let Address::Argv(argv) = &uri.address else { return Err(uri.unusable("a command is wanted here")) };
        let argv = argv.iter().map(|word| Word::parse(word)).collect::<Result<_, _>>();
        Ok(Arc::new(ProxyCommand {
            argv: argv.map_err(|why| uri.unusable(why))?,
            shown: uri.to_string(),
            outer,
        }))
    }

    /// What one reaches by a program.
    struct ProxyCommand {
        argv: Vec<Word>,
        shown: String,
        outer: Context,
    }

    /// A word of the command, in which the target is to be put.
    struct Word(Vec<Piece>);

    enum Piece {
        Text(String),
        Host,
        Port,
    }

    impl Word {
        fn parse(word: &str) -> Result<Self, &'static str> {
            let mut pieces = Vec::new();
            let mut text = String::new();
            let mut chars = word.chars();
            while let Some(c) = chars.next() {
                let piece = match (c, if c == '%' { chars.next() } else { None }) {
                    ('%', Some('h')) => Piece::Host,
                    ('%', Some('p')) => Piece::Port,
                    ('%', next) if next != Some('%') => {
                        return Err("what follows a % is h (the host), p (the port) or another %");
                    }
                    (c, _) => {
                        text.push(c);
                        continue;
                    }
                };
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(piece);
            }
            if !text.is_empty() || pieces.is_empty() {
                pieces.push(Piece::Text(text));
            }
            Ok(Self(pieces))
        }

        fn expand(&self, host: &str, port: &str) -> String {
            let pieces = self.0.iter().map(|piece| match piece {
                Piece::Text(text) => text,
                Piece::Host => host,
                Piece::Port => port,
            });
            pieces.collect()
        }
    }

    impl ProxyCommand {
        fn command(&self, target: &Target, policy: &Policy) -> Result<Command, ConnectError> {
            let (host, port) = match target {
                Target::Name { host, port } => (host.to_string(), *port),
                Target::Addr(address) => (address.ip().to_string(), address.port()),
                other => return Err(self.unsupported(&format!("connect to `{other}`"))),
            };
            if matches!(target, Target::Name { .. }) {
                policy.check_lookup_by(&host, &self.shown)?;
            }
            // Most programs would take it for an option, some of which run other programs.
            if host.starts_with('-') {
                return Err(ConnectError::new(
                    ConnectErrorKind::Misuse,
                    format!("a host that begins with a hyphen can't go to a program: `{host}`"),
                ));
            }
            let port = port.to_string();
            Ok(Command::argv(self.argv.iter().map(|word| word.expand(&host, &port))))
        }

        fn unsupported(&self, what: &str) -> ConnectError {
            ConnectError::new(ConnectErrorKind::Unsupported, format!("{} can't {what}", self.shown))
                .with_hint("a program is given a host and a port, and connects to them")
        }
    }

    impl Net for ProxyCommand {
        fn describe(&self) -> String {
            self.shown.clone()
        }

        fn connect<'a>(
            &'a self,
            target: &'a Target,
            cx: &'a ConnectCx<'_>,
        ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
            Box::pin(async move {
                let command = self.command(target, cx.policy())?;
                let ctx = self.outer.clone().with(&EXEC, command).offer(&EXEC).only(&EXEC);
                let failed = |error: ConnectError| error.with_what(format!("{} can't be used", self.shown));
                Ok(cx.resolve(&ctx).await.map_err(failed)?.into_flow())
            })
        }

        fn listen<'a>(
            &'a self,
            target: &'a Target,
            _cx: &'a ConnectCx<'_>,
        ) -> BoxFuture<'a, Result<Listener, ConnectError>> {
            Box::pin(async move { Err(self.unsupported(&format!("listen on `{target}`"))) })
        }

        fn lookup<'a>(
            &'a self,
            name: &'a str,
            _policy: &'a Policy,
        ) -> BoxFuture<'a, Result<Many<IpAddr>, ConnectError>> {
            Box::pin(async move { Err(self.unsupported(&format!("look `{name}` up"))) })
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_target_goes_where_it_is_wanted() {
            let word = |text: &str| Word::parse(text).map(|word| word.expand("h", "1"));
            for (text, expanded) in
                [("%h:%p", "h:1"), ("a%%h%h", "a%hh"), ("", ""), ("-W", "-W"), ("%p", "1"), ("é%hé", "éhé")]
            {
                assert_eq!(word(text).as_deref(), Ok(expanded), "{text}");
            }
            for text in ["%", "%x", "a%", "%%%"] {
                assert!(word(text).is_err(), "{text}");
            }
        }
    }
}
