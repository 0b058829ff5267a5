//! The figures of the last updates: each one's loss, sums of which metrics are made, and norm of the gradients. They stay on
//! the device, in one slot for each update, until they are asked for, so that an update does not wait for the device.

use crate::rank_figures::{COUNTING_AT, RankCounts, SharedFigures};
use num_traits::Zero;
use s4_backend::{Backend, EmaUpdate, LOSS_SUMS, Result, Scalar};
use serde::{Deserialize, Serialize};

/// How one update of training went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepStats {
    /// Number of the update, from 1.
    pub step: u64,
    /// Mean loss of its batches, with the parameters before the update.
    pub loss: f64,
    /// Sums over the targets, by weight, of which metrics are made.
    pub metrics: MetricSums,
    /// Number of targets that count: one for each sequence where the model pools over time, else one for each time step.
    pub rows: u64,
    /// Time steps of its batches, without padding.
    pub time_steps: u64,
    /// Sum of the weights in the mean loss: those of the targets, times those of their classes. Where it is 0 no target counted:
    /// there was no update, and `loss` is NaN.
    pub weight: f64,
    /// Norm over the gradients of all parameters, before clipping.
    pub grad_norm: f64,
    /// Learning rate of the main group.
    pub lr: f64,
    /// Number of items of the dataset that its batches consist of.
    pub items: u64,
    /// Number of ranks that had a batch for it; 1 without other ranks.
    pub ranks: u64,
}

/// Sums over targets of which metrics are made, by the targets' own weights: those of classes and smoothed labels are in the loss
/// alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricSums {
    /// Σ of the weights.
    pub weight: f64,
    /// For cross-entropy Σw of the targets whose label was the largest output, Σw of those whose label was among the `topK`
    /// largest, and Σw·(−log of the label's probability). For other losses Σw·r², Σw·|r| and Σw·CRPS, each a mean over the values of a
    /// target.
    #[serde(with = "overflowing")]
    pub sums: [f64; LOSS_SUMS - 1],
}

/// How a checkpoint, whose numbers are finite, keeps a sum that has overflowed: as the largest number.
mod overflowing {
    use super::LOSS_SUMS;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    type Sums = [f64; LOSS_SUMS - 1];

