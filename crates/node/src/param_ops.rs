//! What every handle has, whatever the backend and the number format: parameters, counters, sizes.

use crate::{
    buffer::{Data, Real},
    objects::{Counters, ParameterInfo},
};
use s4_backend::{Backend, Memory, Result, Scalar};
use s4_nn::{Core, Model, Module, ParamStore};

/// Parameters and counters.
pub(crate) trait ParamOps: Send {
    fn infos(&self) -> Vec<ParameterInfo>;
    fn parameter(&self, name: &str) -> Result<Data>;
    fn gradient(&self, name: &str) -> Result<Data>;
    fn set_parameter(&mut self, name: &str, value: Data) -> Result<()>;
    fn zero_grad(&mut self) -> Result<()>;
    fn counters(&self) -> Counters;
    fn dtype(&self) -> &'static str;
    fn device(&self) -> String;
    /// Bytes of parameters, gradients and moments, for V8.
    fn bytes(&self) -> usize;
}

/// Something with a parameter store on a backend.
pub(crate) trait Stored: Send {
    type Backend: Backend<Scalar: Real>;
    fn backend(&self) -> &Self::Backend;
    fn store(&self) -> &ParamStore<Self::Backend>;
    fn store_mut(&mut self) -> &mut ParamStore<Self::Backend>;
}

impl<B: Backend<Scalar: Real>, C: Core<B>> Stored for Module<B, C> {
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

impl<B: Backend<Scalar: Real>> Stored for Model<B> {
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

/// What has parameters within it.
pub(crate) trait HasStored: Send {
    type Inner: Stored;
    fn inner(&self) -> &Self::Inner;
    fn inner_mut(&mut self) -> &mut Self::Inner;
    /// Zeroes the gradients, and forgets what they were of.
    fn zero_gradients(&mut self) -> Result<()> {
        self.inner_mut().store_mut().zero_grad()
    }
}

type ScalarOf<T> = <<<T as HasStored>::Inner as Stored>::Backend as Memory>::Scalar;

impl<T: HasStored> ParamOps for T {
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
        self.inner().backend().device_name()
    }
    fn bytes(&self) -> usize {
        // Values, gradients and two moments.
        4 * self.inner().store().count() * ScalarOf::<T>::DTYPE.bytes()
    }
}
