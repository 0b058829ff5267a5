//! The choice of the next token from logits, plainly; `sample.rs` is the operation.

use s4_backend::{Sampling, Scalar};

/// A token that was chosen, with the logarithm of the probability that the model itself gives it: the log-softmax of the
/// logits, before penalty, temperature and filters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) token: usize,
    pub(crate) log_probability: f64,
}

/// Chooses tokens, in buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    /// Logits after the penalty.
    scores: Vec<f64>,
    /// Probabilities over the largest of them; 0 for a token that was left out.
    weights: Vec<f64>,
    /// Tokens, the most probable first as far as they have been sorted.
    order: Vec<u32>,
}

impl Sampler {
    /// The next token. `seen` is not 0 where a token was there before; it is read where there is a penalty. `uniform`:
    /// a random number in [0, 1).
    pub(crate) fn choose<T: Scalar>(
        &mut self,
        logits: &[T],
        options: &Sampling,
        seen: &[i32],
        uniform: f64,
    ) -> Choice {
        self.scores.clear();
        self.scores.extend(logits.iter().map(|&x| Scalar::to_f64(x)));
        let mut best = first_largest(&self.scores);
        let most = self.scores[best];
        let log_sum = most + self.weigh(most, 1.0).ln();
        if options.repetition_penalty != 1.0 {
            for (score, _) in self.scores.iter_mut().zip(seen).filter(|(_, seen)| **seen != 0) {
                match *score > 0.0 {
                    true => *score /= options.repetition_penalty,
                    false => *score *= options.repetition_penalty,
                }
            }
            best = first_largest(&self.scores);
        }
        let token = match options.temperature {
            0.0 => best,
            temperature => {
                if temperature != 1.0 || options.repetition_penalty != 1.0 {
                    self.weigh(self.scores[best], temperature);
                }
                self.filter(options);
                self.draw(best, uniform)
            }
        };
        Choice { token, log_probability: Scalar::to_f64(logits[token]) - log_sum }
    }

    /// Weights of the scores, of which `most` is the largest; gives their sum.
    fn weigh(&mut self, most: f64, temperature: f64) -> f64 {
        self.weights.clear();
        self.weights.extend(self.scores.iter().map(|score| ((score - most) / temperature).exp()));
        self.weights.iter().sum()
    }

    /// Top-k, top-p and min-p.
    fn filter(&mut self, options: &Sampling) {
        if options.top_k > 0 && options.top_k < self.weights.len() {
            self.keep_top_k(options.top_k);
        }
        if options.top_p < 1.0 {
            self.keep_top_p(options.top_p);
        }
        if options.min_p > 0.0 {
            // The largest weight is 1.
            self.weights.iter_mut().filter(|w| **w < options.min_p).for_each(|w| *w = 0.0);
        }
    }

    /// The token at which the sum of the weights passes `uniform` of their total. `best` has one.
    fn draw(&self, best: usize, uniform: f64) -> usize {
        let mut left = uniform * self.weights.iter().sum::<f64>();
        let mut last = best;
        for (token, &weight) in self.weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
            last = token;
            if left < weight {
                break;
            }
            left -= weight;
        }
        last
    }

    /// Leaves out the weights below the k-th largest.
    fn keep_top_k(&mut self, k: usize) {
        self.order.clear();
        self.order.extend(0..self.weights.len() as u32);
        let weights = &self.weights;
        let larger_first = |a: &u32, b: &u32| weights[*b as usize].total_cmp(&weights[*a as usize]);
        let (_, &mut kth, _) = self.order.select_nth_unstable_by(k - 1, larger_first);
        let least = self.weights[kth as usize];
        self.weights.iter_mut().filter(|w| **w < least).for_each(|w| *w = 0.0);
    }

    /// Leaves out a token where those that are more probable sum to p already; of two that are equally probable the one with
    /// the smaller number counts as the more probable. The most probable token always stays.
    fn keep_top_p(&mut self, p: f64) {
        self.order.clear();
        let kept = self.weights.iter().enumerate().filter(|(_, w)| **w > 0.0);
        self.order.extend(kept.map(|(token, _)| token as u32));
        let enough = p * self.weights.iter().sum::<f64>();
        let weights = &self.weights;
        let more_probable =
            |a: &u32, b: &u32| weights[*b as usize].total_cmp(&weights[*a as usize]).then_with(|| a.cmp(b));
        // Few tokens make up most of the probability: only so many are sorted, more where they do not suffice.
        let (mut sorted, mut sum, mut kept) = (0, 0.0, 0);
        while kept == sorted && sorted < self.order.len() {
            let rest = &mut self.order[sorted..];
            let count = (8 * sorted).clamp(64, 1 << 30).min(rest.len());
            if count < rest.len() {
                rest.select_nth_unstable_by(count - 1, more_probable);
            }
            rest[..count].sort_unstable_by(more_probable);
            for &token in &rest[..count] {
                if kept > 0 && sum >= enough {
                    break;
                }
                sum += weights[token as usize];
                kept += 1;
            }
            sorted += count;
        }
        for &token in &self.order[kept..] {
            self.weights[token as usize] = 0.0;
        }
    }
}

