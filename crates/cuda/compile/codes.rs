//! The numbers by which kernels know the values of the contract's enums, as a header of `#define`s: each stands in Rust
//! once, and kernels name it (`POOLING_MEAN`, `ACTIVATION_GELU`, `LOSS_KIND_HUBER`, `TRANSFORM_EXP`).

use s4_backend::{Activation, LossKind, Pooling, Transform};

#[path = "../src/dense/f16_copies.rs"]
mod f16_copies;
use f16_copies::F16CopiesMode;

/// The text of the header `codes.cuh`, which kernels include.
pub fn header() -> String {
    let mut text = String::from("// Made by compile/codes.rs of the contract's enums.\n#pragma once\n");
    let mut define = |kind: &str, name: &str, code: i32| {
        text += &format!("#define {kind}_{} {code}\n", screaming(name));
    };
    Activation::ALL.iter().for_each(|x| define("ACTIVATION", x.name(), x.code()));
    Pooling::ALL.iter().for_each(|x| define("POOLING", x.name(), x.code()));
    LossKind::ALL.iter().for_each(|x| define("LOSS_KIND", x.name(), x.code()));
    Transform::ALL.iter().for_each(|x| define("TRANSFORM", x.name(), x.code()));
    for mode in [F16CopiesMode::Guess, F16CopiesMode::Fit, F16CopiesMode::Recompute] {
        define("F16_COPIES", &format!("{mode:?}"), mode.code());
    }
    text
}

/// `crossEntropy`, `cross-entropy` and `CrossEntropy` as `CROSS_ENTROPY`.
fn screaming(name: &str) -> String {
    let mut upper_case = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            upper_case.push('_');
        }
        upper_case.push(if c == '-' { '_' } else { c.to_ascii_uppercase() });
    }
    upper_case
}
