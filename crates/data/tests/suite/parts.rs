//! Windows, splits, scalers and calendar features against positions and numbers worked out by hand.

use s4_data::*;
use std::collections::HashSet;

#[test]
fn windows_and_targets() {
    let series: Vec<f64> = (0..20).map(f64::from).collect();
    let each = Windows::new(&series, 4, 3, Horizon::EachStep(2)).unwrap();
    // Starts 0, 3, 6, 9, 12; the last reaches value 17, the next would need 20.
    assert_eq!((each.count(), each.target_len()), (5, 8));
    assert_eq!(each.input(4), [12.0, 13.0, 14.0, 15.0]);
    assert_eq!(each.target(4), [13.0, 14.0, 14.0, 15.0, 15.0, 16.0, 16.0, 17.0]);
    let after = Windows::new(&series, 15, 1, Horizon::After(5)).unwrap();
    assert_eq!((after.count(), after.target(0)), (1, vec![15.0, 16.0, 17.0, 18.0, 19.0]));
    let alone = Windows::new(&series, 20, 7, Horizon::None).unwrap();
    assert_eq!((alone.count(), alone.target(0).len()), (1, 0));
    for (length, stride, horizon) in [
        (0, 1, Horizon::None),
        (4, 0, Horizon::None),
        (4, 1, Horizon::After(0)),
        (16, 1, Horizon::After(5)),
        (usize::MAX, 1, Horizon::EachStep(9)),
    ] {
        assert!(Windows::new(&series, length, stride, horizon).is_err(), "{length} {stride} {horizon:?}");
    }
}

#[test]
fn windows_of_several_features_copy_nothing() {
    // Row r holds r and 100 + r.
    let series: Vec<f64> = (0..12).flat_map(|r| [f64::from(r), f64::from(100 + r)]).collect();
    let plan = WindowPlan::new(2..11, 3, 2, Horizon::After(2)).unwrap();
    let windows = Windows::from_plan(&series, 2, plan.clone()).unwrap();
    assert_eq!((windows.count(), windows.target_len()), (3, 4));
    assert_eq!(windows.input(1), [4.0, 104.0, 5.0, 105.0, 6.0, 106.0]);
    assert_eq!(windows.target_rows(1), [7.0, 107.0, 8.0, 108.0]);
    assert!(std::ptr::eq(&windows.input(1)[0], &series[8]));
    assert_eq!((plan.input_rows(2), plan.target_rows(2)), (6..9, 9..11));
    let each = WindowPlan::new(0..12, 2, 1, Horizon::EachStep(2)).unwrap();
    let each = Windows::from_plan(&series, 2, each).unwrap();
    assert_eq!(each.target(0), [1.0, 101.0, 2.0, 102.0, 2.0, 102.0, 3.0, 103.0]);
    assert!(Windows::from_plan(&series, 5, plan.clone()).is_err());
    assert!(Windows::from_plan(&series[..20], 2, plan).is_err());
}

#[test]
fn windows_reach_back_but_their_targets_do_not() {
    // Informer's protocol on ETTh1: test rows 11,520 to 14,400, look-back 96, horizon 24.
    let plan = WindowPlan::reaching_back(11_520..14_400, 96, 1, Horizon::After(24)).unwrap();
    assert_eq!(
        (plan.count(), plan.input_rows(0), plan.target_rows(0)),
        (2857, 11_424..11_520, 11_520..11_544)
    );
    assert_eq!(plan.target_rows(2856), 14_376..14_400);
    let early = WindowPlan::reaching_back(5..20, 8, 1, Horizon::After(1)).unwrap();
    assert_eq!(early.input_rows(0), 0..8);
}

#[test]
fn windows_without_missing_rows() {
    let mut missing = vec![false; 20];
    (missing[7], missing[19]) = (true, true);
    let plan = WindowPlan::new(1..20, 3, 2, Horizon::After(1)).unwrap();
    // The windows with their targets are the rows 1–4, 3–6, 5–8, 7–10, 9–12, 11–14, 13–16, 15–18.
    assert_eq!(plan.complete_windows(&missing), [0, 1, 4, 5, 6, 7]);
    assert_eq!(plan.complete_windows(&[false; 20]).len(), plan.count());
}

