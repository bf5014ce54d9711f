//! Times, summed up as ping does.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// min/avg/median/max/mdev of some times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) min_ms: f64,
    pub(crate) avg_ms: f64,
    pub(crate) median_ms: f64,
    pub(crate) max_ms: f64,
    /// The standard deviation, of all and not of a sample, as ping has it.
    pub(crate) mdev_ms: f64,
}

impl Summary {
    /// `None` of no times.
    pub(crate) fn of(times: &[Duration]) -> Option<Self> {
        let mut ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let (&min_ms, &max_ms) = (ms.first()?, ms.last()?);
        let count = ms.len() as f64;
        let avg_ms = ms.iter().sum::<f64>() / count;
        let variance = ms.iter().map(|ms| (ms - avg_ms).powi(2)).sum::<f64>() / count;
        let median_ms = (ms[(ms.len() - 1) / 2] + ms[ms.len() / 2]) / 2.0;
        Some(Self { min_ms, avg_ms, median_ms, max_ms, mdev_ms: variance.sqrt() })
    }

    pub(crate) fn median(&self) -> Duration {
        Duration::from_secs_f64(self.median_ms / 1e3)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min_ms, avg_ms, median_ms, max_ms, mdev_ms } = self;
        write!(
            f,
            "min/avg/median/max/mdev = {min_ms:.3}/{avg_ms:.3}/{median_ms:.3}/{max_ms:.3}/{mdev_ms:.3} ms"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_summed_up() {
        let ms = |ms: &[u64]| ms.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        assert_eq!(Summary::of(&[]), None);
        let one = Summary::of(&ms(&[3])).unwrap();
        assert_eq!(one.to_string(), "min/avg/median/max/mdev = 3.000/3.000/3.000/3.000/0.000 ms");
        let many = Summary::of(&ms(&[9, 1, 2, 4])).unwrap();
        assert_eq!(many.to_string(), "min/avg/median/max/mdev = 1.000/4.000/3.000/9.000/3.082 ms");
    }
}
