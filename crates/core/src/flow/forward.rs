//! What a wrapper does not change.

/// Methods of a [`RawFlow`](crate::RawFlow) that pass on to the flow in a field, for a wrapper that changes nothing about
/// them:
///
/// | word | methods |
/// |---|---|
/// | `read` | `poll_read` |
/// | `write` | `poll_write`, `poll_flush`, `poll_shutdown` |
/// | `lend` | `can_fill`, `poll_fill`, `consume` |
/// | `itself` | `as_any`, `as_any_mut`: the wrapper |
/// | `lower` | `lower`, `lower_mut` |
/// | `unwrap` | `into_lower`: the flow, with no bytes left over |
///
/// ```
/// use tuyau_core::{Ask, Flow, Key, RawFlow, forward};
///
/// static ROUTE: Key<&str> = Key::new("route");
///
/// struct Routed {
///     flow: Flow,
///     route: &'static str,
/// }
///
/// impl RawFlow for Routed {
///     forward!(flow: read write lend itself lower unwrap);
///
///     fn fact(&self, ask: &mut Ask<'_>) {
///         ask.answer(&ROUTE, || self.route);
///     }
/// }
/// ```
#[macro_export]
macro_rules! forward {
    ($flow:tt: $($word:ident)+) => { $($crate::forward!(@$word $flow);)+ };
    (@read $flow:tt) => {
        fn poll_read(
            &mut self,
            cx: &mut ::core::task::Context<'_>,
            buf: &mut $crate::ReadBuf<'_>,
        ) -> ::core::task::Poll<Result<(), $crate::FlowError>> {
            self.$flow.poll_read(cx, buf)
        }
    };
    (@write $flow:tt) => {
        fn poll_write(
            &mut self,
            cx: &mut ::core::task::Context<'_>,
            bytes: &[&[u8]],
        ) -> ::core::task::Poll<Result<usize, $crate::FlowError>> {
            self.$flow.poll_write(cx, bytes)
        }

        fn poll_flush(
            &mut self,
            cx: &mut ::core::task::Context<'_>,
        ) -> ::core::task::Poll<Result<(), $crate::FlowError>> {
            self.$flow.poll_flush(cx)
        }

        fn poll_shutdown(
            &mut self,
            cx: &mut ::core::task::Context<'_>,
        ) -> ::core::task::Poll<Result<(), $crate::FlowError>> {
            self.$flow.poll_shutdown(cx)
        }
    };
    (@lend $flow:tt) => {
        fn can_fill(&self) -> bool {
            self.$flow.can_fill()
        }

        fn poll_fill(
            &mut self,
            cx: &mut ::core::task::Context<'_>,
        ) -> ::core::task::Poll<Result<&[u8], $crate::FlowError>> {
            self.$flow.poll_fill(cx)
        }

        fn consume(&mut self, n: usize) {
            self.$flow.consume(n);
        }
    };
    (@itself $flow:tt) => {
        fn as_any(&self) -> &dyn ::core::any::Any {
            self
        }

        fn as_any_mut(&mut self) -> &mut dyn ::core::any::Any {
            self
        }
    };
    (@lower $flow:tt) => {
        fn lower(&self) -> Option<&$crate::Flow> {
            Some(&self.$flow)
        }

        fn lower_mut(&mut self) -> Option<&mut $crate::Flow> {
            Some(&mut self.$flow)
        }
    };
    (@unwrap $flow:tt) => {
        fn into_lower(
            self: $crate::__forward::Box<Self>,
        ) -> Result<($crate::Flow, $crate::__forward::Vec<u8>), $crate::__forward::Box<dyn $crate::RawFlow>> {
            Ok((self.$flow, $crate::__forward::Vec::new()))
        }
    };
}