fn assert_each_index_once(parts: &[Vec<usize>], count: usize) {
    let mut all: Vec<usize> = parts.concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..count));
}

#[test]
fn splits_in_time() {
    assert_eq!(split_in_time(108_000, 0.8).unwrap(), (0..86_400, 86_400..108_000));
    for (len, fraction) in [(10, 0.0), (10, 1.0), (10, f64::NAN), (1, 0.5), (0, 0.5), (3, 0.01)] {
        assert!(split_in_time(len, fraction).is_err(), "{len} {fraction}");
    }
    assert_eq!(split_in_order(10, &[0.6, 0.2, 0.2]).unwrap(), [0..6, 6..8, 8..10]);
    assert!(split_in_order(10, &[0.6, 0.2]).is_err() && split_in_order(10, &[]).is_err());
    let times = [0, 10, 10, 20, 30];
    assert_eq!(split_at_times(&times, &[10, 25]).unwrap(), [0..1, 1..4, 4..5]);
    assert_eq!(split_at_times(&[0, 5, 4], &[3]).unwrap_err().row, Some(3));
    assert!(split_at_times(&times, &[25, 10]).is_err() && split_at_times(&times, &[99]).is_err());
}

#[test]
fn splits_by_chance() {
    let parts = split_at_random(1000, &[0.8, 0.1, 0.1], 4).unwrap();
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [800, 100, 100]);
    assert_each_index_once(&parts, 1000);
    assert_eq!(parts, split_at_random(1000, &[0.8, 0.1, 0.1], 4).unwrap());
    assert_ne!(parts, split_at_random(1000, &[0.8, 0.1, 0.1], 5).unwrap());
    assert!(split_at_random(2, &[0.8, 0.1, 0.1], 4).is_err());
    assert!(split_at_random(9, &[1.5, -0.5], 4).is_err());
}

#[test]
fn labels_are_shared_out_and_groups_are_not() {
    let labels: Vec<usize> = (0..1000).map(|i| if i % 10 == 0 { 1 } else { 0 }).collect();
    let parts = split_by_label(&labels, &[0.8, 0.2], 1).unwrap();
    assert_each_index_once(&parts, 1000);
    for (part, rare) in parts.iter().zip([80, 20]) {
        assert_eq!(part.iter().filter(|i| labels[**i] == 1).count(), rare);
    }
    // The labels are mixed, not sorted.
    assert!(parts[1][..40].iter().any(|i| labels[*i] == 1) && parts[1][..40].iter().any(|i| labels[*i] == 0));
    let speakers: Vec<String> = (0..600).map(|i| format!("speaker {}", i % 7)).collect();
    let parts = split_by_group(&speakers, &[0.6, 0.2, 0.2], 3).unwrap();
    assert_each_index_once(&parts, 600);
    let speakers_of = |part: &Vec<usize>| part.iter().map(|i| &speakers[*i]).collect::<HashSet<_>>();
    let sets: Vec<HashSet<&String>> = parts.iter().map(speakers_of).collect();
    assert_eq!(sets.iter().map(HashSet::len).sum::<usize>(), 7, "a speaker is in two parts");
    assert!(parts[0].len() > 250 && parts.iter().all(|p| !p.is_empty()));
    // One large group among small ones: no part may be empty.
    let uneven: Vec<usize> = (0..100).map(|i| if i < 98 { 0 } else { i }).collect();
    let parts = split_by_group(&uneven, &[0.5, 0.25, 0.25], 0).unwrap();
    assert!(parts.iter().all(|p| !p.is_empty()));
    assert!(split_by_group(&[1; 50], &[0.5, 0.5], 0).is_err());
}

