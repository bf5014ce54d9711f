//! The context that everything else lies on: what this program gives to all that it connects and listens on.

use std::time::Duration;

use tuyau::names::{DEADLINE, RUNTIME};
use tuyau::{Context, Uri};

use crate::exit::Failure;
use crate::signals;

/// The default context, in which a signal ends what is being connected; and OpenSSH's configuration of whoever runs this program, if `uri` has a use for it: what
/// is wrong with that is no reason not to connect elsewhere.
pub(crate) fn context(uri: &Uri) -> Result<Context, Failure> {
    let ctx = tuyau::context().with(&RUNTIME, signals::runtime()).with(&DEADLINE, Duration::MAX);
    #[cfg(feature = "ssh")]
    if uri.scheme().name == "ssh" || uri.hops().iter().any(|hop| hop.scheme().name == "ssh") {
        return ssh::configured(ctx);
    }
    #[cfg(not(feature = "ssh"))]
    let _ = uri;
    Ok(ctx)
}

#[cfg(feature = "ssh")]
mod ssh {
    use std::path::{Path, PathBuf};

    use nix::unistd::{Uid, User};
    use tuyau::ssh::{Asker, OpenSsh, Question, Secret};
    use tuyau::{Context, SSH_CONFIG};

    use crate::exit::{Chain, Failure};
    use crate::output::Visible;

    /// With `~/.ssh/config` and `/etc/ssh/ssh_config`, the agent, and questions on the terminal.
    pub(super) fn configured(ctx: Context) -> Result<Context, Failure> {
        let Ok(Some(user)) = User::from_uid(Uid::current()) else { return Ok(ctx) };
        let home = std::env::var_os("HOME").map_or(user.dir, PathBuf::from);
        let agent = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from);
        let failed = |error| Failure::Failed(Chain(&error).to_string());
        let config = OpenSsh::new(&home, user.name, agent)
            .file(&home.join(".ssh/config"))
            .and_then(|config| config.file(Path::new("/etc/ssh/ssh_config")))
            .map_err(failed)?;
        Ok(ctx.with(&SSH_CONFIG, config.ask(Asker::new(ask))))
    }

    /// Asks on the terminal, whatever the standard streams are; nobody answers where there is none.
    async fn ask(question: Question) -> Option<Secret> {
        let prompt = match &question {
            Question::Passphrase { file } => format!("Passphrase of {}: ", file.display()),
            Question::Password { server } => format!("Password of {server}: "),
            Question::Challenge { server, instructions, prompt, echo: _ } => {
                format!("{server}: {instructions}\n{prompt}")
            }
            _ => return None,
        };
        let prompt = prompt.split('\n').map(|line| Visible(line).to_string()).collect::<Vec<_>>().join("\n");
        let asking = tokio::task::spawn_blocking(move || rpassword::prompt_password(prompt));
        asking.await.ok()?.ok().map(Secret::new)
    }
}
