//! Pathfinder pictures: a linear classifier cannot tell the label, both labels are equally frequent, markers are there,
//! and the number of threads does not matter.

use s4_data::*;

/// A square picture after a Gaussian blur.
fn blurred(picture: &[f64], side: usize, sigma: f64) -> Vec<f64> {
    let reach = (3.0 * sigma).ceil() as isize;
    let weights: Vec<f64> = (-reach..=reach).map(|k| (-0.5 * (k as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let blur_rows = |p: &[f64], stride_y: usize, stride_x: usize| -> Vec<f64> {
        let mut blurred_picture = vec![0.0; p.len()];
        for y in 0..side {
            for x in 0..side {
                let tap = |(k, w): (usize, &f64)| {
                    let at = x as isize + k as isize - reach;
                    if at < 0 || at >= side as isize {
                        0.0
                    } else {
                        w * p[y * stride_y + at as usize * stride_x]
                    }
                };
                blurred_picture[y * stride_y + x * stride_x] =
                    weights.iter().enumerate().map(tap).sum::<f64>() / sum;
            }
        }
        blurred_picture
    };
    blur_rows(&blur_rows(picture, side, 1), 1, side)
}

/// The features that a linear classifier gets: the pixels, and for two blurred and squared pictures their sum, maximum,
/// mean position, second moments, and every seventh pixel.
fn features(pixels: &[u8], side: usize) -> Vec<f64> {
    let picture: Vec<f64> = pixels.iter().map(|p| f64::from(*p) / 255.0).collect();
    let mut features_of_picture = picture.clone();
    for sigma in [1.0, 2.5] {
        // Markers are the brightest spots of a blurred picture; the square makes them stand out.
        let blur: Vec<f64> = blurred(&picture, side, sigma).iter().map(|b| b * b).collect();
        let total: f64 = blur.iter().sum::<f64>() + 1e-9;
        let place = |i: usize| ((i / side) as f64, (i % side) as f64);
        let mean = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
            blur.iter().enumerate().map(|(i, b)| b * f(place(i).0, place(i).1)).sum::<f64>() / total
        };
        let (my, mx) = (mean(&|y, _| y), mean(&|_, x| x));
        let (yy, xx, xy) = (
            mean(&|y, _| (y - my).powi(2)),
            mean(&|_, x| (x - mx).powi(2)),
            mean(&|y, x| (y - my) * (x - mx)),
        );
        let brightest = blur.iter().copied().fold(0.0, f64::max);
        features_of_picture.extend([
            total,
            brightest,
            my,
            mx,
            yy,
            xx,
            xy,
            yy + xx,
            (yy * xx - xy * xy).max(0.0).sqrt(),
        ]);
        features_of_picture.extend(blur.iter().step_by(7));
    }
    features_of_picture
}

/// Trains a logistic regression on the first `train` rows and gives its share of right answers on the others.
fn linear_accuracy(mut rows: Vec<Vec<f64>>, labels: &[u8], train: usize) -> f64 {
    let width = rows[0].len();
    for f in 0..width {
        let mean = rows[..train].iter().map(|r| r[f]).sum::<f64>() / train as f64;
        let variance = rows[..train].iter().map(|r| (r[f] - mean).powi(2)).sum::<f64>() / train as f64;
        let scale = 1.0 / variance.sqrt().max(1e-3);
        rows.iter_mut().for_each(|r| r[f] = (r[f] - mean) * scale);
    }
    let (mut weights, mut momentum, mut bias) = (vec![0.0; width], vec![0.0; width], 0.0);
    let logit = |w: &[f64], bias: f64, row: &[f64]| -> f64 {
        bias + w.iter().zip(row).map(|(a, b)| a * b).sum::<f64>()
    };
    for _ in 0..120 {
        let mut gradient: Vec<f64> = weights.iter().map(|w| 0.02 * w).collect();
        let mut offset = 0.0;
        for (row, label) in rows[..train].iter().zip(labels) {
            let error =
                (1.0 / (1.0 + (-logit(&weights, bias, row)).exp()) - f64::from(*label)) / train as f64;
            gradient.iter_mut().zip(row).for_each(|(g, x)| *g += error * x);
            offset += error;
        }
        for ((w, m), g) in weights.iter_mut().zip(&mut momentum).zip(&gradient) {
            *m = 0.9 * *m + g;
            *w -= 0.01 * *m;
        }
        bias -= 0.1 * offset;
    }
    let is_right = |(row, label): (&Vec<f64>, &u8)| (logit(&weights, bias, row) > 0.0) == (*label == 1);
    let tests = rows[train..].iter().zip(&labels[train..]);
    tests.clone().filter(|t| is_right(*t)).count() as f64 / tests.count() as f64
}

#[test]
fn a_linear_classifier_learns_nothing() {
    let (train, count) = (4_000, 10_000);
    let examples = Pathfinder::new(PathfinderRules::pathfinder()).unwrap().examples(42, 0..count as u64);
    let positive = examples.labels.iter().filter(|l| **l == 1).count() as f64 / count as f64;
    assert!((positive - 0.5).abs() < 0.015, "positive {positive}");
    let rows: Vec<Vec<f64>> = examples.pixels.chunks(32 * 32).map(|p| features(p, 32)).collect();
    let accuracy = linear_accuracy(rows.clone(), &examples.labels, train);
    assert!(accuracy <= 0.53, "a linear reader of pixels and blurred moments has {accuracy}");
    // The same classifier must learn a label that can be seen: whether the left half is brighter.
    let brighter = |p: &[u8]| {
        let half = |keep: bool| -> u64 {
            p.iter().enumerate().filter(|(i, _)| (i % 32 < 16) == keep).map(|(_, p)| u64::from(*p)).sum()
        };
        u8::from(half(true) > half(false))
    };
    let easy: Vec<u8> = examples.pixels.chunks(32 * 32).map(brighter).collect();
    let learned = linear_accuracy(rows, &easy, train);
    assert!(learned > 0.9, "the reader itself is blind: {learned}");
}

#[test]
fn threads_and_ranges_do_not_matter() {
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    for rules in [PathfinderRules::pathfinder(), PathfinderRules::path_x()] {
        let side = rules.size;
        let draw = Pathfinder::new(rules).unwrap();
        let one = pool(1).install(|| draw.examples(7, 0..12));
        assert_eq!(one, pool(4).install(|| draw.examples(7, 0..12)));
        let later = draw.examples(7, 5..9);
        assert_eq!(later.pixels, one.pixels[5 * side * side..9 * side * side]);
        assert_eq!(later.labels, one.labels[5..9]);
        assert_ne!(draw.examples(8, 0..12).pixels, one.pixels);
        assert!(draw.examples(7, 3..3).labels.is_empty());
    }
}

#[test]
fn pictures_have_two_markers_and_dark_ground() {
    for rules in [PathfinderRules::pathfinder(), PathfinderRules::path_x()] {
        let (side, radius) = (rules.size, rules.marker_radius);
        let examples = Pathfinder::new(rules).unwrap().examples(1, 0..40);
        for picture in examples.pixels.chunks(side * side) {
            assert_eq!(picture.iter().max(), Some(&255));
            let lit = picture.iter().filter(|p| **p > 60).count() as f64 / picture.len() as f64;
            assert!((0.02..0.45).contains(&lit), "{lit}");
            // A solid square of the marker's inner size: no line is as thick.
            let inner = (2.0 * radius * 0.7).floor() as usize;
            let least = picture.iter().fold(0, |a, b| a.max(*b)) / 3;
            let solid = |at: usize| {
                let (y, x) = (at / side, at % side);
                y + inner <= side
                    && x + inner <= side
                    && (0..inner * inner).all(|k| picture[(y + k / inner) * side + x + k % inner] > least)
            };
            assert!((0..picture.len()).any(solid), "no marker");
        }
    }
}

#[test]
fn rules_without_room_are_refused() {
    let base = PathfinderRules::pathfinder;
    for rules in [
        PathfinderRules { size: 8, ..base() },
        PathfinderRules { size: 129, ..base() },
        PathfinderRules { seed_distance: 8, ..base() },
        PathfinderRules { margins: vec![], ..base() },
        PathfinderRules { margins: vec![0], ..base() },
        PathfinderRules { contour_length: 0, ..base() },
        PathfinderRules { continuity: f64::NAN, ..base() },
        PathfinderRules { paddle_thickness: -1.0, ..base() },
        PathfinderRules { marker_radius: f64::INFINITY, ..base() },
        PathfinderRules { antialias: 0, ..base() },
        PathfinderRules { size: 16, seed_distance: 3, paddle_length: 16, ..base() },
    ] {
        assert!(Pathfinder::new(rules.clone()).is_err(), "{rules:?}");
    }
}
