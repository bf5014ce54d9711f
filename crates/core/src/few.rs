//! A vector whose first few elements need no allocation.

use alloc::vec::Vec;

/// Up to `N` elements in place; all of them in a `Vec` beyond.
#[derive(Clone, Debug)]
pub(crate) struct Few<T, const N: usize> {
    inline: [Option<T>; N],
    len: usize,
    spilled: Vec<T>,
}

impl<T, const N: usize> Few<T, N> {
    pub(crate) const fn new() -> Self {
        Self { inline: [const { None }; N], len: 0, spilled: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push(&mut self, value: T) {
        if self.len < N {
            self.inline[self.len] = Some(value);
        } else {
            if self.len == N {
                self.spilled.reserve(4 * N);
                self.spilled.extend(self.inline.iter_mut().filter_map(Option::take));
            }
            self.spilled.push(value);
        }
        self.len += 1;
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        if self.len <= N { self.inline.get(index)?.as_ref() } else { self.spilled.get(index) }
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        if self.len <= N { self.inline.get_mut(index)?.as_mut() } else { self.spilled.get_mut(index) }
    }

    /// Takes out the element at `index`, which exists; those behind it move up.
    pub(crate) fn remove(&mut self, index: usize) -> T {
        if self.len > N {
            let value = self.spilled.remove(index);
            self.len -= 1;
            if self.len == N {
                for (place, value) in self.inline.iter_mut().zip(self.spilled.drain(..)) {
                    *place = Some(value);
                }
            }
            return value;
        }
        let Some(value) = self.inline[index].take() else { panic!("no element {index} of {}", self.len) };
        self.inline[index..self.len].rotate_left(1);
        self.len -= 1;
        value
    }

    pub(crate) fn position(&self, f: impl Fn(&T) -> bool) -> Option<usize> {
        (0..self.len).find(|&i| f(&self[i]))
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        (0..self.len).map(|i| &self[i])
    }
}

impl<T, const N: usize> core::ops::Index<usize> for Few<T, N> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        match self.get(index) {
            Some(value) => value,
            None => panic!("no element {index} of {}", self.len),
        }
    }
}

impl<T, const N: usize> core::ops::IndexMut<usize> for Few<T, N> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        let len = self.len;
        match self.get_mut(index) {
            Some(value) => value,
            None => panic!("no element {index} of {len}"),
        }
    }
}

impl<T, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_or_many_it_is_a_vector() {
        let mut few = Few::<u32, 2>::new();
        for round in 0..2 {
            for n in 0..5 {
                assert_eq!(few.len(), n as usize);
                few.push(n);
                assert!(few.iter().copied().eq(0..=n), "round {round}");
            }
            assert_eq!(few.remove(1), 1);
            few[0] = 7;
            let mut left = Vec::new();
            while !few.is_empty() {
                left.push(few.remove(0));
            }
            assert_eq!(left, [7, 2, 3, 4]);
        }
    }
}
