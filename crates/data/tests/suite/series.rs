//! Readers on the recorded series in data/, and generators of toy tasks against the definitions of their tasks.

use s4_data::*;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data");

fn test_file(name: &str) -> String {
    format!("{DATA}/{name}")
}

fn column_named(column: &str) -> CsvOptions {
    CsvOptions { column: Column::Name(column.into()), ..Default::default() }
}

#[test]
fn the_real_series() {
    let ecg = read_csv(test_file("ecg_mitdb208.csv"), &CsvOptions::default()).unwrap();
    assert_eq!((ecg.len(), ecg[0], ecg[3]), (108_000, -0.245, -0.175));
    let sunspots = read_csv(test_file("sunspots_monthly.csv"), &column_named("sunspots")).unwrap();
    assert_eq!(sunspots[..3], [58.0, 62.6, 70.0]);
    let same = CsvOptions { column: Column::Index(1), header: Some(true), ..Default::default() };
    assert_eq!(read_csv(test_file("sunspots_monthly.csv"), &same).unwrap(), sunspots);
}

#[test]
fn gaps_are_refused_or_filled() {
    let error = read_csv(test_file("co2_weekly.csv"), &column_named("co2_ppm")).unwrap_err();
    assert_eq!((error.row, error.column.as_deref()), (Some(8), Some("co2_ppm")));
    let filled =
        read_csv(test_file("co2_weekly.csv"), &CsvOptions { gaps: Gaps::Linear, ..column_named("co2_ppm") })
            .unwrap();
    assert_eq!(filled.len(), 2284);
    assert!(filled.iter().all(|x| (300.0..400.0).contains(x)));
    // The value of line 8 is missing alone: the mean of its neighbours. Lines 11 to 14 are one run of missing values.
    assert!((filled[6] - (filled[5] + filled[7]) / 2.0).abs() < 1e-12);
    let step = filled[10] - filled[9];
    assert!(step != 0.0 && (filled[13] - filled[9] - 4.0 * step).abs() < 1e-9);
}

#[test]
fn what_is_wrong_is_named() {
    let parse = |text: &str, options: &CsvOptions| parse_csv(text.as_bytes(), options);
    let plain = CsvOptions::default();
    let linear = CsvOptions { gaps: Gaps::Linear, ..Default::default() };
    let place_of_error = |result: Result<Vec<f64>>| {
        let error = result.unwrap_err();
        assert!(!error.reason.is_empty());
        (error.row, error.column)
    };
    assert_eq!(place_of_error(parse("x,y\n1,2\n3,four\n", &plain)), (Some(3), Some("y".into())));
    assert_eq!(place_of_error(parse("1\n2\nthree\n", &plain)), (Some(3), Some("1".into())));
    assert_eq!(place_of_error(parse("x\n1\ninf\n", &plain)), (Some(3), Some("x".into())));
    assert_eq!(place_of_error(parse("a,b\n1,2\n1,2,3\n", &plain)), (Some(3), None));
    assert_eq!(place_of_error(parse("a\n1\n", &column_named("b"))), (None, Some("b".into())));
    let third = CsvOptions { column: Column::Index(2), ..Default::default() };
    assert_eq!(place_of_error(parse("a,b\n1,2\n", &third)), (None, Some("3".into())));
    let nameless = CsvOptions { header: Some(false), ..column_named("a") };
    assert_eq!(place_of_error(parse("a\n1\n", &nameless)), (None, Some("a".into())));
    for (text, row) in [("x,y\n1,\n2,3\n", 2), ("x,y\n1,2\n2,\n", 3)] {
        assert_eq!(place_of_error(parse(text, &linear)), (Some(row), Some("y".into())));
    }
    assert_eq!(place_of_error(parse("", &plain)), (None, None));
    assert_eq!(place_of_error(parse("x\n", &plain)), (None, None));
    assert_eq!(place_of_error(parse_csv(&b"x\n1\n\xff\xfe\n"[..], &plain)).0, Some(3));
    let error = read_csv(test_file("none.csv"), &plain).unwrap_err();
    assert!(error.to_string().contains("none.csv"), "{error}");
    let error = parse("x,y\n1,2\n3,four\n", &plain).unwrap_err();
    assert_eq!(error.to_string(), "row 3, column y: expected a number, got \"four\"");
}

