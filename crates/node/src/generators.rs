//! Data that are made from a seed, away from the JavaScript thread and on all cores.

use crate::{
    buffer::{Bytes, Data},
    error::to_js_result,
};
use napi::{Env, Task, bindgen_prelude::AsyncTask};
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

/// The work of [`listops`].
pub struct ListopsTask {
    count: u32,
    seed: u64,
}

impl Task for ListopsTask {
    type Output = s4_data::ListOps;
    type JsValue = TokenRows;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        to_js_result(|| s4_data::listops(self.count as usize, self.seed).map_err(|e| refused("listops", e)))
    }

    fn resolve(&mut self, _: Env, made: Self::Output) -> napi::Result<TokenRows> {
        let offsets = made.offsets.iter().map(|&at| at as i32).collect();
        Ok(TokenRows { tokens: Bytes(made.tokens), offsets: Data::I32(offsets), labels: Bytes(made.labels) })
    }
}

/// Trees of ListOps, at most a million (their tokens are counted in 32 bits). `seed` is a whole number.
#[napi(ts_return_type = "Promise<TokenRows>")]
pub fn listops(count: u32, seed: f64) -> AsyncTask<ListopsTask> {
    AsyncTask::new(ListopsTask { count, seed: seed as u64 })
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

/// The work of [`pathfinder`].
pub struct PathfinderTask {
    long: bool,
    first: u64,
    count: u32,
    seed: u64,
}

impl Task for PathfinderTask {
    type Output = s4_data::LabelledPictures;
    type JsValue = LabelledPictures;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        to_js_result(|| {
            let rules = if self.long { PathfinderRules::path_x() } else { PathfinderRules::pathfinder() };
            let draw = Pathfinder::new(rules).map_err(|e| refused("pathfinder", e))?;
            Ok(draw.examples(self.seed, self.first..self.first + u64::from(self.count)))
        })
    }

    fn resolve(&mut self, _: Env, made: Self::Output) -> napi::Result<LabelledPictures> {
        Ok(LabelledPictures {
            pixels: Bytes(made.pixels),
            labels: Bytes(made.labels),
            side: made.side as u32,
        })
    }
}

/// Pictures `first` to `first + count` of a seed: Path-X (128 × 128) with `long`, Pathfinder (32 × 32) without. `first` and
/// `seed` are whole numbers.
#[napi(ts_return_type = "Promise<LabelledPictures>")]
pub fn pathfinder(long: bool, first: f64, count: u32, seed: f64) -> AsyncTask<PathfinderTask> {
    AsyncTask::new(PathfinderTask { long, first: first as u64, count, seed: seed as u64 })
}
