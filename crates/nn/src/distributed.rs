//! Training by several ranks, each with a device and a part of the data. Before an update loss, gradients and counts are summed over
//! the ranks on their devices, so that every rank clips, skips and reports alike, and all keep the same parameters.
//!
//! Of the joint batch loss and gradient are Σwℓ/Σw and Σw∇ℓ/Σw. A rank r has its own means L_r and G_r over the weight W_r, and so
//! L = ΣW_r·L_r/ΣW_r, G = ΣW_r·G_r/ΣW_r: a rank without a batch takes part with W_r = 0.

use crate::{
    config::NormKind,
    model::Model,
    param::{Group, GroupBuffers},
    peers::Peers,
    rank_exchange::{RankExchange, SharedExchange},
    rank_figures::RankCounts,
    train::Trainer,
    update_figures::{DeviceFigures, PendingUpdate},
};
use s4_backend::{Backend, Communicator, Error, Result, Scalar, group_error, host_memory};

/// Name of training in error messages.
const OP: &str = "SequenceModel.train";
/// Numbers by which ranks compare a hash: its 16 hexadecimal digits, and their squares.
const COMPARED: usize = 32;

/// Both groups' buffers, to be written.
fn group_views<'a, B: Backend>(be: &B, buffers: &'a mut GroupBuffers<B>) -> [B::Mut<'a>; 2] {
    let GroupBuffers { main, ssm } = buffers;
    let lens = [be.len(main), be.len(ssm)];
    [be.view_mut(main, 0..lens[0]), be.view_mut(ssm, 0..lens[1])]
}

