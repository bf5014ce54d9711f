//! The context that a command connects in, from the options that say how.

use std::time::Duration;

use tuyau::names::DEADLINE;
use tuyau::{Allow, Context, Uri};

use crate::cli::Global;
use crate::exit::Failure;
use crate::overrides::{Family, Pinned, with_family, with_pinned};

/// How to connect, whatever the URI.
#[derive(Debug)]
pub(crate) struct Route {
    family: Option<Family>,
    pinned: Vec<Pinned>,
    timeout: Option<Duration>,
}

impl Route {
    pub(crate) fn of(global: &Global) -> Self {
        let family = match global {
            Global { ipv4: true, .. } => Some(Family::V4),
            Global { ipv6: true, .. } => Some(Family::V6),
            _ => None,
        };
        Self { family, pinned: global.resolve.clone(), timeout: global.connect_timeout }
    }

    /// The context for `uri`, whose port is `default_port` if it has none. An option that `uri` has no use
    /// for is an error.
    pub(crate) fn context(&self, uri: &Uri, default_port: Option<u16>) -> Result<Context, Failure> {
        let Self { family, pinned, timeout } = self;
        let mut ctx = tuyau::context();
        if let Some(timeout) = timeout {
            ctx = ctx.with(&DEADLINE, *timeout);
        }
        let unused = |option: &str| {
            Failure::Usage(format!("{option} has no use with {uri}: nothing on the way has an IP address"))
        };
        let host = uri.host();
        if let Some(family) = *family {
            if host.is_none() {
                return Err(unused(family.option()));
            }
            ctx = with_family(ctx, family);
        }
        if !pinned.is_empty() {
            let host = host.ok_or_else(|| unused("--resolve"))?;
            if let Some(port) = uri.port().or(default_port)
                && !pinned.iter().any(|pinned| pinned.fits(&host, port))
            {
                return Err(Failure::Usage(format!(
                    "--resolve has no use with {uri}: none is about {host}:{port}"
                )));
            }
            ctx = with_pinned(ctx, pinned.clone(), *family);
        }
        Ok(ctx)
    }

    /// For a command that does not connect: any option of this kind is an error.
    pub(crate) fn refuse(&self, command: &str) -> Result<(), Failure> {
        let Self { family, pinned, timeout } = self;
        let option = match (family, timeout) {
            (Some(family), _) => family.option(),
            (_, Some(_)) => "--connect-timeout",
            _ if !pinned.is_empty() => "--resolve",
            _ => return Ok(()),
        };
        Err(Failure::Usage(format!(
            "{option} has no use with `{command}`, which connects to nothing that is given"
        )))
    }
}

/// A URI that the user typed, to whom everything is allowed.
pub(crate) fn typed(uri: &str) -> Result<Uri, Failure> {
    Ok(tuyau::uri(uri)?.allow(Allow::ALL))
}
