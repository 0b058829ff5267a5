//! What the figures of an update hold where several ranks make it together: each rank's counts, which are summed on the devices
//! with the gradients, and whether each rank's loss and gradients were finite.

use s4_backend::Scalar;

/// A rank's part in an update, or after the sum that of all ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RankCounts {
    /// Sum of the weights in the mean loss.
    pub weight: f64,
    /// Sum of the targets' own weights.
    pub metric_weight: f64,
    /// Number of targets that count.
    pub rows: u64,
    /// Time steps, without padding.
    pub time_steps: u64,
    /// Items of the dataset.
    pub items: u64,
    /// Ranks with a batch.
    pub ranks: u64,
    /// Ranks with a target that counts.
    pub counting: u64,
}

/// A number is written as whole multiples of this and a rest, each of which sums exactly in 32 bits where the number is whole and
/// below 2^36.
const LIMB: f64 = 4096.0;
/// The numbers before the ranks' own ones: the weight by which the device divides, five counts of two parts, the ranks with a batch, those
/// with a target that counts.
const COUNTS: usize = 13;
/// Where the number of ranks with a target that counts stands.
pub(crate) const COUNTING_AT: usize = COUNTS - 1;

/// The numbers for other ranks in the slot of an update; none without other ranks.
pub(crate) struct SharedFigures {
    ranks: usize,
}

impl SharedFigures {
    /// Those of a group of `ranks` ranks; 0 without other ranks.
    pub fn new(ranks: usize) -> Self {
        SharedFigures { ranks }
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        if self.ranks == 0 { 0 } else { COUNTS + self.ranks }
    }
    /// Where the number stands that is finite where the loss and gradients of `rank` are.
    pub fn finite_at(&self, rank: usize) -> usize {
        COUNTS + rank
    }
    /// One rank's numbers, those of the ranks' finiteness 0.
    pub fn encode<T: Scalar>(&self, counts: &RankCounts) -> Vec<T> {
        let RankCounts { weight, metric_weight, rows, time_steps, items, ranks, counting } = *counts;
        let mut numbers = vec![weight];
        for x in [weight, metric_weight, rows as f64, time_steps as f64, items as f64] {
            let multiples = (x / LIMB).floor();
            numbers.extend([multiples, x - multiples * LIMB]);
        }
        numbers.extend([ranks as f64, counting as f64]);
        numbers.resize(self.len(), 0.0);
        numbers.into_iter().map(T::from_f64).collect()
    }
    /// The counts that sums of [`SharedFigures::encode`] stand for; `None` without other ranks.
    pub fn decode<T: Scalar>(&self, numbers: &[T]) -> Option<RankCounts> {
        if self.ranks == 0 {
            return None;
        }
        let count = |i: usize| numbers[1 + 2 * i].to_f64() * LIMB + numbers[2 + 2 * i].to_f64();
        Some(RankCounts {
            weight: count(0),
            metric_weight: count(1),
            rows: count(2) as u64,
            time_steps: count(3) as u64,
            items: count(4) as u64,
            ranks: numbers[COUNTS - 2].to_f64() as u64,
            counting: numbers[COUNTING_AT].to_f64() as u64,
        })
    }
    /// The ranks whose loss or gradients were not finite.
    pub fn failed_ranks<T: Scalar>(&self, numbers: &[T]) -> Vec<usize> {
        (0..self.ranks).filter(|&rank| !numbers[self.finite_at(rank)].is_finite()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_sum_exactly_in_32_bits() {
        let shared = SharedFigures::new(3);
        let of = |rows: u64| RankCounts {
            weight: rows as f64,
            metric_weight: 0.5,
            rows,
            time_steps: 7 * rows,
            items: 3,
            ranks: 1,
            counting: 1,
        };
        // Sums that 32-bit numbers do not hold: 2^24 + 1 and more.
        let rows = [16_777_217, 40_000_003, 5];
        let sums = rows.map(|rows| shared.encode::<f32>(&of(rows))).into_iter();
        let sums = sums.reduce(|a, b| a.iter().zip(&b).map(|(a, b)| a + b).collect()).unwrap();
        let total: u64 = rows.iter().sum();
        let want = RankCounts {
            weight: total as f64,
            metric_weight: 1.5,
            rows: total,
            time_steps: 7 * total,
            items: 9,
            ranks: 3,
            counting: 3,
        };
        assert_eq!(shared.decode(&sums), Some(want));
        assert_eq!(sums.len(), shared.len());
    }

    #[test]
    fn the_ranks_that_were_not_finite_are_named() {
        let shared = SharedFigures::new(3);
        let mut numbers = shared.encode::<f32>(&RankCounts::default());
        assert!(shared.failed_ranks(&numbers).is_empty());
        numbers[shared.finite_at(1)] = f32::NAN;
        numbers[shared.finite_at(2)] = f32::INFINITY;
        assert_eq!(shared.failed_ranks(&numbers), [1, 2]);
    }

    #[test]
    fn without_other_ranks_there_is_nothing() {
        let shared = SharedFigures::new(0);
        assert_eq!((shared.len(), shared.decode::<f32>(&[])), (0, None));
        assert!(shared.encode::<f32>(&RankCounts::default()).is_empty());
    }
}
