//! Transposes of eight rows of eight numbers in vectors: left to itself the compiler moves such blocks a number at a time.
//! `transpose::transpose_map` is the plain form that they must equal.

use crate::linalg::simd::Level;

/// Eight rows of eight numbers.
pub(crate) type Eight = [[f32; 8]; 8];

/// That this machine has the vectors that [`Eights::transpose`] is made of.
#[derive(Clone, Copy)]
pub(crate) struct Eights {
    #[cfg(target_arch = "x86_64")]
    avx: pulp::core_arch::x86::Avx,
}

impl Eights {
    /// `None` where `level` has no such vectors.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn of(level: Level) -> Option<Self> {
        (level > Level::Portable).then(pulp::core_arch::x86::Avx::try_new).flatten().map(|avx| Eights { avx })
    }
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn of(_: Level) -> Option<Self> {
        None
    }

    /// The transpose of a block. To be called within code that is compiled for the level.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn transpose(self, block: &Eight) -> Eight {
        use bytemuck::cast;
        use std::arch::x86_64::__m256;
        let avx = self.avx;
        let [a, b, c, d, e, f, g, h]: [__m256; 8] = cast(*block);
        // Of each half of a row: pairs, then fours, then the halves change places.
        let pairs = |a, b| [avx._mm256_unpacklo_ps(a, b), avx._mm256_unpackhi_ps(a, b)];
        let fours = |[a, b]: [__m256; 2], [c, d]: [__m256; 2]| {
            [
                avx._mm256_shuffle_ps::<0b01_00_01_00>(a, c),
                avx._mm256_shuffle_ps::<0b11_10_11_10>(a, c),
                avx._mm256_shuffle_ps::<0b01_00_01_00>(b, d),
                avx._mm256_shuffle_ps::<0b11_10_11_10>(b, d),
            ]
        };
        let [a, b, c, d] = fours(pairs(a, b), pairs(c, d));
        let [e, f, g, h] = fours(pairs(e, f), pairs(g, h));
        let low = |a, b| avx._mm256_permute2f128_ps::<0x20>(a, b);
        let high = |a, b| avx._mm256_permute2f128_ps::<0x31>(a, b);
        cast([low(a, e), low(b, f), low(c, g), low(d, h), high(a, e), high(b, f), high(c, g), high(d, h)])
    }
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn transpose(self, _: &Eight) -> Eight {
        unreachable!("`of` gives none here")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::simd::simd;

    #[test]
    fn number_j_of_row_i_becomes_number_i_of_row_j() {
        let block: Eight = std::array::from_fn(|i| std::array::from_fn(|j| (8 * i + j) as f32));
        let best = Level::detect();
        for level in [Level::Avx2, Level::Avx512].into_iter().filter(|&level| level <= best) {
            let eights = Eights::of(level).expect("vectors");
            let turned = simd!(level, _FMA => eights.transpose(&block));
            for (j, row) in turned.iter().enumerate() {
                for (i, &x) in row.iter().enumerate() {
                    assert_eq!(x, (8 * i + j) as f32, "{level:?} {i} {j}");
                }
            }
        }
        assert!(Eights::of(Level::Portable).is_none());
    }
}
