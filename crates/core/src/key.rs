//! Keys: typed, named witnesses. A key's identity is its address, so keys are `static`s.

use core::any::Any;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use core::sync::atomic::AtomicBool;

use alloc::boxed::Box;

/// A typed, named witness under which a [`Context`](crate::Context) binds values.
///
/// Two keys are the same only if they are the same `static`; the name is for people, the type is
/// for the compiler. A `const` key would be a new key at each use, and does not compile.
///
/// ```
/// use tuyau_core::Key;
/// static PORT: Key<u16> = Key::new("port").shown();
/// static TOKEN: Key<String> = Key::new("token").sensitive();
/// assert_eq!(PORT.name(), "port");
/// ```
pub struct Key<T: ?Sized> {
    info: KeyInfo,
    value: PhantomData<fn() -> T>,
}

/// What stands for a secret.
pub(crate) const HIDDEN: &str = "<hidden>";

/// What all keys have, whatever their type.
pub(crate) struct KeyInfo {
    name: &'static str,
    sensitive: bool,
    /// Whether the resolver itself reads it: see `Key::control`.
    control: bool,
    show: Option<fn(&dyn Any, &mut fmt::Formatter<'_>) -> fmt::Result>,
    // Interior mutability keeps `&CONST_KEY` from being promoted to a `'static`.
    _anchor: AtomicBool,
}

impl<T: ?Sized> Key<T> {
    /// A key named `name`. Assign it to a `static`.
    pub const fn new(name: &'static str) -> Self {
        let info =
            KeyInfo { name, sensitive: false, control: false, show: None, _anchor: AtomicBool::new(false) };
        Self { info, value: PhantomData }
    }

    /// Marks the key's values as secret: no report, error or log shows them.
    pub const fn sensitive(mut self) -> Self {
        self.info.sensitive = true;
        self
    }

    /// Marks a key that the resolver reads for each resolution, so that contexts can tell it at once
    /// that they bind none.
    pub(crate) const fn control(mut self) -> Self {
        self.info.control = true;
        self
    }

    /// The name, for people. Never compared.
    pub const fn name(&self) -> &'static str {
        self.info.name
    }

    /// Whether the key's values are secret.
    pub const fn is_sensitive(&self) -> bool {
        self.info.sensitive
    }

    /// The key without its type.
    pub const fn erase(&'static self) -> KeyRef {
        KeyRef(&self.info)
    }
}

impl<T: 'static> Key<T> {
    /// A key made at run time. It is never freed: make one per configuration, not per request.
    pub fn leak(name: &'static str) -> &'static Self {
        Box::leak(Box::new(Self::new(name)))
    }
}

impl<T: fmt::Display + 'static> Key<T> {
    /// Lets reports show this key's values.
    pub const fn shown(mut self) -> Self {
        self.info.show = Some(|value, f| match value.downcast_ref::<T>() {
            Some(value) => fmt::Display::fmt(value, f),
            None => f.write_str("?"),
        });
        self
    }
}

impl<T: ?Sized> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.info.name)
    }
}

/// A key without its type: what contexts index by and reports name.
#[derive(Clone, Copy)]
pub struct KeyRef(&'static KeyInfo);

impl KeyRef {
    /// The name, for people.
    pub const fn name(self) -> &'static str {
        self.0.name
    }

    /// Whether the key's values are secret.
    pub const fn is_sensitive(self) -> bool {
        self.0.sensitive
    }

    pub(crate) const fn is_control(self) -> bool {
        self.0.control
    }

    /// The identity, as a number: stable while the program runs, different in each run.
    pub(crate) fn address(self) -> usize {
        self.0 as *const KeyInfo as usize
    }

    /// Writes `value` if this key shows its values, and says whether it did.
    pub(crate) fn show(self, value: &dyn Any, f: &mut fmt::Formatter<'_>) -> Result<bool, fmt::Error> {
        match (self.0.sensitive, self.0.show) {
            (true, _) => f.write_str(HIDDEN).map(|()| true),
            (false, Some(show)) => show(value, f).map(|()| true),
            (false, None) => Ok(false),
        }
    }
}

impl PartialEq for KeyRef {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.0, other.0)
    }
}

impl Eq for KeyRef {}

impl Hash for KeyRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address().hash(state);
    }
}

impl fmt::Debug for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}
