//! Data that are made from a seed, away from the JavaScript thread and on all cores.

use crate::{
    background::{Background, in_background},
    buffer::{Bytes, Data},
};
use napi::bindgen_prelude::AsyncTask;
use napi_derive::napi;
use s4_backend::{Code, Error};
use s4_data::{DataError, Pathfinder, PathfinderRules};

fn refused(op: &'static str, error: DataError) -> Error {
    Error::new(Code::Data, op, "data to be made", error)
}

/// ListOps: rows of tokens, one after the other.
#[napi(object, object_from_js = false)]
pub struct TokenRows {
    /// All rows joined.
    #[napi(ts_type = "Uint8Array")]
    pub tokens: Bytes,
    /// (count + 1): where each row begins, and the end of the last.
    #[napi(ts_type = "Int32Array")]
    pub offsets: Data,
    /// (count).
    #[napi(ts_type = "Uint8Array")]
    pub labels: Bytes,
}

/// Trees of ListOps, at most a million (their tokens are counted in 32 bits). `seed` is a whole number.
#[napi(ts_return_type = "Promise<TokenRows>")]
pub fn listops(count: u32, seed: f64) -> AsyncTask<Background<TokenRows>> {
    in_background(move || {
        let made = s4_data::listops(count as usize, seed as u64).map_err(|e| refused("listops", e))?;
        let offsets = made.offsets.iter().map(|&at| at as i32).collect();
        Ok(TokenRows { tokens: Bytes(made.tokens), offsets: Data::I32(offsets), labels: Bytes(made.labels) })
    })
}

/// Grey pictures with a label each.
#[napi(object, object_from_js = false)]
pub struct LabelledPictures {
    /// (count, side, side).
    #[napi(ts_type = "Uint8Array")]
    pub pixels: Bytes,
    /// (count).
    #[napi(ts_type = "Uint8Array")]
    pub labels: Bytes,
    /// Pixels of a row.
    pub side: u32,
}

/// Pictures `first` to `first + count` of a seed: Path-X (128 × 128) with `long`, Pathfinder (32 × 32) without. `first` and
/// `seed` are whole numbers.
#[napi(ts_return_type = "Promise<LabelledPictures>")]
pub fn pathfinder(long: bool, first: f64, count: u32, seed: f64) -> AsyncTask<Background<LabelledPictures>> {
    let (first, seed) = (first as u64, seed as u64);
    in_background(move || {
        let rules = if long { PathfinderRules::path_x() } else { PathfinderRules::pathfinder() };
        let draw = Pathfinder::new(rules).map_err(|e| refused("pathfinder", e))?;
        let made = draw.examples(seed, first..first + u64::from(count));
        Ok(LabelledPictures {
            pixels: Bytes(made.pixels),
            labels: Bytes(made.labels),
            side: made.side as u32,
        })
    })
}
