//! Parts to train on, to choose by and to judge by, none of which knows anything of another.

use crate::{DataError, DataRng, Result, shuffled};
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

/// How many of `count` fall to each part: as near to the ratios as whole numbers allow, none empty, all used.
fn part_sizes(count: usize, ratios: &[f64]) -> Result<Vec<usize>> {
    let sum: f64 = ratios.iter().sum();
    if ratios.is_empty() || !ratios.iter().all(|r| *r > 0.0 && r.is_finite()) || (sum - 1.0).abs() > 1e-6 {
        return Err(DataError::new(format!("expected ratios above 0 that sum to 1, got {ratios:?}")));
    }
    // Rounded borders rather than rounded sizes: the borders of some parts do not depend on those after them.
    let mut before = 0.0;
    let mut begin = 0;
    let mut sizes = Vec::with_capacity(ratios.len());
    for (i, ratio) in ratios.iter().enumerate() {
        before += ratio;
        let end = if i + 1 == ratios.len() { count } else { (count as f64 * before).round() as usize };
        let end = end.min(count);
        if end <= begin {
            return Err(DataError::new(format!("{count} examples leave a part of {ratio} empty")));
        }
        sizes.push(end - begin);
        begin = end;
    }
    Ok(sizes)
}

fn ranges(sizes: &[usize]) -> Vec<Range<usize>> {
    let end = |begin: &mut usize, size: &usize| {
        let range = *begin..*begin + size;
        *begin = range.end;
        Some(range)
    };
    sizes.iter().scan(0, end).collect()
}

/// Rows 0 to `len` in their order, as ratios that sum to 1: nothing of a later part reaches an earlier one.
pub fn split_in_order(len: usize, ratios: &[f64]) -> Result<Vec<Range<usize>>> {
    part_sizes(len, ratios).map(|sizes| ranges(&sizes))
}

/// The first `fraction` of a series to train on, and the rest.
pub fn split_in_time(len: usize, fraction: f64) -> Result<(Range<usize>, Range<usize>)> {
    let parts = split_in_order(len, &[fraction, 1.0 - fraction])?;
    Ok((parts[0].clone(), parts[1].clone()))
}

/// Rows by their moments, which must not go back: part 0 is before `bounds[0]`, part i from bound i − 1 on and
/// before bound i, the last from the last bound on.
pub fn split_at_times(times: &[i64], bounds: &[i64]) -> Result<Vec<Range<usize>>> {
    if let Some(i) = times.windows(2).position(|pair| pair[1] < pair[0]) {
        return Err(DataError {
            row: Some(i as u64 + 2),
            ..DataError::new("expected rows in the order of time")
        });
    }
    if bounds.windows(2).any(|pair| pair[1] <= pair[0]) {
        return Err(DataError::new("expected bounds in the order of time, each once"));
    }
    let mut begin = 0;
    let mut parts = Vec::with_capacity(bounds.len() + 1);
    for end in bounds.iter().map(|b| times.partition_point(|t| t < b)).chain([times.len()]) {
        if end <= begin {
            return Err(DataError::new(format!("part {} is empty", parts.len() + 1)));
        }
        parts.push(begin..end);
        begin = end;
    }
    Ok(parts)
}

/// Examples 0 to `count` by chance: a function of seed and ratios alone.
pub fn split_at_random(count: usize, ratios: &[f64], seed: u64) -> Result<Vec<Vec<usize>>> {
    let order = shuffled(count, seed, 0);
    let parts = ranges(&part_sizes(count, ratios)?);
    Ok(parts.into_iter().map(|range| order[range].to_vec()).collect())
}

/// Examples by chance, but with the same share of every label in each part as far as whole numbers allow; a
/// label with too few examples for all parts goes to the earlier ones.
pub fn split_by_label<L: Hash + Eq>(labels: &[L], ratios: &[f64], seed: u64) -> Result<Vec<Vec<usize>>> {
    part_sizes(labels.len(), ratios)?;
    let mut parts = vec![Vec::new(); ratios.len()];
    for (k, members) in members_of(labels).into_iter().enumerate() {
        let order = shuffled(members.len(), seed, k as u64);
        let mut begin = 0;
        let mut before = 0.0;
        for (part, ratio) in parts.iter_mut().zip(ratios) {
            before += ratio;
            let end = ((members.len() as f64 * before - 1e-9).ceil() as usize).min(members.len());
            part.extend(order[begin..end].iter().map(|i| members[*i]));
            begin = end;
        }
    }
    let empty = parts.iter().position(Vec::is_empty);
    if let Some(part) = empty {
        return Err(DataError::new(format!("{} examples leave part {} empty", labels.len(), part + 1)));
    }
    // One label after the other would otherwise show in batches.
    for (k, part) in parts.iter_mut().enumerate() {
        let order = shuffled(part.len(), seed, u64::MAX - k as u64);
        *part = order.iter().map(|i| part[*i]).collect();
    }
    Ok(parts)
}

/// Examples by chance, but all of one group (a speaker, a patient) in one part. Parts are as near to the ratios as
/// the groups' sizes allow.
pub fn split_by_group<G: Hash + Eq>(groups: &[G], ratios: &[f64], seed: u64) -> Result<Vec<Vec<usize>>> {
    part_sizes(groups.len(), ratios)?;
    let members = members_of(groups);
    if members.len() < ratios.len() {
        return Err(DataError::new(format!(
            "expected {} or more groups for {} parts, got {}",
            ratios.len(),
            ratios.len(),
            members.len()
        )));
    }
    let mut order = shuffled(members.len(), seed, 0);
    // The largest first, so that small ones fill what is left; by chance among equals.
    order.sort_by_key(|g| std::cmp::Reverse(members[*g].len()));
    let mut parts = vec![Vec::new(); ratios.len()];
    let mut rng = DataRng::new(seed, 1);
    for (placed, group) in order.iter().enumerate() {
        let left = order.len() - placed;
        let empty: Vec<usize> = (0..parts.len()).filter(|p| parts[*p].is_empty()).collect();
        let lacking = |p: usize| ratios[p] * groups.len() as f64 - parts[p].len() as f64;
        let open: Vec<usize> = if left <= empty.len() { empty } else { (0..parts.len()).collect() };
        let most = open.iter().map(|p| lacking(*p)).fold(f64::NEG_INFINITY, f64::max);
        let best: Vec<usize> = open.into_iter().filter(|p| lacking(*p) >= most - 1e-9).collect();
        parts[best[rng.below(best.len())]].extend_from_slice(&members[*group]);
    }
    Ok(parts)
}

/// Examples of each value, in the order in which values appear.
fn members_of<K: Hash + Eq>(keys: &[K]) -> Vec<Vec<usize>> {
    let mut index: HashMap<&K, usize> = HashMap::new();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        let place = *index.entry(key).or_insert(members.len());
        if place == members.len() {
            members.push(Vec::new());
        }
        members[place].push(i);
    }
    members
}
