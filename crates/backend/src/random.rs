//! Counter-based random numbers (Philox4x32-10, Salmon et al. 2011): a draw depends on its key and counter
//! alone, so every backend draws the same dropout masks and a run repeats bit for bit.

/// Ten rounds of Philox on a 128-bit counter and a 64-bit key.
#[inline(always)]
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    philox4x32_lanes(counter.map(|c| [c]), key).map(|[c]| c)
}

/// N counters side by side (word by word), which compiles to SIMD code.
#[inline(always)]
fn philox4x32_lanes<const N: usize>(counter: [[u32; N]; 4], key: [u32; 2]) -> [[u32; N]; 4] {
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

/// Where a dropout mask is drawn: element i of site `site` at step `step` of the run seeded `seed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DropKey {
    /// Seed of the run.
    pub seed: u64,
    /// Update counter.
    pub step: u64,
    /// Which dropout of the network.
    pub site: u32,
}

impl DropKey {
    /// The four 32-bit draws of elements 4·block … 4·block+3.
    #[inline(always)]
    pub fn draws(&self, block: u64) -> [u32; 4] {
        self.draws_from::<1>(block).map(|[d]| d)
    }

    /// The draws of N blocks from `block` on: element 4·(block + i) + j is `[j][i]`.
    #[inline(always)]
    pub fn draws_from<const N: usize>(&self, block: u64) -> [[u32; N]; 4] {
        let at = |i: usize| block + i as u64;
        philox4x32_lanes(
            [
                std::array::from_fn(|i| at(i) as u32),
                std::array::from_fn(|i| ((at(i) >> 32) as u32) ^ self.site.rotate_left(16)),
                [self.step as u32; N],
                [(self.step >> 32) as u32 ^ self.site; N],
            ],
            [self.seed as u32, (self.seed >> 32) as u32],
        )
    }

    /// Element i is kept when its draw is at or above this threshold; kept values are scaled by 1/(1−p).
    pub fn threshold(p: f64) -> u32 {
        (p * 4_294_967_296.0).min(4_294_967_295.0) as u32
    }
}

/// A stream of host random numbers for initialisation and shuffling.
#[derive(Clone, Debug)]
pub struct Rng {
    key: [u32; 2],
    stream: u32,
    block: u64,
    buffer: [u32; 4],
    used: usize,
}

impl Rng {
    /// Stream `stream` of `seed`; different streams are independent.
    pub fn new(seed: u64, stream: u32) -> Self {
        Rng { key: [seed as u32, (seed >> 32) as u32], stream, block: 0, buffer: [0; 4], used: 4 }
    }
    /// Next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.buffer = philox4x32(
                [self.block as u32, (self.block >> 32) as u32, self.stream, 0x5353_3453],
                self.key,
            );
            self.block += 1;
            self.used = 0;
        }
        self.used += 1;
        self.buffer[self.used - 1]
    }
    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let (a, b) = (self.next_u32() >> 5, self.next_u32() >> 6);
        (a as f64 * 67_108_864.0 + b as f64) / 9_007_199_254_740_992.0
    }
    /// Standard normal (Box–Muller).
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
    /// Uniform integer in 0..n, n ≥ 1.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.uniform() * n as f64) as usize).min(n - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
