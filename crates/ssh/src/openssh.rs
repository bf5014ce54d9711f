//! What OpenSSH's configuration says about a server.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ssh2_config::{HostParams, ParseRule, SshConfig};

use crate::clauses::{ConfigFile, Counted, Places};
use crate::conditions::{self, Subject, hold};
use crate::config::{Asker, HostKeys, Identity, Keepalive, Methods, SshHop};

/// How many hops may lead to a server, each by the configuration of the one behind it.
const DEPTH: usize = 8;

/// Keywords that change neither the way to a server nor what is trusted: what they are about does not
/// happen here (terminals, forwardings of a session, logs, shared connections of OpenSSH's own).
const WITHOUT_EFFECT: &[&str] = &[
    "addkeystoagent",
    "canonicaldomains",
    "canonicalizefallbacklocal",
    "canonicalizefallbacklock",
    "canonicalizemaxdots",
    "canonicalizepermittedcnames",
    "checkhostip",
    "clearallforwardings",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "dynamicforward",
    "enableescapecommandline",
    "enablesshkeysign",
    "escapechar",
    "exitonforwardfailure",
    "fingerprinthash",
    "forkafterauthentication",
    "forwardx11",
    "forwardx11timeout",
    "forwardx11trusted",
    "gatewayports",
    "gssapiauthentication",
    "gssapidelegatecredentials",
    "hashknownhosts",
    "hostbasedacceptedalgorithms",
    "hostbasedauthentication",
    "hostbasedkeytypes",
    "ipqos",
    "kbdinteractivedevices",
    "localcommand",
    "localforward",
    "loglevel",
    "logverbose",
    "numberofpasswordprompts",
    "obscurekeystroketiming",
    "permitlocalcommand",
    "permitremoteopen",
    "rekeylimit",
    "requesttty",
    "sendenv",
    "sessiontype",
    "setenv",
    "stdinnull",
    "streamlocalbindmask",
    "streamlocalbindunlink",
    "syslogfacility",
    "updatehostkeys",
    "visualhostkey",
    "warnweakcrypto",
    "xauthlocation",
];

/// Keywords that are understood below.
const UNDERSTOOD: &[&str] = &[
    "batchmode",
    "globalknownhostsfile",
    "hostkeyalias",
    "identitiesonly",
    "identityagent",
    "kbdinteractiveauthentication",
    "passwordauthentication",
    "proxycommand",
    "serveralivecountmax",
    "stricthostkeychecking",
    "userknownhostsfile",
];

/// Keywords that say nothing if they have this value.
const DEFAULTS: &[(&str, &str)] = &[
    ("addressfamily", "any"),
    ("canonicalizehostname", "no"),
    ("nohostauthenticationforlocalhost", "no"),
    ("proxyusefdpass", "no"),
    ("verifyhostkeydns", "no"),
];

/// OpenSSH's configuration (ssh_config(5)), read when the program asks for it.
///
/// Understood are `Host`, `Include`, HostName, Port, User, IdentityFile, CertificateFile, IdentitiesOnly,
/// IdentityAgent, ProxyJump, ProxyCommand, UserKnownHostsFile, GlobalKnownHostsFile, HostKeyAlias,
/// StrictHostKeyChecking, ServerAliveInterval, ServerAliveCountMax, ConnectTimeout, BatchMode and the
/// switches of the authentication methods; and `Match` by `all`, `host`, `originalhost`, `user`, `localuser` and
/// `final`. Any other keyword that would change the way to a server or what is trusted is an error that names it, as
/// is another criterion that decides whether a `Match` holds (`exec`). Relative `Include`s are looked for in `~/.ssh`,
/// and those of a file in `/etc/ssh` there.
#[derive(Clone)]
pub struct OpenSsh {
    home: PathBuf,
    user: String,
    agent: Option<PathBuf>,
    asker: Option<Asker>,
    unchecked: bool,
    files: Vec<ConfigFile>,
}

/// A step on the way to a server; see [`OpenSsh::route`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// A line for the shell: its standard input and output lead on (`ProxyCommand`). Always the first.
    Command(String),
    /// An SSH server.
    Server {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
        /// How to log in.
        hop: Box<SshHop>,
    },
}

