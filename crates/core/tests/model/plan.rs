//! What can be known of a case without running anything: all that could become of each binding.

use crate::case::{Arg, Derivation, mark};
use crate::model::{Bound, What, World};

/// What may become of a binding or a lookup, for all that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct May {
    /// A value that is known, and the only one possible.
    pub(crate) be: Option<u64>,
    /// A value that is not known yet.
    pub(crate) yield_: bool,
    pub(crate) be_absent: bool,
    pub(crate) fail: bool,
    /// A cycle is among the ways to fail.
    pub(crate) cycle: bool,
    /// Some closure would have to run first.
    pub(crate) unknown: bool,
}

impl May {
    fn or(self, other: Self) -> Self {
        Self {
            be: self.be.or(other.be),
            yield_: self.yield_ || other.yield_,
            be_absent: self.be_absent || other.be_absent,
            fail: self.fail || other.fail,
            cycle: self.cycle || other.cycle,
            unknown: self.unknown || other.unknown,
        }
    }

    /// Whether it can be connected, if it is an endpoint.
    pub(crate) fn be_had(&self) -> bool {
        self.be.is_some() || self.yield_
    }
}

/// What may become of the candidate whose binding has this number.
pub(crate) fn of(world: &World, number: usize) -> May {
    let root = world.roots().into_iter().find(|root| root.binding == number);
    root.map_or_else(May::default, |root| binding(world, root, &mut Vec::new()))
}

/// What may become of `bound`; `path` is what waits for it.
fn binding(world: &World, bound: Bound<'_>, path: &mut Vec<usize>) -> May {
    match bound.what {
        What::Value(value) => May { be: Some(*value), ..May::default() },
        What::Nothing => May { be_absent: true, ..May::default() },
        What::Derivation(_) if path.contains(&bound.binding) => {
            May { fail: true, cycle: true, ..May::default() }
        }
        What::Derivation(derivation) => {
            path.push(bound.binding);
            let may = run(world, derivation, path);
            path.pop();
            may
        }
    }
}

fn lookup(world: &World, key: usize, path: &mut Vec<usize>) -> May {
    let mut may = May { be_absent: true, ..May::default() };
    for bound in world.bindings(key) {
        if !may.be_absent {
            break;
        }
        may.be_absent = false;
        may = may.or(binding(world, bound, path));
    }
    if may.yield_ {
        // One of several: which, is not known.
        may.be = None;
    }
    may
}

fn run(world: &World, derivation: &Derivation, path: &mut Vec<usize>) -> May {
    let mut may = May::default();
    for arg in &derivation.args {
        let had = lookup(world, arg.key(), path);
        may.fail |= had.fail;
        may.cycle |= had.cycle;
        may.unknown |= had.unknown;
        let goes_on = match *arg {
            Arg::Opt(_) | Arg::Or(..) => had.be_had() || had.be_absent,
            Arg::Req(_) | Arg::Dial(_) => {
                may.be_absent |= had.be_absent;
                had.be_had()
            }
            Arg::Is(_, wanted) => {
                let matches = had.be.is_some_and(|value| mark(value) == wanted);
                may.be_absent |= had.be_absent || had.yield_ || (had.be.is_some() && !matches);
                had.yield_ || matches
            }
        };
        if !goes_on {
            return may;
        }
    }
    // Whatever the closure makes of it.
    may.or(May { yield_: true, be_absent: true, fail: true, unknown: true, ..May::default() })
}
