//! Derivations: their arguments, their outcomes, and what is behind a context's `derive`.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::error::Error;
use core::fmt;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context as TaskContext, Poll};

use crate::protocol::{AnyEndpoint, Dial, Value};
use crate::{BoxFuture, Key, KeyRef};

/// Why a derivation gave no value: it declined, or it failed. Any error converts with `?`.
pub enum Stop {
    /// "Not me": the next older binding is tried.
    Decline(Cow<'static, str>),
    /// An error: no older binding stands in.
    Fail(Box<dyn Error + Send + Sync>),
}

/// Says "not me", and why: `Err(decline("the scheme is not tls"))`.
pub fn decline(why: impl Into<Cow<'static, str>>) -> Stop {
    Stop::Decline(why.into())
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Fail(error.into())
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decline(why) => f.debug_tuple("Decline").field(why).finish(),
            Self::Fail(error) => f.debug_tuple("Fail").field(error).finish(),
        }
    }
}

/// Several values for one key: all at once, or as they become known. None at all is a decline.
pub enum Many<T> {
    /// All at once.
    All(Vec<T>),
    /// As they become known; see [`Many::poll_fn`].
    Stream(Pin<Box<dyn Values<T>>>),
}

/// Values that become known over time.
pub trait Values<T>: Send {
    /// The next value, or `None` after the last. An error stands for one value that could not be had.
    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Result<T, Stop>>>;
}

impl<T> Many<T> {
    /// Values from a poll function, like `core::future::poll_fn`.
    pub fn poll_fn<F>(poll: F) -> Self
    where
        F: FnMut(&mut TaskContext<'_>) -> Poll<Option<Result<T, Stop>>> + Send + Unpin + 'static,
    {
        Self::Stream(Box::pin(PollFn(poll)))
    }
}

struct PollFn<F>(F);

impl<T, F> Values<T> for PollFn<F>
where
    F: FnMut(&mut TaskContext<'_>) -> Poll<Option<Result<T, Stop>>> + Send + Unpin,
{
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Result<T, Stop>>> {
        (self.0)(cx)
    }
}

impl<T> From<Vec<T>> for Many<T> {
    fn from(values: Vec<T>) -> Self {
        Self::All(values)
    }
}

impl<T> fmt::Debug for Many<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(values) => write!(f, "Many({})", values.len()),
            Self::Stream(_) => f.write_str("Many(stream)"),
        }
    }
}

/// Requires a value of `key`: without one, the derivation is missing something.
pub fn req<T: Clone + 'static>(key: &'static Key<T>) -> Req<T> {
    Req(key)
}

/// The value of `key` if there is one. Falls back on absence, never on an error.
pub fn opt<T: Clone + 'static>(key: &'static Key<T>) -> Opt<T> {
    Opt(key)
}

/// The value of `key`, or `default` on absence, never on an error.
pub fn or<T: Clone + Send + Sync + 'static>(key: &'static Key<T>, default: T) -> Or<T> {
    Or(key, default)
}

/// A guard: declines unless the value of `key` is `value`. Yields `()`. Arguments are had from
/// left to right, so a guard in front spares what stands behind it.
pub fn is<T, V>(key: &'static Key<T>, value: V) -> Is<T, V>
where
    T: PartialEq<V> + 'static,
    V: fmt::Debug + Send + Sync + 'static,
{
    Is(key, value)
}

/// Requires something that can be opened: the endpoint and its protocol, not yet connected.
pub fn dial(endpoint: &'static dyn AnyEndpoint) -> DialArg {
    DialArg(endpoint)
}

/// See [`req`].
pub struct Req<T: 'static>(&'static Key<T>);
/// See [`opt`].
pub struct Opt<T: 'static>(&'static Key<T>);
/// See [`or`].
pub struct Or<T: 'static>(&'static Key<T>, T);
/// See [`is`].
pub struct Is<T: 'static, V>(&'static Key<T>, V);
/// See [`dial`].
pub struct DialArg(&'static dyn AnyEndpoint);

macro_rules! debug_as_key {
    ($name:literal, $type:ty, [$($generics:tt)*]) => {
        impl<$($generics)*> fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($name, "({})"), self.0.name())
            }
        }
    };
}
debug_as_key!("req", Req<T>, [T]);
debug_as_key!("opt", Opt<T>, [T]);
debug_as_key!("or", Or<T>, [T]);
debug_as_key!("is", Is<T, V>, [T, V]);

