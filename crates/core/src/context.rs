//! Contexts: persistent, typed, heterogeneous maps from keys to bindings.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::iter::successors;
use core::marker::PhantomData;
use core::panic::Location;

use crate::derive::{Args, Many, One, Several, Stop};
use crate::index::Index;
use crate::names::{LAYER, NET};
pub(crate) use crate::node::{Binding, Entry, EntryId, Offer};
use crate::node::{Node, Whole};
use crate::protocol::{AnyEndpoint, Value};
use crate::shared::Shared;
use crate::{
    ConnectCx, ConnectError, ConnectErrorKind, Error, Flow, Hop, Key, KeyRef, Prefixed, Report, Resolved,
    Role, Unfolded, resolve,
};

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

/// A binding that is read without running anything.
pub(crate) enum Plain<'a> {
    Absent,
    Value(&'a Value),
    Derived(&'static Location<'static>),
}

impl Context {
    /// The empty context: nothing is bound, nothing is offered.
    pub fn new() -> Self {
        Self(Arc::new(Node::default()))
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
        let derivation = One { specs: args.specs(), args, f, value: PhantomData, shared: None };
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
        let derivation = One { specs: args.specs(), args, f, value: PhantomData, shared };
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
        let derivation = Several { specs: args.specs(), args, f, value: PhantomData::<fn() -> (T, M)> };
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
    pub fn only(self, endpoint: &'static dyn AnyEndpoint) -> Self {
        let keep = endpoint.key_ref();
        self.change_whole(|whole| {
            let excluded = whole.offers.extract_if(.., |offer| offer.key() != keep);
            whole.excluded.extend(excluded.map(|offer| offer.key()));
            whole.restricted = true;
        })
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

    fn offer_as(self, endpoint: &'static dyn AnyEndpoint, priority: Option<i32>) -> Self {
        let offer = Offer::new(endpoint, priority);
        self.change_whole(|whole| {
            whole.add_offer(offer);
            whole.excluded.retain(|key| *key != offer.key());
        })
    }

    #[inline(always)] // or the entry is moved on its way
    fn push(mut self, key: KeyRef, binding: Binding, cut: bool, at: &'static Location<'static>) -> Self {
        let entry = Entry { key, binding, at, cut, older: None };
        if let Some(node) = self.own() {
            node.push(entry);
            return self;
        }
        let mut node = Node::over(self.0);
        node.push(entry);
        Self(Arc::new(node))
    }

    /// The newest node, if nobody else holds it.
    #[inline]
    fn own(&mut self) -> Option<&mut Node> {
        // The count spares `get_mut` its exchange where it would fail.
        if Arc::strong_count(&self.0) == 1 { Arc::get_mut(&mut self.0) } else { None }
    }

    /// Changes the newest node: itself if nobody else holds it, else a new one on top.
    fn change(mut self, change: impl FnOnce(&mut Node)) -> Self {
        if let Some(node) = self.own() {
            change(node);
            return self;
        }
        let mut node = Node::over(self.0);
        change(&mut node);
        Self(Arc::new(node))
    }

    fn change_whole(self, change: impl FnOnce(&mut Whole)) -> Self {
        self.change(|node| change(node.whole_mut()))
    }

    /// Whether any key is bound that the resolver itself reads.
    pub(crate) fn has_control(&self) -> bool {
        self.0.control
    }

    /// In the order of the candidates.
    pub(crate) fn offers(&self) -> &[Offer] {
        &self.0.whole().offers
    }

    pub(crate) fn excluded(&self) -> &[KeyRef] {
        &self.0.whole().excluded
    }

    pub(crate) fn entry(&self, id: EntryId) -> &Entry {
        self.0.entry(id)
    }

    /// The newest binding of `key`.
    pub(crate) fn newest(&self, key: KeyRef) -> Option<(EntryId, &Entry)> {
        self.0.newest(key)
    }

    /// The next older binding of the same key.
    pub(crate) fn older(&self, id: EntryId, entry: &Entry) -> Option<(EntryId, &Entry)> {
        self.0.older(id, entry)
    }

    /// All bindings of `key`, newest first.
    pub(crate) fn bindings(&self, key: KeyRef) -> impl Iterator<Item = (EntryId, &Entry)> {
        successors(self.newest(key), |&(id, entry)| self.older(id, entry))
    }

    /// The newest binding of `key`, as far as it is known without running anything.
    pub(crate) fn plain(&self, key: KeyRef) -> Plain<'_> {
        match self.newest(key) {
            None => Plain::Absent,
            Some((_, entry)) => match &entry.binding {
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
        let nodes: Vec<&Node> = self.0.nodes().collect();
        nodes.into_iter().rev().flat_map(|node| &node.entries)
    }

    fn len(&self) -> usize {
        self.0.nodes().map(|node| node.entries.len()).sum()
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

/// `newer` over `older`. What both hold keeps its newest place. The smaller side is what is copied.
fn merge(older: Context, newer: Context) -> Context {
    if Arc::ptr_eq(&older.0, &newer.0) {
        return newer;
    }
    let (mut whole, of_newer) = (older.0.whole().clone(), newer.0.whole());
    whole.excluded.extend(&of_newer.excluded);
    if of_newer.restricted {
        whole.excluded.extend(whole.offers.drain(..).map(|offer| offer.key()));
        whole.restricted = true;
    }
    for offer in &of_newer.offers {
        whole.add_offer(*offer);
    }
    let mut seen: Vec<KeyRef> = whole.offers.iter().map(Offer::key).collect();
    whole.excluded.retain(|key| {
        let new = !seen.contains(key);
        seen.push(*key);
        new
    });
    let control = older.0.control || newer.0.control;

    let merged = if older.len() <= newer.len() {
        let mut floor = Node::default();
        let old_floor = of_newer.floor.iter().flat_map(|floor| &floor.entries);
        for entry in older.entries_oldest_first().filter(|entry| !newer.holds(entry)).chain(old_floor) {
            floor.push(entry.clone());
        }
        whole.floor = Some(Arc::new(floor));
        newer
    } else {
        let mut merged = older;
        if newer.entries_oldest_first().any(|entry| merged.holds(entry)) {
            let mut rest = Node::default();
            for entry in merged.entries_oldest_first().filter(|entry| !newer.holds(entry)) {
                rest.push(entry.clone());
            }
            whole.floor = None;
            merged = Context(Arc::new(rest));
        }
        merged.change(|node| newer.entries_oldest_first().for_each(|entry| node.push(entry.clone())))
    };
    merged.change(|node| {
        node.has_floor = whole.floor.is_some();
        node.whole = Some(Box::new(whole));
        node.control = control;
    })
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("keys", &self.keys())
            .field("offers", &self.offers().iter().map(Offer::key).collect::<Vec<_>>())
            .finish()
    }
}
