//! The figures of training steps: they stay on the device, a slot a step, until they are asked for.

use num_traits::Zero;
use s4_backend::{Backend, EmaUpdate, Result, Scalar};

/// What one update was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepStats {
    /// Updates so far, this one included.
    pub step: u64,
    /// Loss before the update.
    pub loss: f64,
    /// Weights of the rows whose largest output was the label (cross-entropy).
    pub correct: f64,
    /// Rows counted.
    pub rows: u64,
    /// Their weights' sum; 0 where nothing counted, and then there was no update and `loss` is no number.
    pub weight: f64,
    /// Global norm of the gradients, before clipping.
    pub grad_norm: f64,
    /// Learning rate of the main group.
    pub lr: f64,
}

/// Steps whose figures wait on the device at most.
const SLOTS: usize = 64;
/// A step's figures: [loss, correct, loss, Σ g²]; the last two guard the update.
const SLOT_LEN: usize = 4;

/// What the host knows of a step whose figures it has not read.
#[derive(Clone, Copy)]
pub(crate) struct PendingStep {
    pub step: u64,
    pub rows: u64,
    /// Sum of their weights.
    pub weight: f64,
    pub lr: f64,
    /// Batches whose gradients it holds.
    pub batches: u64,
    /// Sizes of the last of them.
    pub batch: usize,
    pub len: usize,
}

/// A step's figures on the host.
pub(crate) struct Read {
    pub loss: f64,
    pub correct: f64,
    /// Σ g²
    pub squares: f64,
    /// No later step has been read or waits.
    pub last: bool,
}

/// Figures on the device and the steps they belong to.
pub(crate) struct Figures<B: Backend> {
    slots: B::Buf,
    /// The slots as the last update left them, on their way to the host.
    download: B::AsyncDownload,
    /// Where the next step's figures go.
    slot: usize,
    pending: Vec<(usize, PendingStep)>,
}

impl<B: Backend> Figures<B> {
    pub fn new(be: &B) -> Result<Self> {
        Ok(Figures {
            slots: be.alloc(SLOTS * SLOT_LEN)?,
            download: be.async_download(SLOTS * SLOT_LEN)?,
            slot: 0,
            pending: Vec::with_capacity(SLOTS),
        })
    }
    /// Whether no step waits to be read.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
    /// Whether the waiting steps must be read before another begins.
    pub fn is_full(&self) -> bool {
        self.pending.len() == SLOTS
    }
    fn at(&self) -> usize {
        self.slot * SLOT_LEN
    }
    /// Zeroes the slot of the step that begins.
    pub fn clear(&mut self, be: &B) -> Result<()> {
        let at = self.at();
        be.fill(be.view_mut(&mut self.slots, at..at + SLOT_LEN), Zero::zero())
    }
    /// [loss, correct] of the step under way.
    pub fn sums_mut(&mut self, be: &B) -> B::Mut<'_> {
        let at = self.at();
        be.view_mut(&mut self.slots, at..at + 2)
    }
    /// Scales the loss of the step under way; `zeros` are two zeros on the device.
    pub fn scale_loss(&mut self, be: &B, factor: f64, zeros: B::Ref<'_>) -> Result<()> {
        let at = self.at();
        be.ema(EmaUpdate {
            average: be.view_mut(&mut self.slots, at..at + 1),
            value: be.sub(be.shorten(zeros), 0..1),
            guard: be.shorten(zeros),
            decay: factor,
        })
    }
    /// Loss of the step under way; waits.
    pub fn loss(&self, be: &B) -> Result<f64> {
        let mut host = [B::Scalar::zero(); 1];
        be.download(&mut host, be.view(&self.slots, self.at()..self.at() + 1))?;
        Ok(host[0].to_f64())
    }
    /// Copies the loss into the guard and gives the place where Σ g² is to be summed.
    pub fn guard_squares_mut(&mut self, be: &B) -> Result<B::Mut<'_>> {
        let at = self.at();
        let slot = be.view_mut(&mut self.slots, at..at + SLOT_LEN);
        let (sums, guard) = be.split_mut(slot, 2);
        let (guard_loss, squares) = be.split_mut(guard, 1);
        be.copy(guard_loss, be.sub(be.freeze(&sums), 0..1))?;
        Ok(squares)
    }
    /// [loss, Σ g²] of the step under way.
    pub fn guard(&self, be: &B) -> B::Ref<'_> {
        be.view(&self.slots, self.at() + 2..self.at() + SLOT_LEN)
    }
    /// Ends the step under way: its figures start for the host.
    pub fn finish(&mut self, be: &B, step: PendingStep) -> Result<()> {
        be.start_download(&mut self.download, be.view(&self.slots, 0..SLOTS * SLOT_LEN))?;
        self.pending.push((self.slot, step));
        self.slot = (self.slot + 1) % SLOTS;
        Ok(())
    }
    /// Waits for the last finished step and gives `each` the figures of all that were not read, in order.
    pub fn read(&mut self, be: &B, mut each: impl FnMut(PendingStep, Read) -> Result<()>) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let host = be.wait_download(&mut self.download)?;
        let count = self.pending.len();
        for (i, (slot, step)) in self.pending.drain(..).enumerate() {
            let figures = &host[slot * SLOT_LEN..];
            let (loss, squares) = (figures[0].to_f64(), figures[3].to_f64());
            each(step, Read { loss, correct: figures[1].to_f64(), squares, last: i + 1 == count })?;
        }
        Ok(())
    }
}
