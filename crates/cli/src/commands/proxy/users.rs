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
            let failed =
                |what| Failure::Failed(format!("--user-file {}: line {} {what}", file.display(), index + 1));
            let (user, password) = user(line).ok_or_else(|| failed("is not USER:PASSWORD".into()))?;
            if let Some(kind) = hash(&password) {
                return Err(failed(format!(
                    "has a hash ({kind}) in place of the password, as htpasswd writes it\n  hashes can't be checked \
                     here, and the hash itself would let in: write USER:PASSWORD, where nobody else may read it"
                )));
            }
            users.push((user, password));
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

/// Which kind of hash `password` is, if it is one as htpasswd and crypt(5) write it. One of DES looks like any other word.
fn hash(password: &str) -> Option<&'static str> {
    const KINDS: [(&str, &str); 12] = [
        ("$apr1$", "MD5, $apr1$"),
        ("$1$", "MD5, $1$"),
        ("$2a$", "bcrypt, $2a$"),
        ("$2b$", "bcrypt, $2b$"),
        ("$2y$", "bcrypt, $2y$"),
        ("$5$", "SHA-256, $5$"),
        ("$6$", "SHA-512, $6$"),
        ("$7$", "scrypt, $7$"),
        ("$y$", "yescrypt, $y$"),
        ("$argon2", "Argon2"),
        ("{SHA}", "SHA-1, {SHA}"),
        ("{SSHA}", "SHA-1, {SSHA}"),
    ];
    let (prefix, kind) = KINDS.iter().find(|(prefix, _)| password.starts_with(prefix))?;
    // What only begins like one is a password: salt and hash have a sign between them.
    (prefix.starts_with('{') || password[prefix.len()..].contains('$')).then_some(*kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_told_from_passwords() {
        for (hash_of_x, kind) in [
            ("$apr1$VB9.XoNl$8kQjYKmhGf5h2Lx0DNfIy0", "MD5, $apr1$"),
            ("$2y$05$Gd2QYf5fD3VfWvYYwTQ0JO8eYd3m2c6Xn7h2yA5yT6wX3C2oJ5o8K", "bcrypt, $2y$"),
            ("$5$rounds=5000$abc$Q9vV1Yb2", "SHA-256, $5$"),
            ("$6$abc$Q9vV1Yb2", "SHA-512, $6$"),
            ("$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA", "Argon2"),
            ("{SHA}Ed6yLZWVfJoNhgRdeTzKwK/a/9c=", "SHA-1, {SHA}"),
        ] {
            assert_eq!(hash(hash_of_x), Some(kind));
        }
        for password in ["$5$", "$1$ a day", "$2y", "a$apr1$b$c", "{sha}", "$$$", ""] {
            assert_eq!(hash(password), None, "{password}");
        }
    }
}
