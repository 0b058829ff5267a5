//! Dropout masks, drawn as `s4_backend::random::DropKey` says: element i takes draw i mod 4 of block i/4, is
//! kept when the draw is at or above the threshold, and then scaled by 1/(1 − p).

use s4_backend::{Scalar, random::DropKey};

/// What fixes the mask of one dropout in one call.
#[derive(Clone, Copy)]
pub(crate) struct Dropout<T> {
    key: DropKey,
    threshold: u32,
    scale: T,
    /// Whether all time steps of a (sequence, feature) share one element of the mask, number sequence·features + feature.
    tied: bool,
}

/// Blocks drawn side by side.
const BLOCKS: usize = 16;

impl<T: Scalar> Dropout<T> {
    /// `None` where nothing is dropped.
    pub(crate) fn new(p: f64, key: DropKey, site: u32, tied: bool) -> Option<Self> {
        (p > 0.0).then(|| Dropout {
            key: DropKey { site: key.site + site, ..key },
            threshold: DropKey::threshold(p),
            scale: T::from_f64(1.0 / (1.0 - p)),
            tied,
        })
    }

    /// The factor of an element by its draw: 0 or 1/(1 − p).
    #[inline(always)]
    fn factor(&self, draw: u32) -> T {
        if draw >= self.threshold { self.scale } else { T::zero() }
    }

    /// Writes the factors (0 or 1/(1 − p)) of the time steps from `start` on of one (sequence, feature), of `len` time steps
    /// in all: as many as `out` holds. `line` = sequence·features + feature.
    #[inline(always)]
    pub(crate) fn factors(&self, out: &mut [T], line: usize, len: usize, start: usize) {
        if self.tied {
            out.fill(self.factor(self.key.draws(line as u64 / 4)[line % 4]));
            return;
        }
        let first = (line * len + start) as u64;
        let end = first + out.len() as u64;
        let mut block = first / 4;
        while block * 4 < end {
            let words = self.key.draws_from::<BLOCKS>(block);
            let draws: [[u32; 4]; BLOCKS] = std::array::from_fn(|i| words.map(|w| w[i]));
            let (from, to) = (first.max(block * 4), end.min((block + BLOCKS as u64) * 4));
            let draws = draws.as_flattened();
            let out = &mut out[(from - first) as usize..(to - first) as usize];
            for (o, &d) in out.iter_mut().zip(&draws[(from - block * 4) as usize..]) {
                *o = self.factor(d);
            }
            block += BLOCKS as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_those_of_the_key() {
        let key = DropKey { seed: 3, step: 9, site: 5 };
        for tied in [false, true] {
            let drop = Dropout::<f64>::new(0.3, key, 1, tied).unwrap();
            let key = DropKey { site: 6, ..key };
            for (line, len, start, n) in [(0, 7, 0, 7), (5, 1001, 3, 200), (2, 131, 130, 1), (3, 64, 0, 64)] {
                let mut out = vec![f64::NAN; n];
                drop.factors(&mut out, line, len, start);
                for (j, &got) in out.iter().enumerate() {
                    let i = if tied { line } else { line * len + start + j } as u64;
                    let kept = key.draws(i / 4)[(i % 4) as usize] >= DropKey::threshold(0.3);
                    assert_eq!(got, if kept { 1.0 / 0.7 } else { 0.0 });
                }
            }
        }
        assert!(Dropout::<f32>::new(0.0, key, 0, false).is_none());
    }
}
