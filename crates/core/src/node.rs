//! What contexts are made of: a chain of nodes, newest first. A node that nobody else holds grows in
//! place; a shared one gets a new node on top, so that adding to a context costs the same whatever it
//! holds. A chain that grew too long is shortened where that copies the least.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::iter::successors;
use core::panic::Location;

use crate::KeyRef;
use crate::derive::Derivation;
use crate::index::Index;
use crate::protocol::{AnyEndpoint, Value};

/// How many nodes a chain may have before it is shortened.
const MAX_CHAIN: u32 = 12;
/// A node of more entries than this is indexed; a smaller one is scanned.
const SCANNED: usize = 8;

#[derive(Default)]
pub(crate) struct Node {
    /// Oldest first.
    pub(crate) entries: Vec<Entry>,
    /// From a key to its newest entry here; kept if there are more than `SCANNED` entries.
    index: Option<Box<Index>>,
    /// What is older.
    parent: Option<Arc<Node>>,
    /// How many nodes are older.
    older: u32,
    /// Whether the chain binds any key that the resolver itself reads.
    pub(crate) control: bool,
    /// Whether the chain has a floor.
    pub(crate) has_floor: bool,
    /// If it differs from the parent's.
    pub(crate) whole: Option<Box<Whole>>,
}

/// What holds for a whole chain.
#[derive(Clone)]
pub(crate) struct Whole {
    /// In the order of the candidates.
    pub(crate) offers: Vec<Offer>,
    /// Offers that `only` excluded.
    pub(crate) excluded: Vec<KeyRef>,
    /// Whether `only` restricted the offers: what is put under the chain adds none.
    pub(crate) restricted: bool,
    /// What is oldest: one node under the whole chain.
    pub(crate) floor: Option<Arc<Node>>,
}

static NOTHING: Whole = Whole { offers: Vec::new(), excluded: Vec::new(), restricted: false, floor: None };

/// One binding, where it was made, and how it relates to older ones of its key.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: KeyRef,
    pub(crate) binding: Binding,
    pub(crate) at: &'static Location<'static>,
    /// Hides all older bindings of the key.
    pub(crate) cut: bool,
    /// The next older entry of the key in the same node, if the node is indexed; else it means nothing.
    pub(crate) older: Option<u32>,
}

#[derive(Clone)]
pub(crate) enum Binding {
    Value(Value),
    Derivation(Arc<dyn Derivation>),
    /// Nothing: `without`.
    Nothing,
}

/// Where an entry is: the node, counted from the newest, and the index in it. Entries compare as
/// newer < older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EntryId {
    node: u32,
    /// Counted down, so that the newest entry of a node comes first.
    from_top: u32,
}

/// An endpoint key by which a context may connect.
#[derive(Clone, Copy)]
pub(crate) struct Offer {
    pub(crate) endpoint: &'static dyn AnyEndpoint,
    pub(crate) priority: Option<i32>,
}

impl Binding {
    /// Two bindings are the same if they were made by the same call.
    pub(crate) fn identity(&self) -> usize {
        match self {
            Self::Value(value) => Arc::as_ptr(value).cast::<()>() as usize,
            Self::Derivation(derivation) => Arc::as_ptr(derivation).cast::<()>() as usize,
            Self::Nothing => 0,
        }
    }
}

impl Node {
    /// An empty one on top of `parent`.
    #[inline]
    pub(crate) fn over(parent: Arc<Self>) -> Self {
        let parent = if parent.older + 1 >= MAX_CHAIN { shortened(&parent) } else { parent };
        Self {
            entries: Vec::with_capacity(4),
            older: parent.older + 1,
            control: parent.control,
            has_floor: parent.has_floor,
            parent: Some(parent),
            ..Self::default()
        }
    }

