//! A file that is there in whole, or not at all.
//!
//! What comes is written to `FILE.part`, which becomes `FILE` once all of it is there. What the server said of the
//! version that it is a part of is in `FILE.part.version`, so that no two versions are ever put together.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io::{Error as IoError, ErrorKind, IsTerminal, Result as IoResult, Seek, SeekFrom, stdout};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::pin::Pin;

use http::header::{ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue};
use nix::fcntl::{Flock, FlockArg};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::args::Continue;
use crate::exit::Failure;

/// Where a download is to go, and what of it is there.
#[derive(Debug)]
pub(super) struct Download {
    /// Where links lead to, too: they stay.
    file: PathBuf,
    /// What was there before, whose mode and owner the new one keeps.
    before: Option<Metadata>,
    /// What is there is in `file`, not in its part.
    whole: bool,
    /// It is no file that could be replaced: a device, a pipe.
    special: bool,
    have: u64,
    /// Which version it is a part of.
    validator: Option<String>,
    /// What has come is what the server has, byte by byte.
    plain: bool,
    /// Nobody else writes the part meanwhile.
    _lock: Option<Flock<std::fs::File>>,
}

/// More links, one to the other, are a loop.
const LINKS: usize = 40;

/// Whether `path` leads to our standard output, as `/dev/stdout` does.
pub(super) fn is_stdout(path: &Path) -> bool {
    let ours = stdout().as_fd().try_clone_to_owned().map(std::fs::File::from).and_then(|out| out.metadata());
    let named = std::fs::symlink_metadata(path).is_ok_and(|link| link.is_symlink());
    match (std::fs::metadata(path), ours) {
        (Ok(theirs), Ok(ours)) => named && (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()),
        _ => false,
    }
}

impl Download {
    /// `plain`: whether nothing is decoded on the way.
    pub(super) async fn new(file: &Path, resume: Option<Continue>, plain: bool) -> Result<Self, Failure> {
        let mut this = Self {
            file: file.into(),
            before: None,
            whole: false,
            special: false,
            have: 0,
            validator: None,
            plain,
            _lock: None,
        };
        this.before = match fs::metadata(file).await {
            Ok(meta) if meta.is_dir() => {
                return Err(Failure::Usage(format!("{} is a directory", file.display())));
            }
            Ok(meta) => Some(meta),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(file, &error)),
        };
        this.special = this.before.as_ref().is_some_and(|meta| !meta.is_file());
        if !this.special {
            this.follow().await?;
        }
        let Some(resume) = resume else { return Ok(this) };
        if this.special {
            return Err(Failure::Usage(format!("-C has no use with {}, which is no file", file.display())));
        }
        match (fs::metadata(this.part()).await, &this.before) {
            (Ok(part), before) => {
                this.have = part.len();
                let version = fs::read_to_string(this.version()).await.ok();
                this.validator = version.filter(|it| !it.is_empty() && HeaderValue::from_str(it).is_ok());
                if this.validator.is_none() && before.is_some() {
                    let (file, part) = (this.file.display(), this.part());
                    return Err(Failure::Failed(format!(
                        "{file} and {} are both there, and nothing says which version that is a part of: remove \
                         one of them",
                        part.display()
                    )));
                }
            }
            (Err(_), Some(meta)) => (this.have, this.whole) = (meta.len(), true),
            (Err(_), None) => {}
        }
        match resume {
            Continue::At(at) if at > this.have => {
                return Err(Failure::Usage(format!(
                    "-C {at}: only {} bytes are there; -C - goes on after what is there",
                    this.have
                )));
            }
            Continue::At(at) => this.have = at,
            Continue::Found => {}
        }
        if this.is_vague() {
            this.have = 0;
        }
        Ok(this)
    }

    /// Where the links lead to; what the system shows of open files (`/dev/fd/3`) is written to as it is.
    async fn follow(&mut self) -> Result<(), Failure> {
        for _ in 0..LINKS {
            let Ok(to) = fs::read_link(&self.file).await else { return Ok(()) };
            if ["/dev", "/proc"].iter().any(|dir| self.file.starts_with(dir)) {
                self.special = true;
                return Ok(());
            }
            self.file = self.file.parent().unwrap_or(Path::new("")).join(to);
        }
        Err(Failure::Failed(format!("{}: the links lead nowhere", self.file.display())))
    }

    pub(super) fn have(&self) -> u64 {
        self.have
    }

    /// Whether nothing tells if what the server has is the same byte by byte as what is here.
    pub(super) fn is_vague(&self) -> bool {
        self.validator.as_ref().is_some_and(|validator| validator.starts_with("W/"))
    }

    /// For `If-Range`.
    pub(super) fn validator(&self) -> Option<&str> {
        self.validator.as_deref()
    }

    /// Whether `headers` are of another version than what is there, as far as they tell.
    pub(super) fn is_other(&self, headers: &HeaderMap) -> bool {
        let Some(ours) = &self.validator else { return false };
        let theirs = headers.get(if ours.starts_with('"') { ETAG } else { LAST_MODIFIED });
        theirs.is_some_and(|theirs| theirs.as_bytes() != ours.as_bytes())
    }

    fn part(&self) -> PathBuf {
        with_suffix(&self.file, ".part")
    }

    fn version(&self) -> PathBuf {
        with_suffix(&self.file, ".part.version")
    }

    /// Opens it to be written from byte `at` on, of the version that `headers` tell.
    pub(super) async fn open(self, at: u64, headers: &HeaderMap) -> Result<Target, Failure> {
        if self.special {
            let file = OpenOptions::new().append(true).open(&self.file).await;
            let file = file.map_err(|error| failed(&self.file, &error))?;
            return Ok(Target::Special(file, self));
        }
        match self.open_part(at, headers).await {
            Ok((file, lock)) => Ok(Target::File(file, Self { _lock: Some(lock), ..self })),
            Err(error) => Err(failed(&self.part(), &error)),
        }
    }

    async fn open_part(&self, at: u64, headers: &HeaderMap) -> IoResult<(File, Flock<std::fs::File>)> {
        let part = self.part();
        let taken = || IoError::other("another program is writing it");
        let in_the_way = fs::symlink_metadata(&part).await.ok();
        if in_the_way.as_ref().is_some_and(|meta| !meta.is_file()) {
            return Err(IoError::other("it is no file: it is in the way"));
        }
        if self.whole && at > 0 {
            // There was none before.
            if in_the_way.is_some() {
                return Err(taken());
            }
            // It is a part, as it turns out.
            fs::rename(&self.file, &part).await?;
        }
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(false).open(&part).await?.into_std().await;
        let lock = Flock::lock(file.try_clone()?, FlockArg::LockExclusiveNonblock).map_err(|_| taken())?;
        let meta = file.metadata()?;
        // Whoever had it locked before may have been done with it since.
        if meta.len() < at || fs::metadata(&part).await.map(|it| it.ino()).ok() != Some(meta.ino()) {
            return Err(taken());
        }
        if let Some(before) = &self.before {
            // Only root may give a file away: what can't be kept is ours.
            let _ = fchown(&file, Some(before.uid()), Some(before.gid()));
            file.set_permissions(before.permissions())?;
        }
        match validator(headers) {
            Some(validator) => fs::write(self.version(), validator).await?,
            None => remove(&self.version()).await?,
        }
        file.set_len(at)?;
        file.seek(SeekFrom::Start(at))?;
        Ok((File::from_std(file), lock))
    }

    /// Nothing is missing of what is there.
    pub(super) async fn was_all(self) -> Result<(), Failure> {
        if self.whole { Ok(()) } else { self.finish().await }
    }

    /// All of it has come.
    async fn finish(self) -> Result<(), Failure> {
        let finishing = async {
            if !self.special {
                fs::rename(self.part(), &self.file).await?;
            }
            remove(&self.version()).await
        };
        finishing.await.map_err(|error| failed(&self.file, &error))
    }

    /// Where it is written to.
    fn written(&self) -> PathBuf {
        if self.special { self.file.clone() } else { self.part() }
    }
}

