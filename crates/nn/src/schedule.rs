//! Learning-rate schedules: a factor for each update that both groups' learning rates are multiplied by.

use s4_backend::{Error, Result};
use serde::{Deserialize, Serialize};

/// Most of what is counted in a run: JavaScript has each whole number up to it.
pub(crate) const MAX_COUNT: u64 = (1 << 53) - 1;

/// The kinds of schedules, with their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// Always 1.
    #[default]
    Constant,
    /// Rises linearly to 1 over the first `warmup` updates, and stays there.
    Warmup {
        /// Updates.
        warmup: u64,
    },
    /// Rises linearly to 1 over the first `warmup` updates, then falls to `floor` at update `total`, along half a period of
    /// a cosine.
    WarmupCosine {
        /// Updates.
        warmup: u64,
        /// Updates.
        total: u64,
        /// The last factor.
        #[serde(default)]
        floor: f64,
    },
    /// Is multiplied by `factor` whenever the observed metric has not fallen for more than `patience` observations.
    Plateau {
        /// What the factor is multiplied by, above 0 and at most 1.
        factor: f64,
        /// Number of observations without a fall, one after the other, that change nothing yet.
        patience: u64,
        /// Least factor.
        #[serde(default)]
        floor: f64,
    },
    /// Is multiplied by `factor` after every `every` updates.
    Step {
        /// Updates.
        every: u64,
        /// What the factor is multiplied by, above 0 and at most 1.
        factor: f64,
    },
}

/// A schedule with its observations so far. A checkpoint stores it as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    config: ScheduleConfig,
    /// Factor that a plateau schedule has come down to.
    plateau: f64,
    /// Least metric that a plateau schedule has observed.
    best: Option<f64>,
    /// Observations since then, or since the factor last fell.
    waited: u64,
}

impl Schedule {
    /// A schedule without observations. `ERR_S4_VALUE` on impossible numbers.
    pub fn new(config: ScheduleConfig) -> Result<Self> {
        let factor_ok = |f: f64| f.is_finite() && f > 0.0 && f <= 1.0;
        let floor_ok = |f: f64| (0.0..=1.0).contains(&f);
        let ok = match config {
            ScheduleConfig::Constant | ScheduleConfig::Warmup { .. } => true,
            ScheduleConfig::WarmupCosine { warmup, total, floor } => {
                total > 0 && warmup <= total && floor_ok(floor)
            }
            ScheduleConfig::Plateau { factor, floor, .. } => factor_ok(factor) && floor_ok(floor),
            ScheduleConfig::Step { every, factor } => every > 0 && factor_ok(factor),
        };
        if !ok {
            return Err(Error::value(
                "schedule",
                "factors in (0, 1], warmup ≤ total, every ≥ 1",
                format!("{config:?}"),
            ));
        }
        Ok(Schedule { config, plateau: 1.0, best: None, waited: 0 })
    }

    /// Refuses observations that no run makes, such as those of a hostile file, and impossible numbers.
    pub(crate) fn check(&self) -> Result<()> {
        Schedule::new(self.config)?;
        let possible =
            self.plateau > 0.0 || matches!(self.config, ScheduleConfig::Plateau { floor: 0.0, .. });
        let possible = possible && (0.0..=1.0).contains(&self.plateau);
        match possible && self.best.is_none_or(f64::is_finite) && self.waited <= MAX_COUNT {
            true => Ok(()),
            false => {
                Err(Error::value("schedule", "a factor from 0 to 1 and what led to it", format!("{self:?}")))
            }
        }
    }

    /// Its kind and its numbers.
    pub fn config(&self) -> ScheduleConfig {
        self.config
    }

    /// Factor of update number `step`, from 0.
    pub fn factor(&self, step: u64) -> f64 {
        let ramp = |warmup: u64| (step + 1) as f64 / warmup as f64;
        match self.config {
            ScheduleConfig::Constant => 1.0,
            ScheduleConfig::Warmup { warmup } if step < warmup => ramp(warmup),
            ScheduleConfig::Warmup { .. } => 1.0,
            ScheduleConfig::WarmupCosine { warmup, .. } if step < warmup => ramp(warmup),
            ScheduleConfig::WarmupCosine { warmup, total, floor } => {
                let t = (step - warmup) as f64 / (total - warmup).max(1) as f64;
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * t.min(1.0)).cos())
            }
            ScheduleConfig::Plateau { .. } => self.plateau,
            ScheduleConfig::Step { every, factor } => factor.powf((step / every) as f64),
        }
    }

    /// Tells a plateau schedule the metric of an epoch, of which less is better, and NaN worst of all. Other schedules do not use it.
    pub fn observe(&mut self, metric: f64) {
        if let ScheduleConfig::Plateau { factor, patience, floor } = self.config {
            // What is not finite is worse than every number, and so it is never the best.
            if metric.is_finite() && self.best.is_none_or(|best| metric < best) {
                (self.best, self.waited) = (Some(metric), 0);
            } else {
                self.waited += 1;
                if self.waited > patience {
                    (self.plateau, self.waited) = ((self.plateau * factor).max(floor), 0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors() {
        let s = |c| Schedule::new(c).unwrap();
        assert_eq!(s(ScheduleConfig::Constant).factor(9), 1.0);
        let w = s(ScheduleConfig::WarmupCosine { warmup: 10, total: 110, floor: 0.1 });
        assert_eq!((w.factor(0), w.factor(9), w.factor(10)), (0.1, 1.0, 1.0));
        assert!((w.factor(60) - 0.55).abs() < 1e-12 && (w.factor(110) - 0.1).abs() < 1e-12);
        assert!((w.factor(1000) - 0.1).abs() < 1e-12);
        assert_eq!(s(ScheduleConfig::Warmup { warmup: 4 }).factor(1), 0.5);
        assert_eq!(s(ScheduleConfig::Step { every: 5, factor: 0.5 }).factor(14), 0.25);
        let mut p = s(ScheduleConfig::Plateau { factor: 0.5, patience: 1, floor: 0.2 });
        for (metric, factor) in
            [(1.0, 1.0), (1.0, 1.0), (1.0, 0.5), (0.9, 0.5), (2.0, 0.5), (2.0, 0.25), (3.0, 0.25), (3.0, 0.2)]
        {
            p.observe(metric);
            assert_eq!(p.factor(0), factor);
        }
        assert!(Schedule::new(ScheduleConfig::Step { every: 0, factor: 0.5 }).is_err());
        let mut p = s(ScheduleConfig::Plateau { factor: 0.5, patience: 0, floor: 0.0 });
        for (metric, factor) in [(f64::NAN, 0.5), (9.0, 0.5), (8.0, 0.5), (f64::NAN, 0.25), (7.0, 0.25)] {
            p.observe(metric);
            assert_eq!(p.factor(0), factor, "after {metric}");
        }
        let json = r#"{"kind": "warmupCosine", "warmup": 3, "total": 9}"#;
        assert!(matches!(
            serde_json::from_str(json),
            Ok(ScheduleConfig::WarmupCosine { warmup: 3, total: 9, .. })
        ));
    }
}