/// What is wrong with a configuration.
#[derive(Debug)]
pub struct ConfigError {
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ConfigError {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    pub(crate) fn reading(file: &Path, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what: format!("read {}", file.display()), source: Some(source.into()) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl OpenSsh {
    /// Nothing yet: with OpenSSH's defaults, for the user `user` of this machine, whose directory is
    /// `home`, and who has the agent behind `agent` (`$SSH_AUTH_SOCK`), if any.
    pub fn new(home: impl Into<PathBuf>, user: impl Into<String>, agent: Option<PathBuf>) -> Self {
        Self { home: home.into(), user: user.into(), agent, asker: None, unchecked: false, files: Vec::new() }
    }

    /// Reads `file`; what an earlier one says wins. (OpenSSH reads `~/.ssh/config`, then
    /// `/etc/ssh/ssh_config`.) One that does not exist is empty.
    ///
    /// # Errors
    /// If it can't be read, or not be understood: the error names the file.
    pub fn file(mut self, file: &Path) -> Result<Self, ConfigError> {
        let system = Path::new("/etc/ssh");
        let includes = if file.starts_with(system) { system.to_owned() } else { self.home.join(".ssh") };
        let places = Places { home: &self.home, includes };
        let Some(read) = ConfigFile::read(file, &places)? else { return Ok(self) };
        // Whoever is asked about, it must be readable.
        self.parse(&read.whole()).map_err(|error| ConfigError::reading(file, error))?;
        self.files.push(read);
        Ok(self)
    }

    fn parse(&self, text: &str) -> Result<SshConfig, ssh2_config::SshParserError> {
        let rules = ParseRule::ALLOW_UNKNOWN_FIELDS | ParseRule::ALLOW_UNSUPPORTED_FIELDS;
        SshConfig::default().home_dir(&self.home).parse(&mut text.as_bytes(), rules)
    }

    /// What the lines that count say.
    fn said(&self, counted: &Counted) -> Result<HostParams, ConfigError> {
        let config = self.parse(&counted.text);
        // Which is not at fault any more: each line was parsed before.
        Ok(config.map_err(|error| ConfigError::reading(&self.home.join(".ssh/config"), error))?.query("host"))
    }

    /// What the files say of a server.
    fn params(&self, wanted: Wanted<'_>) -> Result<HostParams, ConfigError> {
        let mut counted = Counted::default();
        let wants_last_pass = self.count(&mut counted, wanted, None)?;
        let mut params = self.said(&counted)?;
        if wants_last_pass {
            let name = params.host_name.as_deref().map(|name| name.replace("%h", wanted.host));
            let name = name.unwrap_or_else(|| wanted.host.to_owned());
            counted.settle("hostname");
            self.count(&mut counted, wanted, Some(&name))?;
            params = self.said(&counted)?;
            params.host_name = Some(name);
        }
        if let Some(files) = &mut params.identity_file {
            let mut seen = Vec::new();
            files.retain(|file| {
                !seen.contains(file) && {
                    seen.push(file.clone());
                    true
                }
            });
        }
        Ok(params)
    }

    /// Adds the lines that count for the server, in the last pass as `renamed`. Whether one wants that pass.
    fn count(
        &self,
        counted: &mut Counted,
        wanted: Wanted<'_>,
        renamed: Option<&str>,
    ) -> Result<bool, ConfigError> {
        let host = renamed.unwrap_or(wanted.host);
        let mut wants_last_pass = false;
        for file in &self.files {
            file.count(host, counted, &mut |it, before| {
                wants_last_pass |= conditions::wants_last_pass(it.conditions);
                if it.moot {
                    return Ok(false);
                }
                let known = self.said(before)?;
                let known_host = match renamed {
                    Some(renamed) => Some(renamed.to_owned()),
                    None => known.host_name.as_deref().map(|name| name.replace("%h", wanted.host)),
                };
                let subject = Subject {
                    original: wanted.host,
                    host: known_host.as_deref().unwrap_or(host),
                    user: wanted.user.or(known.user.as_deref()).unwrap_or(&self.user),
                    local_user: &self.user,
                    last_pass: renamed.is_some(),
                };
                hold(it.conditions, &subject).map_err(|bad| {
                    let place = format!("{}:{}", it.path.display(), it.line);
                    ConfigError::new(format!("{place}: for {}: {bad}", wanted.host))
                })
            })?;
        }
        Ok(wants_last_pass)
    }

    /// Who is asked for passphrases and passwords, unless `BatchMode` forbids it.
    pub fn ask(mut self, asker: Asker) -> Self {
        self.asker = Some(asker);
        self
    }

    /// Obeys `StrictHostKeyChecking no`, and so trusts whoever answers; else that is an error.
    pub fn dangerous_obey_no_checking(mut self) -> Self {
        self.unchecked = true;
        self
    }

    /// The way to `host`, nearest first; the last step is the server itself. What is given here wins over
    /// what the files say.
    ///
    /// # Errors
    /// If the files say what can't be done here: the error names the keyword.
    pub fn route(&self, user: Option<&str>, host: &str, port: Option<u16>) -> Result<Vec<Step>, ConfigError> {
        let mut steps = Vec::new();
        self.lead_to(Wanted { user, host, port }, &mut Vec::new(), &mut steps)?;
        Ok(steps)
    }

    fn lead_to(
        &self,
        wanted: Wanted<'_>,
        behind: &mut Vec<String>,
        steps: &mut Vec<Step>,
    ) -> Result<(), ConfigError> {
        if behind.iter().any(|host| host == wanted.host) || behind.len() == DEPTH {
            let way = behind.join(" by way of ");
            return Err(ConfigError::new(format!(
                "`ProxyJump`: the way to {way} by way of {} never begins",
                wanted.host
            )));
        }
        let server = Server::new(self, wanted)?;
        let jumps = server.params.proxy_jump.clone().unwrap_or_default();
        let command = server.value("proxycommand");
        if jumps.iter().any(|jump| !jump.eq_ignore_ascii_case("none")) {
            behind.push(wanted.host.to_owned());
            for (i, jump) in jumps.iter().enumerate() {
                let jump = Wanted::parse(jump)?;
                if i == 0 {
                    self.lead_to(jump, behind, steps)?;
                } else {
                    // The jump before it is its way, whatever else is said of it.
                    steps.push(Server::new(self, jump)?.step()?);
                }
            }
            behind.pop();
        } else if let Some(command) = command.filter(|command| !command.eq_ignore_ascii_case("none")) {
            steps.push(Step::Command(server.expand("ProxyCommand", &command)?));
        }
        steps.push(server.step()?);
        Ok(())
    }
}

impl fmt::Debug for OpenSsh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSsh").field("home", &self.home).field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Wanted<'a> {
    user: Option<&'a str>,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Wanted<'a> {
    /// `[user@]host[:port]`, or a URI.
    fn parse(jump: &'a str) -> Result<Self, ConfigError> {
        let bad = || ConfigError::new(format!("`ProxyJump {jump}` is not [user@]host[:port]"));
        let rest = jump.strip_prefix("ssh://").unwrap_or(jump).trim_end_matches('/');
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(bad)?;
                (host, port.strip_prefix(':'))
            }
            None => match rest.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (rest, None),
            },
        };
        let port = port.map(str::parse).transpose().map_err(|_| bad())?;
        if host.is_empty() { Err(bad()) } else { Ok(Self { user, host, port }) }
    }
}

