//! Pooling over time in a stream: the pool of the features of all time steps so far, moved on by one time step at a time.

use crate::growable_buffer::GrowableBuffer;
use num_traits::One;
use s4_backend::{Affine, Backend, Carry, PoolForward, Pooling, Result, Scalar, SeqShape};

/// The pool of a stream's features (batch, H) so far, and buffers to move it on with.
pub(crate) struct RunningPool<B: Backend> {
    pooling: Option<Pooling>,
    /// Features of one time step: batch·H elements.
    len: usize,
    /// What is carried from time step to time step, such as a sum or a maximum ([`Pooling::carry`]).
    pub carried: GrowableBuffer<B>,
    /// The carried values, then the features of a new time step: (2, batch·H).
    stacked: GrowableBuffer<B>,
    /// `stacked` transposed, (batch·H, 2), so that the backend's pooling sees two time steps of batch·H features.
    interleaved: GrowableBuffer<B>,
}

impl<B: Backend> RunningPool<B> {
    /// The pool of a stream without time steps, of `len` elements.
    pub fn new(be: &B, pooling: Option<Pooling>, len: usize) -> Result<Self> {
        let mut carried = GrowableBuffer::new(be)?;
        carried.ensure(be, len)?;
        let (stacked, interleaved) = (GrowableBuffer::new(be)?, GrowableBuffer::new(be)?);
        Ok(RunningPool { pooling, len, carried, stacked, interleaved })
    }

    /// Whether each time step is its own pool (no pooling, or that of the last), so that nothing is carried.
    pub fn carries_nothing(&self) -> bool {
        matches!(self.pooling, None | Some(Pooling::Last))
    }

    /// Number of elements of the pool: batch·H.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds the features `x` of time step `position` to the pool and writes the pool of all time steps so far to `y`. Gives
    /// false, with `y` not written, where `x` itself is the pool.
    pub fn step(
        &mut self,
        be: &B,
        y: &mut GrowableBuffer<B>,
        x: &GrowableBuffer<B>,
        position: u64,
    ) -> Result<bool> {
        let (pooling, n) = match self.pooling {
            Some(pooling) if !self.carries_nothing() => (pooling, self.len),
            _ => return Ok(false),
        };
        match pooling.carry() {
            _ if position == 0 => be.copy(self.carried.get_mut(be, n), x.get(be, n))?,
            Carry::Add => be.axpy(self.carried.get_mut(be, n), B::Scalar::one(), x.get(be, n))?,
            Carry::Pool(map) => {
                // The backend pools n features over two time steps: the carried values and the new ones.
                let (stacked, interleaved) = (&mut self.stacked, &mut self.interleaved);
                stacked.ensure(be, 2 * n)?;
                interleaved.ensure(be, 2 * n)?;
                let (first, second) = be.split_mut(stacked.get_mut(be, 2 * n), n);
                be.copy(first, self.carried.get(be, n))?;
                be.copy(second, x.get(be, n))?;
                be.transpose(interleaved.get_mut(be, 2 * n), stacked.get(be, 2 * n), 1, 2, n)?;
                be.pool_forward(PoolForward {
                    y: y.get_mut(be, n),
                    x: interleaved.get(be, 2 * n),
                    lengths: None,
                    pooling,
                    shape: SeqShape { batch: 1, heads: n, len: 2 },
                })?;
                scale_and_offset(be, map, self.carried.get_mut(be, n), y.get(be, n))?;
            }
        }
        scale_and_offset(be, pooling.of_carried(position + 1), y.get_mut(be, n), self.carried.get(be, n))?;
        Ok(true)
    }
}

/// y = scale·x + offset, with the two numbers of `map`.
fn scale_and_offset<B: Backend>(be: &B, map: Affine, mut y: B::Mut<'_>, x: B::Ref<'_>) -> Result<()> {
    if map == Affine::IDENTITY {
        return be.copy(y, x);
    }
    be.fill(be.reborrow(&mut y), B::Scalar::from_f64(map.offset))?;
    be.axpy(y, B::Scalar::from_f64(map.scale), x)
}
