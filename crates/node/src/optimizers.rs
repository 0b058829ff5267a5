//! AdamW over the parameters of a layer or of a user's own, by number.

use crate::{
    buffer::{Data, DataIn, Real},
    error::to_js_result,
    objects::NamedData,
    table::NumberedTable,
};
use napi_derive::napi;
use s4_backend::{Backend, Code, Error, Result};
use s4_cpu::Cpu;
use s4_nn::{Adam, AdamConfig, Group, ParamBuilder, ParamStore};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An optimiser that has been made, and what its groups name.
#[napi(object, object_from_js = false)]
pub struct OpenedAdam {
    /// The number by which it is called.
    pub id: u32,
    /// Of each group, whether it names a parameter here.
    pub used_groups: Vec<bool>,
}

/// Moments of one parameter: first, second.
#[napi(object, object_to_js = false)]
pub struct MomentsIn {
    /// Running mean of the gradients.
    pub m: DataIn,
    /// Running mean of the squared gradients.
    pub v: DataIn,
}

/// Moments on the way to an optimiser.
pub(crate) type Moments = Vec<[Data; 2]>;

/// Copies moments out of JavaScript's arrays.
pub(crate) fn copied_moments(given: &[MomentsIn]) -> Result<Moments> {
    given.iter().map(|both| Ok([Data::copy(&both.m)?, Data::copy(&both.v)?])).collect()
}

/// The optimisers of one store.
pub(crate) struct Optimizers<B: Backend>(NumberedTable<Adam<B>>);

impl<B: Backend<Scalar: Real>> Optimizers<B> {
    pub(crate) fn new() -> Self {
        Optimizers(NumberedTable::new())
    }
    fn get(&mut self, id: u32) -> Result<&mut Adam<B>> {
        self.0.get_mut(id).ok_or_else(|| Error::value("AdamW", "an open optimiser", id))
    }
    /// Makes one, with options as JSON; `prefix` may stand before the store's names in the options' groups.
    pub(crate) fn open(
        &mut self,
        be: &B,
        store: &ParamStore<B>,
        config: &str,
        prefix: &str,
    ) -> Result<OpenedAdam> {
        let config = AdamConfig::from_json("AdamW", config)?;
        let (adam, used_groups) = Adam::of_one_store(be.clone(), store, prefix, config)?;
        Ok(OpenedAdam { id: self.0.insert(adam), used_groups })
    }
    pub(crate) fn squared_norm(&mut self, store: &ParamStore<B>, id: u32) -> Result<f64> {
        self.get(id)?.squared_norm(store)
    }
    pub(crate) fn update(
        &mut self,
        store: &mut ParamStore<B>,
        id: u32,
        scale: f64,
        squared_norm: f64,
    ) -> Result<()> {
        self.get(id)?.update(store, scale, squared_norm)
    }
    pub(crate) fn steps(&mut self, id: u32) -> Result<f64> {
        Ok(self.get(id)?.steps() as f64)
    }
    /// Of each parameter its first moments, named `name.m`, then its second, named `name.v`.
    pub(crate) fn moments(&mut self, store: &ParamStore<B>, id: u32) -> Result<Vec<NamedData>> {
        let moments = self.get(id)?.moments(store)?;
        let both = moments.into_iter().flat_map(|(info, [m, v])| {
            let shape: Vec<u32> = info.shape.iter().map(|&n| n as u32).collect();
            [("m", m), ("v", v)].map(|(which, values)| NamedData {
                name: format!("{}.{which}", info.name),
                shape: shape.clone(),
                data: Real::into_data(values),
            })
        });
        Ok(both.collect())
    }
    pub(crate) fn restore(
        &mut self,
        store: &ParamStore<B>,
        id: u32,
        step: f64,
        moments: Moments,
    ) -> Result<()> {
        let moments =
            moments.into_iter().map(|[m, v]| Ok([m.real()?, v.real()?])).collect::<Result<Vec<_>>>()?;
        self.get(id)?.restore(store, step as u64, &moments)
    }
    pub(crate) fn close(&mut self, id: u32) {
        self.0.remove(id);
    }
}

/// What [`NativeParameter`] asks of a parameter, whatever its number format.
trait OwnParameter: Send {
    fn squared_norm(&mut self, grad: Data) -> Result<f64>;
    fn update(&mut self, value: Data, scale: f64, squared_norm: f64) -> Result<Data>;
    fn moments(&mut self) -> Result<Vec<NamedData>>;
    fn restore(&mut self, step: f64, moments: Moments) -> Result<()>;
    fn steps(&mut self) -> Result<f64>;
}

