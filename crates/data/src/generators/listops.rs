//! The ListOps task (Nangia and Bowman 2018) at the lengths of the Long Range Arena (Tay et al. 2021): expressions of
//! nested operations on digits, whose value is the label. A node of the expression tree is a digit with probability 3/4
//! and otherwise an operator with 2 to 10 arguments; trees of more than 500 and less than 2,000 tokens are kept.

use crate::{DataError, DataRng, Result};
use rayon::prelude::*;
use std::collections::HashSet;

/// The text of each token of [`ListOps`]. Token 0 is for padding; there are no parentheses.
pub const LISTOPS_TOKENS: [&str; 16] =
    ["<pad>", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "[MIN", "[MAX", "[MED", "[SM", "]"];

const FIRST_DIGIT: u8 = 1;
const FIRST_OPERATOR: u8 = 11;
const CLOSING_BRACKET: u8 = 15;
const MAX_TOKENS: usize = 1999;
const MIN_TOKENS: usize = 501;
const MAX_DEPTH: usize = 10;

/// Expressions as sequences of tokens, with their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOps {
    /// The tokens of all expressions, one after the other; indices of [`LISTOPS_TOKENS`].
    pub tokens: Vec<u8>,
    /// (count + 1): expression `i` is `tokens[offsets[i]..offsets[i + 1]]`.
    pub offsets: Vec<usize>,
    /// (count): the value of each expression, 0 to 9.
    pub labels: Vec<u8>,
    /// How many random trees were drawn to find these.
    pub drawn: u64,
}

impl ListOps {
    /// The tokens of expression `i`.
    ///
    /// # Panics
    /// When `i` is not below [`ListOps::count`].
    pub fn expression(&self, i: usize) -> &[u8] {
        &self.tokens[self.offsets[i]..self.offsets[i + 1]]
    }

    /// How many expressions there are.
    pub fn count(&self) -> usize {
        self.labels.len()
    }
}

/// An expression of accepted length, with its value and the number of trees that were drawn to find it.
struct AcceptedTree {
    tokens: Vec<u8>,
    value: u8,
    drawn: u64,
}

/// `count` distinct expressions. The first n of them are the same whatever `count` is.
pub fn listops(count: usize, seed: u64) -> Result<ListOps> {
    if count == 0 {
        return Err(DataError::new("listops: expected a count of 1 or more, got 0"));
    }
    let mut trees: Vec<(DataRng, AcceptedTree)> = (0..count)
        .into_par_iter()
        .map(|i| {
            let mut rng = DataRng::new(seed, i as u64);
            let tree = draw_accepted_tree(&mut rng);
            (rng, tree)
        })
        .collect();
    let mut offsets = Vec::with_capacity(count + 1);
    offsets.push(0);
    let mut seen: HashSet<Vec<u8>> = HashSet::with_capacity(count);
    let mut made = ListOps { tokens: Vec::new(), offsets, labels: Vec::with_capacity(count), drawn: 0 };
    for (rng, tree) in &mut trees {
        made.drawn += tree.drawn;
        while seen.contains(&tree.tokens) {
            *tree = draw_accepted_tree(rng);
            made.drawn += tree.drawn;
        }
        made.tokens.extend_from_slice(&tree.tokens);
        made.offsets.push(made.tokens.len());
        made.labels.push(tree.value);
        seen.insert(std::mem::take(&mut tree.tokens));
    }
    Ok(made)
}

fn draw_accepted_tree(rng: &mut DataRng) -> AcceptedTree {
    let mut tokens = Vec::with_capacity(MAX_TOKENS);
    for drawn in 1.. {
        tokens.clear();
        if let Some(value) = append_node(rng, 1, &mut tokens)
            && tokens.len() >= MIN_TOKENS
        {
            return AcceptedTree { tokens, value, drawn };
        }
    }
    unreachable!("the loop has no end of its own")
}

/// Appends the tokens of one random node and of all nodes below it and returns the node's value; `None` as soon as the
/// tree is too long.
fn append_node(rng: &mut DataRng, depth: usize, tokens: &mut Vec<u8>) -> Option<u8> {
    if depth >= MAX_DEPTH || rng.uniform() >= 0.25 {
        let digit = rng.below(10) as u8;
        tokens.push(FIRST_DIGIT + digit);
        return (tokens.len() <= MAX_TOKENS).then_some(digit);
    }
    let operator = rng.below(4) as u8;
    let count = 2 + rng.below(9);
    let mut arguments = [0; 10];
    tokens.push(FIRST_OPERATOR + operator);
    for argument in &mut arguments[..count] {
        *argument = append_node(rng, depth + 1, tokens)?;
    }
    tokens.push(CLOSING_BRACKET);
    (tokens.len() <= MAX_TOKENS).then(|| value_of(operator, &mut arguments[..count]))
}

/// The value of an operator (0 MIN, 1 MAX, 2 MED, 3 SM) on digits. The median of an even number of arguments is the
/// mean of the middle two, rounded down; SM is the sum modulo 10.
fn value_of(operator: u8, arguments: &mut [u8]) -> u8 {
    arguments.sort_unstable();
    let middle = arguments.len() / 2;
    match operator {
        0 => arguments[0],
        1 => arguments[arguments.len() - 1],
        2 if arguments.len() % 2 == 1 => arguments[middle],
        2 => (arguments[middle - 1] + arguments[middle]) / 2,
        _ => arguments.iter().sum::<u8>() % 10,
    }
}

/// The tokens of an expression that is written in words separated by white space. Parentheses, which the published
/// files have around every argument, are dropped.
pub fn listops_tokens(text: &str) -> Result<Vec<u8>> {
    let token_of = |(i, word): (usize, &str)| {
        let token = LISTOPS_TOKENS.iter().skip(1).position(|t| *t == word);
        token.map(|t| t as u8 + 1).ok_or_else(|| {
            let shown: String = word.chars().take(20).collect();
            DataError::new(format!("word {}: expected a token of ListOps, got \"{shown}\"", i + 1))
        })
    };
    text.split_whitespace().filter(|w| *w != "(" && *w != ")").enumerate().map(token_of).collect()
}
