//! The operations that layers, blocks and models have in common: parameters, counters, memory.

use crate::{
    buffer::{Data, Real},
    objects::{Counters, ParameterInfo},
};
use s4_backend::{Backend, Memory, Result, Scalar};
use s4_nn::{Model, Module, ModuleCore, ParamStore};

/// Access to parameters, gradients and counters, whatever the backend and the number format.
pub(crate) trait ParamOps: Send {
    fn infos(&self) -> Vec<ParameterInfo>;
    fn parameter(&self, name: &str) -> Result<Data>;
    fn gradient(&self, name: &str) -> Result<Data>;
    fn set_parameter(&mut self, name: &str, value: Data) -> Result<()>;
    fn zero_grad(&mut self) -> Result<()>;
    fn counters(&self) -> Counters;
    fn dtype(&self) -> &'static str;
    fn device(&self) -> String;
    /// Bytes of parameters, gradients and an optimiser's moments, to tell V8 how much memory the handle holds.
    fn bytes(&self) -> usize;
}

/// A layer, block or model, which has a parameter store on a backend.
pub(crate) trait HasParamStore: Send {
    /// The backend that it is on.
    type Backend: Backend<Scalar: Real>;
    fn backend(&self) -> &Self::Backend;
    fn store(&self) -> &ParamStore<Self::Backend>;
    fn store_mut(&mut self) -> &mut ParamStore<Self::Backend>;
}

impl<B: Backend<Scalar: Real>, C: ModuleCore<B>> HasParamStore for Module<B, C> {
    type Backend = B;
    fn backend(&self) -> &B {
        Module::backend(self)
    }
    fn store(&self) -> &ParamStore<B> {
        Module::store(self)
    }
    fn store_mut(&mut self) -> &mut ParamStore<B> {
        Module::store_mut(self)
    }
}

impl<B: Backend<Scalar: Real>> HasParamStore for Model<B> {
    type Backend = B;
    fn backend(&self) -> &B {
        Model::backend(self)
    }
    fn store(&self) -> &ParamStore<B> {
        Model::store(self)
    }
    fn store_mut(&mut self) -> &mut ParamStore<B> {
        Model::store_mut(self)
    }
}

/// What a handle holds, with a layer, block or model inside. [`ParamOps`] follows from it.
pub(crate) trait HoldsModule: Send {
    /// Type of the layer, block or model inside.
    type Inner: HasParamStore;
    /// The layer, block or model inside.
    fn inner(&self) -> &Self::Inner;
    fn inner_mut(&mut self) -> &mut Self::Inner;
    /// Zeroes the gradients; batches that were accumulated are not part of a next update.
    fn zero_gradients(&mut self) -> Result<()> {
        self.inner_mut().store_mut().zero_grad()
    }
}

/// The number format of what a handle holds.
type ScalarOf<T> = <<<T as HoldsModule>::Inner as HasParamStore>::Backend as Memory>::Scalar;

impl<T: HoldsModule> ParamOps for T {
    fn infos(&self) -> Vec<ParameterInfo> {
        self.inner().store().infos().iter().map(ParameterInfo::from).collect()
    }
    fn parameter(&self, name: &str) -> Result<Data> {
        Ok(Real::into_data(self.inner().store().get(name)?))
    }
    fn gradient(&self, name: &str) -> Result<Data> {
        Ok(Real::into_data(self.inner().store().grad(name)?))
    }
    fn set_parameter(&mut self, name: &str, value: Data) -> Result<()> {
        self.inner_mut().store_mut().set(name, &value.real()?)
    }
    fn zero_grad(&mut self) -> Result<()> {
        self.zero_gradients()
    }
    fn counters(&self) -> Counters {
        let be = self.inner().backend();
        Counters {
            allocations: be.allocations() as f64,
            host_waits: be.host_waits() as f64,
            device_memory: be.device_memory() as f64,
        }
    }
    fn dtype(&self) -> &'static str {
        ScalarOf::<T>::DTYPE.as_str()
    }
    fn device(&self) -> String {
        self.inner().backend().device_id()
    }
    fn bytes(&self) -> usize {
        // There are values, gradients and the two moments of AdamW.
        4 * self.inner().store().count() * ScalarOf::<T>::DTYPE.bytes()
    }
}
