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
        let pair = self.pairs[self.probe(address)];
        (pair.0 != 0).then_some(pair.1)
    }

    /// What `address`, which is not 0, is mapped to: `value` if it was not mapped before.
    pub(crate) fn get_or_insert(&mut self, address: usize, value: u32) -> u32 {
        let (place, is_new) = self.place(address);
        if is_new {
            *place = value;
        }
        *place
    }

    /// Maps `address`, which is not 0, to `value`; returns what it was mapped to.
    pub(crate) fn insert(&mut self, address: usize, value: u32) -> Option<u32> {
        let (place, is_new) = self.place(address);
        let old = core::mem::replace(place, value);
        (!is_new).then_some(old)
    }

    /// Where the value of `address` stands, and whether it was not there before.
    fn place(&mut self, address: usize) -> (&mut u32, bool) {
        if self.len <= SCANNED {
            if let Some(i) = self.pairs.iter().position(|pair| pair.0 == address) {
                return (&mut self.pairs[i].1, false);
            }
            if self.len < SCANNED {
                self.len += 1;
                self.pairs.push((address, 0));
                return (&mut self.pairs[self.len - 1].1, true);
            }
        }
        if self.len == SCANNED || self.len * 2 >= self.pairs.len() {
            self.grow();
        }
        let i = self.probe(address);
        let pair = &mut self.pairs[i];
        let is_new = pair.0 == 0;
        self.len += usize::from(is_new);
        pair.0 = address;
        (&mut pair.1, is_new)
    }

    #[cold]
    fn grow(&mut self) {
        let size = (self.len * 4).next_power_of_two();
        let old = core::mem::replace(&mut self.pairs, alloc::vec![(0, 0); size]);
        for pair in old.into_iter().filter(|pair| pair.0 != 0) {
            let i = self.probe(pair.0);
            self.pairs[i] = pair;
        }
    }

    /// In a hash table: where `address` is, or is to be.
    #[inline]
    fn probe(&self, address: usize) -> usize {
        let mask = self.pairs.len() - 1;
        let mut i = hash(address) & mask;
        while self.pairs[i].0 != address && self.pairs[i].0 != 0 {
            i = (i + 1) & mask;
        }
        i
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