fn failed(file: &Path, error: &IoError) -> Failure {
    Failure::Failed(format!("{}: {error}", file.display()))
}

/// What tells versions apart: an entity tag, and only without one a date (RFC 9110 section 13.1.5).
fn validator(headers: &HeaderMap) -> Option<&str> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    text(ETAG).or_else(|| text(LAST_MODIFIED))
}

async fn remove(file: &Path) -> IoResult<()> {
    match fs::remove_file(file).await {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    name.into()
}

/// Where the body goes.
pub(super) enum Target {
    Stdout(Pin<Box<dyn AsyncWrite + Send>>),
    File(File, Download),
    Special(File, Download),
}

impl Target {
    /// Whether a bar would not be drawn into what is printed.
    pub(super) fn may_show_progress(&self) -> bool {
        match self {
            Self::Stdout(_) => !std::io::stdout().is_terminal(),
            Self::File(..) | Self::Special(..) => true,
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            // What came is shown at once.
            Self::Stdout(out) => match out.write_all(bytes).await {
                Ok(()) => out.flush().await.map_err(|error| Failure::of_output(&error)),
                Err(error) => Err(Failure::of_output(&error)),
            },
            Self::File(file, download) | Self::Special(file, download) => {
                file.write_all(bytes).await.map_err(|error| failed(&download.written(), &error))
            }
        }
    }

    /// It broke off: what is there stays, and this says where.
    pub(super) async fn keep(&mut self) -> String {
        let Self::File(file, download) = self else { return String::new() };
        match file.flush().await {
            Ok(()) if download.plain => {
                format!(", and are in {}: -C - goes on from there", download.part().display())
            }
            Ok(()) => format!(", and are in {}, decoded", download.part().display()),
            Err(_) => String::new(),
        }
    }

    /// All of it was written.
    pub(super) async fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Stdout(mut out) => out.flush().await.map_err(|error| Failure::of_output(&error)),
            Self::File(mut file, download) | Self::Special(mut file, download) => {
                // A full disk may show only now.
                file.flush().await.map_err(|error| failed(&download.written(), &error))?;
                download.finish().await
            }
        }
    }
}
