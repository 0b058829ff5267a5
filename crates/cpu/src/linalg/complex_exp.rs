//! eᶻ − 1 of complex z in f64, in plain arithmetic and without branches, so that loops over it become SIMD code.

use crate::linalg::math::fma;

/// 1.5·2⁵²: adding it leaves the nearest integer in the low bits of the sum.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts; n·LN2_HI is exact for |n| < 2²⁰.
const LN2_HI: f64 = 6.931_471_803_691_238_2e-1;
const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
/// π/2 in three parts of 33 bits; n times the first two is exact for |n| < 2²⁰.
const HALF_PI: [f64; 3] = [1.570_796_326_734_125_6, 6.077_100_506_303_966e-11, 2.022_266_248_711_166_5e-21];

/// Horner's rule, highest power first.
#[inline(always)]
fn polynomial<const FMA: bool, const N: usize>(x: f64, c: [f64; N]) -> f64 {
    let mut y = c[0];
    for &c in &c[1..] {
        y = fma::<f64, FMA>(y, x, c);
    }
    y
}

/// eᵃ − 1 with a held to ±709: 2ⁿ(eʳ − 1) + (2ⁿ − 1) with |r| ≤ ln 2/2, where eʳ − 1 is its series.
#[inline(always)]
fn real_expm1<const FMA: bool>(a: f64) -> f64 {
    let a = if a > 709.0 { 709.0 } else { a };
    let a = if a < -709.0 { -709.0 } else { a };
    let shifted = fma::<f64, FMA>(a, std::f64::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<f64, FMA>(-n, LN2_LO, fma::<f64, FMA>(-n, LN2_HI, a));
    let series = polynomial::<FMA, 12>(
        r,
        [
            1.0 / 6_227_020_800.0,
            1.0 / 479_001_600.0,
            1.0 / 39_916_800.0,
            1.0 / 3_628_800.0,
            1.0 / 362_880.0,
            1.0 / 40_320.0,
            1.0 / 5040.0,
            1.0 / 720.0,
            1.0 / 120.0,
            1.0 / 24.0,
            1.0 / 6.0,
            0.5,
        ],
    );
    let power = f64::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(1023) << 52);
    fma::<f64, FMA>(fma::<f64, FMA>(series * r, r, r), power, power - 1.0)
}

/// (sin b, 1 − cos b), the latter without cancellation. The polynomials for |r| ≤ π/4 are those of FreeBSD's `k_sin.c` and
/// `k_cos.c`.
#[inline(always)]
fn sin_and_versine<const FMA: bool>(b: f64) -> (f64, f64) {
    let shifted = fma::<f64, FMA>(b, std::f64::consts::FRAC_2_PI, ROUND);
    let (n, quadrant) = (shifted - ROUND, shifted.to_bits());
    let r = HALF_PI.into_iter().fold(b, |r, part| fma::<f64, FMA>(-n, part, r));
    // Beyond 2⁵¹ no digits of the angle are left: any angle is as right, but what is given stays bounded.
    let r = if r > 1.0 { 1.0 } else { r };
    let r = if r < -1.0 { -1.0 } else { r };
    let square = r * r;
    let p = polynomial::<FMA, 6>(
        square,
        [
            1.589_690_995_211_55e-10,
            -2.505_076_025_340_686_3e-8,
            2.755_731_370_707_006_8e-6,
            -1.984_126_982_985_795e-4,
            8.333_333_333_322_49e-3,
            -1.666_666_666_666_663_2e-1,
        ],
    );
    let sine = fma::<f64, FMA>(p * square, r, r);
    let p = polynomial::<FMA, 6>(
        square,
        [
            -1.135_964_755_778_819_5e-11,
            2.087_572_321_298_175e-9,
            -2.755_731_435_139_066_3e-7,
            2.480_158_728_947_673e-5,
            -1.388_888_888_887_411e-3,
            4.166_666_666_666_66e-2,
        ],
    );
    let versine = fma::<f64, FMA>(-p * square, square, 0.5 * square);
    // b = nπ/2 + r: sine and cosine change places in odd quadrants, and have their signs.
    let (odd, back) = (quadrant & 1 != 0, quadrant & 2 != 0);
    let magnitude = if odd { 1.0 - versine } else { sine };
    let signed_sine = if back { -sine } else { sine };
    let even_versine = if back { 2.0 - versine } else { versine };
    (if back { -magnitude } else { magnitude }, if odd { 1.0 + signed_sine } else { even_versine })
}

/// eᶻ − 1 = (e^a − 1) − e^a (1 − cos b) + i e^a sin b for z = a + ib.
#[inline(always)]
pub(crate) fn complex_expm1<const FMA: bool>(a: f64, b: f64) -> (f64, f64) {
    let (em1, (sine, versine)) = (real_expm1::<FMA>(a), sin_and_versine::<FMA>(b));
    (fma::<f64, FMA>(-(em1 + 1.0), versine, em1), (em1 + 1.0) * sine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst<const FMA: bool>() -> f64 {
        let mut worst = 0.0f64;
        for k in 0..400_000 {
            let x = f64::from(k) * 0.618_033_988_749_894_9;
            let size = 10f64.powf(-9.0 + 12.0 * (x - x.floor()));
            let angle = std::f64::consts::TAU * (x * 7.3).fract();
            let (a, b) = (-(size.min(30.0) * angle.cos().abs()), size * angle.sin());
            let (re, im) = complex_expm1::<FMA>(a, b);
            let half = (0.5 * b).sin();
            let want = (a.exp_m1() - 2.0 * a.exp() * half * half, a.exp() * b.sin());
            let error = (re - want.0).hypot(im - want.1) / want.0.hypot(want.1).max(a.exp());
            let relative = (re - want.0).hypot(im - want.1) / want.0.hypot(want.1);
            // Near the zeros 2πi·n what is left of b has the rounding of b itself.
            worst = worst.max(if size < 1.0 { relative } else { error });
            assert!(worst.is_finite(), "{a} {b}");
        }
        worst
    }

    #[test]
    fn expm1_is_within_rounding() {
        assert!(worst::<true>() <= 2e-15, "{:e}", worst::<true>());
        assert!(worst::<false>() <= 2e-15, "{:e}", worst::<false>());
    }

    #[test]
    fn edges() {
        assert_eq!(complex_expm1::<true>(0.0, 0.0), (0.0, 0.0));
        assert_eq!(complex_expm1::<true>(-1e4, 3.0).0, -1.0);
        assert_eq!(complex_expm1::<true>(1e-100, 0.0), (1e-100, 0.0));
        assert!(complex_expm1::<true>(-1.0, 1e30).0.abs() <= 2.0);
        assert!(complex_expm1::<true>(f64::NAN, 0.0).0.is_nan());
        assert!(complex_expm1::<false>(0.0, f64::INFINITY).0.is_nan());
    }
}
