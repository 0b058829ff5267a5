//! Step sizes Δ at initialisation.

/// `count` step sizes Δ, log-uniform in [`dt_min`, `dt_max`]: ln Δ = ln Δ_min + ξ (ln Δ_max − ln Δ_min) with ξ drawn
/// from `uniform` in [0, 1) (Gu et al. 2022, "How to train your HiPPO", on the timescale). A layer needs H of them, one
/// per head, or H·N/2 where each pair of the state has its own.
///
/// # Panics
/// Unless 0 < `dt_min` ≤ `dt_max` and both are finite.
pub fn log_uniform(count: usize, dt_min: f64, dt_max: f64, mut uniform: impl FnMut() -> f64) -> Vec<f64> {
    assert!(0.0 < dt_min && dt_min <= dt_max && dt_max.is_finite(), "0 < dt_min ≤ dt_max");
    let (low, high) = (dt_min.ln(), dt_max.ln());
    (0..count).map(|_| (low + uniform() * (high - low)).exp().clamp(dt_min, dt_max)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_in_the_logarithm_and_inside_the_limits() {
        let mut i = 0;
        let dt = log_uniform(101, 1e-3, 0.1, || {
            i += 1;
            (i - 1) as f64 / 100.0
        });
        assert_eq!(i, 101, "one draw each");
        assert!(dt.iter().all(|&dt| (1e-3..=0.1).contains(&dt)));
        // exp(ln Δ) rounds: a few units in the last place.
        for (i, expected) in [(0, 1e-3), (50, 1e-2), (100, 0.1)] {
            assert!((dt[i] / expected - 1.0).abs() < 2e-15, "{i}: {}", dt[i]);
        }
        assert!(dt.windows(2).all(|w| ((w[1] / w[0]).ln() - 100f64.ln() / 100.0).abs() < 1e-12));
    }

    #[test]
    #[should_panic(expected = "dt_min")]
    fn limits_the_wrong_way_round() {
        log_uniform(1, 0.1, 1e-3, || 0.5);
    }
}
