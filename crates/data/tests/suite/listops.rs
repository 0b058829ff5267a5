//! ListOps: labels against an independent evaluator, the distribution of labels against the published one, and results
//! that do not depend on the number of threads.

use s4_data::*;

/// The value of an expression, by a stack of open brackets: an implementation independent of the generator's. `None`
/// where it is not a valid expression.
fn value_of(words: &[&str]) -> Option<u32> {
    let mut open: Vec<(&str, Vec<u32>)> = Vec::new();
    let mut root_value = None;
    for word in words {
        if root_value.is_some() {
            return None;
        }
        let value = match *word {
            "]" => {
                let (operator, mut arguments) = open.pop()?;
                if !(2..=10).contains(&arguments.len()) {
                    return None;
                }
                match operator {
                    "[MIN" => arguments.into_iter().min()?,
                    "[MAX" => arguments.into_iter().max()?,
                    "[SM" => arguments.into_iter().sum::<u32>() % 10,
                    "[MED" => {
                        arguments.sort();
                        let n = arguments.len();
                        // The mean of the two middle arguments, rounded down; for an odd number both are the same one.
                        (arguments[(n - 1) / 2] + arguments[n / 2]) / 2
                    }
                    _ => return None,
                }
            }
            operator if operator.starts_with('[') => {
                open.push((operator, Vec::new()));
                // The root and nine more levels: the tenth holds digits alone.
                if open.len() > 9 {
                    return None;
                }
                continue;
            }
            digit => digit.parse().ok().filter(|d| *d < 10)?,
        };
        match open.last_mut() {
            Some((_, arguments)) => arguments.push(value),
            None => root_value = Some(value),
        }
    }
    root_value
}

fn words(tokens: &[u8]) -> Vec<&'static str> {
    tokens.iter().map(|t| LISTOPS_TOKENS[usize::from(*t)]).collect()
}

#[test]
fn every_label_is_what_the_expression_says() {
    let expressions = listops(5_000, 11).unwrap();
    for i in 0..expressions.count() {
        let row = expressions.expression(i);
        assert!(row.len() > 500 && row.len() < 2000, "length {}", row.len());
        assert_eq!(value_of(&words(row)), Some(u32::from(expressions.labels[i])), "row {i}");
    }
    let mut rows: Vec<&[u8]> = (0..expressions.count()).map(|i| expressions.expression(i)).collect();
    rows.sort();
    rows.dedup();
    assert_eq!(rows.len(), 5_000, "two trees are the same");
}

#[test]
fn shares_are_the_published_ones() {
    // One deviation of a share of 17 % of 20,000 is .27 points.
    let expressions = listops(20_000, 3).unwrap();
    let count = expressions.count() as f64;
    let share = |label: u8| 100.0 * expressions.labels.iter().filter(|l| **l == label).count() as f64 / count;
    let shares: Vec<f64> = (0..10).map(share).collect();
    assert!((shares[0] - 17.4).abs() < 1.0 && (shares[9] - 16.7).abs() < 1.0, "{shares:?}");
    assert!(shares[1..9].iter().all(|s| (6.5..=9.8).contains(s)), "{shares:?}");
    let mut lengths: Vec<usize> = (0..expressions.count()).map(|i| expressions.expression(i).len()).collect();
    lengths.sort();
    let mean = expressions.tokens.len() as f64 / count;
    let (median, accepted) = (lengths[lengths.len() / 2], 100.0 * count / expressions.drawn as f64);
    let figures = format!("mean {mean:.0}, median {median}, accepted {accepted:.2} %, shares {shares:.1?}");
    assert!((mean - 1040.0).abs() < 15.0 && median.abs_diff(963) < 25, "{figures}");
    assert!((accepted - 8.0).abs() < 1.0, "{figures}");
    let operators = |t: u8| expressions.tokens.iter().filter(|x| **x == t).count() as f64;
    let counts: Vec<f64> = (11..15).map(operators).collect();
    assert!(counts.iter().all(|c| (c / counts[0] - 1.0).abs() < 0.02), "operators {counts:?}");
}

#[test]
fn threads_and_counts_do_not_matter() {
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let one = pool(1).install(|| listops(300, 5).unwrap());
    let four = pool(4).install(|| listops(300, 5).unwrap());
    assert_eq!(one, four);
    let fewer = listops(100, 5).unwrap();
    assert_eq!(fewer.tokens, one.tokens[..fewer.tokens.len()]);
    assert_ne!(listops(100, 6).unwrap().tokens, fewer.tokens);
    assert!(listops(0, 1).is_err());
}

#[test]
fn published_text_is_read_without_its_parentheses() {
    let tokens = listops_tokens("( ( ( [MED 7 ) ( ( ( [SM 9 ) 4 ) ] ) ) ] )").unwrap();
    assert_eq!(words(&tokens), ["[MED", "7", "[SM", "9", "4", "]", "]"]);
    assert_eq!(value_of(&words(&tokens)), Some(5));
    let error = listops_tokens("( [MED 7 ) twelve").unwrap_err();
    assert!(error.reason.contains("word 3") && error.reason.contains("twelve"), "{error}");
    assert!(listops_tokens("<pad>").is_err());
}
