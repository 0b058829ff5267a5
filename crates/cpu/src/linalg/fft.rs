//! Complex transforms and their plans, kept in the backend and shared by all its clones.

use crate::memory::{counter::Counter, refusal::require_memory};
use num_complex::Complex;
use s4_backend::{Dtype, Scalar};
use s4_fft::{Pair, Planner};
use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// FFT plans and tables of w^t (right-angle transforms), made at first use and then kept.
#[derive(Default)]
pub(crate) struct Plans(Mutex<Cache>);

#[derive(Default)]
struct Cache {
    planner: Planner,
    /// By length and type: `Arc<Vec<Complex<T>>>`.
    twists: HashMap<(usize, Dtype), Arc<dyn Any + Send + Sync>>,
}

/// The transforms of one length: forward, inverse.
enum FftPlans {
    F32(Pair<f32>),
    F64(Pair<f64>),
}

/// X_k = Σ_j x_j e^{∓2πijk/n}, unscaled, both directions.
pub(crate) struct Fft {
    plans: FftPlans,
    len: usize,
    scratch: usize,
}

impl Fft {
    /// n.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
    /// Complex numbers of scratch that a transform takes.
    pub(crate) fn scratch(&self) -> usize {
        self.scratch
    }
    /// In place, e^{−…}.
    pub(crate) fn forward<T: Scalar>(&self, x: &mut [Complex<T>], scratch: &mut [Complex<T>]) {
        match &self.plans {
            FftPlans::F32([f, _]) => {
                f.process_with_scratch(bytemuck::cast_slice_mut(x), bytemuck::cast_slice_mut(scratch));
            }
            FftPlans::F64([f, _]) => {
                f.process_with_scratch(bytemuck::cast_slice_mut(x), bytemuck::cast_slice_mut(scratch));
            }
        }
    }
    /// In place, e^{+…}, unscaled.
    pub(crate) fn inverse<T: Scalar>(&self, x: &mut [Complex<T>], scratch: &mut [Complex<T>]) {
        match &self.plans {
            FftPlans::F32([_, f]) => {
                f.process_with_scratch(bytemuck::cast_slice_mut(x), bytemuck::cast_slice_mut(scratch));
            }
            FftPlans::F64([_, f]) => {
                f.process_with_scratch(bytemuck::cast_slice_mut(x), bytemuck::cast_slice_mut(scratch));
            }
        }
    }
}

impl Plans {
    /// The transform of length `len` ≥ 1 of a given type; planned at the first call.
    pub(crate) fn fft(&self, len: usize, dtype: Dtype) -> Fft {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match dtype {
            Dtype::F32 => {
                require_memory::<Complex<f32>>("a transform", len);
                let pair = cache.planner.plan_f32(len);
                let scratch = pair.each_ref().map(|f| f.get_inplace_scratch_len());
                Fft { plans: FftPlans::F32(pair), len, scratch: scratch[0].max(scratch[1]) }
            }
            Dtype::F64 => {
                require_memory::<Complex<f64>>("a transform", len);
                let pair = cache.planner.plan_f64(len);
                let scratch = pair.each_ref().map(|f| f.get_inplace_scratch_len());
                Fft { plans: FftPlans::F64(pair), len, scratch: scratch[0].max(scratch[1]) }
            }
        }
    }

    /// e^{iπj/2n} for j < n: the twist of the right-angle convolution, from f64 angles.
    pub(crate) fn twist<T: Scalar>(&self, len: usize, counter: &Counter) -> Arc<Vec<Complex<T>>> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = cache.twists.entry((len, T::DTYPE)).or_insert_with(|| {
            counter.bump();
            require_memory::<Complex<T>>("a transform", len);
            let table: Vec<Complex<T>> = (0..len)
                .map(|j| {
                    let (s, c) = (std::f64::consts::FRAC_PI_2 * j as f64 / len as f64).sin_cos();
                    Complex::new(T::from_f64(c), T::from_f64(s))
                })
                .collect();
            Arc::new(table)
        });
        match Arc::clone(entry).downcast() {
            Ok(table) => table,
            Err(_) => unreachable!("the key holds the type"),
        }
    }
}

/// The smallest length ≥ `len` of the form {1, 3, 5, 9, 15}·2^k: what the transforms are quick at.
pub(crate) fn good_len(len: usize) -> usize {
    [1, 3, 5, 9, 15].iter().map(|&odd| odd * len.div_ceil(odd).next_power_of_two()).min().unwrap_or(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_lengths() {
        for (len, want) in
            [(1, 1), (2, 2), (7, 8), (11, 12), (17, 18), (129, 144), (2093, 2304), (32768, 32768)]
        {
            assert_eq!(good_len(len), want);
        }
    }

    #[test]
    fn transform_is_the_sum_it_says() {
        let plans = Plans::default();
        for len in [1, 2, 5, 12] {
            let fft = plans.fft(len, Dtype::F64);
            let x: Vec<_> = (0..len).map(|j| Complex::new(j as f64 + 1.0, (j * j) as f64)).collect();
            let (mut y, mut scratch) = (x.clone(), vec![Complex::default(); fft.scratch()]);
            fft.forward(&mut y, &mut scratch);
            for (k, y) in y.iter().enumerate() {
                let sum: Complex<f64> = x
                    .iter()
                    .enumerate()
                    .map(|(j, x)| x * Complex::cis(-std::f64::consts::TAU * (j * k) as f64 / len as f64))
                    .sum();
                assert!((sum - y).norm() <= 1e-12 * len as f64 * sum.norm().max(1.0));
            }
            fft.inverse(&mut y, &mut scratch);
            for (x, y) in x.iter().zip(&y) {
                assert!((y / len as f64 - x).norm() <= 1e-12 * x.norm().max(1.0));
            }
        }
    }
}