impl fmt::Debug for DialArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dial({})", self.0.key_ref())
    }
}

/// What the resolver must know of one argument.
#[derive(Clone, Copy)]
pub struct ArgSpec {
    pub(crate) key: KeyRef,
    /// Whether the derivation can do without it.
    pub(crate) optional: bool,
    /// Whether it is a guard, to be checked as soon as it is had.
    pub(crate) guard: bool,
}

impl fmt::Debug for ArgSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

/// An argument as the resolver hands it over: absent only where it is optional.
#[allow(unreachable_pub)] // named by a sealed method of a public trait
pub type Had<'a> = Option<&'a Value>;

/// One argument of a derivation: [`req`], [`opt`], [`or`], [`is`] or [`dial`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an argument of a derivation",
    label = "not an argument of a derivation",
    note = "write `req(&KEY)`, `opt(&KEY)`, `or(&KEY, default)`, `is(&KEY, value)` or `dial(&ENDPOINT)`"
)]
pub trait Arg: Send + Sync + 'static {
    /// What the closure gets for it.
    type Value;
    #[doc(hidden)]
    fn spec(&self) -> ArgSpec;
    #[doc(hidden)]
    fn accepts(&self, _value: &dyn Any) -> bool {
        true
    }
    #[doc(hidden)]
    fn wanted(&self) -> Option<String> {
        None
    }
    #[doc(hidden)]
    fn get(&self, had: Had<'_>) -> Self::Value;
}

/// The value of an argument. The key's type and the resolver's order guarantee that it is there.
fn cloned<T: Clone + 'static>(had: Had<'_>) -> T {
    match had.and_then(|value| value.downcast_ref::<T>()) {
        Some(value) => value.clone(),
        None => unreachable!("a required argument is had, and of its key's type, before the derivation runs"),
    }
}

impl<T: Clone + Send + Sync + 'static> Arg for Req<T> {
    type Value = T;
    fn spec(&self) -> ArgSpec {
        ArgSpec { key: self.0.erase(), optional: false, guard: false }
    }
    fn get(&self, had: Had<'_>) -> T {
        cloned(had)
    }
}

impl<T: Clone + Send + Sync + 'static> Arg for Opt<T> {
    type Value = Option<T>;
    fn spec(&self) -> ArgSpec {
        ArgSpec { key: self.0.erase(), optional: true, guard: false }
    }
    fn get(&self, had: Had<'_>) -> Option<T> {
        had.is_some().then(|| cloned(had))
    }
}

impl<T: Clone + Send + Sync + 'static> Arg for Or<T> {
    type Value = T;
    fn spec(&self) -> ArgSpec {
        ArgSpec { key: self.0.erase(), optional: true, guard: false }
    }
    fn get(&self, had: Had<'_>) -> T {
        if had.is_some() { cloned(had) } else { self.1.clone() }
    }
}

impl<T, V> Arg for Is<T, V>
where
    T: PartialEq<V> + Send + Sync + 'static,
    V: fmt::Debug + Send + Sync + 'static,
{
    type Value = ();
    fn spec(&self) -> ArgSpec {
        ArgSpec { key: self.0.erase(), optional: false, guard: true }
    }
    fn accepts(&self, value: &dyn Any) -> bool {
        value.downcast_ref::<T>().is_some_and(|value| *value == self.1)
    }
    fn wanted(&self) -> Option<String> {
        Some(if self.0.erase().is_sensitive() { "<hidden>".into() } else { alloc::format!("{:?}", self.1) })
    }
    fn get(&self, _had: Had<'_>) {}
}

impl Arg for DialArg {
    type Value = Dial;
    fn spec(&self) -> ArgSpec {
        ArgSpec { key: self.0.key_ref(), optional: false, guard: false }
    }
    fn get(&self, had: Had<'_>) -> Dial {
        match had {
            Some(value) => Dial { endpoint: self.0, value: value.clone() },
            None => unreachable!("a required argument is had before the derivation runs"),
        }
    }
}

/// The arguments of a derivation: one [`Arg`], or a tuple of up to twelve.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither an argument of a derivation nor a tuple of them",
    label = "neither an argument nor a tuple of them",
    note = "give one argument, `req(&HOST)`, or a tuple of up to twelve: `(req(&HOST), or(&PORT, 80))`"
)]
pub trait Args: Send + Sync + 'static {
    /// What the closure gets: the bare value of a single argument, else a tuple.
    type Values;
    #[doc(hidden)]
    type Specs: AsRef<[ArgSpec]> + Send + Sync;
    #[doc(hidden)]
    fn specs(&self) -> Self::Specs;
    #[doc(hidden)]
    fn accepts(&self, index: usize, value: &dyn Any) -> bool;
    #[doc(hidden)]
    fn wanted(&self, index: usize) -> Option<String>;
    #[doc(hidden)]
    fn get(&self, had: &[Had<'_>]) -> Self::Values;
}

/// What was had for the argument at `index`.
fn at<'a>(had: &[Had<'a>], index: usize) -> Had<'a> {
    had.get(index).copied().flatten()
}