#[test]
fn scales() {
    let series = [1.0, 7.0, 3.0, 7.0, 5.0, 7.0];
    let z = Scaler::fit(&series, 2, Scaling::ZScore).unwrap();
    assert_eq!(z.offset, [3.0, 7.0]);
    assert!((z.scale[0] - (8f64 / 3.0).sqrt()).abs() < 1e-15 && z.scale[1] == 1.0);
    let mut x = series;
    z.scale_rows(&mut x);
    assert!((x[0] + x[4]).abs() < 1e-15 && x[2] == 0.0 && x[1] == 0.0);
    z.unscale_rows(&mut x);
    assert!(x.iter().zip(series).all(|(a, b)| (a - b).abs() < 1e-14));
    let between = Scaler::fit(&series, 2, Scaling::MinMax).unwrap();
    assert_eq!((&between.offset[..], &between.scale[..]), (&[1.0, 7.0][..], &[4.0, 1.0][..]));
    // Quartiles of 1, 2, 3, 4, 1000 are 2 and 4.
    let robust = Scaler::fit(&[4.0, 2.0, 1000.0, 1.0, 3.0], 1, Scaling::Robust).unwrap();
    assert_eq!((robust.offset[0], robust.scale[0]), (3.0, 2.0));
    let mostly = Scaler::fit(&[5.0, 5.0, 5.0, 5.0, 9.0], 1, Scaling::Robust).unwrap();
    assert_eq!((mostly.offset[0], mostly.scale[0]), (5.0, 1.0));
    let columns = Scaler::fit_columns(&[&[1.0, 3.0, 5.0], &[7.0]], Scaling::ZScore).unwrap();
    assert_eq!(columns, z);
    assert_eq!(z.of_channels(&[1]), Scaler { offset: vec![7.0], scale: vec![1.0] });
}

#[test]
fn scales_of_difficult_channels() {
    for scaling in [Scaling::ZScore, Scaling::MinMax, Scaling::Robust] {
        let tenths = Scaler::fit(&[0.1; 1000], 1, scaling).unwrap();
        assert_eq!((tenths.offset[0], tenths.scale[0]), (0.1, 1.0), "a constant channel is moved alone");
        // Missing values are left out and stay missing.
        let gaps = [f64::NAN, 1.0, 2.0, f64::NAN, 3.0];
        let fitted = Scaler::fit(&gaps, 1, scaling).unwrap();
        assert_eq!(fitted, Scaler::fit(&[1.0, 2.0, 3.0], 1, scaling).unwrap());
        let mut x = gaps;
        fitted.scale_rows(&mut x);
        assert!(x[0].is_nan() && x[1].is_finite());
        let infinite = Scaler::fit(&[1.0, 2.0, 3.0, f64::INFINITY], 2, scaling).unwrap_err();
        assert_eq!((infinite.row, infinite.column.as_deref()), (Some(2), Some("2")));
        let empty = Scaler::fit(&[1.0, f64::NAN, 3.0, f64::NAN], 2, scaling).unwrap_err();
        assert_eq!(empty.column.as_deref(), Some("2"));
        let large = Scaler::fit(&[-1.7e308, -1.7e308, 1.7e308, 1.7e308], 1, scaling).unwrap_err();
        assert!(large.reason.contains("too large"), "{large}");
        assert!(Scaler::fit(&[1.0; 3], 2, scaling).is_err() && Scaler::fit(&[], 1, scaling).is_err());
    }
}

#[test]
fn calendars() {
    use CalendarField::{Day, DayOfYear, Hour, Minute, Month, Weekday};
    // Saturday, 29 February 2020, 23:45 UTC.
    let moment = 1_583_019_900_000;
    let all = [Minute, Hour, Weekday, Day, DayOfYear, Month];
    assert_eq!(calendar(&[moment], &all, None).unwrap(), [45, 23, 5, 28, 59, 1]);
    assert_eq!(calendar(&[moment], &all, Some("Europe/Berlin")).unwrap(), [45, 0, 6, 0, 60, 2]);
    assert_eq!(calendar(&[0, moment], &[Hour, Month], None).unwrap(), [0, 0, 23, 1]);
    let last = calendar(&[1_609_459_140_000], &all, None).unwrap();
    assert!(
        last.iter().zip(all).filter(|(v, f)| **v as usize == f.value_count() - 1).count() == 5,
        "{last:?}"
    );
    assert_eq!(calendar(&[0, i64::MAX], &all, None).unwrap_err().row, Some(2));
    assert!(calendar(&[0], &all, Some("Nowhere")).is_err());
}
