//! Derivations whose outcome lives with the binding.
pub(crate) struct Shared;
impl Shared {
    pub(crate) fn new<T: 'static>(_healthy: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        Self
    }
}