    /// The nodes from here on, newest first, the floor last.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Self> {
        successors(Some(self), |node| node.parent.as_deref()).chain(self.whole().floor.as_deref())
    }

    pub(crate) fn whole(&self) -> &Whole {
        let mut nodes = successors(Some(self), |node| node.parent.as_deref());
        nodes.find_map(|node| node.whole.as_deref()).unwrap_or(&NOTHING)
    }

    pub(crate) fn whole_mut(&mut self) -> &mut Whole {
        if self.whole.is_none() {
            self.whole = Some(Box::new(self.whole().clone()));
        }
        match &mut self.whole {
            Some(whole) => whole,
            None => unreachable!("just made"),
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) {
        self.control |= entry.key.is_control();
        self.entries.push(entry);
        if self.entries.len() > SCANNED {
            self.index_newest();
        }
    }

    /// Indexes the newest entry; all of them, if none is.
    fn index_newest(&mut self) {
        let index = self.index.get_or_insert_default();
        let start = if self.entries.len() == SCANNED + 1 { 0 } else { self.entries.len() - 1 };
        for (i, entry) in self.entries.iter_mut().enumerate().skip(start) {
            entry.older = index.insert(entry.key.address(), i as u32);
        }
    }

    /// Of a chain's newest node: the entry.
    #[inline]
    pub(crate) fn entry(&self, id: EntryId) -> &Entry {
        match self.at(id.node) {
            Some(node) => &node.entries[id.index()],
            None => unreachable!("entry ids are made from this context"),
        }
    }

    /// Of a chain's newest node: the one of this number; the floor is the last.
    #[inline]
    fn at(&self, number: u32) -> Option<&Self> {
        let mut node = self;
        for above in 0..number {
            node = self.below(node, above)?;
        }
        Some(node)
    }

    /// Of a chain's newest node: the newest binding of `key`.
    pub(crate) fn newest(&self, key: KeyRef) -> Option<(EntryId, &Entry)> {
        self.newest_from(self, 0, key)
    }

    /// Of a chain's newest node: the next older binding of the same key.
    pub(crate) fn older(&self, id: EntryId, entry: &Entry) -> Option<(EntryId, &Entry)> {
        let node = self.at(id.node).filter(|_| !entry.cut)?;
        let found = match &node.index {
            None => node.entries[..id.index()].iter().rposition(|older| older.key == entry.key),
            Some(_) => entry.older.map(|i| i as usize),
        };
        match found {
            Some(i) => node.bound(id.node, i),
            None => self.newest_from(self.below(node, id.node)?, id.node + 1, entry.key),
        }
    }

    fn newest_from<'a>(
        &'a self,
        mut node: &'a Self,
        mut number: u32,
        key: KeyRef,
    ) -> Option<(EntryId, &'a Entry)> {
        loop {
            let found = match &node.index {
                None => node.entries.iter().rposition(|entry| entry.key == key),
                Some(index) => index.get(key.address()).map(|i| i as usize),
            };
            if let Some(i) = found {
                return node.bound(number, i);
            }
            node = self.below(node, number)?;
            number += 1;
        }
    }

    /// What is below the node of this number.
    #[inline]
    fn below<'a>(&'a self, node: &'a Self, number: u32) -> Option<&'a Self> {
        match &node.parent {
            Some(parent) => Some(parent),
            // The floor has no parent: it is where the search ends.
            None if self.has_floor && number == self.older => self.whole().floor.as_deref(),
            None => None,
        }
    }

    fn bound(&self, node: u32, i: usize) -> Option<(EntryId, &Entry)> {
        let entry = &self.entries[i];
        let id = EntryId { node, from_top: u32::MAX - i as u32 };
        (!matches!(entry.binding, Binding::Nothing)).then_some((id, entry))
    }
}

impl EntryId {
    fn index(self) -> usize {
        (u32::MAX - self.from_top) as usize
    }
}

impl Whole {
    /// Adds `offer` in its place; one of the same key is replaced.
    pub(crate) fn add_offer(&mut self, offer: Offer) {
        self.offers.retain(|other| other.key() != offer.key());
        let place = self.offers.partition_point(|other| other.rank() <= offer.rank());
        self.offers.insert(place, offer);
    }
}

impl Offer {
    pub(crate) fn new(endpoint: &'static dyn AnyEndpoint, priority: Option<i32>) -> Self {
        Self { endpoint, priority: priority.or(endpoint.default_priority()) }
    }

    pub(crate) fn key(&self) -> KeyRef {
        self.endpoint.key_ref()
    }

    /// Orders by priority: lower first, none last.
    pub(crate) fn rank(&self) -> (bool, i32) {
        (self.priority.is_none(), self.priority.unwrap_or(0))
    }
}

/// The chain of `node`, shortened: its newest nodes merged into one, and older ones with them as
/// long as they are no longer than what is merged already. So a chain that is kept at every step
/// costs no more than a logarithm of its length to grow, and a long node is rarely copied.
fn shortened(node: &Arc<Node>) -> Arc<Node> {
    let mut nodes = Vec::new();
    let (mut next, mut len) = (Some(node), 0);
    while let Some(here) = next.filter(|here| nodes.len() < 2 || here.entries.len() <= len) {
        len += here.entries.len();
        nodes.push(here);
        next = here.parent.as_ref();
    }
    let mut merged = Node {
        entries: Vec::with_capacity(len),
        index: None,
        parent: next.cloned(),
        older: next.map_or(0, |parent| parent.older + 1),
        control: node.control,
        has_floor: node.has_floor,
        whole: Some(Box::new(node.whole().clone())),
    };
    for entry in nodes.iter().rev().flat_map(|node| &node.entries) {
        merged.push(entry.clone());
    }
    Arc::new(merged)
}