/// One server, and what is said of it.
struct Server<'a> {
    all: &'a OpenSsh,
    asked: &'a str,
    host: String,
    port: u16,
    user: String,
    params: HostParams,
}

impl<'a> Server<'a> {
    fn new(all: &'a OpenSsh, wanted: Wanted<'a>) -> Result<Self, ConfigError> {
        let params = all.params(wanted)?;
        refuse_the_unsupported(wanted.host, &params)?;
        let port = wanted.port.or(params.port).unwrap_or(22);
        let user = wanted.user.map(str::to_owned).or_else(|| params.user.clone());
        let user = user.unwrap_or_else(|| all.user.clone());
        let host = wanted.host.to_owned();
        let mut server = Self { all, asked: wanted.host, host, port, user, params };
        if let Some(name) = server.params.host_name.clone() {
            server.host = server.expand("HostName", &name)?;
        }
        Ok(server)
    }

    fn words(&self, keyword: &str) -> Option<Vec<String>> {
        let unquoted = |word: &String| word.trim_matches('"').to_owned();
        self.params.unsupported_fields.get(keyword).map(|words| words.iter().map(unquoted).collect())
    }

    fn value(&self, keyword: &str) -> Option<String> {
        // Commands are one line, whose words the parser split.
        self.params.unsupported_fields.get(keyword).map(|words| words.join(" "))
    }