/// A hash of numbers, by FNV-1a over their bits as f64.
fn hash_of<T: Scalar>(seed: u64, numbers: &[T]) -> u64 {
    let bytes = numbers.iter().flat_map(|&x| Scalar::to_f64(x).to_le_bytes());
    bytes.fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

impl<B: Backend> Trainer<B> {
    /// Makes each further update together with the other ranks of `comm`, which all do so with a model of the same configuration and
    /// the same options of the run. What is not read of earlier updates is dropped.
    pub fn join(&mut self, model: &mut Model<B>, comm: Box<dyn Communicator<B>>) -> Result<()> {
        self.discard(model)?;
        let figures = DeviceFigures::new(&self.be, comm.world_size())?;
        let compared = self.be.alloc(COMPARED)?;
        (self.figures, self.first_failure) = (figures, None);
        let exchange = SharedExchange::new(RankExchange::new(&self.be, comm)?);
        self.peers = Some(Peers { exchange, failed_ranks: Vec::new(), compared });
        Ok(())
    }

    /// Trains alone from here on.
    pub fn leave(&mut self, model: &mut Model<B>) -> Result<()> {
        if self.peers.take().is_some() {
            self.figures = DeviceFigures::new(&self.be, 0)?;
            self.discard(model)?;
        }
        Ok(())
    }

    /// Gives every rank the parameters, moments, average and running statistics of rank 0, and compares the parameters afterwards.
    /// `ERR_S4_DISTRIBUTED` where they are not the same everywhere.
    pub fn share(&mut self, model: &mut Model<B>) -> Result<()> {
        let be = self.be.clone();
        let Some(peers) = &mut self.peers else { return Ok(()) };
        let Model { store, net, .. } = model;
        let mut views: Vec<B::Mut<'_>> = Vec::new();
        views.extend(group_views(&be, &mut store.values));
        views.extend(group_views(&be, &mut self.adam.m));
        views.extend(group_views(&be, &mut self.adam.v));
        if let Some(average) = &mut self.average {
            views.extend(group_views(&be, average));
        }
        views.extend(net.running_statistics_mut(&be));
        peers.exchange.get_mut().comm.broadcast(&mut views, 0)?;
        drop(views);
        model.store.mark_changed();
        self.compare(model)
    }

    /// Refuses parameters that are not the same on all ranks: `ERR_S4_DISTRIBUTED`, on every rank.
    pub fn compare(&mut self, model: &Model<B>) -> Result<()> {
        let be = self.be.clone();
        let Some(peers) = &mut self.peers else { return Ok(()) };
        let mut hash = 0xcbf2_9ce4_8422_2325;
        for group in [Group::Main, Group::Ssm] {
            let view = model.store.values.group_view(&be, group);
            let mut values = host_memory::zeros(OP, "the parameters", be.ref_len(view))?;
            be.download(&mut values, view)?;
            hash = hash_of(hash, &values);
        }
        let digits = (0..16).map(|i| ((hash >> (4 * i)) & 15) as f64);
        let numbers: Vec<_> = digits.clone().chain(digits.map(|x| x * x)).map(B::Scalar::from_f64).collect();
        be.upload(be.view_mut(&mut peers.compared, 0..COMPARED), &numbers)?;
        let comm = &mut peers.exchange.get_mut().comm;
        comm.all_reduce(&mut [be.view_mut(&mut peers.compared, 0..COMPARED)])?;
        let mut sums = numbers;
        be.download(&mut sums, be.view(&peers.compared, 0..COMPARED))?;
        // Numbers are all the same exactly where n·Σx² = (Σx)².
        let ranks = peers.world_size() as f64;
        let (digits, squares) = sums.split_at(COMPARED / 2);
        let same = |x: f64, squares: f64| ranks * squares == x * x;
        match digits.iter().zip(squares).all(|(x, s)| same(x.to_f64(), s.to_f64())) {
            true => Ok(()),
            false => Err(group_error("the same parameters on all ranks", "others on some of them")),
        }
    }

    /// Takes part in an update without a batch, where others have one: the first part of an update, as [`Trainer::accumulate`].
    pub fn accumulate_nothing(&mut self, model: &mut Model<B>) -> Result<()> {
        self.refuse_average()?;
        if self.peers.is_none() {
            return Err(Error::value(OP, "a batch", "none"));
        }
        if self.under_way.is_some() {
            return Ok(());
        }
        if self.figures.is_full() {
            self.read_figures(model)?;
        }
        let be = self.be.clone();
        if std::mem::replace(&mut self.work_unfinished, true) {
            self.discard(model)?;
        }
        self.figures.zero_slot(&be)?;
        model.store.grads.zero(&be)?;
        if let Some(exchange) = self.norm_exchange(model) {
            exchange.borrow_mut().sum_weight(&be, 0.0)?;
            model.net.exchange_without_batch(&be, exchange)?;
        }
        // The sums over targets that other ranks add are over as many values each.
        let width = if model.config.loss.takes_labels() { 1 } else { model.config.output };
        self.under_way = Some(PendingUpdate { step: self.adam.step, width, ..PendingUpdate::default() });
        self.work_unfinished = false;
        Ok(())
    }

    /// Exchanges with other ranks in forward and backward, where there are any: with the option `sync_batch_norm` in a model with batch
    /// norm.
    pub(crate) fn norm_exchange(&self, model: &Model<B>) -> Option<&SharedExchange<B>> {
        let synchronised = self.config.sync_batch_norm && model.config.block.norm == NormKind::Batch;
        self.peers.as_ref().filter(|_| synchronised).map(|peers| &peers.exchange)
    }

    /// Number of a batch among those of an update: N ranks draw the dropout masks that one device draws which accumulates N batches.
    pub(crate) fn batch_number(&self, batches_so_far: u64) -> u64 {
        match &self.peers {
            Some(peers) => batches_so_far * peers.world_size() as u64 + peers.rank() as u64,
            None => batches_so_far,
        }
    }

    /// Enqueues the sum of loss, gradients and counts over the ranks: those of this rank's update under way become those of all ranks
    /// together. Without other ranks nothing happens.
    pub(crate) fn reduce(&mut self, model: &mut Model<B>, under_way: &PendingUpdate) -> Result<()> {
        let synchronised = self.norm_exchange(model).is_some();
        let Trainer { be, figures, adam, peers: Some(peers), .. } = self else { return Ok(()) };
        let counts = RankCounts {
            weight: under_way.weight,
            metric_weight: under_way.metric_weight,
            rows: under_way.rows,
            time_steps: under_way.time_steps,
            items: under_way.items,
            ranks: u64::from(under_way.batches > 0),
            counting: u64::from(under_way.weight > 0.0),
        };
        {
            let own_squares = figures.write_counts(be, &counts, peers.rank())?;
            // Through synchronised norms what is not finite on one rank comes into the gradients of all: the losses tell which it
            // was.
            if !synchronised {
                adam.sum_squares(own_squares, &model.store)?;
            }
        }
        // From this rank's means to its sums. Where nothing counts all are zeros. Gradients through synchronised norms are parts of
        // the joint mean already.
        let grads = &mut model.store.grads;
        if counts.weight > 0.0 {
            figures.scale_rank_loss(be, counts.weight, false)?;
        }
        if counts.weight > 0.0 && !synchronised {
            for group in [Group::Main, Group::Ssm] {
                be.scale(grads.group_view_mut(be, group), counts.weight, None)?;
            }
        }
        // Each rank's batch has moved the running statistics of batch norms; their mean over the ranks whose targets count is taken.
        // (Of synchronised norms they are the same everywhere.)
        let averages = !synchronised;
        if averages && counts.weight == 0.0 {
            model.net.zero_moved_statistics(be)?;
        }
        {
            let mut views: Vec<B::Mut<'_>> = group_views(be, grads).into_iter().collect();
            views.push(figures.shared_mut(be));
            if averages {
                views.extend(model.net.moved_statistics_mut(be));
            }
            peers.exchange.get_mut().comm.all_reduce(&mut views)?;
        }
        for view in averages.then(|| model.net.moved_statistics_mut(be)).into_iter().flatten() {
            be.scale(view, 1.0, Some(figures.counting_ranks(be)))?;
        }
        // From the sums over all ranks to the joint means; where nothing counts anywhere they are not finite, which leaves the
        // update out.
        figures.scale_rank_loss(be, 1.0, true)?;
        if synchronised {
            return Ok(());
        }
        for group in [Group::Main, Group::Ssm] {
            be.scale(grads.group_view_mut(be, group), 1.0, Some(figures.total_weight(be)))?;
        }
        Ok(())
    }
}
