//! Windows over a series and their targets: places of rows, and views of values, but no copies.

use crate::{DataError, Result};
use std::ops::Range;

/// What is to be predicted from a window of inputs x_s … x_{s+length−1}.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Horizon {
    /// At every step the next `h` rows: target (length, h), target\[t\]\[k\] = x_{s+t+1+k}.
    EachStep(usize),
    /// After the window its next `h` rows: target (h).
    After(usize),
    /// The window itself: no target beyond it.
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

/// Which rows belong to which window: windows of `length` rows, at every `stride` rows, each with its target inside
/// `rows`.
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

    /// Windows whose targets cover `part` while their inputs may reach back before it, as far as row 0: the usual
    /// way to validate and test on a part of a series without losing its first targets.
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
    pub fn input(&self, i: usize) -> Range<usize> {
        assert!(i < self.count(), "window {i} of {}", self.count());
        let start = self.rows.start + i * self.stride;
        start..start + self.length
    }

    /// Rows that the target of window `i` is made of; empty for [`Horizon::None`].
    ///
    /// # Panics
    /// When `i` is not below [`WindowPlan::count`].
    pub fn target(&self, i: usize) -> Range<usize> {
        let input = self.input(i);
        match self.horizon {
            Horizon::EachStep(h) => input.start + 1..input.end + h,
            Horizon::After(h) => input.end..input.end + h,
            Horizon::None => input.end..input.end,
        }
    }

    /// The windows that touch no row of which `missing` says so.
    ///
    /// # Panics
    /// When `missing` is shorter than the rows.
    pub fn complete(&self, missing: &[bool]) -> Vec<usize> {
        // before[r] missing rows lie before row r of the plan.
        let mut before = vec![0usize];
        let mut sum = 0;
        before.extend(missing[self.rows.clone()].iter().map(|m| {
            sum += usize::from(*m);
            sum
        }));
        let clean = |i: &usize| {
            let (begin, end) = (i * self.stride, i * self.stride + self.length + self.horizon.reach());
            before[begin] == before[end]
        };
        (0..self.count()).filter(clean).collect()
    }
}

/// A plan on values: rows of one or more features.
#[derive(Clone, Debug)]
pub struct Windows<'a> {
    series: &'a [f64],
    features: usize,
    plan: WindowPlan,
}

impl<'a> Windows<'a> {
    /// Over a whole series of one feature.
    pub fn new(series: &'a [f64], length: usize, stride: usize, horizon: Horizon) -> Result<Self> {
        Self::planned(series, 1, WindowPlan::new(0..series.len(), length, stride, horizon)?)
    }

    /// Over the rows of a plan; the series is (rows, features).
    pub fn planned(series: &'a [f64], features: usize, plan: WindowPlan) -> Result<Self> {
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

    /// Values of one target.
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
        self.view(self.plan.input(i))
    }

    /// The rows that the target of window `i` is made of, a view: for [`Horizon::After`] the target itself,
    /// (h, features).
    ///
    /// # Panics
    /// When `i` is not below [`Windows::count`].
    pub fn target_rows(&self, i: usize) -> &'a [f64] {
        self.view(self.plan.target(i))
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

    fn view(&self, rows: Range<usize>) -> &'a [f64] {
        &self.series[rows.start * self.features..rows.end * self.features]
    }
}
