//! stub
mod allow;
mod schemes;
mod uri;
pub use allow::Allow;
pub use schemes::{Scheme, schemes};
pub use uri::{OptionInfo, Uri, UriError, UriErrorKind, UserInfo, uri};
