//! Contexts: persistent, typed, heterogeneous maps from keys to bindings.
//!
//! A context is a chain of nodes, newest first. A node that nobody else holds grows in place; a
//! shared one gets a new node on top, so that adding to a context costs the same whatever it
//! holds. A chain that grew too long is shortened where that copies the least.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::panic::Location;

use crate::derive::{Args, Derivation, Many, One, Several, Stop};
use crate::index::Index;
use crate::names::{LAYER, NET};
use crate::protocol::{AnyEndpoint, Value};
use crate::shared::Shared;
use crate::{
    ConnectCx, ConnectError, ConnectErrorKind, Error, Flow, Hop, Key, KeyRef, Prefixed, Report, Resolved,
    Role, Unfolded, resolve,
};

/// How many nodes a chain may have before it is shortened.
const MAX_CHAIN: u32 = 12;
/// A node of more entries than this is indexed; a smaller one is scanned.
const SCANNED: usize = 8;

/// A persistent, cheaply cloned map from keys to bindings: values, and derivations of values from
/// other keys' values. It knows how to [`resolve`](Self::resolve) itself into a flow.
///
/// Adding consumes the context and gives the new one; clone it first to keep the old one, which
/// the new one never changes.
///
/// ```
/// use tuyau_core::{Context, Key};
/// static PORT: Key<u16> = Key::new("port");
///
/// let base = Context::new().with(&PORT, 80);
/// let overlay = base.clone().with(&PORT, 8080); // newest first
/// # let _ = overlay;
/// ```
#[derive(Clone)]
pub struct Context(Arc<Node>);

#[derive(Clone, Default)]
struct Node {
    /// Oldest first.
    entries: Vec<Entry>,
    /// From a key to its newest entry here; kept if there are more than `SCANNED` entries.
    index: Option<Index>,
    /// What is older.
    parent: Option<Arc<Node>>,
    /// What is oldest: one node under the whole chain. Only that of the newest node counts.
    floor: Option<Arc<Node>>,
    /// How many nodes there are from here on.
    chain: u32,
    /// In the order of the candidates; of the whole chain.
    offers: Arc<Vec<Offer>>,
    /// Offers that `only` excluded; of the whole chain.
    excluded: Arc<Vec<KeyRef>>,
    /// Whether `only` restricted the offers: what is put under this one adds none.
    restricted: bool,
    /// Whether the chain binds any key that the resolver itself reads.
    control: bool,
}

/// One binding, where it was made, and how it relates to older ones of its key.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: KeyRef,
    pub(crate) binding: Binding,
    pub(crate) at: &'static Location<'static>,
    /// Hides all older bindings of the key.
    cut: bool,
    /// The next older entry of the key in the same node, if the node is indexed; else it means nothing.
    older: Option<u32>,
}

#[derive(Clone)]
pub(crate) enum Binding {
    Value(Value),
    Derivation(Arc<dyn Derivation>),
    /// Nothing: `without`.
    Nothing,
}

/// An endpoint key by which a context may connect.
#[derive(Clone, Copy)]
pub(crate) struct Offer {
    pub(crate) endpoint: &'static dyn AnyEndpoint,
    pub(crate) priority: Option<i32>,
}

/// Where an entry is: the node, counted from the newest, and the index in it. Entries compare as
/// newer < older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EntryId {
    node: u32,
    /// Counted down, so that the newest entry of a node comes first.
    from_top: u32,
}

/// Where a search through the bindings of one key stands.
#[derive(Clone, Copy)]
pub(crate) enum Cursor {
    /// Search the node for its newest entry of the key.
    Node(u32),
    /// Go on below this entry.
    Below(EntryId),
    End,
}

