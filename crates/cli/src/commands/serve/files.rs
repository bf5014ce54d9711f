//! The files beneath a directory, and no others.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tokio::task::{JoinHandle, spawn_blocking};
use tower_http::services::fs::{Backend, File};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// A directory. Links are followed as long as they don't lead out of it.
#[derive(Clone, Debug)]
pub(super) struct Files(Arc<Root>);

#[derive(Debug)]
struct Root {
    /// Without links.
    path: PathBuf,
    dir: OwnedFd,
    dotfiles: bool,
}

impl Files {
    pub(super) fn new(dir: &Path, dotfiles: bool) -> io::Result<Self> {
        let path = fs::canonicalize(dir)?;
        let dir =
            nix::fcntl::open(&path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self(Arc::new(Root { path, dir, dotfiles })))
    }

    pub(super) fn root(&self) -> &Path {
        &self.0.path
    }

    /// What is in the directory at `path`, without what is not served.
    pub(super) async fn list(&self, path: PathBuf) -> io::Result<Vec<(String, Metadata)>> {
        let root = self.0.clone();
        run(move || {
            let real = root.path.join(root.locate(&path)?);
            let mut found = Vec::new();
            for entry in fs::read_dir(real)? {
                let name = entry?.file_name();
                // What is not text could not be asked for.
                let Some(name) = name.to_str() else { continue };
                if let Ok(meta) = root.metadata(&path.join(name)) {
                    found.push((name.to_owned(), meta));
                }
            }
            Ok(found)
        })
        .await
    }
}

impl Root {
    /// Where `path` is beneath the root, all links followed.
    fn locate(&self, path: &Path) -> io::Result<PathBuf> {
        self.beneath(path)?;
        let real = fs::canonicalize(path).map_err(|error| match error.kind() {
            // What no name could be is no file's, and what leads to itself leads to none.
            ErrorKind::InvalidFilename => ErrorKind::NotFound.into(),
            _ if error.raw_os_error() == Some(Errno::ELOOP as i32) => ErrorKind::NotFound.into(),
            _ => error,
        })?;
        self.beneath(&real).map(Path::to_owned)
    }

    fn beneath<'a>(&self, path: &'a Path) -> io::Result<&'a Path> {
        let relative = path.strip_prefix(&self.path).map_err(|_| ErrorKind::NotFound)?;
        let hidden = |part: Component<'_>| part.as_os_str().as_encoded_bytes().starts_with(b".");
        match !self.dotfiles && relative.components().any(hidden) {
            true => Err(ErrorKind::NotFound.into()),
            false => Ok(relative),
        }
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let meta = fs::symlink_metadata(self.path.join(self.locate(path)?))?;
        match meta.is_file() || meta.is_dir() {
            true => Ok(meta),
            false => Err(ErrorKind::NotFound.into()),
        }
    }

    fn open(&self, path: &Path) -> io::Result<fs::File> {
        // Each step without links: somebody may make one in the meantime.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let mut opened: Option<OwnedFd> = None;
        for part in self.locate(path)?.components() {
            opened = Some(match &opened {
                None => openat(&self.dir, part.as_os_str(), flags, Mode::empty())?,
                Some(dir) => openat(dir, part.as_os_str(), flags, Mode::empty())?,
            });
        }
        let file = fs::File::from(opened.ok_or(ErrorKind::NotFound)?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(ErrorKind::NotFound.into()),
        }
    }
}

async fn run<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|_| Err(ErrorKind::Other.into()))
}

impl Backend for Files {
    type File = OpenFile;
    type Metadata = Metadata;
    type OpenFuture = BoxFuture<'static, OpenFile>;
    type MetadataFuture = BoxFuture<'static, Metadata>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let root = self.0.clone();
        Box::pin(async move { Ok(OpenFile::new(run(move || root.open(&path)).await?)) })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let root = self.0.clone();
        Box::pin(run(move || root.metadata(&path)))
    }
}

/// One of them, open.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: Arc<fs::File>,
    at: u64,
    /// What is being read, on a thread that may wait for the disk.
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
    /// Of what was read so.
    left: Bytes,
}

impl OpenFile {
    fn new(file: fs::File) -> Self {
        Self { file: Arc::new(file), at: 0, reading: None, left: Bytes::new() }
    }
}

impl File for OpenFile {
    type Metadata = Metadata;
    type MetadataFuture<'a> = BoxFuture<'a, Metadata>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        Box::pin(std::future::ready(self.file.metadata()))
    }
}

impl AsyncRead for OpenFile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if let Some(reading) = &mut this.reading {
                let read = ready!(Pin::new(reading).poll(cx));
                this.reading = None;
                this.left = read.unwrap_or_else(|_| Err(ErrorKind::Other.into()))?.into();
                if this.left.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            if !this.left.is_empty() {
                let n = this.left.len().min(buf.remaining());
                buf.put_slice(&this.left.split_to(n));
                this.at += n as u64;
                return Poll::Ready(Ok(()));
            }
            if let Some(read) = cached(&this.file, this.at, buf) {
                this.at += read? as u64;
                return Poll::Ready(Ok(()));
            }
            let (file, at, room) = (this.file.clone(), this.at, buf.remaining());
            this.reading = Some(spawn_blocking(move || {
                let mut bytes = vec![0; room];
                let n = file.read_at(&mut bytes, at)?;
                bytes.truncate(n);
                Ok(bytes)
            }));
        }
    }
}

/// Reads what the system has in memory: another thread would take longer to wake up. Otherwise `None`.
#[cfg(target_os = "linux")]
fn cached(file: &fs::File, at: u64, buf: &mut ReadBuf<'_>) -> Option<io::Result<usize>> {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    let mut room = [io::IoSliceMut::new(buf.initialize_unfilled())];
    match preadv2(file, &mut room, at, ReadWriteFlags::NOWAIT) {
        Ok(n) => {
            buf.advance(n);
            Some(Ok(n))
        }
        // It is not there, or the file system can't tell.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => None,
        Err(error) => Some(Err(error.into())),
    }
}

#[cfg(not(target_os = "linux"))]
fn cached(_: &fs::File, _: u64, _: &mut ReadBuf<'_>) -> Option<io::Result<usize>> {
    None
}

impl AsyncSeek for OpenFile {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        let to = match position {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.at = to.ok_or(ErrorKind::InvalidInput)?;
        (self.reading, self.left) = (None, Bytes::new());
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.at))
    }
}
