//! Scaling of each channel of a series to a common range, and its inverse.

use crate::{DataError, Result};

/// The range or statistics that a scaled channel has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scaling {
    /// Mean 0 and (population) standard deviation 1.
    #[default]
    ZScore,
    /// From 0 to 1.
    MinMax,
    /// Median 0 and an interquartile range of 1 (quartiles interpolated linearly): outliers do not matter.
    Robust,
}

/// The map x ↦ (x − offset)/scale of each channel. Usually fitted on the training part of a series and applied to all
/// of it; fitted on a single window it is instance normalisation.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    /// One per channel.
    pub offset: Vec<f64>,
    /// One per channel: above 0, and 1 for a channel that never changes.
    pub scale: Vec<f64>,
}

impl Scaler {
    /// Fits to a series (rows, channels), one row per time step. NaN is a missing value and left out; a channel without
    /// any value and infinite values are errors.
    pub fn fit(series: &[f64], channels: usize, scaling: Scaling) -> Result<Self> {
        if channels == 0 || series.is_empty() || !series.len().is_multiple_of(channels) {
            return Err(DataError::new(format!(
                "expected one or more rows of {channels} channels, got {} values",
                series.len()
            )));
        }
        let channel = |c: usize| series[c..].iter().step_by(channels).copied();
        Self::fit_channels((0..channels).map(channel), scaling)
    }

    /// Fits to one column of values per channel; columns may differ in length.
    pub fn fit_columns(columns: &[&[f64]], scaling: Scaling) -> Result<Self> {
        if columns.is_empty() {
            return Err(DataError::new("expected one or more columns, got none"));
        }
        Self::fit_channels(columns.iter().map(|c| c.iter().copied()), scaling)
    }

    fn fit_channels<C: Iterator<Item = f64> + Clone>(
        channels: impl Iterator<Item = C>,
        scaling: Scaling,
    ) -> Result<Self> {
        let mut fitted = Scaler { offset: Vec::new(), scale: Vec::new() };
        for (c, channel) in channels.enumerate() {
            if let Some((row, x)) = channel.clone().enumerate().find(|(_, x)| x.is_infinite()) {
                let reason = format!("expected a finite number, got {x}");
                return Err(DataError::at(row as u64 + 1, c + 1, reason));
            }
            let values: Vec<f64> = channel.filter(|x| !x.is_nan()).collect();
            let Some(first) = values.first().copied() else {
                return Err(DataError::of_column(c + 1, "expected at least one value, all are missing"));
            };
            // Found by comparison: the rounded mean of a constant channel would leave it a tiny deviation.
            let constant = values.iter().all(|x| *x == first);
            let (offset, scale) = match (constant, scaling) {
                (true, _) => (first, 1.0),
                (false, Scaling::ZScore) => mean_and_deviation(&values),
                (false, Scaling::MinMax) => {
                    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
                    (low, values.iter().copied().fold(f64::NEG_INFINITY, f64::max) - low)
                }
                (false, Scaling::Robust) => median_and_range(values),
            };
            if !offset.is_finite() || !scale.is_finite() {
                return Err(DataError::of_column(c + 1, "the values are too large to be scaled"));
            }
            fitted.offset.push(offset);
            // The interquartile range is 0 where more than half of the values are equal.
            fitted.scale.push(if scale > 0.0 { scale } else { 1.0 });
        }
        Ok(fitted)
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.offset.len()
    }

    /// Scales rows of all channels, (rows, channels), in place.
    ///
    /// # Panics
    /// When the values are no whole rows.
    pub fn scale_rows(&self, rows: &mut [f64]) {
        self.map_values(rows, |x, offset, scale| (x - offset) / scale);
    }

    /// The inverse of [`Scaler::scale_rows`].
    ///
    /// # Panics
    /// When the values are no whole rows.
    pub fn unscale_rows(&self, rows: &mut [f64]) {
        self.map_values(rows, |x, offset, scale| x * scale + offset);
    }

    /// Replaces every x by f(x, offset, scale) with the offset and scale of its channel.
    fn map_values(&self, rows: &mut [f64], f: impl Fn(f64, f64, f64) -> f64) {
        assert!(rows.len().is_multiple_of(self.channels()), "rows of {} channels", self.channels());
        for row in rows.chunks_exact_mut(self.channels()) {
            for ((x, offset), scale) in row.iter_mut().zip(&self.offset).zip(&self.scale) {
                *x = f(*x, *offset, *scale);
            }
        }
    }

    /// The scaler of the channels with these numbers, for example of the targets where these are fewer than the inputs.
    ///
    /// # Panics
    /// When there is no such channel.
    pub fn of_channels(&self, channels: &[usize]) -> Scaler {
        let chosen = |from: &[f64]| channels.iter().map(|c| from[*c]).collect();
        Scaler { offset: chosen(&self.offset), scale: chosen(&self.scale) }
    }
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

/// The median and the interquartile range.
fn median_and_range(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let quantile = |q: f64| {
        let rank = q * (values.len() - 1) as f64;
        let (below, above) = (values[rank.floor() as usize], values[rank.ceil() as usize]);
        below + (above - below) * rank.fract()
    };
    (quantile(0.5), quantile(0.75) - quantile(0.25))
}
