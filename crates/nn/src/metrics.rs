//! Metrics over several batches.

/// Sums over batches; [`Evaluation::metrics`] gives the means.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Σ loss·weight of a batch.
    pub loss: f64,
    /// Rows whose largest output was the label.
    pub correct: f64,
    /// Rows counted.
    pub rows: f64,
}

/// Means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    /// Mean loss a row.
    pub loss: f64,
    /// Share of hits (cross-entropy).
    pub accuracy: f64,
    /// Rows counted.
    pub rows: f64,
}

impl Evaluation {
    /// Adds a batch with mean loss `loss` over `rows` rows.
    pub fn add(&mut self, loss: f64, correct: f64, rows: f64) {
        self.loss += loss * rows;
        self.correct += correct;
        self.rows += rows;
    }
    /// Means over all that was added; NaN when nothing was.
    pub fn metrics(&self) -> Metrics {
        Metrics { loss: self.loss / self.rows, accuracy: self.correct / self.rows, rows: self.rows }
    }
}
