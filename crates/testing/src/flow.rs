//! What every flow must do.

pub mod checks;

use std::any::Any;
use std::fmt;
use std::time::Duration;

use tuyau_core::{BoxFuture, Flow};

/// What a transport can do, honestly. What it can't do is not tested, but must not hang either.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    /// It tells a peer that went away with bytes unread from one that ended.
    pub reset: bool,
    /// What was written before a drop still arrives.
    pub drop_delivers: bool,
    /// A drop passes for an end; else it is told from one, as truncation.
    pub drop_ends: bool,
    /// One write takes several slices.
    pub vectored: bool,
    /// The write side of the first flow of a pair can be found broken.
    pub broken_pipe: bool,
    /// How many bytes a large transfer has, each way: less, for what many layers carry.
    pub large: usize,
}

impl Abilities {
    /// Everything; large transfers have 8 MiB.
    pub const ALL: Self = Self {
        reset: true,
        drop_delivers: true,
        drop_ends: true,
        vectored: true,
        broken_pipe: true,
        large: 8 * 1024 * 1024,
    };
}

/// Two flows that are connected to each other, and what must live as long as they.
pub struct Pair {
    /// One end.
    pub a: Flow,
    /// The other.
    pub b: Flow,
    /// A listener, a directory.
    pub keep: Box<dyn Any + Send>,
}

impl Pair {
    /// Two ends that need nothing else.
    pub fn new(a: Flow, b: Flow) -> Self {
        Self { a, b, keep: Box::new(()) }
    }

    /// With something that must live as long.
    pub fn keep(self, keep: impl Any + Send) -> Self {
        Self { keep: Box::new((self.keep, keep)), ..self }
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("a", &self.a).field("b", &self.b).finish_non_exhaustive()
    }
}

/// Runs a check on a pair, and on another the other way round.
///
/// # Panics
/// If the check fails, or hangs for a minute.
pub async fn run<M, Fut, C>(make: M, abilities: Abilities, check: C)
where
    M: Fn() -> Fut,
    Fut: Future<Output = Pair>,
    C: Fn(Pair, Abilities) -> BoxFuture<'static, ()>,
{
    for reversed in [false, true] {
        let way = if reversed { "from b to a" } else { "from a to b" };
        let one = async {
            let Pair { a, b, keep } = make().await;
            let pair = if reversed { Pair { a: b, b: a, keep } } else { Pair { a, b, keep } };
            check(pair, abilities).await;
        };
        assert!(tokio::time::timeout(Duration::from_secs(60), one).await.is_ok(), "hangs, {way}");
    }
}
