//! One module per hop: its rows in the table, its options, and the net beyond it.

#[cfg(any(feature = "socks5", feature = "http"))]
pub(crate) mod env;
pub(crate) mod exec;
pub(crate) mod http;
pub(crate) mod socks5;
pub(crate) mod ssh;
pub(crate) mod tap;

/// Who to be, as the URI of a proxy says it.
#[cfg(any(feature = "socks5", feature = "http"))]
fn credentials(uri: &crate::Uri) -> Option<tuyau_proxy::Credentials> {
    let (user, _) = uri.user.as_ref()?;
    let password = user.password.as_deref().unwrap_or_default();
    Some(tuyau_proxy::Credentials::new(user.name.as_str(), password))
}

/// What a hop of a feature that is off would do: it is not parsed, so this does not run.
#[allow(dead_code, reason = "each feature that is off needs it")]
pub(crate) fn absent(
    uri: &crate::Uri,
    _: tuyau_core::Context,
    _: bool,
) -> Result<tuyau_core::SharedNet, crate::UriError> {
    Err(uri.unusable("this build lacks it"))
}
