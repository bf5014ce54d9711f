//! One adapter per foreign trait, one file each.

#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(feature = "hyper")]
mod hyper;
#[cfg(feature = "hyper")]
pub use hyper::Unboxed;
#[cfg(feature = "tokio")]
mod tokio;

/// Lends `slices` as plain byte slices, at most 64 of them (a short write, as the traits allow).
#[cfg(any(feature = "tokio", feature = "futures-io", feature = "hyper"))]
pub(crate) fn as_bytes<R>(slices: &[std::io::IoSlice<'_>], write: impl FnOnce(&[&[u8]]) -> R) -> R {
    fn lend<const N: usize, R>(slices: &[std::io::IoSlice<'_>], write: impl FnOnce(&[&[u8]]) -> R) -> R {
        let mut bytes: [&[u8]; N] = [&[]; N];
        let n = slices.len().min(N);
        for (bytes, slice) in bytes.iter_mut().zip(slices) {
            *bytes = slice;
        }
        write(&bytes[..n])
    }
    if slices.len() <= 8 { lend::<8, R>(slices, write) } else { lend::<64, R>(slices, write) }
}

/// Lends `bytes` as `IoSlice`s, at most 64 of them (a short write, as the traits allow).
#[cfg(any(feature = "tokio", feature = "futures-io"))]
pub(crate) fn as_io_slices<R>(bytes: &[&[u8]], write: impl FnOnce(&[std::io::IoSlice<'_>]) -> R) -> R {
    fn lend<const N: usize, R>(bytes: &[&[u8]], write: impl FnOnce(&[std::io::IoSlice<'_>]) -> R) -> R {
        let mut slices = [std::io::IoSlice::new(&[]); N];
        let n = bytes.len().min(N);
        for (slice, bytes) in slices.iter_mut().zip(bytes) {
            *slice = std::io::IoSlice::new(bytes);
        }
        write(&slices[..n])
    }
    if bytes.len() <= 8 { lend::<8, R>(bytes, write) } else { lend::<64, R>(bytes, write) }
}
