//! Counter-based random numbers (Philox4x32-10, Salmon et al. 2011): a draw depends on its key and counter
//! alone, so every backend draws the same dropout masks and a run repeats bit for bit.

/// Ten rounds of Philox on a 128-bit counter and a 64-bit key.
#[inline(always)]
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    philox4x32_lanes(counter.map(|c| [c]), key).map(|[c]| c)
}

/// Philox on N counters at once: `counter[word][i]` is a 32-bit word of counter i. The loops over i compile to SIMD
/// instructions.
#[inline(always)]
fn philox4x32_lanes<const N: usize>(counter: [[u32; N]; 4], key: [u32; 2]) -> [[u32; N]; 4] {
    // Multipliers and key increments of Salmon et al.
    const M0: u64 = 0xD251_1F53;
    const M1: u64 = 0xCD9E_8D57;
    const W0: u32 = 0x9E37_79B9;
    const W1: u32 = 0xBB67_AE85;
    let ([mut c0, mut c1, mut c2, mut c3], [mut k0, mut k1]) = (counter, key);
    for _ in 0..10 {
        for i in 0..N {
            let (p0, p1) = (M0 * c0[i] as u64, M1 * c2[i] as u64);
            c0[i] = (p1 >> 32) as u32 ^ c1[i] ^ k0;
            c1[i] = p1 as u32;
            c2[i] = (p0 >> 32) as u32 ^ c3[i] ^ k1;
            c3[i] = p0 as u32;
        }
        k0 = k0.wrapping_add(W0);
        k1 = k1.wrapping_add(W1);
    }
    [c0, c1, c2, c3]
}

/// What determines a dropout mask: the run, the training step and the place in the network. Forward and backward draw
/// the same mask from the same key, so that no mask is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DropKey {
    /// Seed of the training run.
    pub seed: u64,
    /// Number of the training step.
    pub step: u64,
    /// Number of the dropout layer within the network.
    pub site: u32,
}

impl DropKey {
    /// Four random 32-bit numbers: those of elements 4·block … 4·block + 3 of the mask.
    #[inline(always)]
    pub fn draws(&self, block: u64) -> [u32; 4] {
        self.draws_from::<1>(block).map(|[d]| d)
    }

    /// Random 32-bit numbers of N blocks of 4 elements, from block `block` on: element 4·(block + i) + j is `[j][i]`.
    #[inline(always)]
    pub fn draws_from<const N: usize>(&self, block: u64) -> [[u32; N]; 4] {
        let block_of = |i: usize| block + i as u64;
        philox4x32_lanes(
            [
                std::array::from_fn(|i| block_of(i) as u32),
                std::array::from_fn(|i| ((block_of(i) >> 32) as u32) ^ self.site.rotate_left(16)),
                [self.step as u32; N],
                [(self.step >> 32) as u32 ^ self.site; N],
            ],
            [self.seed as u32, (self.seed >> 32) as u32],
        )
    }

    /// For dropout with probability p: an element is kept when its random number is this threshold or more. Kept
    /// values are scaled by 1/(1 − p).
    pub fn threshold(p: f64) -> u32 {
        (p * 4_294_967_296.0).min(4_294_967_295.0) as u32
    }
}

/// A number that is uniform in [0, 1), with 53 random bits, for token number `step` of row `row` of a generation: it depends on
/// nothing else.
pub fn sampling_uniform(seed: u64, row: u32, step: u64) -> f64 {
    // The last counter word keeps these blocks apart from those of dropout masks and of `Rng`.
    let counter = [step as u32, (step >> 32) as u32, row, 0x5341_4d50];
    let [a, b, ..] = philox4x32(counter, [seed as u32, (seed >> 32) as u32]);
    uniform_of(a, b)
}

/// 53 bits of two random words as a number in [0, 1).
fn uniform_of(a: u32, b: u32) -> f64 {
    let (high_27_bits, low_26_bits) = (a >> 5, b >> 6);
    (high_27_bits as f64 * 67_108_864.0 + low_26_bits as f64) / 9_007_199_254_740_992.0
}

/// A sequence of random numbers on the host, for initialisation and shuffling.
#[derive(Clone, Debug)]
pub struct Rng {
    key: [u32; 2],
    stream: u32,
    /// Counter of the next Philox block.
    next_block: u64,
    /// The last block, of which the first `words_used` words were given out.
    block_words: [u32; 4],
    words_used: usize,
}

impl Rng {
    /// The sequence number `stream` of `seed`; different seeds or streams give independent sequences.
    pub fn new(seed: u64, stream: u32) -> Self {
        Rng {
            key: [seed as u32, (seed >> 32) as u32],
            stream,
            next_block: 0,
            block_words: [0; 4],
            words_used: 4,
        }
    }
    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.words_used == 4 {
            // The last counter word keeps these blocks apart from those of dropout masks.
            self.block_words = philox4x32(
                [self.next_block as u32, (self.next_block >> 32) as u32, self.stream, 0x5353_3453],
                self.key,
            );
            self.next_block += 1;
            self.words_used = 0;
        }
        self.words_used += 1;
        self.block_words[self.words_used - 1]
    }
    /// The next number, uniform in [0, 1) with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        let (a, b) = (self.next_u32(), self.next_u32());
        uniform_of(a, b)
    }
    /// The next number with a standard normal distribution (Box–Muller).
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
    /// The next integer, uniform in 0..n, for n ≥ 1.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.uniform() * n as f64) as usize).min(n - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_numbers_are_uniform_and_each_of_its_own_place() {
        let all: Vec<f64> =
            (0..1000).map(|i| sampling_uniform(i % 10, i as u32 / 100, i / 10 % 10)).collect();
        let mean = all.iter().sum::<f64>() / 1000.0;
        assert!((mean - 0.5).abs() < 4.0 / (12.0f64 * 1000.0).sqrt(), "{mean}");
        assert!(all.iter().all(|x| (0.0..1.0).contains(x)));
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.dedup();
        assert_eq!(sorted.len(), 1000);
        // The first two words of Philox for the counter (3, 0, 2, "SAMP") and the key 1.
        let [a, b, ..] = philox4x32([3, 0, 2, 0x5341_4d50], [1, 0]);
        let expected = ((u64::from(a >> 5) << 26) + u64::from(b >> 6)) as f64 / 2f64.powi(53);
        assert_eq!(sampling_uniform(1, 2, 3), expected);
    }

    #[test]
    fn philox_known_answers() {
        // Random123 1.09, kat_vectors, philox4x32 10.
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]
        );
    }
}
