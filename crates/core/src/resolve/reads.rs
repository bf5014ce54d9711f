//! What a resolution read: by the identity of bindings, not by their values.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;

use super::memo::{Choice, Found, Known, Need};
use crate::KeyRef;
use crate::context::{Binding, Context};
use crate::derive::Derivation;
use crate::index::Index;
use crate::shared::Origin;

/// The bindings that a resolution read, by identity. Two contexts of which it
/// [`matches`](Self::matches) both would have resolved alike up to where time and the network
/// decide: what connection pools key on. The [deadline](crate::names::DEADLINE) is none of them.
///
/// It keeps no value alive.
#[derive(Clone, Default)]
pub struct Reads(Arc<Vec<Read>>);

/// Reads that are being gathered.
#[derive(Default)]
pub(super) struct Gathered {
    reads: Vec<Read>,
    /// From a key to its place.
    places: Index,
    /// Of what others made of choices, which.
    choices: Vec<(usize, u32)>,
}

#[derive(Clone)]
struct Read {
    key: KeyRef,
    /// The bindings that were looked at, newest first.
    bindings: Vec<Identity>,
    /// Whether all of the key's bindings were looked at, so that there may be no more.
    all: bool,
}

/// A weak pointer: while it exists, no other binding has the address.
#[derive(Clone)]
enum Identity {
    Value(Weak<dyn Any + Send + Sync>),
    Derivation(Weak<dyn Derivation>),
}

impl Reads {
    /// Whether `ctx` has the same bindings in all places that were read.
    pub fn matches(&self, ctx: &Context) -> bool {
        self.0.iter().all(|read| read.matches(ctx))
    }

    /// The keys that were read.
    pub fn keys(&self) -> impl Iterator<Item = KeyRef> {
        self.0.iter().map(|read| read.key)
    }

    /// Whether some context could still match: all that was read still exists.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.iter().flat_map(|read| &read.bindings).all(Identity::is_alive)
    }
}

impl Gathered {
    pub(super) fn finish(self) -> Reads {
        Reads(Arc::new(self.reads))
    }

    /// Adds all that `origin` has.
    fn add_all(&mut self, origin: &Origin) {
        origin.reads.0.iter().for_each(|read| self.insert(read.clone()));
        self.choices.extend(&origin.choices);
    }

    /// Adds the first `count` bindings of `key` in `ctx`; all of them if there are no more.
    pub(super) fn add(&mut self, ctx: &Context, key: KeyRef, count: usize) {
        let looked_at = ctx.bindings(key).take(count);
        let bindings: Vec<_> = looked_at.filter_map(|(_, entry)| Identity::of(&entry.binding)).collect();
        let all = bindings.len() < count;
        self.insert(Read { key, bindings, all });
    }

    fn insert(&mut self, read: Read) {
        match self.places.get(read.key.address()) {
            None => {
                self.places.insert(read.key.address(), self.reads.len() as u32);
                self.reads.push(read);
            }
            Some(place) => {
                let known = &mut self.reads[place as usize];
                if known.bindings.len() < read.bindings.len() || read.all {
                    *known = read;
                }
            }
        }
    }
}

impl Read {
    fn matches(&self, ctx: &Context) -> bool {
        let mut bound = ctx.bindings(self.key).map(|(_, entry)| entry.binding.identity());
        self.bindings.iter().all(|identity| bound.next() == Some(identity.address()))
            && !(self.all && bound.next().is_some())
    }
}

impl Identity {
    fn of(binding: &Binding) -> Option<Self> {
        match binding {
            Binding::Value(value) => Some(Self::Value(Arc::downgrade(value))),
            Binding::Derivation(derivation) => Some(Self::Derivation(Arc::downgrade(derivation))),
            Binding::Nothing => None,
        }
    }

    fn address(&self) -> usize {
        match self {
            Self::Value(value) => value.as_ptr().cast::<()>() as usize,
            Self::Derivation(derivation) => derivation.as_ptr().cast::<()>() as usize,
        }
    }

    fn is_alive(&self) -> bool {
        match self {
            Self::Value(value) => value.strong_count() > 0,
            Self::Derivation(derivation) => derivation.strong_count() > 0,
        }
    }
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys()).finish()
    }
}

impl Known {
    /// What the needs up to `last_need` were made from, and what those needed in turn, by a walk that
    /// `saw` these choices.
    pub(super) fn origin(&self, last_need: u32, saw: &[Choice]) -> Origin {
        let mut reads = Gathered::default();
        self.add_reads(last_need, &mut reads);
        let mut choices = core::mem::take(&mut reads.choices);
        choices.extend(saw.iter().map(|choice| {
            let entry = self.ctx.entry(self.outcomes[choice.outcome as usize].entry);
            (entry.binding.identity(), choice.index)
        }));
        choices.sort_unstable();
        choices.dedup();
        Origin { reads: reads.finish(), choices }
    }

    /// What another resolution read to have `outcome`, if it is shared and was had from there.
    pub(super) fn add_shared_reads(&self, outcome: u32, reads: &mut Gathered) {
        if let Ok(i) = self.shared.binary_search_by_key(&outcome, |(outcome, _)| *outcome) {
            reads.add_all(&self.shared[i].1);
        }
    }

    pub(super) fn add_reads(&self, last_need: u32, reads: &mut Gathered) {
        self.visit(last_need, |need| {
            let examined = self.examined(need).count();
            // Behind the derivations that were looked at there may be a value that was taken, or
            // nothing.
            let count = match need.found {
                Found::Value(_) => examined + 1,
                Found::Absent => usize::MAX,
                _ => examined,
            };
            reads.add(&self.ctx, need.key, count);
            self.examined(need).for_each(|outcome| self.add_shared_reads(outcome, reads));
        });
    }

    /// Calls `f` with each need up to `last_need`, and with what those needed in turn; what was
    /// needed by an outcome once.
    pub(super) fn visit<'a>(&'a self, last_need: u32, mut f: impl FnMut(&'a Need)) {
        let mut seen = Index::default();
        let mut left: Vec<&Need> = self.needs_from(last_need).collect();
        while let Some(need) = left.pop() {
            f(need);
            for outcome in self.examined(need) {
                if seen.insert(outcome as usize + 1, 0).is_none() {
                    left.extend(self.needs_of(outcome));
                }
            }
        }
    }
}
