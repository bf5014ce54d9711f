//! SSH servers: as a hop, and to run a command on.

use crate::Allow;
use crate::schemes::{BASE, Form, HopWiring, Reach, Scheme, SchemeKind, Wiring};

pub(crate) const HOP: Scheme = Scheme {
    name: "ssh",
    what: "an SSH server, which connects, listens, and looks names up",
    example: "ssh://ops@bastion",
    kind: SchemeKind::Hop,
    feature: Some("ssh"),
    available: cfg!(feature = "ssh"),
    network: true,
    form: Form::Authority,
    user: true,
    reach: Reach::Ssh,
    own_options: wired::OPTIONS,
    wiring: Wiring::Hop(HopWiring { default_port: |_| 22, net: wired::net }),
    ..BASE
};

pub(crate) const TARGET: Scheme = Scheme {
    what: "a command on an SSH server: its standard streams",
    example: "ssh://ops@bastion?exec=cat",
    kind: SchemeKind::Transport,
    listens: false,
    wants: Allow::EXEC,
    routed: true,
    own_options: wired::TARGET_OPTIONS,
    wiring: Wiring::Transport,
    ..HOP
};

#[cfg(not(feature = "ssh"))]
mod wired {
    pub(super) use crate::hops::absent as net;

    pub(super) const OPTIONS: &[crate::OptionInfo] = &[];
    pub(super) const TARGET_OPTIONS: &[crate::OptionInfo] = &[];
}

#[cfg(feature = "ssh")]
pub(crate) mod wired {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    use tuyau_core::names::{HOST, NET, POLICY, PORT};
    use tuyau_core::{AnyEndpoint, ConnectCx, Context, Hop, Key, SharedNet};
    use tuyau_ssh::{
        Asker, HostKeys, Identity, Keepalive, OpenSsh, SSH_COMMAND, SSH_EXEC, Secret, Ssh, SshCommand,
        SshHop, Step,
    };
    use tuyau_tokio::TCP;

    use crate::uri::{OPTION, duration, file};
    use crate::{Allow, OptionInfo, Uri, UriError};

    /// What OpenSSH's configuration says about servers: read by the program, and bound in the context that
    /// hops are applied to. Without one, a server is known by what its URI says.
    pub static SSH_CONFIG: Key<OpenSsh> = Key::new("ssh-config");

    static IDENTITY: Key<PathBuf> = Key::new("ssh-identity");
    static KNOWN_HOSTS: Key<PathBuf> = Key::new("ssh-known-hosts");
    static KEEPALIVE: Key<Duration> = Key::new("ssh-keepalive");
    static COMMAND: Key<Arc<str>> = Key::new("ssh-exec-line");

    const FILE: OptionInfo = OptionInfo { layer: Some("ssh"), listens: true, wants: Allow::FILES, ..OPTION };
    const IDENTITY_OPTION: OptionInfo = OptionInfo {
        name: "identity",
        what: "the private key to log in by: a file; by default the agent and those of ~/.ssh, where the program \
               reads that",
        example: "/etc/app/id_ed25519",
        bind: |ctx, value| Ok(ctx.with(&IDENTITY, file(value)?)),
        ..FILE
    };
    const KNOWN_HOSTS_OPTION: OptionInfo = OptionInfo {
        name: "known-hosts",
        what: "the host keys to trust: a file; by default those of OpenSSH, where the program reads them",
        example: "/etc/app/known_hosts",
        bind: |ctx, value| Ok(ctx.with(&KNOWN_HOSTS, file(value)?)),
        ..FILE
    };
    const KEEPALIVE_OPTION: OptionInfo = OptionInfo {
        name: "alive-interval",
        what: "after how long a silence the server is asked whether it is there; never by default",
        example: "15s",
        wants: Allow::NOTHING,
        bind: |ctx, value| Ok(ctx.with(&KEEPALIVE, duration(value)?)),
        ..FILE
    };

    pub(super) const OPTIONS: &[OptionInfo] = &[IDENTITY_OPTION, KNOWN_HOSTS_OPTION, KEEPALIVE_OPTION];
    pub(super) const TARGET_OPTIONS: &[OptionInfo] = &[
        OptionInfo {
            name: "exec",
            what: "the command, a line for the shell of the user; there is no default",
            example: "cat",
            wants: Allow::NOTHING,
            listens: false,
            bind: |ctx, value| match value {
                "" => Err("a command"),
                line => Ok(ctx.with(&COMMAND, line.into())),
            },
            ..FILE
        },
        IDENTITY_OPTION,
        KNOWN_HOSTS_OPTION,
        KEEPALIVE_OPTION,
    ];

