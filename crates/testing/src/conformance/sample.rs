//! Conformance tests of the choice of tokens.

use super::suite::{CaseLabel, OutputBuffer, Suite, into_array};
use s4_backend::{Backend, EmbeddingForward, SampleTokens, Sampling, SeqShape, random::sampling_uniform};

/// Steps of a case: with a penalty the second sees the token of the first.
const STEPS: usize = 2;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
/// Tokens before; the second step has the next high word of the count.
const COUNT: u64 = 0x2_ffff_ffff;

impl<B: Backend> Suite<'_, B> {
    pub(super) fn sample(&mut self) {
        let all = Sampling::default();
        let options = [
            all,
            Sampling { temperature: 0.0, ..all },
            Sampling { temperature: 0.6, top_k: 5, ..all },
            Sampling { temperature: 1.5, top_p: 0.8, ..all },
            Sampling { min_p: 0.2, repetition_penalty: 1.7, ..all },
            Sampling { temperature: 0.9, top_k: 40, top_p: 0.95, min_p: 0.01, repetition_penalty: 0.8 },
        ];
        for (rows, vocabulary) in self.cases(&[(1, 3), (3, 32), (40, 257), (2, 5000)], &[(2, 33)]) {
            for sampling in &options {
                // Half of the cases have many equal logits.
                for steps in [0.0, 0.5] {
                    self.sample_case(rows, vocabulary, sampling, steps);
                }
            }
        }
    }

    fn sample_case(&mut self, rows: usize, vocabulary: usize, sampling: &Sampling, grid: f64) {
        let (backend, s) = (self.backend, *sampling);
        let case = format!("{rows} of {vocabulary}, {s:?}, logits on a grid of {grid}");
        let label = CaseLabel { operation: "sample_tokens", case: &case };
        let mut logits = self.normal(rows * vocabulary);
        if grid > 0.0 {
            logits.iter_mut().for_each(|x| *x = (*x / grid).round() * grid);
        }
        let mut seen: Vec<i32> = (0..rows * vocabulary).map(|i| i32::from(i % 7 == 0)).collect();
        let number = |row: usize| (row as u32).wrapping_mul(0x9000_0001);
        let counted = |count: u64| -> Vec<i32> {
            (0..rows)
                .flat_map(|row| [number(row) as i32, count as u32 as i32, (count >> 32) as i32])
                .collect()
        };
        let (before, progress) = (seen.clone(), counted(COUNT));
        // (window, rows): tokens and log-probabilities.
        let (mut tokens, mut log_probabilities) = (vec![0.0; STEPS * rows], vec![0.0; STEPS * rows]);
        let mut last = vec![0.0; rows];
        for count in COUNT..COUNT + STEPS as u64 {
            for row in 0..rows {
                let range = row * vocabulary..(row + 1) * vocabulary;
                let uniform = sampling_uniform(SEED, number(row), count);
                let (token, log_probability) = choose(&logits[range.clone()], &s, &seen[range], uniform);
                seen[row * vocabulary + token] = 1;
                let place = (count % STEPS as u64) as usize * rows + row;
                (tokens[place], log_probabilities[place]) = (token as f64, log_probability);
                last[row] = token as f64;
            }
        }
        // The tokens for the next step are read through an embedding.
        let numbers: Vec<f64> = (0..vocabulary).map(|i| i as f64).collect();
        let outs = [OutputBuffer::Overwritten(STEPS * rows * 3), OutputBuffer::Overwritten(rows)];
        let got = self.outputs_of(label, &[&logits, &numbers], &[], &outs, &mut |a, _| {
            let ([mut results, mut y], [logits, table]) = (into_array(a.outs), into_array(a.ins));
            let [mut tokens, mut own_progress, mut own_seen] = [
                backend.alloc_ints(rows)?,
                backend.alloc_ints(progress.len())?,
                backend.alloc_ints(before.len())?,
            ];
            backend.upload_ints(&mut own_progress, &progress)?;
            backend.upload_ints(&mut own_seen, &before)?;
            for _ in 0..STEPS {
                backend.sample_tokens(SampleTokens {
                    tokens: &mut tokens,
                    progress: &mut own_progress,
                    seen: &mut own_seen,
                    results: backend.reborrow(&mut results),
                    logits: backend.shorten(logits),
                    sampling: s,
                    seed: SEED,
                    rows,
                    vocabulary,
                    window: STEPS,
                })?;
            }
            let shape = SeqShape { batch: rows, heads: 1, len: 1 };
            let (y, table) = (backend.reborrow(&mut y), backend.shorten(table));
            backend.embedding_forward(EmbeddingForward { y, table, tokens: &tokens, vocabulary, shape })
        });
        let Some(got) = got else { return };
        let results: Vec<&[f64]> = got[0].chunks_exact(3).collect();
        let found: Vec<f64> = results.iter().map(|r| r[0]).collect();
        let sums: Vec<f64> = results.iter().map(|r| r[1] + r[2]).collect();
        self.check_holds(label, "results", found == tokens);
        self.check_output(label, "results", &sums, &log_probabilities);
        self.check_holds(label, "tokens", got[1] == last);
    }
}

/// The choice, step by step as it is documented.
fn choose(logits: &[f64], s: &Sampling, seen: &[i32], uniform: f64) -> (usize, f64) {
    let first_largest = |x: &[f64]| (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best });
    let most = logits[first_largest(logits)];
    let log_sum = most + logits.iter().map(|x| (x - most).exp()).sum::<f64>().ln();
    let penalized = |(&x, &seen): (&f64, &i32)| match (seen, x > 0.0) {
        (0, _) => x,
        (_, true) => x / s.repetition_penalty,
        (_, false) => x * s.repetition_penalty,
    };
    let scores: Vec<f64> = logits.iter().zip(seen).map(penalized).collect();
    let best = first_largest(&scores);
    let done = |token: usize| (token, logits[token] - log_sum);
    if s.temperature == 0.0 {
        return done(best);
    }
    let mut p: Vec<f64> = scores.iter().map(|x| ((x - scores[best]) / s.temperature).exp()).collect();
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]).then(a.cmp(&b)));
    if s.top_k > 0 && s.top_k < p.len() {
        let least = p[order[s.top_k - 1]];
        p.iter_mut().filter(|w| **w < least).for_each(|w| *w = 0.0);
    }
    if s.top_p < 1.0 {
        let enough = s.top_p * p.iter().sum::<f64>();
        let mut sum = 0.0;
        for (i, &token) in order.iter().enumerate() {
            if i > 0 && sum >= enough {
                p[token] = 0.0;
            } else {
                sum += p[token];
            }
        }
    }
    p.iter_mut().filter(|w| **w < s.min_p).for_each(|w| *w = 0.0);
    let target = uniform * p.iter().sum::<f64>();
    let (mut sum, mut last) = (0.0, best);
    for (token, &w) in p.iter().enumerate().filter(|(_, w)| **w > 0.0) {
        last = token;
        sum += w;
        if target < sum {
            break;
        }
    }
    done(last)
}