/// A parameter of a user's own on the CPU: a store of one parameter, with its optimiser.
struct StoreOfOne<T: Real>
where
    Cpu<T>: Backend<Scalar = T>,
{
    name: String,
    store: ParamStore<Cpu<T>>,
    optimizers: Optimizers<Cpu<T>>,
    id: u32,
}

impl<T: Real> StoreOfOne<T>
where
    Cpu<T>: Backend<Scalar = T>,
{
    fn boxed(name: String, len: usize, config: &str) -> Result<(Box<dyn OwnParameter>, Vec<bool>)> {
        let be = Cpu::<T>::new(1)?;
        let mut builder = ParamBuilder::default();
        builder.add(name.clone(), &[len], Group::Main, vec![0.0; len]);
        let store = builder.build(&be)?;
        let mut optimizers = Optimizers::new();
        let OpenedAdam { id, used_groups } = optimizers.open(&be, &store, config, "")?;
        Ok((Box::new(StoreOfOne { name, store, optimizers, id }), used_groups))
    }
}

impl<T: Real> OwnParameter for StoreOfOne<T>
where
    Cpu<T>: Backend<Scalar = T>,
{
    fn squared_norm(&mut self, grad: Data) -> Result<f64> {
        self.store.set_grad(&self.name, &grad.real()?)?;
        self.optimizers.squared_norm(&self.store, self.id)
    }
    fn update(&mut self, value: Data, scale: f64, squared_norm: f64) -> Result<Data> {
        self.store.set(&self.name, &value.real()?)?;
        self.optimizers.update(&mut self.store, self.id, scale, squared_norm)?;
        Ok(Real::into_data(self.store.get(&self.name)?))
    }
    fn moments(&mut self) -> Result<Vec<NamedData>> {
        self.optimizers.moments(&self.store, self.id)
    }
    fn restore(&mut self, step: f64, moments: Moments) -> Result<()> {
        self.optimizers.restore(&self.store, self.id, step, moments)
    }
    fn steps(&mut self) -> Result<f64> {
        self.optimizers.steps(self.id)
    }
}

/// A parameter of a user's own, with its moments. Values and gradients stay in the user's arrays.
#[napi]
pub struct NativeParameter {
    inner: Mutex<Box<dyn OwnParameter>>,
    used_groups: Vec<bool>,
}

impl NativeParameter {
    fn inner(&self) -> MutexGuard<'_, Box<dyn OwnParameter>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[napi]
impl NativeParameter {
    /// A parameter of `len` elements with zero moments; AdamW's options as JSON.
    #[napi(constructor)]
    pub fn new(
        name: String,
        len: u32,
        #[napi(ts_arg_type = "'f32' | 'f64'")] dtype: String,
        config: String,
    ) -> napi::Result<NativeParameter> {
        to_js_result(|| {
            let (inner, used_groups) = match dtype.as_str() {
                "f32" => StoreOfOne::<f32>::boxed(name, len as usize, &config)?,
                "f64" => StoreOfOne::<f64>::boxed(name, len as usize, &config)?,
                other => return Err(Error::new(Code::Dtype, "AdamW", "f32 or f64", other)),
            };
            Ok(NativeParameter { inner: Mutex::new(inner), used_groups })
        })
    }
    /// Of each group, whether it names this parameter.
    #[napi]
    pub fn used_groups(&self) -> Vec<bool> {
        self.used_groups.clone()
    }
    /// Σ g² of the gradient, which the next update takes.
    #[napi]
    pub fn adam_squared_norm(&self, grad: DataIn) -> napi::Result<f64> {
        to_js_result(|| {
            let grad = Data::copy(&grad)?;
            self.inner().squared_norm(grad)
        })
    }
    /// The value after one update.
    #[napi(ts_return_type = "Floats")]
    pub fn adam_update(&self, value: DataIn, scale: f64, squared_norm: f64) -> napi::Result<Data> {
        to_js_result(|| {
            let value = Data::copy(&value)?;
            self.inner().update(value, scale, squared_norm)
        })
    }
    /// The moments, first and second.
    #[napi(ts_return_type = "Array<NamedArray>")]
    pub fn adam_moments(&self) -> napi::Result<Vec<NamedData>> {
        to_js_result(|| self.inner().moments())
    }
    /// Other moments, and the number of updates that they are from.
    #[napi]
    pub fn adam_restore(&self, step: f64, moments: Vec<MomentsIn>) -> napi::Result<()> {
        to_js_result(|| {
            let moments = copied_moments(&moments)?;
            self.inner().restore(step, moments)
        })
    }
    /// Number of updates so far.
    #[napi]
    pub fn adam_steps(&self) -> napi::Result<f64> {
        to_js_result(|| self.inner().steps())
    }
}
