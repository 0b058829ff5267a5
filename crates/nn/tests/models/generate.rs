//! Generation against whole predictions: the same logits, prompts of any lengths, prefixes, stops, values in place of tokens.

use crate::common::*;
use s4_nn::*;

type F32 = Cpu<f32>;

fn model(more: &str) -> Model<F32> {
    let json = format!(
        r#"{{"encoder": "embedding", "vocabulary": 11, "output": 11, "features": 8, "layers": 2, "state": 8, "seed": 3{more}}}"#
    );
    let mut m = Model::new(Cpu::new(1).unwrap(), ModelConfig::from_json(&json).unwrap()).unwrap();
    // Logits far enough apart that a sequence has a face of its own.
    let wide: Vec<f32> = m.store().get("decoder.weight").unwrap().iter().map(|w| w * 20.0).collect();
    m.store_mut().set("decoder.weight", &wide).unwrap();
    m
}
/// Tokens without a pattern.
fn tokens(seed: u64, n: usize) -> Vec<i32> {
    noise(seed, n).iter().map(|x| (x * 1e4).abs() as i32 % 11).collect()
}
fn greedy(max_tokens: u64) -> GenerateOptions {
    GenerateOptions {
        max_tokens,
        sampling: Sampling { temperature: 0.0, ..Default::default() },
        seed: 0,
        stop: vec![],
    }
}
/// Everything that a generation gives, with so many steps a call.
fn run(
    m: &mut Model<F32>,
    prompts: &[Vec<i32>],
    options: GenerateOptions,
    from: Option<&Stepper<F32>>,
    mut steps: usize,
) -> Generated {
    let feed = Feed::new("test", m, None).unwrap();
    let mut generation = Generation::new(m, feed, prompts.to_vec(), options, from, 1.0).unwrap();
    let mut all = Generated::default();
    let a_call = steps;
    while !all.done {
        let some = generation
            .advance(m, || {
                steps -= 1;
                steps > 0
            })
            .unwrap();
        steps = a_call;
        all.tokens.extend(some.tokens);
        all.log_probabilities.extend(some.log_probabilities);
        all.done = some.done;
    }
    all
}
/// Logits of every time step.
fn logits(m: &mut Model<F32>, x: &[i32]) -> Vec<f32> {
    m.forward(Input::Tokens(x), 1, x.len(), &ForwardOptions::default()).unwrap().y
}
fn log_softmax(row: &[f32], token: i32) -> f64 {
    let row = wide(row);
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    row[token as usize] - most - row.iter().map(|x| (x - most).exp()).sum::<f64>().ln()
}
fn argmax(row: &[f32]) -> i32 {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as i32
}
fn column(all: &Generated, sequences: usize, number: usize) -> (Vec<i32>, Vec<f64>) {
    let pick = |i: &usize| i % sequences == number;
    (
        (0..all.tokens.len()).filter(pick).map(|i| all.tokens[i]).collect(),
        (0..all.tokens.len()).filter(pick).map(|i| all.log_probabilities[i]).collect(),
    )
}

const NORMS: [&str; 5] = [
    "",
    r#", "norm": "batch""#,
    r#", "norm": "none""#,
    r#", "prenorm": false, "norm": "batch""#,
    r#", "mode": "s4d", "finalNorm": false"#,
];

#[test]
fn its_steps_have_the_logits_of_whole_sequences() {
    for norm in NORMS {
        let mut m = model(norm);
        if norm.contains("batch") {
            let call = CallOptions { training: true, ..Default::default() };
            let options = ForwardOptions { call, ..Default::default() };
            let x = tokens(77, 120);
            for _ in 0..3 {
                m.forward(Input::Tokens(&x), 2, 60, &options).unwrap();
            }
        }
        for len in [1, 7, 33, 200] {
            let prompt = tokens(len as u64, len);
            let all = run(&mut m, std::slice::from_ref(&prompt), greedy(40), None, 1000);
            assert_eq!(all.tokens.len(), 40);
            let whole: Vec<i32> = prompt.iter().chain(&all.tokens).copied().collect();
            let y = logits(&mut m, &whole);
            for (i, (&token, &found)) in all.tokens.iter().zip(&all.log_probabilities).enumerate() {
                let row = &y[(len - 1 + i) * 11..][..11];
                let expected = log_softmax(row, token);
                assert!((found - expected).abs() < 1e-4, "{norm} {len} {i}: {found} for {expected}");
                let best = argmax(row);
                let gap = row[best as usize] - row[token as usize];
                assert!(gap <= 1e-4, "{norm} {len} {i}: {token} for {best}, {gap} below it");
            }
            let scores = m.score(&Feed::new("test", &m, None).unwrap(), &whole, 1.0, || true).unwrap();
            assert_eq!(scores.len(), whole.len() - 1);
            for (i, score) in scores.iter().enumerate() {
                let expected = log_softmax(&y[i * 11..][..11], whole[i + 1]);
                assert!((score - expected).abs() < 1e-4, "{norm} {len} {i}: {score} for {expected}");
            }
        }
    }
}