    pub fn serialize<S: Serializer>(sums: &Sums, serializer: S) -> Result<S::Ok, S::Error> {
        sums.map(|sum| if sum.is_finite() { sum } else { f64::MAX }).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sums, D::Error> {
        let sums = Sums::deserialize(deserializer)?;
        Ok(sums.map(|sum| if sum == f64::MAX { f64::INFINITY } else { sum }))
    }
}

impl MetricSums {
    /// Adds those of other targets.
    pub fn add(&mut self, other: &MetricSums) {
        self.weight += other.weight;
        for (a, b) in self.sums.iter_mut().zip(other.sums) {
            *a += b;
        }
    }
}

/// Most updates whose figures may wait on the device; then they are read.
const MAX_UNREAD_UPDATES: usize = 64;

/// What the host knows of an update whose figures it has not read.
#[derive(Clone, Copy, Default)]
pub(crate) struct PendingUpdate {
    /// Number of the update, from 1.
    pub step: u64,
    /// Number of targets that count.
    pub rows: u64,
    /// Time steps of its batches, without padding.
    pub time_steps: u64,
    /// Sum of the weights in the mean loss.
    pub weight: f64,
    /// Whether gradients have been computed for it.
    pub has_loss: bool,
    /// Sum of the targets' own weights.
    pub metric_weight: f64,
    /// Number of values of one target.
    pub width: usize,
    /// Learning rate of the main group.
    pub lr: f64,
    /// Number of batches whose gradients it sums.
    pub batches: u64,
    /// Number of sequences of the last of these batches that has targets which count.
    pub batch: usize,
    /// Time steps of each sequence of that batch, padding included.
    pub len: usize,
    /// Number of items of the dataset that its batches consist of.
    pub items: u64,
    /// Number of ranks that had a batch for it.
    pub ranks: u64,
}

/// The figures of one update, on the host.
pub(crate) struct ReadFigures {
    /// Mean loss of the update's batches.
    pub loss: f64,
    /// Sums of which metrics are made.
    pub metrics: MetricSums,
    /// Σ g² over the gradients of all parameters.
    pub squared_norm: f64,
    /// Whether it is the last update that was finished.
    pub is_last: bool,
    /// Ranks whose loss or gradients were not finite; empty without other ranks.
    pub failed_ranks: Vec<usize>,
}

/// Figures on the device, and the updates that they belong to.
pub(crate) struct DeviceFigures<B: Backend> {
    /// A slot for the figures of each update that may wait.
    slots: B::Buf,
    /// The copy of all slots to the host that the last finished update began.
    download: B::AsyncDownload,
    /// Slot of the update under way.
    slot: usize,
    /// Finished updates whose figures were not read, each with its slot.
    unread: Vec<(usize, PendingUpdate)>,
    /// What a slot holds for the sums over ranks; nothing without other ranks.
    shared: SharedFigures,
    /// Numbers in the slot of an update: those that a loss adds to, those of `shared`, then [loss, Σ g²]. Where one of the last
    /// two is not finite, the device leaves the parameters as they are.
    slot_len: usize,
}

impl<B: Backend> DeviceFigures<B> {
    /// Slots in which nothing waits, for a group of `ranks` ranks; 0 without other ranks.
    pub fn new(be: &B, ranks: usize) -> Result<Self> {
        let shared = SharedFigures::new(ranks);
        let slot_len = LOSS_SUMS + shared.len() + 2;
        Ok(DeviceFigures {
            shared,
            slot_len,
            slots: be.alloc(MAX_UNREAD_UPDATES * slot_len)?,
            download: be.async_download(MAX_UNREAD_UPDATES * slot_len)?,
            slot: 0,
            unread: Vec::with_capacity(MAX_UNREAD_UPDATES),
        })
    }
    /// Whether all figures have been read.
    pub fn is_empty(&self) -> bool {
        self.unread.is_empty()
    }
    /// Whether every slot is in use, so that they must be read before another update begins.
    pub fn is_full(&self) -> bool {
        self.unread.len() == MAX_UNREAD_UPDATES
    }
    /// First element of the slot of the update under way.
    fn slot_start(&self) -> usize {
        self.slot * self.slot_len
    }
    /// Zeroes the slot of the update that begins.
    pub fn zero_slot(&mut self, be: &B) -> Result<()> {
        let slot_start = self.slot_start();
        be.fill(be.view_mut(&mut self.slots, slot_start..slot_start + self.slot_len), Zero::zero())
    }
    /// The numbers of the update under way that a loss adds to.
    pub fn loss_sums_mut(&mut self, be: &B) -> B::Mut<'_> {
        let slot_start = self.slot_start();
        be.view_mut(&mut self.slots, slot_start..slot_start + LOSS_SUMS)
    }
    /// Multiplies the loss of the update under way by `factor`. `zeros` are two zeros on the device.
    pub fn scale_loss(&mut self, be: &B, factor: f64, zeros: B::Ref<'_>) -> Result<()> {
        let slot_start = self.slot_start();
        be.ema(EmaUpdate {
            average: be.view_mut(&mut self.slots, slot_start..slot_start + 1),
            value: be.sub(be.shorten(zeros), 0..1),
            guard: be.shorten(zeros),
            decay: factor,
        })
    }
    /// Loss of the update under way; waits for the device.
    pub fn loss(&self, be: &B) -> Result<f64> {
        let mut host = [B::Scalar::zero(); 1];
        be.download(&mut host, be.view(&self.slots, self.slot_start()..self.slot_start() + 1))?;
        Ok(host[0].to_f64())
    }
    /// Copies the loss into the guard, and gives the element of the guard into which Σ g² is to be summed.
    pub fn guard_squares_mut(&mut self, be: &B) -> Result<B::Mut<'_>> {
        let slot_start = self.slot_start();
        let slot = be.view_mut(&mut self.slots, slot_start..slot_start + self.slot_len);
        let (sums, guard) = be.split_mut(slot, self.slot_len - 2);
        let (guard_loss, squared_norm) = be.split_mut(guard, 1);
        be.copy(guard_loss, be.sub(be.freeze(&sums), 0..1))?;
        Ok(squared_norm)
    }
    /// The guard [loss, Σ g²] of the update under way: where it is not finite nothing is updated.
    pub fn guard(&self, be: &B) -> B::Ref<'_> {
        let end = self.slot_start() + self.slot_len;
        be.view(&self.slots, end - 2..end)
    }
    /// Writes this rank's counts of the update under way beside its sums, and gives the element for the rank's own [loss + Σ g²],
    /// with the loss in it.
    pub fn write_counts(&mut self, be: &B, counts: &RankCounts, rank: usize) -> Result<B::Mut<'_>> {
        let slot_start = self.slot_start();
        let (first, len) = (slot_start + LOSS_SUMS, self.shared.len());
        be.upload(be.view_mut(&mut self.slots, first..first + len), &self.shared.encode(counts))?;
        let slot = be.view_mut(&mut self.slots, slot_start..first + len);
        let (sums, rest) = be.split_mut(slot, LOSS_SUMS + self.shared.finite_at(rank));
        let (mut own, _) = be.split_mut(rest, 1);
        be.copy(be.reborrow(&mut own), be.sub(be.freeze(&sums), 0..1))?;
        Ok(own)
    }
    /// The part of the slot that is summed over the ranks.
    pub fn shared_mut(&mut self, be: &B) -> B::Mut<'_> {
        let slot_start = self.slot_start();
        be.view_mut(&mut self.slots, slot_start..slot_start + LOSS_SUMS + self.shared.len())
    }
    /// Multiplies the loss of the update under way by `factor`, or by factor/weight with `by_weight`: the total weight, after the
    /// sum over the ranks.
    pub fn scale_rank_loss(&mut self, be: &B, factor: f64, by_weight: bool) -> Result<()> {
        let slot_start = self.slot_start();
        let slot = be.view_mut(&mut self.slots, slot_start..slot_start + self.slot_len);
        let (loss, rest) = be.split_mut(slot, 1);
        let weight = be.sub(be.freeze(&rest), LOSS_SUMS - 1..LOSS_SUMS);
        be.scale(loss, factor, by_weight.then_some(weight))
    }
    /// The total weight of the update under way, after the sum over the ranks.
    pub fn total_weight(&self, be: &B) -> B::Ref<'_> {
        let at = self.slot_start() + LOSS_SUMS;
        be.view(&self.slots, at..at + 1)
    }
    /// Number of ranks of the update under way that have a target that counts, after the sum over the ranks.
    pub fn counting_ranks(&self, be: &B) -> B::Ref<'_> {
        let at = self.slot_start() + LOSS_SUMS + COUNTING_AT;
        be.view(&self.slots, at..at + 1)
    }
    /// Ends the update under way: begins the copy of its figures to the host, without waiting for it.
    pub fn finish_update(&mut self, be: &B, step: PendingUpdate) -> Result<()> {
        be.start_download(&mut self.download, be.view(&self.slots, 0..MAX_UNREAD_UPDATES * self.slot_len))?;
        self.unread.push((self.slot, step));
        self.slot = (self.slot + 1) % MAX_UNREAD_UPDATES;
        Ok(())
    }
    /// Waits for the last finished update, and calls `receive` with the figures of every update that was not read, in order.
    pub fn read(
        &mut self,
        be: &B,
        mut receive: impl FnMut(PendingUpdate, ReadFigures) -> Result<()>,
    ) -> Result<()> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let host = be.wait_download(&mut self.download)?;
        let count = self.unread.len();
        for (i, (slot, step)) in self.unread.drain(..).enumerate() {
            let figures = &host[slot * self.slot_len..][..self.slot_len];
            let (loss, squared_norm) = (figures[0].to_f64(), figures[self.slot_len - 1].to_f64());
            let (mut step, mut failed_ranks) = (step, Vec::new());
            if let Some(sums) = self.shared.decode(&figures[LOSS_SUMS..]) {
                (step.rows, step.time_steps, step.items) = (sums.rows, sums.time_steps, sums.items);
                (step.weight, step.metric_weight, step.ranks) = (sums.weight, sums.metric_weight, sums.ranks);
                failed_ranks = self.shared.failed_ranks(&figures[LOSS_SUMS..]);
            }
            let width = step.width.max(1) as f64;
            let sums = std::array::from_fn(|i| figures[1 + i].to_f64() / width);
            let metrics = MetricSums { weight: step.metric_weight, sums };
            receive(
                step,
                ReadFigures { loss, metrics, squared_norm, is_last: i + 1 == count, failed_ranks },
            )?;
        }
        Ok(())
    }
}
