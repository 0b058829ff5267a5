//! The pool of all features so far, one sample at a time.

use crate::growable::GrowableBuffer;
use num_traits::{One, Zero};
use s4_backend::{Backend, Pooling, Result, Scalar, SeqShape};

/// What the pool of (batch, H) features is made with.
pub(crate) struct RunningPool<B: Backend> {
    pooling: Option<Pooling>,
    /// Elements of a sample: batch·H.
    len: usize,
    /// The pool, or for the mean the sum.
    pub pool: GrowableBuffer<B>,
    /// The pool and a sample side by side, then one beside the other element by element.
    rows: GrowableBuffer<B>,
    pairs: GrowableBuffer<B>,
}

impl<B: Backend> RunningPool<B> {
    pub fn new(be: &B, pooling: Option<Pooling>, len: usize) -> Result<Self> {
        let mut pool = GrowableBuffer::new(be)?;
        pool.ensure(be, len)?;
        let (rows, pairs) = (GrowableBuffer::new(be)?, GrowableBuffer::new(be)?);
        Ok(RunningPool { pooling, len, pool, rows, pairs })
    }

    /// Whether a sample is its own pool: nothing is carried from one to the next.
    pub fn is_last(&self) -> bool {
        matches!(self.pooling, None | Some(Pooling::Last))
    }

    /// Elements of the pool.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Moves the pool on by the features `x` of sample `position`; `y` is the pool of all so far. False: `x` is it.
    pub fn step(
        &mut self,
        be: &B,
        y: &mut GrowableBuffer<B>,
        x: &GrowableBuffer<B>,
        position: u64,
    ) -> Result<bool> {
        let (n, one) = (self.len, B::Scalar::one());
        let pool = &mut self.pool;
        match self.pooling {
            None | Some(Pooling::Last) => return Ok(false),
            _ if position == 0 => be.copy(pool.get_mut(be, n), x.get(be, n))?,
            Some(Pooling::First) => {}
            Some(Pooling::Sum | Pooling::Mean) => be.axpy(pool.get_mut(be, n), one, x.get(be, n))?,
            Some(Pooling::Max) => {
                // The larger of two rows: (2, n) as n features of two samples.
                let (rows, pairs) = (&mut self.rows, &mut self.pairs);
                rows.ensure(be, 2 * n)?;
                pairs.ensure(be, 2 * n)?;
                let (a, b) = be.split_mut(rows.get_mut(be, 2 * n), n);
                be.copy(a, pool.get(be, n))?;
                be.copy(b, x.get(be, n))?;
                be.transpose(pairs.get_mut(be, 2 * n), rows.get(be, 2 * n), 1, 2, n)?;
                let shape = SeqShape { batch: 1, heads: n, len: 2 };
                be.pool_forward(pool.get_mut(be, n), pairs.get(be, 2 * n), None, Pooling::Max, &shape)?;
            }
        }
        let mut y = y.get_mut(be, n);
        if self.pooling == Some(Pooling::Mean) {
            be.fill(be.reborrow(&mut y), B::Scalar::zero())?;
            be.axpy(y, B::Scalar::from_f64(1.0 / (position + 1) as f64), pool.get(be, n))?;
        } else {
            be.copy(y, pool.get(be, n))?;
        }
        Ok(true)
    }
}
