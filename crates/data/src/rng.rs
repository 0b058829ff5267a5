//! Pseudorandom numbers that are the same for the same seed.

/// The generator SplitMix64 (Steele, Lea, Flood 2014): one 64-bit state, for which any seed is good.
#[derive(Clone, Debug)]
pub struct DataRng(u64);

impl DataRng {
    /// The sequence number `stream` of `seed`; each gives other numbers.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = DataRng(seed);
        let mixed = rng.next_u64();
        DataRng(mixed ^ stream.wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next number, uniform in [0, 1) with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The next number with a standard normal distribution (Box–Muller).
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Uniform integer below n, n ≥ 1: the high half of a 64-bit draw times n, whose bias is below n/2⁶⁴.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.next_u64() as u128 * n as u128) >> 64) as usize
    }
}

/// A random order of `count` examples for one epoch (Fisher–Yates). It depends on seed and epoch alone, so that a
/// training run that is resumed sees the same order.
pub fn shuffled(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut rng = DataRng::new(seed, epoch);
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        order.swap(i, rng.below(i + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_known_answers() {
        let mut rng = DataRng(0);
        let first = [rng.next_u64(), rng.next_u64(), rng.next_u64()];
        assert_eq!(first, [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4, 0x06C4_5D18_8009_454F]);
    }

    #[test]
    fn draws_are_in_range_and_even() {
        let mut rng = DataRng::new(1, 2);
        let mut counts = [0; 3];
        for _ in 0..3000 {
            counts[rng.below(3)] += 1;
            assert!((0.0..1.0).contains(&rng.uniform()));
        }
        // One deviation of a count is 26.
        assert!(counts.iter().all(|c| (870..1130).contains(c)), "{counts:?}");
    }
}