    fn says(&self, keyword: &str, default: bool) -> Result<bool, ConfigError> {
        match self.value(keyword).map(|value| value.to_ascii_lowercase()).as_deref() {
            None => Ok(default),
            Some("yes" | "true") => Ok(true),
            Some("no" | "false") => Ok(false),
            Some(other) => Err(ConfigError::new(format!("`{keyword} {other}`: yes or no is needed"))),
        }
    }

    fn number(&self, keyword: &str) -> Result<Option<usize>, ConfigError> {
        let bad = |value: &str| ConfigError::new(format!("`{keyword} {value}`: a number is needed"));
        self.value(keyword).map(|value| value.parse().map_err(|_| bad(&value))).transpose()
    }

    /// With `%` tokens replaced (ssh_config(5), "TOKENS").
    fn expand(&self, keyword: &str, text: &str) -> Result<String, ConfigError> {
        let mut expanded = String::new();
        let mut characters = text.chars();
        while let Some(c) = characters.next() {
            if c != '%' {
                expanded.push(c);
                continue;
            }
            match characters.next() {
                Some('%') => expanded.push('%'),
                Some('h') => expanded += &self.host,
                Some('n') => expanded += self.asked,
                Some('k') => expanded += &self.value("hostkeyalias").unwrap_or_else(|| self.asked.to_owned()),
                Some('p') => expanded += &self.port.to_string(),
                Some('r') => expanded += &self.user,
                Some('u') => expanded += &self.all.user,
                Some('d') => expanded += &self.all.home.to_string_lossy(),
                token => {
                    let token = token.map(String::from).unwrap_or_default();
                    return Err(ConfigError::new(format!(
                        "`{keyword} {text}` for {}: the token `%{token}` is not supported",
                        self.asked
                    )));
                }
            }
        }
        Ok(expanded)
    }

    fn path(&self, keyword: &str, path: &str) -> Result<PathBuf, ConfigError> {
        if path.contains("${") {
            return Err(ConfigError::new(format!(
                "`{keyword} {path}` for {}: variables of the environment are not supported",
                self.asked
            )));
        }
        let path = self.expand(keyword, path)?;
        Ok(match path.strip_prefix("~/") {
            Some(rest) => self.all.home.join(rest),
            None => PathBuf::from(path),
        })
    }

    fn step(self) -> Result<Step, ConfigError> {
        let mut hop = SshHop::new(self.user.clone()).host_keys(self.host_keys()?);
        hop.host_key_alias = self.value("hostkeyalias").map(Into::into);
        hop.agent = self.agent()?;
        hop.identities = self.identities()?;
        hop.identities_only = self.says("identitiesonly", false)?;
        if !self.says("batchmode", false)? {
            hop.asker = self.all.asker.clone();
        }
        hop.methods = Methods {
            public_key: self.params.pubkey_authentication.unwrap_or(true),
            keyboard_interactive: self.says("kbdinteractiveauthentication", true)?,
            password: self.says("passwordauthentication", true)?,
        };
        let count = self.number("serveralivecountmax")?.unwrap_or(3);
        hop.keepalive = self
            .params
            .server_alive_interval
            .filter(|interval| !interval.is_zero())
            .map(|interval| Keepalive { interval, count });
        hop.connect_timeout = self.params.connect_timeout.filter(|timeout| *timeout > Duration::ZERO);
        Ok(Step::Server { host: self.host, port: self.port, hop: Box::new(hop) })
    }

