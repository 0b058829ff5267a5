//! The pool of all features so far, one sample at a time.

use crate::growable::GrowableBuffer;
use num_traits::One;
use s4_backend::{Affine, Backend, Carry, PoolForward, Pooling, Result, Scalar, SeqShape};

/// What the pool of (batch, H) features is made with.
pub(crate) struct RunningPool<B: Backend> {
    pooling: Option<Pooling>,
    /// Elements of a sample: batch·H.
    len: usize,
    /// What is carried from sample to sample ([`Pooling::carry`]).
    pub carried: GrowableBuffer<B>,
    /// It and a sample, one after the other, and then element beside element.
    rows: GrowableBuffer<B>,
    pairs: GrowableBuffer<B>,
}

impl<B: Backend> RunningPool<B> {
    pub fn new(be: &B, pooling: Option<Pooling>, len: usize) -> Result<Self> {
        let mut carried = GrowableBuffer::new(be)?;
        carried.ensure(be, len)?;
        let (rows, pairs) = (GrowableBuffer::new(be)?, GrowableBuffer::new(be)?);
        Ok(RunningPool { pooling, len, carried, rows, pairs })
    }

    /// Whether a sample is its own pool: nothing is carried.
    pub fn is_last(&self) -> bool {
        matches!(self.pooling, None | Some(Pooling::Last))
    }

    /// Elements of the pool.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Moves on by the features `x` of sample `position`; `y` is the pool of all so far. False: `x` itself is it.
    pub fn step(
        &mut self,
        be: &B,
        y: &mut GrowableBuffer<B>,
        x: &GrowableBuffer<B>,
        position: u64,
    ) -> Result<bool> {
        let (pooling, n) = match self.pooling {
            Some(pooling) if !self.is_last() => (pooling, self.len),
            _ => return Ok(false),
        };
        match pooling.carry() {
            _ if position == 0 => be.copy(self.carried.get_mut(be, n), x.get(be, n))?,
            Carry::Add => be.axpy(self.carried.get_mut(be, n), B::Scalar::one(), x.get(be, n))?,
            Carry::Pool(map) => {
                // (2, n) as n features of two samples.
                let (rows, pairs) = (&mut self.rows, &mut self.pairs);
                rows.ensure(be, 2 * n)?;
                pairs.ensure(be, 2 * n)?;
                let (first, second) = be.split_mut(rows.get_mut(be, 2 * n), n);
                be.copy(first, self.carried.get(be, n))?;
                be.copy(second, x.get(be, n))?;
                be.transpose(pairs.get_mut(be, 2 * n), rows.get(be, 2 * n), 1, 2, n)?;
                be.pool_forward(PoolForward {
                    y: y.get_mut(be, n),
                    x: pairs.get(be, 2 * n),
                    lengths: None,
                    pooling,
                    shape: SeqShape { batch: 1, heads: n, len: 2 },
                })?;
                apply(be, map, self.carried.get_mut(be, n), y.get(be, n))?;
            }
        }
        apply(be, pooling.of_carried(position + 1), y.get_mut(be, n), self.carried.get(be, n))?;
        Ok(true)
    }
}

/// y = scale·x + offset.
fn apply<B: Backend>(be: &B, map: Affine, mut y: B::Mut<'_>, x: B::Ref<'_>) -> Result<()> {
    if map == Affine::IDENTITY {
        return be.copy(y, x);
    }
    be.fill(be.reborrow(&mut y), B::Scalar::from_f64(map.offset))?;
    be.axpy(y, B::Scalar::from_f64(map.scale), x)
}