#[test]
fn prompts_of_unequal_lengths_are_each_as_alone() {
    let mut m = model("");
    let prompts: Vec<Vec<i32>> =
        [3, 500, 1, 41, 500, 40].iter().enumerate().map(|(i, &n)| tokens(i as u64, n)).collect();
    let all = run(&mut m, &prompts, greedy(25), None, 7);
    for (i, prompt) in prompts.iter().enumerate() {
        let alone = run(&mut m, std::slice::from_ref(prompt), greedy(25), None, 1000);
        let (found, scores) = column(&all, prompts.len(), i);
        assert_eq!(found, alone.tokens, "{i}");
        for (a, b) in scores.iter().zip(&alone.log_probabilities) {
            assert!((a - b).abs() < 1e-4, "{i}: {a} for {b}");
        }
    }
}

#[test]
fn prompts_longer_than_a_chunk_are_taken_in_pieces() {
    // 8 features: a chunk has 2^18/8 = 32,768 time steps of one sequence, 16,384 of two.
    let mut m = model(r#", "layers": 1"#);
    let prompts = [tokens(1, 40_000), tokens(2, 20_000), tokens(3, 70_001)];
    let mut calls = 0;
    let feed = Feed::new("test", &m, None).unwrap();
    let mut generation = Generation::new(&m, feed, prompts.to_vec(), greedy(6), None, 1.0).unwrap();
    let mut all = Generated::default();
    while !all.done {
        let some = generation.advance(&mut m, || false).unwrap();
        calls += 1;
        all.tokens.extend(some.tokens);
        all.log_probabilities.extend(some.log_probabilities);
        all.done = some.done;
    }
    assert!(calls > 10, "{calls}");
    for (i, prompt) in prompts.iter().enumerate() {
        let (found, scores) = column(&all, 3, i);
        let whole: Vec<i32> = prompt.iter().chain(&found).copied().collect();
        let y = logits(&mut m, &whole);
        for (k, &token) in found.iter().enumerate() {
            let expected = log_softmax(&y[(prompt.len() - 1 + k) * 11..][..11], token);
            assert!((scores[k] - expected).abs() < 1e-4, "{i} {k}: {} for {expected}", scores[k]);
        }
    }
}

#[test]
fn a_prefix_is_continued_by_every_prompt_and_stays_as_it_is() {
    let mut m = model("");
    let prefix = tokens(5, 90);
    let mut stream = m.stream(1, 1.0).unwrap();
    stream.push_new(&mut m, Input::Tokens(&prefix), 90, &StepOptions::default()).unwrap();
    let before = stream.save().unwrap();
    let prompts = [vec![4], vec![1, 2, 3], tokens(6, 64)];
    let all = run(&mut m, &prompts, greedy(12), Some(&stream), 1000);
    assert_eq!(stream.save().unwrap(), before);
    for (i, prompt) in prompts.iter().enumerate() {
        let whole: Vec<i32> = prefix.iter().chain(prompt).copied().collect();
        let alone = run(&mut m, &[whole], greedy(12), None, 1000);
        assert_eq!(column(&all, 3, i).0, alone.tokens, "{i}");
    }
    // A stream of as many sequences: each is continued by its own prompt, whatever the order of their lengths.
    let both: Vec<i32> = prefix.iter().chain(&tokens(8, 90)).copied().collect();
    let mut stream = m.stream(2, 1.0).unwrap();
    stream.push_new(&mut m, Input::Tokens(&both), 90, &StepOptions::default()).unwrap();
    let all = run(&mut m, &[vec![4], vec![9, 9, 2]], greedy(12), Some(&stream), 1000);
    for (i, prompt) in [vec![4], vec![9, 9, 2]].iter().enumerate() {
        let whole: Vec<i32> = both[i * 90..][..90].iter().chain(prompt).copied().collect();
        assert_eq!(column(&all, 2, i).0, run(&mut m, &[whole], greedy(12), None, 1000).tokens, "{i}");
    }
    let feed = Feed::new("test", &m, None).unwrap();
    let wrong = Generation::new(&m, feed, vec![vec![1]; 3], greedy(1), Some(&stream), 1.0);
    assert_eq!(wrong.err().unwrap().code.as_str(), "ERR_S4_SHAPE");
}

#[test]
fn a_seed_gives_the_same_tokens_however_they_are_asked_for() {
    let mut m = model("");
    let sampled = |seed| GenerateOptions { sampling: Sampling::default(), seed, ..greedy(60) };
    let prompts = [tokens(1, 5), tokens(2, 5)];
    let all = run(&mut m, &prompts, sampled(7), None, 1000);
    assert_eq!(run(&mut m, &prompts, sampled(7), None, 1).tokens, all.tokens);
    assert_ne!(run(&mut m, &prompts, sampled(8), None, 1000).tokens, all.tokens);
    // The random numbers belong to the number of a sequence: the first alone has the same.
    let alone = run(&mut m, &prompts[..1], sampled(7), None, 1000);
    assert_eq!(column(&all, 2, 0).0, alone.tokens);
}

#[test]
fn a_sequence_ends_with_a_stop_sequence_of_its_own() {
    let mut m = model("");
    let sampled = GenerateOptions { sampling: Sampling::default(), seed: 4, ..greedy(200) };
    let prompts = [tokens(1, 5), tokens(2, 5), tokens(3, 9)];
    let free = run(&mut m, &prompts, sampled.clone(), None, 1000);
    let first = column(&free, 3, 0).0;
    let stop = vec![first[20..23].to_vec(), vec![10, 10, 10, 10, 10, 10, 10]];
    let all = run(&mut m, &prompts, GenerateOptions { stop: stop.clone(), ..sampled }, None, 3);
    for i in 0..3 {
        let (found, scores) = column(&all, 3, i);
        let expected = column(&free, 3, i).0;
        let end = (0..expected.len())
            .find(|&n| stop.iter().any(|stop| expected[..=n].ends_with(stop)))
            .map_or(expected.len(), |n| n + 1);
        let ended = end.min(found.len());
        assert_eq!(found[..ended], expected[..ended], "{i}");
        assert!(found[ended..].iter().all(|&token| token == -1), "{i}");
        assert!(scores[..ended].iter().all(|s| s.is_finite()) && scores[ended..].iter().all(|s| s.is_nan()));
    }
    assert!(column(&all, 3, 0).0.iter().filter(|&&token| token >= 0).count() <= 23);
}

#[test]
fn a_penalty_looks_at_prompt_and_text() {
    let mut m = model("");
    let sampling = Sampling { temperature: 0.0, repetition_penalty: 100.0, ..Default::default() };
    let prompt = vec![0, 1, 2, 3];
    let all =
        run(&mut m, std::slice::from_ref(&prompt), GenerateOptions { sampling, ..greedy(7) }, None, 1000);
    let whole: Vec<i32> = prompt.iter().chain(&all.tokens).copied().collect();
    let y = logits(&mut m, &whole);
    for (i, &token) in all.tokens.iter().enumerate() {
        let mut row = y[(3 + i) * 11..][..11].to_vec();
        for (class, score) in row.iter_mut().enumerate() {
            if whole[..4 + i].contains(&(class as i32)) {
                *score = if *score > 0.0 { *score / 100.0 } else { *score * 100.0 };
            }
        }
        assert_eq!(token, argmax(&row), "{i}");
    }
}

#[test]
fn classes_may_be_fed_back_as_values() {
    let json = r#"{"input": 2, "output": 5, "features": 6, "layers": 2, "state": 8}"#;
    let mut m = Model::new(Cpu::<f32>::new(1).unwrap(), ModelConfig::from_json(json).unwrap()).unwrap();
    let values: Vec<f32> = cast(&noise(4, 10));
    let feed = Feed::new("test", &m, Some(values.clone())).unwrap();
    for len in [2, 50] {
        let prompt: Vec<i32> = tokens(9, len).iter().map(|t| t % 5).collect();
        let mut generation =
            Generation::new(&m, feed.clone(), vec![prompt.clone()], greedy(9), None, 1.0).unwrap();
        let all = generation.advance(&mut m, || true).unwrap();
        let whole: Vec<i32> = prompt.iter().chain(&all.tokens).copied().collect();
        let x: Vec<f32> = whole.iter().flat_map(|&t| values[t as usize * 2..][..2].to_vec()).collect();
        let y = m.forward(Input::Values(&x), 1, whole.len(), &ForwardOptions::default()).unwrap().y;
        let scores = m.score(&feed, &whole, 1.0, || true).unwrap();
        for (i, &token) in all.tokens.iter().enumerate() {
            let row = &y[(len - 1 + i) * 5..][..5];
            let expected = log_softmax(row, token);
            assert!((all.log_probabilities[i] - expected).abs() < 1e-4, "{len} {i}");
            assert!((scores[len - 1 + i] - expected).abs() < 1e-4, "{len} {i}");
        }
    }
    let code = |r: Result<Feed<f32>, s4_backend::Error>| r.err().unwrap().code.as_str();
    assert_eq!(code(Feed::new("test", &m, None)), "ERR_S4_VALUE");
    assert_eq!(code(Feed::new("test", &m, Some(vec![0.0; 9]))), "ERR_S4_SHAPE");
    assert_eq!(code(Feed::new("test", &m, Some(vec![f32::NAN; 10]))), "ERR_S4_VALUE");
    assert_eq!(code(Feed::new("test", &model(""), Some(vec![0.0; 11]))), "ERR_S4_VALUE");
}

#[test]
fn models_that_cannot_are_refused() {
    for (more, code) in [
        (r#", "bidirectional": true"#, "ERR_S4_UNSUPPORTED"),
        (r#", "truncate": 16"#, "ERR_S4_UNSUPPORTED"),
        (r#", "pooling": "mean""#, "ERR_S4_UNSUPPORTED"),
        (r#", "loss": "mse""#, "ERR_S4_UNSUPPORTED"),
        (r#", "output": 12"#, "ERR_S4_UNSUPPORTED"),
    ] {
        let json = format!(
            r#"{{"encoder": "embedding", "vocabulary": 11, "output": 11, "features": 8, "layers": 1, "state": 8{more}}}"#
        );
        let json = if more.contains("output") { json.replacen(r#""output": 11, "#, "", 1) } else { json };
        let m = Model::new(Cpu::<f32>::new(1).unwrap(), ModelConfig::from_json(&json).unwrap()).unwrap();
        assert_eq!(Feed::new("test", &m, None).err().unwrap().code.as_str(), code, "{more}");
    }
    let mut m = model("");
    let feed = Feed::new("test", &m, None).unwrap();
    for (prompts, code) in [
        (vec![], "ERR_S4_SHAPE"),
        (vec![vec![]], "ERR_S4_SHAPE"),
        (vec![vec![1], vec![]], "ERR_S4_SHAPE"),
        (vec![vec![11]], "ERR_S4_VALUE"),
        (vec![vec![-1]], "ERR_S4_VALUE"),
    ] {
        let refused = Generation::new(&m, feed.clone(), prompts, greedy(1), None, 1.0);
        assert_eq!(refused.err().unwrap().code.as_str(), code);
    }
    assert_eq!(m.score(&feed, &[], 1.0, || true).err().unwrap().code.as_str(), "ERR_S4_SHAPE");
    assert_eq!(m.score(&feed, &[1, 2], 1.0, || false).err().unwrap().code.as_str(), "ERR_S4_ABORTED");
    assert!(m.score(&feed, &[1], 1.0, || true).unwrap().is_empty());
    m.store_mut().set("decoder.bias", &[f32::MAX; 11]).unwrap();
    let wide: Vec<f32> = vec![f32::MAX; 88];
    m.store_mut().set("decoder.weight", &wide).unwrap();
    let mut generation = Generation::new(&m, feed, vec![vec![1]], greedy(1), None, 1.0).unwrap();
    assert_eq!(generation.advance(&mut m, || true).err().unwrap().code.as_str(), "ERR_S4_NONFINITE");
}
