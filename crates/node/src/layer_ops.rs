//! The operations of a layer or a block as a trait object, so that `NativeLayer` is one class for all backends and number
//! formats.

use crate::{
    buffer::{Data, InputSlice, OutputSlice, Real},
    objects::{Backward, Forward, NamedData, OwnedCall},
    optimizers::{Moments, OpenedAdam, Optimizers},
    param_ops::{HoldsModule, ParamOps},
};
use s4_backend::{Backend, Result};
use s4_nn::{Module, ModuleCore};

/// The operations that `NativeLayer` calls. Arrays have the layouts of the public API, time steps before features.
pub(crate) trait LayerOps: ParamOps {
    /// Its options as JSON.
    fn config(&self) -> String;
    /// Number of features of the output.
    fn outputs(&self) -> usize;
    /// Number of convolution kernels for each feature.
    fn kernel_channels(&self) -> usize;
    /// Whether it has a recurrent state.
    fn has_state(&self) -> bool;
    /// A forward into new arrays.
    fn forward(&mut self, u: Data, batch: usize, len: usize, call: OwnedCall) -> Result<Forward>;
    /// A forward that reads and writes the caller's arrays in place; gives the state after the last time step.
    fn forward_into(
        &mut self,
        y: OutputSlice<'_>,
        u: InputSlice<'_>,
        sizes: (usize, usize),
        call: OwnedCall,
    ) -> Result<Option<Data>>;
    /// A backward into new arrays.
    fn backward(&mut self, dy: Data, dstate: Option<Data>) -> Result<Backward>;
    /// A backward that reads and writes the caller's arrays in place; gives the gradient of the start state.
    fn backward_into(
        &mut self,
        du: OutputSlice<'_>,
        dy: InputSlice<'_>,
        dstate: Option<Data>,
    ) -> Result<Option<Data>>;
    fn step(
        &mut self,
        u: Data,
        state: Data,
        interval: Option<Data>,
        batch: usize,
        rate: f64,
    ) -> Result<Forward>;
    /// The first `len` values of the convolution kernel K̄.
    fn kernel(&mut self, len: usize, rate: f64) -> Result<Data>;
    /// A zero state for `batch` sequences.
    fn initial_state(&self, batch: usize) -> Result<Data>;
    /// Makes an AdamW with options as JSON; gives its number.
    fn adam_open(&mut self, config: &str, prefix: &str) -> Result<OpenedAdam>;
    /// One update by AdamW number `id`; gives the norm of the gradients.
    fn adam_update(&mut self, id: u32, scale: f64, squared_norm: f64) -> Result<()>;
    /// Σ g² over the gradients that optimiser `id` does not leave out.
    fn adam_squared_norm(&mut self, id: u32) -> Result<f64>;
    /// The moments of optimiser `id`.
    fn adam_moments(&mut self, id: u32) -> Result<Vec<NamedData>>;
    /// Other moments for optimiser `id`, and the number of updates that they are from.
    fn adam_restore(&mut self, id: u32, step: f64, moments: Moments) -> Result<()>;
    /// Running means and variances of a batch norm, (2, features); nothing without one.
    fn running_statistics(&self) -> Result<Option<Data>>;
    /// Replaces the running means and variances of a batch norm.
    fn set_running_statistics(&mut self, values: Data) -> Result<()>;
    /// Number of updates of optimiser `id`.
    fn adam_steps(&mut self, id: u32) -> Result<f64>;
    /// Frees AdamW number `id`.
    fn adam_close(&mut self, id: u32);
}

/// A layer or block on any backend.
pub(crate) type BoxedLayer = Box<dyn LayerOps>;

/// A layer or block on backend `B`, with the optimisers that were made for it.
pub(crate) struct LayerBox<B: Backend, C: ModuleCore<B>> {
    inner: Module<B, C>,
    optimizers: Optimizers<B>,
}

impl<B: Backend<Scalar: Real>, C: ModuleCore<B>> LayerBox<B, C> {
    /// A layer or block as a trait object.
    pub(crate) fn boxed(inner: Module<B, C>) -> BoxedLayer {
        Box::new(LayerBox { inner, optimizers: Optimizers::new() })
    }
}

impl<B: Backend<Scalar: Real>, C: ModuleCore<B>> HoldsModule for LayerBox<B, C> {
    type Inner = Module<B, C>;
    fn inner(&self) -> &Module<B, C> {
        &self.inner
    }
    fn inner_mut(&mut self) -> &mut Module<B, C> {
        &mut self.inner
    }
}

