//! Who is let in.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::exit::Failure;

/// A user name and password as they were typed, which are never shown.
#[derive(Clone)]
pub(super) struct Secret(String);

impl FromStr for Secret {
    type Err = Infallible;

    /// Whether it is one is asked later, since this error would show it.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The users, with their passwords.
pub(super) fn of(file: Option<&Path>, typed: &[Secret]) -> Result<Vec<(String, String)>, Failure> {
    let mut users = Vec::new();
    for Secret(text) in typed {
        users.push(user(text).ok_or_else(|| Failure::Usage("--auth is to be USER:PASSWORD".into()))?);
    }
    if let Some(file) = file {
        let failed = |error| Failure::Failed(format!("--user-file {}: {error}", file.display()));
        let text = std::fs::read_to_string(file).map_err(failed)?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        for (index, line) in lines {
            users.push(user(line).ok_or_else(|| {
                let file = file.display();
                Failure::Failed(format!("--user-file {file}: line {} is not USER:PASSWORD", index + 1))
            })?);
        }
        if users.is_empty() {
            return Err(Failure::Failed(format!("--user-file {} has no user", file.display())));
        }
    }
    Ok(users)
}

fn user(text: &str) -> Option<(String, String)> {
    let (user, password) = text.split_once(':')?;
    (!user.is_empty()).then(|| (user.into(), password.into()))
}