    fn host_keys(&self) -> Result<HostKeys, ConfigError> {
        let home = |name: &str| format!("~/.ssh/{name}");
        let users = self.words("userknownhostsfile");
        let users = users.unwrap_or_else(|| vec![home("known_hosts"), home("known_hosts2")]);
        let global = self
            .words("globalknownhostsfile")
            .unwrap_or_else(|| vec!["/etc/ssh/ssh_known_hosts".into(), "/etc/ssh/ssh_known_hosts2".into()]);
        let files = users
            .iter()
            .chain(&global)
            .filter(|file| !file.eq_ignore_ascii_case("none"))
            .map(|file| self.path("UserKnownHostsFile", file))
            .collect::<Result<Vec<_>, _>>()?;
        let files = HostKeys::files(files);
        match self.value("stricthostkeychecking").map(|value| value.to_ascii_lowercase()).as_deref() {
            None | Some("yes" | "true" | "ask") => Ok(files),
            Some("accept-new") => Ok(files.accept_new()),
            Some("no" | "off" | "false") if self.all.unchecked => Ok(HostKeys::dangerous_accept_any()),
            Some("no" | "off" | "false") => Err(ConfigError::new(format!(
                "`StrictHostKeyChecking no` for {}: that trusts whoever answers; `accept-new` trusts the first answer only",
                self.asked
            ))),
            Some(other) => Err(ConfigError::new(format!("`StrictHostKeyChecking {other}` is not known"))),
        }
    }

    fn agent(&self) -> Result<Option<PathBuf>, ConfigError> {
        match self.value("identityagent").as_deref() {
            None | Some("SSH_AUTH_SOCK" | "$SSH_AUTH_SOCK") => Ok(self.all.agent.clone()),
            Some("none") => Ok(None),
            Some(variable) if variable.starts_with('$') => Err(ConfigError::new(format!(
                "`IdentityAgent {variable}` for {}: of the variables only SSH_AUTH_SOCK is supported",
                self.asked
            ))),
            Some(path) => self.path("IdentityAgent", path.trim_matches('"')).map(Some),
        }
    }

    fn identities(&self) -> Result<Vec<Identity>, ConfigError> {
        let Some(files) = &self.params.identity_file else {
            let defaults = ["id_rsa", "id_ecdsa", "id_ed25519"];
            let file = |name| Identity::file(self.all.home.join(".ssh").join(name)).if_exists();
            return Ok(defaults.into_iter().map(file).collect());
        };
        let mut identities = Vec::new();
        for file in files.iter().filter(|file| !file.as_os_str().eq_ignore_ascii_case("none")) {
            identities.push(Identity::file(self.path("IdentityFile", &file.to_string_lossy())?));
        }
        if let Some(certificate) = &self.params.certificate_file {
            let certificate = self.path("CertificateFile", &certificate.to_string_lossy())?;
            match identities.as_mut_slice() {
                [only] => *only = only.clone().certificate(certificate),
                _ => {
                    return Err(ConfigError::new(format!(
                        "`CertificateFile` for {}: it needs exactly one `IdentityFile` that it belongs to",
                        self.asked
                    )));
                }
            }
        }
        Ok(identities)
    }
}

/// Whatever changes the way or the trust, and is not understood.
fn refuse_the_unsupported(host: &str, params: &HostParams) -> Result<(), ConfigError> {
    let refuse = |keyword: &str| {
        Err(ConfigError::new(format!(
            "`{keyword}` for {host} is not supported, and would change the way or the trust"
        )))
    };
    for (keyword, words) in params.unsupported_fields.iter().chain(&params.ignored_fields) {
        let keyword = keyword.to_ascii_lowercase();
        let value = words.join(" ").to_ascii_lowercase();
        let known = WITHOUT_EFFECT.contains(&&*keyword)
            || UNDERSTOOD.contains(&&*keyword)
            || DEFAULTS.contains(&(&*keyword, &*value));
        if !known {
            return refuse(&keyword);
        }
    }
    let algorithms = [
        ("CASignatureAlgorithms", &params.ca_signature_algorithms),
        ("Ciphers", &params.ciphers),
        ("HostKeyAlgorithms", &params.host_key_algorithms),
        ("KexAlgorithms", &params.kex_algorithms),
        ("MACs", &params.mac),
        ("PubkeyAcceptedAlgorithms", &params.pubkey_accepted_algorithms),
    ];
    for (keyword, algorithms) in algorithms {
        if !algorithms.is_default() {
            return refuse(keyword);
        }
    }
    if params.bind_address.is_some() {
        return refuse("BindAddress");
    }
    if params.bind_interface.is_some() {
        return refuse("BindInterface");
    }
    Ok(())
}
