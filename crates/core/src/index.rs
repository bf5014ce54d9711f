//! A small map from addresses to numbers: scanned while short, hashed when long.

use alloc::vec::Vec;

/// Up to this many pairs are scanned.
const SCANNED: usize = 8;

#[derive(Clone, Default)]
pub(crate) struct Index {
    /// Up to `SCANNED` pairs in order of insertion; beyond, a hash table with linear probing, at
    /// most half full. An address of 0 is an empty place.
    pairs: Vec<(usize, u32)>,
    len: usize,
}

impl Index {
    pub(crate) fn get(&self, address: usize) -> Option<u32> {
        if self.len <= SCANNED {
            return self.pairs.iter().find(|pair| pair.0 == address).map(|pair| pair.1);
        }
        let mask = self.pairs.len() - 1;
        let mut i = hash(address) & mask;
        loop {
            match self.pairs[i] {
                (0, _) => return None,
                (found, value) if found == address => return Some(value),
                _ => i = (i + 1) & mask,
            }
        }
    }

    /// What `address`, which is not 0, is mapped to: `value` if it was not mapped before.
    pub(crate) fn get_or_insert(&mut self, address: usize, value: u32) -> u32 {
        self.get(address).unwrap_or_else(|| {
            self.insert(address, value);
            value
        })
    }

    /// Maps `address`, which is not 0, to `value`; returns what it was mapped to.
    pub(crate) fn insert(&mut self, address: usize, value: u32) -> Option<u32> {
        if self.len <= SCANNED {
            if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.0 == address) {
                return Some(core::mem::replace(&mut pair.1, value));
            }
            if self.len < SCANNED {
                self.pairs.push((address, value));
                self.len += 1;
                return None;
            }
        }
        if self.len == SCANNED || self.len * 2 >= self.pairs.len() {
            let size = (self.len * 4).next_power_of_two();
            let old = core::mem::replace(&mut self.pairs, alloc::vec![(0, 0); size]);
            for (address, value) in old.into_iter().filter(|pair| pair.0 != 0) {
                self.place(address, value);
            }
        }
        let old = self.place(address, value);
        self.len += usize::from(old.is_none());
        old
    }

    fn place(&mut self, address: usize, value: u32) -> Option<u32> {
        let mask = self.pairs.len() - 1;
        let mut i = hash(address) & mask;
        loop {
            match &mut self.pairs[i] {
                (found, old) if *found == address => return Some(core::mem::replace(old, value)),
                pair if pair.0 == 0 => {
                    *pair = (address, value);
                    return None;
                }
                _ => i = (i + 1) & mask,
            }
        }
    }
}

/// Fibonacci hashing: addresses differ in their middle bits.
fn hash(address: usize) -> usize {
    (address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(24) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_or_long_it_maps_alike() {
        let mut index = Index::default();
        for n in 1..=1000 {
            assert_eq!(index.insert(n * 8, n as u32), None);
            assert_eq!(index.insert(n * 8, n as u32 + 1), Some(n as u32));
            assert_eq!(index.get(n * 8 + 8), None);
        }
        for n in 1..=1000 {
            assert_eq!(index.get(n * 8), Some(n as u32 + 1));
        }
    }
}
