//! Mean 0 and deviation 1, feature by feature.

use crate::{DataError, Result};

/// x ↦ (x − mean)/deviation, as fitted on the training part and used on everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalizer {
    /// One per feature.
    pub mean: Vec<f64>,
    /// One per feature: of the population, and 1 for a feature that never changes.
    pub deviation: Vec<f64>,
}

impl Normalizer {
    /// From rows of `features` values; all must be finite.
    pub fn fit(series: &[f64], features: usize) -> Result<Self> {
        if features == 0 || series.is_empty() || !series.len().is_multiple_of(features) {
            return Err(DataError::new(format!(
                "expected one or more rows of {features} features, got {} values",
                series.len()
            )));
        }
        if let Some(i) = series.iter().position(|x| !x.is_finite()) {
            let (row, column) = (i / features + 1, i % features + 1);
            return Err(DataError::at(
                row as u64,
                column,
                format!("expected a finite number, got {}", series[i]),
            ));
        }
        let rows = (series.len() / features) as f64;
        let feature = |f: usize| series[f..].iter().step_by(features);
        let mean: Vec<f64> = (0..features).map(|f| feature(f).sum::<f64>() / rows).collect();
        let deviation = (0..features)
            .map(|f| {
                let variance = feature(f).map(|x| (x - mean[f]).powi(2)).sum::<f64>() / rows;
                // By comparison: rounding of the mean would leave a constant feature a tiny deviation.
                let constant = feature(f).all(|x| *x == series[f]);
                if constant || variance == 0.0 { 1.0 } else { variance.sqrt() }
            })
            .collect();
        Ok(Normalizer { mean, deviation })
    }

    /// In place, on rows of the features it was fitted on.
    pub fn apply(&self, series: &mut [f64]) {
        for row in series.chunks_mut(self.mean.len()) {
            for ((x, mean), deviation) in row.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *x = (*x - mean) / deviation;
            }
        }
    }

    /// The inverse of [`Normalizer::apply`].
    pub fn invert(&self, series: &mut [f64]) {
        for row in series.chunks_mut(self.mean.len()) {
            for ((x, mean), deviation) in row.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *x = *x * deviation + mean;
            }
        }
    }
}