#[test]
fn headers_separators_marks() {
    let parse = |text: &str, options: &CsvOptions| parse_csv(text.as_bytes(), options).unwrap();
    let plain = CsvOptions::default();
    assert_eq!(parse("1\n2\n", &plain), [1.0, 2.0]);
    assert_eq!(parse("\u{feff}\u{feff}x\r\n 1e3 \r\n-.5\r\n", &plain), [1000.0, -0.5]);
    assert_eq!(parse("\u{feff}x\r\n 1e3 \r\n-.5\r\n", &plain), [1000.0, -0.5]);
    assert_eq!(parse("\"a \"\"b\"\"\",c\n\"1\",2\n", &plain), [2.0]);
    assert_eq!(
        parse("t;v\n0;1\n1;2\n", &CsvOptions { delimiter: Some(b';'), ..column_named("v") }),
        [1.0, 2.0]
    );
    let linear = CsvOptions { gaps: Gaps::Linear, ..Default::default() };
    assert_eq!(parse("t,v\n0,1\n1,NaN\n2,NA\n3,4\n", &linear), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(parse("t,v\n0,-1.5e308\n1,NaN\n2,1.5e308\n", &linear), [-1.5e308, 0.0, 1.5e308]);
    let numbers_as_names = CsvOptions { header: Some(true), ..Default::default() };
    assert_eq!(parse("2001\n7\n", &numbers_as_names), [7.0]);
}

#[test]
fn shuffles_repeat_and_permute() {
    let order = shuffled(1000, 7, 3);
    assert_eq!(order, shuffled(1000, 7, 3));
    assert_ne!(order, shuffled(1000, 7, 4));
    assert_ne!(order, shuffled(1000, 8, 3));
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert!(sorted.iter().copied().eq(0..1000));
    // Few indices stay in place, and position and index are uncorrelated: one standard deviation is 1/√1000.
    assert!(order.iter().enumerate().filter(|(i, o)| i == *o).count() < 10);
    let r: f64 = order.iter().enumerate().map(|(i, &o)| (i as f64 - 499.5) * (o as f64 - 499.5)).sum();
    assert!(r.abs() / (1000.0 * 83_333.25) < 0.15);
    assert!(shuffled(0, 1, 1).is_empty());
}

#[test]
fn copying_task() {
    let task = copying(3, 5, 10, 8, 1).unwrap();
    assert_eq!((task.len, task.vocabulary, task.tokens.len(), task.labels.len()), (20, 10, 60, 60));
    for row in 0..3 {
        let (tokens, labels) = (&task.tokens[row * 20..][..20], &task.labels[row * 20..][..20]);
        assert!(tokens[..5].iter().all(|t| (1..=8).contains(t)));
        assert!(tokens[5..15].iter().all(|&t| t == 0) && tokens[15..].iter().all(|&t| t == 9));
        assert!(labels[..15].iter().all(|&l| l == -1) && labels[15..] == tokens[..5]);
    }
    assert_ne!(task.tokens[..5], task.tokens[20..25]);
    assert!(copying(1, 0, 1, 1, 0).is_err());
}

#[test]
fn delay_task() {
    let task = delay(4, 256, 30, 0.25, 2).unwrap();
    let (u, y) = (&task.inputs[256..512], &task.targets[256..512]);
    assert!(y[..30].iter().all(|&y| y == 0.0) && y[30..] == u[..226]);
    let power = task.inputs.iter().map(|u| u * u).sum::<f64>() / task.inputs.len() as f64;
    assert!((power - 1.0).abs() < 0.35, "{power}");
    // The band ends at harmonic 32: harmonics above have no amplitude, harmonic 5 has some.
    let harmonic = |k: usize| {
        let angle = |t: usize| std::f64::consts::TAU * (k * t % 256) as f64 / 256.0;
        let part = |f: fn(f64) -> f64| (0..256).map(|t| u[t] * f(angle(t))).sum::<f64>();
        part(f64::cos).hypot(part(f64::sin))
    };
    assert!(harmonic(5) > 1e-2 && harmonic(33) < 1e-10 && harmonic(100) < 1e-10);
    assert!(delay(1, 8, 2, 0.0, 0).is_err() && delay(1, 0, 2, 0.5, 0).is_err());
    assert!(delay(1, 4, 9, 0.5, 0).unwrap().targets.iter().all(|&y| y == 0.0));
}

#[test]
fn adding_task() {
    let task = adding(50, 11, 3).unwrap();
    for row in 0..50 {
        let steps: Vec<&[f64]> = task.inputs[row * 22..][..22].chunks(2).collect();
        let marked: Vec<usize> = (0..11).filter(|&t| steps[t][1] == 1.0).collect();
        assert!(marked.len() == 2 && marked[0] < 5 && marked[1] >= 5, "{marked:?}");
        assert_eq!(task.targets[row], steps[marked[0]][0] + steps[marked[1]][0]);
    }
    assert!(adding(1, 1, 0).is_err());
}

#[test]
fn sines() {
    let clean = noisy_sines(200, &[20.0, 50.0], 0.0, 5).unwrap();
    assert!((0..100).all(|t| (clean[t] - clean[t + 100]).abs() < 1e-12), "100 is a period of both");
    let noisy = noisy_sines(20_000, &[20.0, 50.0], 0.3, 5).unwrap();
    let again = noisy_sines(20_000, &[20.0, 50.0], 0.0, 5).unwrap();
    let power = noisy.iter().zip(&again).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / 20_000.0;
    assert!((power.sqrt() - 0.3).abs() < 0.01, "{power}");
    assert!(noisy_sines(5, &[0.0], 0.1, 1).is_err() && noisy_sines(5, &[1.0], f64::NAN, 1).is_err());
}
