//! A layer or a block behind one object-safe face, whatever the backend and the number format.

use crate::{
    buffer::{Data, InputSlice, OutputSlice, Real},
    objects::{Backward, Forward, OwnedCall},
    param_ops::{HasStored, ParamOps},
    table::Table,
};
use s4_backend::{Backend, Error, Result};
use s4_nn::{Adam, AdamConfig, Core, Module};

/// What `NativeLayer` asks of it; arrays are in the public layouts.
pub(crate) trait LayerOps: ParamOps {
    fn config(&self) -> String;
    fn outputs(&self) -> usize;
    fn kernel_channels(&self) -> usize;
    fn has_state(&self) -> bool;
    fn forward(&mut self, u: Data, batch: usize, len: usize, call: OwnedCall) -> Result<Forward>;
    /// From and into the caller's arrays; gives the state.
    fn forward_into(
        &mut self,
        y: OutputSlice<'_>,
        u: InputSlice<'_>,
        sizes: (usize, usize),
        call: OwnedCall,
    ) -> Result<Option<Data>>;
    fn backward(&mut self, dy: Data, dstate: Option<Data>) -> Result<Backward>;
    /// From and into the caller's arrays; gives the state's gradient.
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
    fn kernel(&mut self, len: usize, rate: f64) -> Result<Data>;
    fn initial_state(&self, batch: usize) -> Result<Data>;
    fn adam_open(&mut self, config: &str) -> Result<u32>;
    fn adam_update(&mut self, id: u32, scale: f64) -> Result<f64>;
    fn adam_close(&mut self, id: u32);
}

/// A layer or block of any backend.
pub(crate) type BoxedLayer = Box<dyn LayerOps>;

/// A layer or block with the optimisers opened on it.
pub(crate) struct LayerBox<B: Backend, C: Core<B>> {
    inner: Module<B, C>,
    optimizers: Table<Adam<B>>,
}

impl<B: Backend<Scalar: Real>, C: Core<B>> LayerBox<B, C> {
    pub(crate) fn boxed(inner: Module<B, C>) -> BoxedLayer {
        Box::new(LayerBox { inner, optimizers: Table::new() })
    }
}

impl<B: Backend<Scalar: Real>, C: Core<B>> HasStored for LayerBox<B, C> {
    type Inner = Module<B, C>;
    fn inner(&self) -> &Module<B, C> {
        &self.inner
    }
    fn inner_mut(&mut self) -> &mut Module<B, C> {
        &mut self.inner
    }
}

impl<B: Backend<Scalar: Real>, C: Core<B>> LayerOps for LayerBox<B, C> {
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
        let out = call.with(|options| self.inner.forward(&u, batch, len, options))?;
        Ok(Forward { y: Real::into_data(out.y), state: out.state.map(Real::into_data) })
    }
    fn forward_into(
        &mut self,
        y: OutputSlice<'_>,
        u: InputSlice<'_>,
        (batch, len): (usize, usize),
        call: OwnedCall,
    ) -> Result<Option<Data>> {
        let (y, u) = (y.real()?, u.real()?);
        let state = call.with(|options| self.inner.forward_into(y, u, batch, len, options))?;
        Ok(state.map(Real::into_data))
    }
    fn backward(&mut self, dy: Data, dstate: Option<Data>) -> Result<Backward> {
        let dstate = dstate.map(Data::real::<B::Scalar>).transpose()?;
        let out = self.inner.backward(&dy.real::<B::Scalar>()?, dstate.as_deref())?;
        Ok(Backward { du: Real::into_data(out.du), dstate: out.dstate.map(Real::into_data) })
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
    fn adam_open(&mut self, config: &str) -> Result<u32> {
        let config = AdamConfig::from_json("AdamW", config)?;
        let adam = Adam::new(self.inner.backend().clone(), self.inner.store(), config)?;
        Ok(self.optimizers.insert(adam))
    }
    fn adam_update(&mut self, id: u32, scale: f64) -> Result<f64> {
        match self.optimizers.get_mut(id) {
            Some(adam) => adam.update(self.inner.store_mut(), scale),
            None => Err(Error::value("AdamW.step", "an open optimiser", id)),
        }
    }
    fn adam_close(&mut self, id: u32) {
        self.optimizers.remove(id);
    }
}
