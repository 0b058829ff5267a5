//! What a model has learned, in numbers: step sizes, eigenvalues, memory and frequency response of each layer, how much each
//! head and layer does, and which inputs an output depends on. Computed on the host in f64, but for the passes through the network.

use crate::{
    batch::Input, call_arrays::HostOptions, host_ssm::HostParams, model::Model, param::ParamStore,
    pass_options::ForwardOptions,
};
use num_traits::{One, Zero};
use s4_backend::{Backend, CallOptions, LossKind, Result, Scalar, SsmSpec, host_memory};
use s4_ssm::{Ssm, kernel_gain, kernel_memory};

/// The parts of a kernel's energy that memory is given for.
pub(crate) const PARTS: [f64; 3] = [0.5, 0.9, 0.99];

/// One layer. Time is in steps of the data that the model was trained on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerInspection {
    /// Δ of each head; the geometric mean over its pairs where each has one of its own.
    pub dt: Vec<f64>,
    /// Λ, (S, N/2, 2). For S4D the eigenvalues of A; for S4 those of its normal part, whose low-rank part moves them.
    pub lambda: Vec<f64>,
    /// (heads, 3): the fewest first time steps of each kernel that hold 50, 90 and 99 % of its energy; infinite where a kernel does
    /// not die away.
    pub memory: Vec<f64>,
    /// (heads, frequencies): |K̂| of each kernel.
    pub gain: Vec<f64>,
    /// Part of the modes of all heads that turn or decay by more than π, half a period, in a time step: |Δλ| > π.
    pub unresolved: f64,
    /// Of each head the size of what it sends on: the root of its kernel's energy and D², times the norm of the weights that take it.
    pub strength: Vec<f64>,
}

/// What a model does with data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataInspection {
    /// Of each block with a residual ‖change‖/‖input‖; NaN without a residual.
    pub change: Vec<f64>,
    /// (batch, len): the norm of the gradient of the last output with respect to the input at each time step. Of classes it is the
    /// output that is largest, else the sum over the outputs.
    pub influence: Vec<f64>,
}

fn read<B: Backend>(store: &ParamStore<B>, name: &str) -> Result<Vec<f64>> {
    Ok(store.get(name)?.into_iter().map(Scalar::to_f64).collect())
}

/// What does not change with data, of all blocks. `frequencies`: in cycles a time step. `go_on` is asked after each layer: the layers
/// up to a no.
pub fn inspect_layers<B: Backend>(
    model: &Model<B>,
    frequencies: &[f64],
    mut go_on: impl FnMut() -> bool,
) -> Result<Vec<LayerInspection>> {
    let spec = model.config.block.layer.spec();
    let mut layers = Vec::new();
    for block in 0..model.config.layers {
        if !go_on() {
            break;
        }
        layers.push(inspect_layer(&model.store, &spec, block, frequencies)?);
    }
    Ok(layers)
}

fn inspect_layer<B: Backend>(
    store: &ParamStore<B>,
    spec: &SsmSpec,
    block: usize,
    frequencies: &[f64],
) -> Result<LayerInspection> {
    let part = |name: &str| read(store, &format!("blocks.{block}.layer.{name}"));
    let params = HostParams {
        inv_dt: part("kernel.inv_dt")?,
        a_real: part("kernel.A_real")?,
        a_imag: part("kernel.A_imag")?,
        b: part("kernel.B")?,
        c: part("kernel.C")?,
        p: if spec.rank > 0 { part("kernel.P")? } else { Vec::new() },
    };
    let d = part("D")?;
    let weights = read(store, &format!("blocks.{block}.output_linear.0.weight"))?;
    let (heads, inputs) = (spec.heads, spec.outputs());
    let ssms: Vec<Ssm> = (0..heads).map(|h| params.head(spec, h)).collect();
    let kernels = on_all_cores(&ssms, |ssm| {
        let gains: Vec<f64> = frequencies.iter().map(|f| kernel_gain(ssm, *f)).collect();
        (kernel_memory(ssm, &PARTS), gains)
    });
    let mut layer = LayerInspection::default();
    for (h, (memory, gains)) in kernels.iter().enumerate() {
        layer.memory.extend(&memory.steps);
        layer.gain.extend(gains);
        let skip: f64 = (0..spec.channels).map(|c| d[c * heads + h].powi(2)).sum();
        // Column c·H + h of the linear takes channel c of head h.
        let taken =
            weights.chunks_exact(inputs).flat_map(|row| (0..spec.channels).map(move |c| row[c * heads + h]));
        let taken: f64 = taken.map(|w| w * w).sum();
        // Endless energy of which nothing is taken is nothing.
        let strength = if taken > 0.0 { ((memory.energy + skip) * taken).sqrt() } else { 0.0 };
        layer.strength.push(strength);
    }
    let modes =
        ssms.iter().flat_map(|ssm| (0..ssm.pairs()).map(move |n| ssm.lambda[n].norm() * ssm.dt_of(n)));
    let unresolved = modes.filter(|turn| *turn > std::f64::consts::PI).count();
    layer.unresolved = unresolved as f64 / (heads * spec.pairs()) as f64;
    let mean = |dt: &[f64]| (dt.iter().map(|x| x.ln()).sum::<f64>() / dt.len() as f64).exp();
    layer.dt = ssms.iter().map(|ssm| mean(&ssm.dt)).collect();
    layer.lambda =
        ssms[..spec.n_ssm].iter().flat_map(|s| s.lambda.iter().flat_map(|l| [l.re, l.im])).collect();
    Ok(layer)
}

