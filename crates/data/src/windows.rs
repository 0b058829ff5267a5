//! Windows over a series, their targets, and a split in time.

use crate::{DataError, Result};
use std::ops::Range;

/// What is to be predicted from a window of inputs x_s … x_{s+length−1}.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Horizon {
    /// At every step the next `h` values: target (length, h), target\[t\]\[k\] = x_{s+t+1+k}.
    EachStep(usize),
    /// After the window its next `h` values: target (h).
    After(usize),
    /// The window itself: no target beyond it.
    None,
}

impl Horizon {
    /// Values needed beyond the window.
    pub fn reach(self) -> usize {
        match self {
            Horizon::EachStep(h) | Horizon::After(h) => h,
            Horizon::None => 0,
        }
    }
}

/// Windows of `length` at every `stride` values of one series, each with its target inside the series.
#[derive(Clone, Copy, Debug)]
pub struct Windows<'a> {
    series: &'a [f64],
    length: usize,
    stride: usize,
    horizon: Horizon,
}

impl<'a> Windows<'a> {
    /// Refuses lengths, strides and horizons of 0 and a series without room for one window.
    pub fn new(series: &'a [f64], length: usize, stride: usize, horizon: Horizon) -> Result<Self> {
        if length == 0 || stride == 0 {
            return Err(DataError::new(format!(
                "expected a length and a stride of 1 or more, got {length} and {stride}"
            )));
        }
        if matches!(horizon, Horizon::EachStep(0) | Horizon::After(0)) {
            return Err(DataError::new("expected a horizon of 1 or more, got 0"));
        }
        let needed = length.saturating_add(horizon.reach());
        if series.len() < needed {
            return Err(DataError::new(format!(
                "expected a series of {needed} values or more for one window with its target, got {}",
                series.len()
            )));
        }
        Ok(Windows { series, length, stride, horizon })
    }

    /// How many there are; 1 or more.
    pub fn count(&self) -> usize {
        (self.series.len() - self.length - self.horizon.reach()) / self.stride + 1
    }

    /// Values of one target.
    pub fn target_len(&self) -> usize {
        match self.horizon {
            Horizon::EachStep(h) => self.length * h,
            Horizon::After(h) => h,
            Horizon::None => 0,
        }
    }

    /// Input of window `i`: (length).
    ///
    /// # Panics
    /// When `i` is not below [`Windows::count`].
    pub fn input(&self, i: usize) -> &'a [f64] {
        assert!(i < self.count(), "window {i} of {}", self.count());
        &self.series[i * self.stride..][..self.length]
    }

    /// Target of window `i`, in the order of [`Horizon`].
    ///
    /// # Panics
    /// When `i` is not below [`Windows::count`].
    pub fn target(&self, i: usize) -> Vec<f64> {
        assert!(i < self.count(), "window {i} of {}", self.count());
        let start = i * self.stride;
        match self.horizon {
            Horizon::EachStep(h) => {
                (0..self.length).flat_map(|t| self.series[start + t + 1..][..h].iter().copied()).collect()
            }
            Horizon::After(h) => self.series[start + self.length..][..h].to_vec(),
            Horizon::None => vec![],
        }
    }
}

/// The first `fraction` of a series to train on, and the rest: nothing of the later part reaches the earlier.
pub fn split_in_time(len: usize, fraction: f64) -> Result<(Range<usize>, Range<usize>)> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(DataError::new(format!("expected a fraction between 0 and 1, got {fraction}")));
    }
    let at = (len as f64 * fraction).round() as usize;
    if at == 0 || at >= len {
        return Err(DataError::new(format!("a series of {len} values has no part of {fraction}")));
    }
    Ok((0..at, at..len))
}