/// A binding that is read without running anything.
pub(crate) enum Plain<'a> {
    Absent,
    Value(&'a Value),
    Derived(&'static Location<'static>),
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

impl Context {
    /// The empty context: nothing is bound, nothing is offered.
    pub fn new() -> Self {
        Self(Arc::new(Node { chain: 1, ..Node::default() }))
    }

    /// The smallest context: `connect` gives the flow.
    ///
    /// ```
    /// # use tuyau_core::{Context, Flow};
    /// # fn open() -> Flow { unimplemented!() }
    /// let ctx = Context::from_fn(|| async { Ok(open()) });
    /// ```
    #[track_caller]
    pub fn from_fn<F, Fut>(connect: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Flow, ConnectError>> + Send + 'static,
    {
        use crate::from_fn::{FROM_FN, FromFn};
        Self::new().with(&FROM_FN, FromFn::new(connect)).offer(&FROM_FN)
    }

    /// Binds `key` to `value`, over its older bindings.
    #[track_caller]
    pub fn with<T: Send + Sync + 'static>(self, key: &'static Key<T>, value: T) -> Self {
        self.push(key.erase(), Binding::Value(Arc::new(value)), false, Location::caller())
    }

    /// Binds `key` to `value` and drops its older bindings, derivations too.
    #[track_caller]
    pub fn replace<T: Send + Sync + 'static>(self, key: &'static Key<T>, value: T) -> Self {
        self.push(key.erase(), Binding::Value(Arc::new(value)), true, Location::caller())
    }

    /// Drops all bindings of `key`, also those of what is later merged or put under this context.
    #[track_caller]
    pub fn without<T: ?Sized>(self, key: &'static Key<T>) -> Self {
        self.push(key.erase(), Binding::Nothing, true, Location::caller())
    }

    /// Binds `key` to an async function of other keys' values, over its older bindings.
    ///
    /// `args` is one argument or a tuple of them: [`req`](crate::req), [`opt`](crate::opt),
    /// [`or`](crate::or), [`is`](crate::is), [`dial`](crate::dial). They are had from left to
    /// right; the first that can't be had stops the rest. The function runs at most once in a
    /// resolution (per choice among many-valued ones), and only if a candidate needs it. It says
    /// `Err(`[`decline`](crate::decline)`("why"))` for "not me": an older binding is tried. Any
    /// other error is final for whoever depends on it.
    ///
    /// ```
    /// use tuyau_core::{Context, Key, or, req};
    /// static HOST: Key<String> = Key::new("host");
    /// static PORT: Key<u16> = Key::new("port");
    /// static ADDR: Key<String> = Key::new("addr");
    ///
    /// let ctx = Context::new()
    ///     .derive(&ADDR, (req(&HOST), or(&PORT, 80)), |(host, port)| async move {
    ///         Ok(format!("{host}:{port}"))
    ///     });
    /// ```
    #[track_caller]
    pub fn derive<T, A, F, Fut>(self, key: &'static Key<T>, args: A, f: F) -> Self
    where
        T: Send + Sync + 'static,
        A: Args,
        F: Fn(A::Values) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Stop>> + Send + 'static,
    {
        let derivation = One { args, f, value: PhantomData, shared: None };
        self.push(key.erase(), Binding::Derivation(Arc::new(derivation)), false, Location::caller())
    }

    /// Like [`derive`](Self::derive), but the outcome lives with the binding: one for all
    /// resolutions of this context and its overlays, made once, however many ask at the same time.
    /// It is made anew once `healthy` says no of it, after an error or decline, and for an overlay
    /// that binds anything of what it read anew. (One SSH connection, many flows.)
    ///
    /// Where its arguments have choices, whoever comes while it is being made has those arguments itself,
    /// and joins whoever makes it of the same choices: if the first leads nowhere, nobody waits for it alone.
    #[track_caller]
    pub fn derive_shared<T, A, F, Fut, H>(self, key: &'static Key<T>, args: A, healthy: H, f: F) -> Self
    where
        T: Send + Sync + 'static,
        A: Args,
        F: Fn(A::Values) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Stop>> + Send + 'static,
        H: Fn(&T) -> bool + Send + Sync + 'static,
    {
        let shared = Some(Shared::new(healthy));
        let derivation = One { args, f, value: PhantomData, shared };
        self.push(key.erase(), Binding::Derivation(Arc::new(derivation)), false, Location::caller())
    }

    /// Like [`derive`](Self::derive), for a function that gives several values: a `Vec`, or a
    /// [`Many`] for values that become known over time. Each is a choice that forks whatever depends
    /// on it: every candidate fixes one, in order.
    #[track_caller]
    pub fn derive_many<T, M, A, F, Fut>(self, key: &'static Key<T>, args: A, f: F) -> Self
    where
        T: Send + Sync + 'static,
        M: Into<Many<T>> + 'static,
        A: Args,
        F: Fn(A::Values) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<M, Stop>> + Send + 'static,
    {
        let derivation = Several { args, f, value: PhantomData::<fn() -> (T, M)> };
        self.push(key.erase(), Binding::Derivation(Arc::new(derivation)), false, Location::caller())
    }

    /// Names `endpoint` as one by which this context may connect, at its own priority.
    pub fn offer(self, endpoint: &'static dyn AnyEndpoint) -> Self {
        self.offer_as(endpoint, None)
    }

    /// Like [`offer`](Self::offer), at this priority: lower first.
    pub fn offer_at(self, endpoint: &'static dyn AnyEndpoint, priority: i32) -> Self {
        self.offer_as(endpoint, Some(priority))
    }

    /// Restricts the offers to `endpoint`, also those of what is later put under this context. What
    /// this excludes shows in the report.
    pub fn only(mut self, endpoint: &'static dyn AnyEndpoint) -> Self {
        let keep = endpoint.key_ref();
        let node = self.own();
        let (kept, excluded) = node.offers.iter().partition::<Vec<Offer>, _>(|offer| offer.key() == keep);
        let mut all = (*node.excluded).clone();
        all.extend(excluded.iter().map(Offer::key));
        (node.offers, node.excluded) = (Arc::new(kept), Arc::new(all));
        node.restricted = true;
        self
    }

    /// Puts `defaults` under this context: they are older than all that it holds.
    pub fn under(self, defaults: Self) -> Self {
        defaults.merge(self)
    }

    /// This context with all of `newer` over it. A binding that both hold keeps its newest place.
    pub fn merge(self, newer: Self) -> Self {
        merge(self, newer)
    }

    /// Goes through `hop`: replaces the [`NET`] by one that dials `hop` in this context. Fold over
    /// several, nearest first.
    #[track_caller]
    pub fn via(self, hop: Box<dyn Hop>) -> Self {
        let net = hop.over(self.clone());
        self.replace(&NET, net)
    }

    /// The flow that this context resolves into, connected.
    ///
    /// Cancel safe: dropping the future drops everything under it.
    ///
    /// # Errors
    /// If no candidate could be connected: the error lists each, and why.
    pub fn resolve(&self) -> impl Future<Output = Result<Resolved, Error>> + Send {
        resolve::resolve(self)
    }

    /// What [`resolve`](Self::resolve) would try, and what decides it, without running or
    /// connecting anything.
    pub fn plan(&self) -> Report {
        resolve::plan(self)
    }

    /// What [`resolve`](Self::resolve) did, candidate by candidate. Connects, and closes at once.
    /// Cancel safe.
    pub async fn explain(&self) -> Report {
        match resolve::resolve(self).await {
            Ok(resolved) => resolved.report(),
            Err(error) => error.report(),
        }
    }

    /// Runs the derivations of every candidate, and returns the endpoints without connecting any,
    /// in the order in which they would be tried. Cancel safe.
    pub async fn unfold(&self) -> Result<Unfolded, Error> {
        resolve::unfold(self).await
    }

    /// The value of `key`, derived if need be; the first, if there are many. Cancel safe.
    ///
    /// # Errors
    /// If the binding that should give it failed. Absence is `None`.
    pub async fn get<T: Clone + 'static>(&self, key: &'static Key<T>) -> Result<Option<T>, Error> {
        let value = resolve::get(self, key.erase()).await?;
        Ok(value.and_then(|value| value.downcast_ref::<T>().cloned()))
    }

    /// Wraps `flow`, in mid-stream, in the [`LAYER`] of this context (SMTP's STARTTLS,
    /// PostgreSQL's SSLRequest). Not cancel safe: the flow is closed.
    ///
    /// # Errors
    /// If bytes were put back in front of the flow: they came in clear text, before the handshake,
    /// and whoever sent them could make them pass for protected ones.
    pub async fn upgrade(&self, flow: Flow, role: Role) -> Result<Flow, ConnectError> {
        let mut put_back = flow.find::<Prefixed>();
        while put_back.is_some_and(|prefixed| prefixed.unread().is_empty()) {
            put_back = put_back.and_then(|prefixed| prefixed.below().find());
        }
        if put_back.is_some() {
            return Err(ConnectError::new(
                ConnectErrorKind::Protocol,
                "the peer sent clear text beyond its consent to the handshake",
            )
            .with_hint("close the connection: somebody on the way may have put it there"));
        }
        let layer = self.get(&LAYER).await.map_err(|error| {
            ConnectError::new(error.kind(), "the layer to upgrade to could not be had").with_source(error)
        })?;
        let Some(layer) = layer else {
            return Err(ConnectError::new(ConnectErrorKind::Misuse, "there is no layer to upgrade to")
                .with_hint("bind `names::LAYER` in the context"));
        };
        layer.wrap(flow, role, &ConnectCx::new(self)?).await
    }

    fn offer_as(mut self, endpoint: &'static dyn AnyEndpoint, priority: Option<i32>) -> Self {
        let offer = Offer::new(endpoint, priority);
        let node = self.own();
        add_offer(Arc::make_mut(&mut node.offers), offer);
        if node.excluded.contains(&offer.key()) {
            Arc::make_mut(&mut node.excluded).retain(|key| *key != offer.key());
        }
        self
    }

    fn push(mut self, key: KeyRef, binding: Binding, cut: bool, at: &'static Location<'static>) -> Self {
        self.own().push(Entry { key, binding, at, cut, older: None });
        self
    }

    /// The newest node, to be changed: itself if nobody else holds it, else a new one on top.
    fn own(&mut self) -> &mut Node {
        if Arc::get_mut(&mut self.0).is_none() {
            let old = &self.0;
            let parent = if old.chain >= MAX_CHAIN { shortened(old) } else { old.clone() };
            self.0 = Arc::new(Node {
                entries: Vec::with_capacity(4),
                index: None,
                chain: parent.chain + 1,
                offers: old.offers.clone(),
                excluded: old.excluded.clone(),
                restricted: old.restricted,
                control: old.control,
                floor: old.floor.clone(),
                parent: Some(parent),
            });
        }
        match Arc::get_mut(&mut self.0) {
            Some(node) => node,
            None => unreachable!("the node was just found or made to be ours alone"),
        }
    }

    /// Whether any key is bound that the resolver itself reads.
    pub(crate) fn has_control(&self) -> bool {
        self.0.control
    }

    pub(crate) fn offers(&self) -> &Arc<Vec<Offer>> {
        &self.0.offers
    }

    pub(crate) fn excluded(&self) -> &[KeyRef] {
        &self.0.excluded
    }

    /// The nodes, newest first, the floor last.
    fn nodes(&self) -> impl Iterator<Item = &Node> {
        core::iter::successors(Some(&*self.0), |node| node.parent.as_deref()).chain(self.0.floor.as_deref())
    }

    fn node(&self, number: u32) -> &Node {
        let mut node = &*self.0;
        for _ in 0..number {
            match node.parent.as_deref().or(self.0.floor.as_deref()) {
                Some(older) => node = older,
                None => unreachable!("entry ids are made from this context"),
            }
        }
        node
    }

    pub(crate) fn entry(&self, id: EntryId) -> &Entry {
        &self.node(id.node).entries[(u32::MAX - id.from_top) as usize]
    }

    /// The next older binding of `key` from `cursor` on, and where to go on from there.
    pub(crate) fn next(&self, key: KeyRef, cursor: Cursor) -> Option<(EntryId, &Entry, Cursor)> {
        let (first, mut below) = match cursor {
            Cursor::Node(node) => (node, None),
            Cursor::Below(id) => (id.node, Some(id)),
            Cursor::End => return None,
        };
        let mut node = self.node(first);
        let mut number = first;
        loop {
            if let Some(i) = node.newest(key, below.take()) {
                let entry = &node.entries[i as usize];
                let id = EntryId { node: number, from_top: u32::MAX - i };
                let next = if entry.cut { Cursor::End } else { Cursor::Below(id) };
                return match entry.binding {
                    Binding::Nothing => None,
                    _ => Some((id, entry, next)),
                };
            }
            number += 1;
            node = match &node.parent {
                Some(parent) => parent,
                // The floor has no parent: it is where the search ends.
                None if number == self.0.chain => self.0.floor.as_deref()?,
                None => return None,
            };
        }
    }

    /// All bindings of `key`, newest first.
    pub(crate) fn bindings(&self, key: KeyRef) -> impl Iterator<Item = (EntryId, &Entry)> {
        let mut cursor = Cursor::Node(0);
        core::iter::from_fn(move || {
            let (id, entry, next) = self.next(key, cursor)?;
            cursor = next;
            Some((id, entry))
        })
    }

    /// The newest binding of `key`, as far as it is known without running anything.
    pub(crate) fn plain(&self, key: KeyRef) -> Plain<'_> {
        match self.next(key, Cursor::Node(0)) {
            None => Plain::Absent,
            Some((_, entry, _)) => match &entry.binding {
                Binding::Value(value) => Plain::Value(value),
                _ => Plain::Derived(entry.at),
            },
        }
    }

    /// All keys that are bound, in the order in which they were first bound.
    pub(crate) fn keys(&self) -> Vec<KeyRef> {
        let mut seen = Index::default();
        let mut keys = Vec::new();
        for entry in self.entries_oldest_first() {
            if seen.insert(entry.key.address(), 0).is_none() {
                keys.push(entry.key);
            }
        }
        keys
    }

    fn entries_oldest_first(&self) -> impl Iterator<Item = &Entry> {
        let nodes: Vec<&Node> = self.nodes().collect();
        nodes.into_iter().rev().flat_map(|node| &node.entries)
    }

    fn len(&self) -> usize {
        self.nodes().map(|node| node.entries.len()).sum()
    }

    /// Whether this very binding is one of those of its key.
    fn holds(&self, entry: &Entry) -> bool {
        self.bindings(entry.key).any(|(_, other)| other.binding.identity() == entry.binding.identity())
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    fn push(&mut self, mut entry: Entry) {
        let i = self.entries.len() as u32;
        self.control |= entry.key.is_control();
        if self.index.is_none() && self.entries.len() == SCANNED {
            let mut index = Index::default();
            for (i, entry) in self.entries.iter_mut().enumerate() {
                entry.older = index.insert(entry.key.address(), i as u32);
            }
            self.index = Some(index);
        }
        if let Some(index) = &mut self.index {
            entry.older = index.insert(entry.key.address(), i);
        }
        self.entries.push(entry);
    }

    /// The newest entry of `key` here, of those older than `below`.
    fn newest(&self, key: KeyRef, below: Option<EntryId>) -> Option<u32> {
        let below = below.map(|id| u32::MAX - id.from_top);
        match (&self.index, below) {
            (Some(index), None) => index.get(key.address()),
            (Some(_), Some(i)) => self.entries[i as usize].older,
            (None, below) => {
                let mut i = below.map_or(self.entries.len(), |i| i as usize);
                while i > 0 {
                    i -= 1;
                    if self.entries[i].key == key {
                        return Some(i as u32);
                    }
                }
                None
            }
        }
    }
}

impl Offer {
    fn new(endpoint: &'static dyn AnyEndpoint, priority: Option<i32>) -> Self {
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

/// Adds `offer` in its place; one of the same key is replaced.
fn add_offer(offers: &mut Vec<Offer>, offer: Offer) {
    offers.retain(|other| other.key() != offer.key());
    let place = offers.partition_point(|other| other.rank() <= offer.rank());
    offers.insert(place, offer);
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
        floor: None,
        chain: next.map_or(0, |parent| parent.chain) + 1,
        offers: node.offers.clone(),
        excluded: node.excluded.clone(),
        restricted: node.restricted,
        control: node.control,
    };
    for entry in nodes.iter().rev().flat_map(|node| &node.entries) {
        merged.push(entry.clone());
    }
    Arc::new(merged)
}

/// `newer` over `older`. What both hold keeps its newest place. The smaller side is what is copied.
fn merge(older: Context, newer: Context) -> Context {
    if Arc::ptr_eq(&older.0, &newer.0) {
        return newer;
    }
    let mut excluded = (*older.0.excluded).clone();
    excluded.extend(newer.0.excluded.iter());
    let mut offers = Vec::new();
    if newer.0.restricted {
        excluded.extend(older.0.offers.iter().map(Offer::key));
    } else {
        offers.clone_from(&older.0.offers);
    }
    for offer in newer.0.offers.iter() {
        add_offer(&mut offers, *offer);
    }
    excluded.retain(|key| !offers.iter().any(|offer| offer.key() == *key));
    let mut seen = Vec::new();
    excluded.retain(|key| {
        !seen.contains(key) && {
            seen.push(*key);
            true
        }
    });
    let restricted = older.0.restricted || newer.0.restricted;
    let control = older.0.control || newer.0.control;

    let mut merged;
    if older.len() <= newer.len() {
        let mut floor = Node::default();
        let old_floor = newer.0.floor.iter().flat_map(|floor| &floor.entries);
        for entry in older.entries_oldest_first().filter(|entry| !newer.holds(entry)).chain(old_floor) {
            floor.push(entry.clone());
        }
        merged = newer;
        merged.own().floor = Some(Arc::new(floor));
    } else {
        merged = older;
        if newer.entries_oldest_first().any(|entry| merged.holds(entry)) {
            let mut rest = Context::new();
            for entry in merged.entries_oldest_first().filter(|entry| !newer.holds(entry)) {
                rest.own().push(entry.clone());
            }
            merged = rest;
        }
        for entry in newer.entries_oldest_first() {
            merged.own().push(entry.clone());
        }
    }
    let node = merged.own();
    (node.offers, node.excluded) = (Arc::new(offers), Arc::new(excluded));
    (node.restricted, node.control) = (restricted, control);
    merged
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("keys", &self.keys())
            .field("offers", &self.0.offers.iter().map(Offer::key).collect::<Vec<_>>())
            .finish()
    }
}