/// `f` of each item, in order, on as many threads as there are cores.
fn on_all_cores<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let size = items.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let f = &f;
        let started: Vec<_> = items
            .chunks(size)
            .map(|part| scope.spawn(move || part.iter().map(f).collect::<Vec<R>>()))
            .collect();
        let parts = started.into_iter().map(|thread| thread.join());
        parts.flat_map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

impl<B: Backend> Model<B> {
    /// What it does with data. Gradients that were accumulated stay as they are.
    pub fn inspect_data(
        &mut self,
        x: Input<'_, B::Scalar>,
        batch: usize,
        len: usize,
        call: HostOptions<'_, B::Scalar>,
    ) -> Result<DataInspection> {
        let options = ForwardOptions {
            call: CallOptions { training: false, ..call },
            save: true,
            ..Default::default()
        };
        let y = self.forward(x, batch, len, &options)?.y;
        let change = self.changes((batch, len), call.lengths)?;
        let doutput = self.last_outputs(&y, (batch, len), call.lengths);
        let (be, scratch) = (self.be.clone(), self.store.zeros_like()?);
        let kept = std::mem::replace(&mut self.store.grads, scratch);

        let backward = self.backward(&doutput, None);
        self.store.grads = kept;
        let dx = backward?.dx;
        let influence = match dx {
            Some(dx) => {
                let width = dx.len() / (batch * len);
                dx.chunks_exact(width).map(|row| norm(row.iter())).collect()
            }
            None => {
                let heads = self.config.features();
                let mut d = host_memory::zeros("SequenceModel.inspect", "gradients", batch * heads * len)?;
                be.download(&mut d, self.net.dfeatures(&be, (batch, len)))?;
                let at = |row: usize, t: usize| (0..heads).map(move |h| (row * heads + h) * len + t);
                let places = (0..batch).flat_map(|row| (0..len).map(move |t| (row, t)));
                places.map(|(row, t)| norm(at(row, t).map(|i| &d[i]))).collect()
            }
        };
        Ok(DataInspection { change, influence })
    }

    /// Of each block ‖output − input‖/‖input‖, of the forward that has just saved its values.
    fn changes(&self, sizes: (usize, usize), lengths: Option<&[i32]>) -> Result<Vec<f64>> {
        let (batch, len) = sizes;
        let (be, heads) = (&self.be, self.config.features());
        if !self.config.block.residual {
            return Ok(vec![f64::NAN; self.config.layers]);
        }
        let zeros = || host_memory::zeros("SequenceModel.inspect", "features", batch * heads * len);
        let (mut before, mut after) = (zeros()?, zeros()?);
        let mut changes = Vec::new();
        for block in 0..self.config.layers {
            let [input, output] = self.net.input_and_output(be, block, sizes);
            be.download(&mut before, input)?;
            be.download(&mut after, output)?;
            let (mut change, mut whole) = (0.0, 0.0);
            for (i, (a, b)) in after.iter().zip(&before).enumerate() {
                let (row, t) = (i / (heads * len), i % len);
                if lengths.is_none_or(|lengths| t < lengths[row] as usize) {
                    change += (Scalar::to_f64(*a) - Scalar::to_f64(*b)).powi(2);
                    whole += Scalar::to_f64(*b).powi(2);
                }
            }
            changes.push((change / whole.max(f64::MIN_POSITIVE)).sqrt());
        }
        Ok(changes)
    }

    /// The gradient of an output that chooses what the last step of each sequence says.
    fn last_outputs(
        &self,
        y: &[B::Scalar],
        (batch, len): (usize, usize),
        lengths: Option<&[i32]>,
    ) -> Vec<B::Scalar> {
        let outputs = self.config.decoder_outputs();
        let steps = y.len() / (batch * outputs);
        let mut d = vec![B::Scalar::zero(); y.len()];
        for row in 0..batch {
            let last = if steps == 1 { 0 } else { lengths.map_or(len, |lengths| lengths[row] as usize) - 1 };
            let at = (row * steps + last) * outputs;
            if self.config.loss == LossKind::CrossEntropy {
                let best = (0..outputs).fold(0, |best, i| if y[at + i] > y[at + best] { i } else { best });
                d[at + best] = B::Scalar::one();
            } else {
                d[at..at + outputs].fill(B::Scalar::one());
            }
        }
        d
    }
}

fn norm<'a, T: Scalar>(x: impl Iterator<Item = &'a T>) -> f64 {
    x.map(|x| Scalar::to_f64(*x).powi(2)).sum::<f64>().sqrt()
}