macro_rules! single {
    ($type:ty, [$($generics:tt)*]) => {
        impl<$($generics)*> Args for $type
        where
            $type: Arg,
        {
            type Values = <$type as Arg>::Value;
            type Specs = [ArgSpec; 1];
            fn specs(&self) -> Self::Specs {
                [self.spec()]
            }
            fn accepts(&self, _index: usize, value: &dyn Any) -> bool {
                Arg::accepts(self, value)
            }
            fn wanted(&self, _index: usize) -> Option<String> {
                Arg::wanted(self)
            }
            fn get(&self, had: &[Had<'_>]) -> Self::Values {
                Arg::get(self, at(had, 0))
            }
        }
    };
}
single!(Req<T>, [T]);
single!(Opt<T>, [T]);
single!(Or<T>, [T]);
single!(Is<T, V>, [T, V]);
single!(DialArg, []);

macro_rules! tuple {
    ($count:literal: $($arg:ident $index:tt),*) => {
        impl<$($arg: Arg),*> Args for ($($arg,)*) {
            type Values = ($($arg::Value,)*);
            type Specs = [ArgSpec; $count];
            fn specs(&self) -> Self::Specs {
                [$(self.$index.spec(),)*]
            }
            fn accepts(&self, index: usize, value: &dyn Any) -> bool {
                match index {
                    $($index => self.$index.accepts(value),)*
                    _ => true,
                }
            }
            fn wanted(&self, index: usize) -> Option<String> {
                match index {
                    $($index => self.$index.wanted(),)*
                    _ => None,
                }
            }
            fn get(&self, had: &[Had<'_>]) -> Self::Values {
                ($(self.$index.get(at(had, $index)),)*)
            }
        }
    };
}
tuple!(1: A 0);
tuple!(2: A 0, B 1);
tuple!(3: A 0, B 1, C 2);
tuple!(4: A 0, B 1, C 2, D 3);
tuple!(5: A 0, B 1, C 2, D 3, E 4);
tuple!(6: A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(7: A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuple!(9: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuple!(10: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
tuple!(11: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
tuple!(12: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);

/// No arguments: for a derivation that needs nothing.
impl Args for () {
    type Values = ();
    type Specs = [ArgSpec; 0];
    fn specs(&self) -> Self::Specs {
        []
    }
    fn accepts(&self, _index: usize, _value: &dyn Any) -> bool {
        true
    }
    fn wanted(&self, _index: usize) -> Option<String> {
        None
    }
    fn get(&self, _had: &[Had<'_>]) {}
}

/// Why a derivation gave no value, to be shared by all who depend on it.
pub(crate) enum Halt {
    Decline(Cow<'static, str>),
    Fail(Arc<dyn Error + Send + Sync>),
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Decline(why) => Self::Decline(why),
            Stop::Fail(error) => Self::Fail(error.into()),
        }
    }
}

/// What a running derivation ends with.
pub(crate) enum Yielded {
    One(Value),
    Many(Vec<Value>),
    Stream(ErasedStream),
}

/// A derivation that was polled once.
pub(crate) enum Started {
    Ended(Result<Yielded, Halt>),
    Running(BoxFuture<'static, Result<Yielded, Halt>>),
}

/// A derivation without its types.
pub(crate) trait Derivation: Send + Sync {
    fn specs(&self) -> &[ArgSpec];
    fn accepts(&self, index: usize, value: &dyn Any) -> bool;
    fn wanted(&self, index: usize) -> Option<String>;
    fn run(&self, had: &[Had<'_>]) -> BoxFuture<'static, Result<Yielded, Halt>>;
    /// Runs it as far as it goes at once.
    fn start(&self, had: &[Had<'_>], cx: &mut TaskContext<'_>) -> Started;
    /// What makes it shared, if it is: whether an outcome that it gave before is still good.
    fn shared(&self) -> Option<&crate::shared::Shared>;
}

/// Values without their type, as they become known.
pub(crate) type ErasedStream = Pin<Box<dyn Values<Value>>>;

struct Erase<T>(Pin<Box<dyn Values<T>>>);

impl<T: Send + Sync + 'static> Values<Value> for Erase<T> {
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Value, Stop>>> {
        self.0
            .as_mut()
            .poll_next(cx)
            .map(|next| next.map(|value| value.map(|value| Arc::new(value) as Value)))
    }
}

/// A derivation of one value.
pub(crate) struct One<A: Args, F, T> {
    pub(crate) args: A,
    pub(crate) specs: A::Specs,
    pub(crate) f: F,
    pub(crate) value: PhantomData<fn() -> T>,
    pub(crate) shared: Option<crate::shared::Shared>,
}

impl<T, A, F, Fut> Derivation for One<A, F, T>
where
    T: Send + Sync + 'static,
    A: Args,
    F: Fn(A::Values) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, Stop>> + Send + 'static,
{
    fn specs(&self) -> &[ArgSpec] {
        self.specs.as_ref()
    }
    fn accepts(&self, index: usize, value: &dyn Any) -> bool {
        self.args.accepts(index, value)
    }
    fn wanted(&self, index: usize) -> Option<String> {
        self.args.wanted(index)
    }
    fn run(&self, had: &[Had<'_>]) -> BoxFuture<'static, Result<Yielded, Halt>> {
        let future = (self.f)(self.args.get(had));
        Box::pin(async move { Ok(Yielded::One(Arc::new(future.await?))) })
    }
    fn start(&self, had: &[Had<'_>], cx: &mut TaskContext<'_>) -> Started {
        // Polled here, where its type is known: most end at once.
        let mut future = Box::pin((self.f)(self.args.get(had)));
        match future.as_mut().poll(cx) {
            Poll::Ready(Ok(value)) => Started::Ended(Ok(Yielded::One(Arc::new(value)))),
            Poll::Ready(Err(stop)) => Started::Ended(Err(stop.into())),
            Poll::Pending => {
                Started::Running(Box::pin(async move { Ok(Yielded::One(Arc::new(future.await?))) }))
            }
        }
    }
    fn shared(&self) -> Option<&crate::shared::Shared> {
        self.shared.as_ref()
    }
}

/// A derivation of several values.
pub(crate) struct Several<A: Args, F, T> {
    pub(crate) args: A,
    pub(crate) specs: A::Specs,
    pub(crate) f: F,
    pub(crate) value: PhantomData<fn() -> T>,
}

impl<T, M, A, F, Fut> Derivation for Several<A, F, (T, M)>
where
    T: Send + Sync + 'static,
    M: Into<Many<T>> + 'static,
    A: Args,
    F: Fn(A::Values) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<M, Stop>> + Send + 'static,
{
    fn specs(&self) -> &[ArgSpec] {
        self.specs.as_ref()
    }
    fn accepts(&self, index: usize, value: &dyn Any) -> bool {
        self.args.accepts(index, value)
    }
    fn wanted(&self, index: usize) -> Option<String> {
        self.args.wanted(index)
    }
    fn run(&self, had: &[Had<'_>]) -> BoxFuture<'static, Result<Yielded, Halt>> {
        let future = (self.f)(self.args.get(had));
        Box::pin(async move {
            Ok(match future.await?.into() {
                Many::All(values) => {
                    Yielded::Many(values.into_iter().map(|value| Arc::new(value) as Value).collect())
                }
                Many::Stream(values) => Yielded::Stream(Box::pin(Erase(values))),
            })
        })
    }
    fn start(&self, had: &[Had<'_>], cx: &mut TaskContext<'_>) -> Started {
        let mut future = self.run(had);
        match future.as_mut().poll(cx) {
            Poll::Ready(result) => Started::Ended(result),
            Poll::Pending => Started::Running(future),
        }
    }
    fn shared(&self) -> Option<&crate::shared::Shared> {
        None
    }
}