/// Place of the largest number, the first of equals.
fn first_largest(x: &[f64]) -> usize {
    x.iter().enumerate().fold(0, |best, (i, v)| if *v > x[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities with which each token is chosen, found from the uniform numbers at which the choice changes.
    fn chances(logits: &[f64], options: &Sampling, seen: &[i32]) -> Vec<f64> {
        let (mut sampler, n) = (Sampler::default(), 200_000);
        let mut counts = vec![0.0; logits.len()];
        for i in 0..n {
            let uniform = (f64::from(i) + 0.5) / f64::from(n);
            counts[sampler.choose(logits, options, seen, uniform).token] += 1.0 / f64::from(n);
        }
        counts
    }
    fn assert_chances(logits: &[f64], options: &Sampling, expected: &[f64]) {
        assert_seen(logits, options, &vec![0; logits.len()], expected);
    }
    fn assert_seen(logits: &[f64], options: &Sampling, seen: &[i32], expected: &[f64]) {
        let found = chances(logits, options, seen);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 2e-5, "{options:?}: {found:?} for {expected:?}");
        }
    }
    /// Logits of these probabilities.
    fn logits(p: &[f64]) -> Vec<f64> {
        p.iter().map(|p| p.ln()).collect()
    }
    fn sampling() -> Sampling {
        Sampling::default()
    }

    #[test]
    fn without_filters_the_chances_are_the_softmax() {
        assert_chances(&logits(&[0.5, 0.2, 0.3]), &sampling(), &[0.5, 0.2, 0.3]);
        // e, e², e³, e⁴ over their sum.
        let x = [1.0, 2.0, 3.0, 4.0];
        assert_chances(&x, &sampling(), &[0.0320586, 0.08714432, 0.23688282, 0.64391426]);
        // √e, e, e√e, e² over their sum.
        let warm = Sampling { temperature: 2.0, ..sampling() };
        assert_chances(&x, &warm, &[0.10153632, 0.1674051, 0.27600434, 0.45505423]);
    }

    #[test]
    fn temperature_zero_takes_the_first_largest() {
        let greedy = Sampling { temperature: 0.0, ..sampling() };
        assert_chances(&[1.0, 3.0, 3.0, 2.0], &greedy, &[0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn top_k_keeps_the_kth_and_its_equals() {
        let k = |top_k| Sampling { top_k, ..sampling() };
        let x = logits(&[0.1, 0.4, 0.2, 0.3]);
        assert_chances(&x, &k(2), &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        assert_chances(&x, &k(1), &[0.0, 1.0, 0.0, 0.0]);
        assert_chances(&x, &k(4), &[0.1, 0.4, 0.2, 0.3]);
        assert_chances(&x, &k(9), &[0.1, 0.4, 0.2, 0.3]);
        assert_chances(&[2.0, 1.0, 1.0, 0.0], &k(2), &[0.57611688, 0.21194156, 0.21194156, 0.0]);
    }

    #[test]
    fn top_p_keeps_what_reaches_it() {
        let p = |top_p| Sampling { top_p, ..sampling() };
        // Powers of two: the sums are exact.
        let x = logits(&[0.125, 0.5, 0.25, 0.125]);
        assert_chances(&x, &p(0.4), &[0.0, 1.0, 0.0, 0.0]);
        // At the border: 0.5 is reached by the first alone.
        assert_chances(&x, &p(0.5), &[0.0, 1.0, 0.0, 0.0]);
        assert_chances(&x, &p(0.51), &[0.0, 2.0 / 3.0, 1.0 / 3.0, 0.0]);
        // Of two equals the one with the smaller number stays.
        assert_chances(&x, &p(0.8), &[1.0 / 7.0, 4.0 / 7.0, 2.0 / 7.0, 0.0]);
        assert_chances(&x, &p(0.9), &[0.125, 0.5, 0.25, 0.125]);
        assert_chances(&x, &p(1e-9), &[0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn top_p_of_many_tokens_is_that_of_a_whole_sort() {
        let n = 5000;
        let x: Vec<f64> = (0..n).map(|i| ((i * 7919) % n) as f64 * 2e-3).collect();
        let mut sampler = Sampler::default();
        for p in [0.01, 0.3, 0.9, 0.9999] {
            let options = Sampling { top_p: p, ..sampling() };
            sampler.choose(&x, &options, &[], 0.5);
            let mut sorted: Vec<usize> = (0..n).collect();
            sorted.sort_by(|a, b| x[*b].total_cmp(&x[*a]));
            let total: f64 = x.iter().map(|x| x.exp()).sum();
            let mut before = 0.0;
            for (i, &token) in sorted.iter().enumerate() {
                assert_eq!(sampler.weights[token] > 0.0, i == 0 || before < p * total, "{p} {i}");
                before += x[token].exp();
            }
        }
    }

    #[test]
    fn min_p_is_a_part_of_the_largest() {
        let m = |min_p| Sampling { min_p, ..sampling() };
        let x = logits(&[0.5, 0.3, 0.15, 0.05]);
        assert_chances(&x, &m(0.4), &[0.625, 0.375, 0.0, 0.0]);
        assert_chances(&x, &m(0.2), &[0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0]);
        assert_chances(&x, &m(1.0), &[1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn the_penalty_divides_what_is_above_zero_and_multiplies_what_is_below() {
        let seen = [1, 0, 1, 0];
        // [2, 1, −1, 0] becomes [1, 1, −2, 0] by a penalty of 2.
        let options = Sampling { repetition_penalty: 2.0, ..sampling() };
        let expected = [0.41362198, 0.41362198, 0.02059303, 0.15216302];
        assert_seen(&[2.0, 1.0, -1.0, 0.0], &options, &seen, &expected);
    }

    #[test]
    fn filters_come_in_the_order_of_the_documentation() {
        // Temperature before top-p: at 0.5 the probabilities 0.5 0.3 0.2 become 0.6579 0.2368 0.1053 (squares over 0.38).
        let cold = Sampling { temperature: 0.5, top_p: 0.6, ..sampling() };
        assert_chances(&logits(&[0.5, 0.3, 0.2]), &cold, &[1.0, 0.0, 0.0]);
        // Top-k before top-p: of 0.4 0.3 0.3 two make 4/7 and 3/7 of which the first alone reaches 0.55; over all three it
        // does not.
        let both = Sampling { top_k: 2, top_p: 0.55, ..sampling() };
        assert_chances(&logits(&[0.41, 0.3, 0.29]), &both, &[1.0, 0.0, 0.0]);
        let only = Sampling { top_p: 0.55, ..sampling() };
        assert_chances(&logits(&[0.41, 0.3, 0.29]), &only, &[0.41 / 0.71, 0.3 / 0.71, 0.0]);
        // The penalty before the temperature: [2, 0] with the first seen and 4, at 0.5: [0.5, 0]/0.5 = [1, 0].
        let penal = Sampling { repetition_penalty: 4.0, temperature: 0.5, ..sampling() };
        assert_seen(&[2.0, 0.0], &penal, &[1, 0], &[0.73105858, 0.26894142]);
    }

    #[test]
    fn the_log_probability_is_that_of_the_model() {
        let options = Sampling { temperature: 0.1, top_k: 1, ..sampling() };
        let choice = Sampler::default().choose(&[1.0f32, 2.0, 3.0, 4.0], &options, &[], 0.5);
        assert_eq!(choice.token, 3);
        assert!((choice.log_probability - 0.64391426f64.ln()).abs() < 1e-7);
    }

    #[test]
    fn extremes_choose_a_token_that_is_there() {
        let mut sampler = Sampler::default();
        for temperature in [0.0, 1e-300, 1e-9, 1e9, 1e300] {
            let options = Sampling { temperature, top_k: 3, top_p: 0.999, min_p: 1e-9, ..sampling() };
            for uniform in [0.0, 0.5, 1.0 - f64::EPSILON] {
                let choice = sampler.choose(&[-1e30f32, 1e30, 0.0, 1e30], &options, &[], uniform);
                assert!(
                    choice.token < 4 && choice.log_probability <= 0.0,
                    "{temperature} {uniform} {choice:?}"
                );
            }
        }
        assert_eq!(sampler.choose(&[5.0f32], &sampling(), &[], 0.9).token, 0);
    }
}