impl<B: Backend<Scalar: Real>, C: ModuleCore<B>> LayerOps for LayerBox<B, C> {
    fn config(&self) -> String {
        self.inner.config_json()
    }
    fn outputs(&self) -> usize {
        self.inner.outputs()
    }
    fn kernel_channels(&self) -> usize {
        self.inner.spec().kernel_channels()
    }
    fn has_state(&self) -> bool {
        self.inner.has_state()
    }
    fn forward(&mut self, u: Data, batch: usize, len: usize, call: OwnedCall) -> Result<Forward> {
        let u = u.real()?;
        let result = call.with_options(len, |options| self.inner.forward(&u, batch, len, options))?;
        Ok(Forward { y: Real::into_data(result.y), state: result.state_end.map(Real::into_data) })
    }
    fn forward_into(
        &mut self,
        y: OutputSlice<'_>,
        u: InputSlice<'_>,
        (batch, len): (usize, usize),
        call: OwnedCall,
    ) -> Result<Option<Data>> {
        let (y, u) = (y.real()?, u.real()?);
        let state = call.with_options(len, |options| self.inner.forward_into(y, u, batch, len, options))?;
        Ok(state.map(Real::into_data))
    }
    fn backward(&mut self, dy: Data, dstate: Option<Data>) -> Result<Backward> {
        let dstate = dstate.map(Data::real::<B::Scalar>).transpose()?;
        let result = self.inner.backward(&dy.real::<B::Scalar>()?, dstate.as_deref())?;
        Ok(Backward { du: Real::into_data(result.du), dstate: result.dstate0.map(Real::into_data) })
    }
    fn backward_into(
        &mut self,
        du: OutputSlice<'_>,
        dy: InputSlice<'_>,
        dstate: Option<Data>,
    ) -> Result<Option<Data>> {
        let dstate = dstate.map(Data::real::<B::Scalar>).transpose()?;
        let dstate = self.inner.backward_into(du.real()?, dy.real()?, dstate.as_deref())?;
        Ok(dstate.map(Real::into_data))
    }
    fn step(
        &mut self,
        u: Data,
        state: Data,
        interval: Option<Data>,
        batch: usize,
        rate: f64,
    ) -> Result<Forward> {
        let (u, mut state) = (u.real::<B::Scalar>()?, state.real::<B::Scalar>()?);
        let interval = interval.map(Data::real::<B::Scalar>).transpose()?;
        let y = self.inner.step(&u, &mut state, interval.as_deref(), batch, rate)?;
        Ok(Forward { y: Real::into_data(y), state: Some(Real::into_data(state)) })
    }
    fn kernel(&mut self, len: usize, rate: f64) -> Result<Data> {
        Ok(Real::into_data(self.inner.kernel(len, rate)?))
    }
    fn initial_state(&self, batch: usize) -> Result<Data> {
        Ok(Real::into_data(self.inner.initial_state(batch)?))
    }
    fn adam_open(&mut self, config: &str, prefix: &str) -> Result<OpenedAdam> {
        self.optimizers.open(self.inner.backend(), self.inner.store(), config, prefix)
    }
    fn adam_update(&mut self, id: u32, scale: f64, squared_norm: f64) -> Result<()> {
        self.optimizers.update(self.inner.store_mut(), id, scale, squared_norm)
    }
    fn adam_squared_norm(&mut self, id: u32) -> Result<f64> {
        self.optimizers.squared_norm(self.inner.store(), id)
    }
    fn adam_moments(&mut self, id: u32) -> Result<Vec<NamedData>> {
        self.optimizers.moments(self.inner.store(), id)
    }
    fn adam_restore(&mut self, id: u32, step: f64, moments: Moments) -> Result<()> {
        self.optimizers.restore(self.inner.store(), id, step, moments)
    }
    fn adam_steps(&mut self, id: u32) -> Result<f64> {
        self.optimizers.steps(id)
    }
    fn running_statistics(&self) -> Result<Option<Data>> {
        Ok(self.inner.running_statistics()?.map(Real::into_data))
    }
    fn set_running_statistics(&mut self, values: Data) -> Result<()> {
        self.inner.set_running_statistics(&values.real()?)
    }
    fn adam_close(&mut self, id: u32) {
        self.optimizers.close(id);
    }
}
