//! Windows over a series and their targets, as ranges of rows or as views of values, without copies.

use crate::{DataError, Result};
use std::ops::Range;

/// What a model predicts from a window of inputs x_s … x_{s+length−1}.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Horizon {
    /// At every time step of the window the `h` rows after it: target (length, h), target\[t\]\[k\] = x_{s+t+1+k}.
    EachStep(usize),
    /// The `h` rows after the window: target (h).
    After(usize),
    /// Nothing beyond the window: targets are empty.
    None,
}

impl Horizon {
    /// Rows needed beyond the window.
    pub fn reach(self) -> usize {
        match self {
            Horizon::EachStep(h) | Horizon::After(h) => h,
            Horizon::None => 0,
        }
    }
}

/// Which rows belong to which window: every `stride` rows begins a window of `length` rows; all windows and their
/// targets lie inside the range `rows`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowPlan {
    rows: Range<usize>,
    length: usize,
    stride: usize,
    horizon: Horizon,
}

impl WindowPlan {
    /// Refuses lengths, strides and horizons of 0 and rows without room for one window.
    pub fn new(rows: Range<usize>, length: usize, stride: usize, horizon: Horizon) -> Result<Self> {
        if length == 0 || stride == 0 {
            return Err(DataError::new(format!(
                "expected a length and a stride of 1 or more, got {length} and {stride}"
            )));
        }
        if matches!(horizon, Horizon::EachStep(0) | Horizon::After(0)) {
            return Err(DataError::new("expected a horizon of 1 or more, got 0"));
        }
        let needed = length.saturating_add(horizon.reach());
        if rows.len() < needed {
            return Err(DataError::new(format!(
                "expected a series of {needed} values or more for one window with its target, got {}",
                rows.len()
            )));
        }
        Ok(WindowPlan { rows, length, stride, horizon })
    }

    /// Windows whose targets lie in `part` of a series, while their inputs may begin up to `length` rows before it: for
    /// validation and test, where the first rows of the part would otherwise be inputs only.
    pub fn reaching_back(part: Range<usize>, length: usize, stride: usize, horizon: Horizon) -> Result<Self> {
        Self::new(part.start.saturating_sub(length)..part.end, length, stride, horizon)
    }

    /// How many windows there are; 1 or more.
    pub fn count(&self) -> usize {
        (self.rows.len() - self.length - self.horizon.reach()) / self.stride + 1
    }

    /// Rows of the input of window `i`.
    ///
    /// # Panics
    /// When `i` is not below [`WindowPlan::count`].
    pub fn input_rows(&self, i: usize) -> Range<usize> {
        assert!(i < self.count(), "window {i} of {}", self.count());
        let start = self.rows.start + i * self.stride;
        start..start + self.length
    }

    /// Rows that the target of window `i` is made of; empty for [`Horizon::None`].
    ///
    /// # Panics
    /// When `i` is not below [`WindowPlan::count`].
    pub fn target_rows(&self, i: usize) -> Range<usize> {
        let input = self.input_rows(i);
        match self.horizon {
            Horizon::EachStep(h) => input.start + 1..input.end + h,
            Horizon::After(h) => input.end..input.end + h,
            Horizon::None => input.end..input.end,
        }
    }

    /// The windows none of whose rows, of input or target, is missing; `missing[r]` is true where row r is.
    ///
    /// # Panics
    /// When `missing` is shorter than the rows.
    pub fn complete_windows(&self, missing: &[bool]) -> Vec<usize> {
        // missing_before[r]: how many of the plan's rows before its row r are missing.
        let mut missing_before = vec![0usize];
        let mut sum = 0;
        missing_before.extend(missing[self.rows.clone()].iter().map(|m| {
            sum += usize::from(*m);
            sum
        }));
        let is_complete = |i: &usize| {
            let (begin, end) = (i * self.stride, i * self.stride + self.length + self.horizon.reach());
            missing_before[begin] == missing_before[end]
        };
        (0..self.count()).filter(is_complete).collect()
    }
}

/// The windows of a plan over the values of a series (rows, features).
#[derive(Clone, Debug)]
pub struct Windows<'a> {
    series: &'a [f64],
    features: usize,
    plan: WindowPlan,
}

impl<'a> Windows<'a> {
    /// Windows over a whole series of one feature.
    pub fn new(series: &'a [f64], length: usize, stride: usize, horizon: Horizon) -> Result<Self> {
        Self::from_plan(series, 1, WindowPlan::new(0..series.len(), length, stride, horizon)?)
    }

    /// The windows of `plan` over a series (rows, features).
    pub fn from_plan(series: &'a [f64], features: usize, plan: WindowPlan) -> Result<Self> {
        if features == 0 || !series.len().is_multiple_of(features) {
            return Err(DataError::new(format!(
                "expected rows of {features} features, got {} values",
                series.len()
            )));
        }
        if plan.rows.end > series.len() / features {
            return Err(DataError::new(format!(
                "expected {} rows as planned, got {}",
                plan.rows.end,
                series.len() / features
            )));
        }
        Ok(Windows { series, features, plan })
    }

    /// How many windows there are; 1 or more.
    pub fn count(&self) -> usize {
        self.plan.count()
    }

    /// Number of values of one target.
    pub fn target_len(&self) -> usize {
        let rows = match self.plan.horizon {
            Horizon::EachStep(h) => self.plan.length * h,
            Horizon::After(h) => h,
            Horizon::None => 0,
        };
        rows * self.features
    }

    /// Input of window `i`: (length, features), a view.
    ///
    /// # Panics
    /// When `i` is not below [`Windows::count`].
    pub fn input(&self, i: usize) -> &'a [f64] {
        self.values_of_rows(self.plan.input_rows(i))
    }

    /// The rows that the target of window `i` is made of, a view: for [`Horizon::After`] the target itself,
    /// (h, features).
    ///
    /// # Panics
    /// When `i` is not below [`Windows::count`].
    pub fn target_rows(&self, i: usize) -> &'a [f64] {
        self.values_of_rows(self.plan.target_rows(i))
    }

    /// Target of window `i`, in the order of [`Horizon`], each row with its features.
    ///
    /// # Panics
    /// When `i` is not below [`Windows::count`].
    pub fn target(&self, i: usize) -> Vec<f64> {
        let rows = self.target_rows(i);
        match self.plan.horizon {
            Horizon::EachStep(h) => (0..self.plan.length)
                .flat_map(|t| rows[t * self.features..][..h * self.features].iter().copied())
                .collect(),
            Horizon::After(_) | Horizon::None => rows.to_vec(),
        }
    }

    fn values_of_rows(&self, rows: Range<usize>) -> &'a [f64] {
        &self.series[rows.start * self.features..rows.end * self.features]
    }
}
