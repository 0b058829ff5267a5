//! Splits of data into parts for training, validation and test, without information leaking between parts.

use crate::{DataError, DataRng, Result, shuffled};
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

/// The sizes of parts of `count` examples, as near to the ratios as whole numbers allow; none may be empty.
fn part_sizes(count: usize, ratios: &[f64]) -> Result<Vec<usize>> {
    let sum: f64 = ratios.iter().sum();
    if ratios.is_empty() || !ratios.iter().all(|r| *r > 0.0 && r.is_finite()) || (sum - 1.0).abs() > 1e-6 {
        return Err(DataError::new(format!("expected ratios above 0 that sum to 1, got {ratios:?}")));
    }
    // The ends of parts are rounded, not their sizes, so that the end of a part does not depend on the parts after it.
    let mut cumulative_ratio = 0.0;
    let mut begin = 0;
    let mut sizes = Vec::with_capacity(ratios.len());
    for (i, ratio) in ratios.iter().enumerate() {
        cumulative_ratio += ratio;
        let end =
            if i + 1 == ratios.len() { count } else { (count as f64 * cumulative_ratio).round() as usize };
        let end = end.min(count);
        if end <= begin {
            return Err(DataError::new(format!("{count} examples leave a part of {ratio} empty")));
        }
        sizes.push(end - begin);
        begin = end;
    }
    Ok(sizes)
}

/// Consecutive ranges of these sizes, from 0.
fn consecutive_ranges(sizes: &[usize]) -> Vec<Range<usize>> {
    let end = |begin: &mut usize, size: &usize| {
        let range = *begin..*begin + size;
        *begin = range.end;
        Some(range)
    };
    sizes.iter().scan(0, end).collect()
}

/// Splits rows 0 to `len`, in their order, into parts of these ratios, which must sum to 1. Every row of a part comes
/// before every row of the next one.
pub fn split_in_order(len: usize, ratios: &[f64]) -> Result<Vec<Range<usize>>> {
    part_sizes(len, ratios).map(|sizes| consecutive_ranges(&sizes))
}

/// Splits a series of `len` rows into its first `fraction`, to train on, and the rows after it.
pub fn split_in_time(len: usize, fraction: f64) -> Result<(Range<usize>, Range<usize>)> {
    let parts = split_in_order(len, &[fraction, 1.0 - fraction])?;
    Ok((parts[0].clone(), parts[1].clone()))
}

/// Splits rows by their times, which must ascend: part i has the rows from `bounds[i − 1]` on (the first part from the
/// beginning) and before `bounds[i]` (the last part to the end).
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

/// Splits examples 0 to `count` at random into parts of these ratios; the result depends on seed and ratios alone.
pub fn split_at_random(count: usize, ratios: &[f64], seed: u64) -> Result<Vec<Vec<usize>>> {
    let order = shuffled(count, seed, 0);
    let parts = consecutive_ranges(&part_sizes(count, ratios)?);
    Ok(parts.into_iter().map(|range| order[range].to_vec()).collect())
}

/// Splits examples at random (stratified): each part gets the same share of every label, as far as whole numbers allow.
/// A label with fewer examples than parts goes to the earlier parts.
pub fn split_by_label<L: Hash + Eq>(labels: &[L], ratios: &[f64], seed: u64) -> Result<Vec<Vec<usize>>> {
    part_sizes(labels.len(), ratios)?;
    let mut parts = vec![Vec::new(); ratios.len()];
    for (k, members) in members_of(labels).into_iter().enumerate() {
        let order = shuffled(members.len(), seed, k as u64);
        let mut begin = 0;
        let mut cumulative_ratio = 0.0;
        for (part, ratio) in parts.iter_mut().zip(ratios) {
            cumulative_ratio += ratio;
            let end = ((members.len() as f64 * cumulative_ratio - 1e-9).ceil() as usize).min(members.len());
            part.extend(order[begin..end].iter().map(|i| members[*i]));
            begin = end;
        }
    }
    let empty = parts.iter().position(Vec::is_empty);
    if let Some(part) = empty {
        return Err(DataError::new(format!("{} examples leave part {} empty", labels.len(), part + 1)));
    }
    // So far a part has its examples sorted by label, and batches would hold a single one.
    for (k, part) in parts.iter_mut().enumerate() {
        let order = shuffled(part.len(), seed, u64::MAX - k as u64);
        *part = order.iter().map(|i| part[*i]).collect();
    }
    Ok(parts)
}

/// Splits examples at random, with all examples of one group (a speaker, a patient) in the same part. Parts are as near
/// to the ratios as the groups' sizes allow.
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
    // Largest groups first, so that small ones can even out the parts; groups of equal size stay in random order.
    order.sort_by_key(|g| std::cmp::Reverse(members[*g].len()));
    let mut parts = vec![Vec::new(); ratios.len()];
    let mut rng = DataRng::new(seed, 1);
    for (groups_placed, group) in order.iter().enumerate() {
        let groups_left = order.len() - groups_placed;
        let empty: Vec<usize> = (0..parts.len()).filter(|p| parts[*p].is_empty()).collect();
        let examples_missing = |p: usize| ratios[p] * groups.len() as f64 - parts[p].len() as f64;
        let allowed_parts: Vec<usize> =
            if groups_left <= empty.len() { empty } else { (0..parts.len()).collect() };
        let largest_lack =
            allowed_parts.iter().map(|p| examples_missing(*p)).fold(f64::NEG_INFINITY, f64::max);
        let candidates: Vec<usize> =
            allowed_parts.into_iter().filter(|p| examples_missing(*p) >= largest_lack - 1e-9).collect();
        parts[candidates[rng.below(candidates.len())]].extend_from_slice(&members[*group]);
    }
    Ok(parts)
}

/// The indices of each distinct key, in the order in which keys first appear.
fn members_of<K: Hash + Eq>(keys: &[K]) -> Vec<Vec<usize>> {
    let mut index: HashMap<&K, usize> = HashMap::new();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        let key_number = *index.entry(key).or_insert(members.len());
        if key_number == members.len() {
            members.push(Vec::new());
        }
        members[key_number].push(i);
    }
    members
}