    pub(super) fn net(uri: &Uri, outer: Context, first: bool) -> Result<SharedNet, UriError> {
        let (hop, outer) = server(uri, outer, first)?;
        Ok(Box::new(hop).over(outer))
    }

    /// What runs the command of `uri`; `outer` is what the server is dialled in.
    pub(crate) fn target(
        uri: &Uri,
        ctx: Context,
        first: bool,
    ) -> Result<(Context, &'static dyn AnyEndpoint), UriError> {
        let Some(command) = plain(&ctx, &COMMAND) else {
            return Err(uri.unusable("the command is missing: ssh://host?exec=COMMAND"));
        };
        let port = uri.port().unwrap_or(22);
        // As for a hop: the policy comes with the resolution, as far as it is for what lies below SSH.
        let outer = ctx.clone().without(&POLICY).with(&PORT, port).offer(&TCP).only(&TCP);
        let (hop, outer) = server(uri, outer, first)?;
        let ctx = tuyau_ssh::exec(ctx.with(&SSH_COMMAND, SshCommand::line(command)), Ssh::new(hop, outer));
        Ok((ctx, &SSH_EXEC))
    }

    /// The server, and the context that it is dialled in. If it is the `first` hop, the configuration may know
    /// a way to it; else the hops before it are the way.
    fn server(uri: &Uri, outer: Context, first: bool) -> Result<(SshHop, Context), UriError> {
        let host = uri.host().unwrap_or_default();
        let user = uri.user.as_ref().map(|(user, _)| user);
        let (hop, outer) = match plain(&outer, &SSH_CONFIG) {
            Some(config) => {
                let way = config.route(user.map(|user| user.name.as_str()), &host, uri.port());
                let mut way = way.map_err(|error| uri.refused(&error))?;
                if !first {
                    way.drain(..way.len().saturating_sub(1));
                }
                along(uri, way, outer)?
            }
            None => match user {
                Some(user) => (SshHop::new(user.name.as_str()), outer),
                None => return Err(uri.unusable("the user is missing: ssh://user@host")),
            },
        };
        Ok((settings(uri, hop, &outer), outer))
    }

    /// Goes all of `way` but the last step.
    fn along(uri: &Uri, way: Vec<Step>, outer: Context) -> Result<(SshHop, Context), UriError> {
        let mut outer = outer;
        let mut last: Option<SshHop> = None;
        for step in way {
            if let Some(hop) = last.take() {
                let net = Box::new(hop).over(outer.clone());
                outer = outer.replace(&NET, net);
            }
            match step {
                #[cfg(all(unix, feature = "exec"))]
                Step::Command(line) => {
                    use tuyau_tokio::{Command, EXEC};
                    outer = outer.with(&EXEC, Command::shell(line)).offer(&EXEC).only(&EXEC);
                }
                Step::Server { host, port, hop } => {
                    outer = outer.with(&HOST, host.into()).with(&PORT, port);
                    last = Some(*hop);
                }
                _ => {
                    return Err(
                        uri.unusable("this build can't go the way that the configuration of ssh says")
                    );
                }
            }
        }
        match last {
            Some(hop) => Ok((hop, outer)),
            None => Err(uri.unusable("the configuration of ssh knows no way there")),
        }
    }

    /// What the URI says besides the configuration.
    fn settings(uri: &Uri, mut hop: SshHop, ctx: &Context) -> SshHop {
        if let Some(file) = plain(ctx, &IDENTITY) {
            hop = hop.identity(Identity::file(file));
        }
        if let Some(file) = plain(ctx, &KNOWN_HOSTS) {
            hop = hop.host_keys(HostKeys::files([file]));
        }
        if let Some(interval) = plain(ctx, &KEEPALIVE) {
            hop = hop.keepalive(Keepalive { interval, count: 3 });
        }
        if let Some(password) = uri.user.as_ref().and_then(|(user, _)| user.password.clone()) {
            hop = hop.ask(Asker::password(Secret::new(password)));
        }
        hop
    }

    fn plain<T: Clone + 'static>(ctx: &Context, key: &'static Key<T>) -> Option<T> {
        ConnectCx::new(ctx).and_then(|cx| cx.get(key)).ok().flatten()
    }
}
