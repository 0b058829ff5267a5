//! The samples of a stream since its states were last copied: after a push that failed, the copy of the states and these
//! samples give the states before that push, bit for bit. A copy at every push would cost a tenth of a step.

use crate::batch::Input;

/// Most time steps that may be replayed from one copy of the states; then a new copy is made.
const MAX_REPLAYED_TIME_STEPS: usize = 64;

/// What was pushed since the copy, on the host.
pub(crate) struct Journal<T> {
    /// Version of the parameters that the pushes since the copy used; None where there is no copy to replay from.
    version: Option<u64>,
    samples: usize,
    pushes: Vec<PushSizes>,
    values: Vec<T>,
    tokens: Vec<i32>,
    intervals: Vec<T>,
}

/// Sizes of one push: samples of a row, and elements of each array.
struct PushSizes {
    len: usize,
    values: usize,
    tokens: usize,
    intervals: usize,
}

/// Makes room in `list` for `samples_left` samples as wide as those of `pushed`, which are `len`; false where there is no memory.
fn reserve<U>(list: &mut Vec<U>, pushed: &[U], samples_left: usize, len: usize) -> bool {
    list.try_reserve(pushed.len().div_ceil(len.max(1)) * samples_left).is_ok()
}

/// One push: input, samples of a row, intervals.
pub(crate) type Pushed<'a, T> = (Input<'a, T>, usize, Option<&'a [T]>);

impl<T: Copy> Journal<T> {
    /// A journal without a copy.
    pub fn new() -> Self {
        Journal {
            version: None,
            samples: 0,
            pushes: Vec::new(),
            values: Vec::new(),
            tokens: Vec::new(),
            intervals: Vec::new(),
        }
    }

    /// Whether the copy still serves for a push through the parameters of this version.
    pub fn serves(&self, version: u64) -> bool {
        self.version == Some(version) && self.samples < MAX_REPLAYED_TIME_STEPS
    }

    /// The states have just been copied.
    pub fn begin(&mut self, version: u64) {
        self.end();
        self.version = Some(version);
    }

    /// The states have been changed by something else than pushes of single samples: the copy serves no longer.
    pub fn end(&mut self) {
        self.version = None;
        self.samples = 0;
        self.pushes.clear();
        self.values.clear();
        self.tokens.clear();
        self.intervals.clear();
    }

    /// One more push that went well.
    pub fn add(&mut self, (x, len, interval): Pushed<'_, T>) {
        if self.samples + len > MAX_REPLAYED_TIME_STEPS {
            return self.end();
        }
        let (values, tokens): (&[T], &[i32]) = match x {
            Input::Values(x) => (x, &[]),
            Input::Tokens(x) => (&[], x),
        };
        let intervals = interval.unwrap_or(&[]);
        // Room for all that one copy serves for at once, so that a steady push asks for no memory.
        let samples_left = MAX_REPLAYED_TIME_STEPS - self.samples;
        let enough = self.pushes.try_reserve(samples_left).is_ok()
            && reserve(&mut self.values, values, samples_left, len)
            && reserve(&mut self.tokens, tokens, samples_left, len)
            && reserve(&mut self.intervals, intervals, samples_left, len);
        if !enough {
            return self.end();
        }
        self.values.extend_from_slice(values);
        self.tokens.extend_from_slice(tokens);
        self.intervals.extend_from_slice(intervals);
        self.samples += len;
        let (values, tokens, intervals) = (values.len(), tokens.len(), intervals.len());
        self.pushes.push(PushSizes { len, values, tokens, intervals });
    }

    /// The pushes in order.
    pub fn pushes(&self) -> impl Iterator<Item = Pushed<'_, T>> {
        let (mut values, mut tokens, mut intervals) =
            (&self.values[..], &self.tokens[..], &self.intervals[..]);
        self.pushes.iter().map(move |n| {
            let x = match n.tokens {
                0 => Input::Values(split_off_first(&mut values, n.values)),
                count => Input::Tokens(split_off_first(&mut tokens, count)),
            };
            let interval = split_off_first(&mut intervals, n.intervals);
            (x, n.len, (!interval.is_empty()).then_some(interval))
        })
    }
}

/// The first `n` elements, taken off.
fn split_off_first<'a, T>(from: &mut &'a [T], n: usize) -> &'a [T] {
    let (first, rest) = from.split_at(n);
    *from = rest;
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_come_back_in_order_and_a_copy_serves_for_so_many_samples() {
        let mut journal = Journal::<f32>::new();
        assert!(!journal.serves(1));
        journal.begin(1);
        journal.add((Input::Values(&[1.0, 2.0]), 1, None));
        journal.add((Input::Tokens(&[3, 4, 5]), 3, Some(&[0.5, 0.5, 0.5])));
        journal.add((Input::Values(&[6.0, 7.0, 8.0, 9.0]), 2, Some(&[2.0])));
        assert!(journal.serves(1) && !journal.serves(2));
        let text: Vec<String> = journal.pushes().map(|push| format!("{push:?}")).collect();
        assert_eq!(
            text,
            [
                "(Values([1.0, 2.0]), 1, None)",
                "(Tokens([3, 4, 5]), 3, Some([0.5, 0.5, 0.5]))",
                "(Values([6.0, 7.0, 8.0, 9.0]), 2, Some([2.0]))",
            ]
        );
        for _ in 0..MAX_REPLAYED_TIME_STEPS - 7 {
            journal.add((Input::Values(&[0.0]), 1, None));
        }
        assert!(journal.serves(1));
        journal.add((Input::Values(&[0.0]), 1, None));
        assert!(!journal.serves(1), "the next push copies first");
        assert_eq!(journal.pushes().count(), 3 + MAX_REPLAYED_TIME_STEPS - 6);
        journal.begin(1);
        journal.add((Input::Values(&[0.0; MAX_REPLAYED_TIME_STEPS + 1]), MAX_REPLAYED_TIME_STEPS + 1, None));
        assert!(!journal.serves(1));
        assert_eq!(journal.pushes().count(), 0);
    }
}
