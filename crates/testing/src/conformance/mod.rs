//! What every backend must pass: each operation against plain f64 loops written here, each gradient against
//! finite differences of those loops.
//!
//! Every operation runs twice on guarded buffers: the second run meets a workspace full of the first one's
//! garbage and must give the same bits; inputs lie between NaNs, outputs between sentinels, outputs that an
//! operation overwrites start as NaN, and inputs must be unchanged afterwards.
//!
//! ```text
//! conformance::assert_passed(&conformance::run(&Cpu::<f32>::new(2)?));
//! ```

mod dense;
mod loss;
mod mix;
mod norm;
mod optim;

use crate::{Dtype, Memory, Result, Scalar, random::Rng};

/// One compared quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Operation and shapes.
    pub case: String,
    /// The compared array.
    pub quantity: String,
    /// ‖got − want‖/‖want‖ (‖got‖ where want is 0); not finite where something else was wrong.
    pub error: f64,
    /// Largest error allowed.
    pub tolerance: f64,
    /// Hash of the result's bits: the same on every run, and on the CPU with every number of threads.
    pub bits: u64,
}

impl Check {
    /// Fails closed: NaN is a failure.
    pub fn passed(&self) -> bool {
        self.error.is_finite() && self.error <= self.tolerance
    }
}

/// All families that are covered, on one backend.
pub fn run<B: crate::DenseOps + crate::OptimOps>(be: &B) -> Vec<Check> {
    let mut suite = Suite::new(be);
    suite.dense();
    suite.norm();
    suite.mix();
    suite.loss();
    suite.optim();
    suite.checks
}

/// Panics with a line for every failed check; also where nothing was checked.
pub fn assert_passed(checks: &[Check]) {
    let failed: Vec<String> = checks
        .iter()
        .filter(|c| !c.passed())
        .map(|c| format!("{} {}: {:.3e} > {:.0e}", c.case, c.quantity, c.error, c.tolerance))
        .collect();
    assert!(!checks.is_empty() && failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

/// Elements around each buffer that nobody may touch.
const GUARD: usize = 37;

/// An output: its length, and what it holds before (`None`: NaN, to be overwritten).
enum Out<'a> {
    Over(usize),
    Add(&'a [f64]),
}

/// Arrays in the order of their arguments.
type Arrays = Vec<Vec<f64>>;

/// The backend under test and what was found.
struct Suite<'b, B: Memory> {
    be: &'b B,
    ws: B::Workspace,
    rng: Rng,
    checks: Vec<Check>,
}

impl<'b, B: Memory> Suite<'b, B> {
    fn new(be: &'b B) -> Self {
        Suite { be, ws: be.workspace(), rng: Rng::new(20_211_031, 396), checks: Vec::new() }
    }

    /// Tolerance of outputs: f32 or f64.
    fn value_tolerance(&self) -> f64 {
        match B::Scalar::DTYPE {
            Dtype::F32 => 1e-5,
            Dtype::F64 => 1e-10,
        }
    }

    /// Tolerance of gradients.
    fn gradient_tolerance(&self) -> f64 {
        match B::Scalar::DTYPE {
            Dtype::F32 => 1e-4,
            Dtype::F64 => 1e-8,
        }
    }

    /// Standard normal numbers that the backend's type holds exactly.
    fn normal(&mut self, len: usize) -> Vec<f64> {
        (0..len).map(|_| B::Scalar::from_f64(self.rng.normal()).to_f64()).collect()
    }

    /// The same, none within 0.02 of 0 (for functions with a kink there).
    fn away_from_zero(&mut self, len: usize) -> Vec<f64> {
        self.normal(len).into_iter().map(|x| if x.abs() < 0.02 { 0.5 } else { x }).collect()
    }

    /// Integers on the device.
    fn ints(&self, values: &[i32]) -> B::Ints {
        let mut ints = self.be.alloc_ints(values.len().max(1)).expect("integers");
        self.be.upload_ints(&mut ints, values).expect("upload of integers");
        ints
    }

    /// A buffer with `values` between guards of `guard`.
    fn guarded(&self, values: impl Iterator<Item = f64>, len: usize, guard: f64) -> B::Buf {
        let of = B::Scalar::from_f64;
        let side = std::iter::repeat_n(of(guard), GUARD);
        let host: Vec<B::Scalar> = side.clone().chain(values.take(len).map(of)).chain(side).collect();
        assert_eq!(host.len(), len + 2 * GUARD);
        let mut buf = self.be.alloc(host.len()).expect("a buffer");
        let all = self.be.view_mut(&mut buf, 0..host.len());
        self.be.upload(all, &host).expect("upload");
        buf
    }

    fn download(&self, buf: &B::Buf) -> Vec<B::Scalar> {
        let len = self.be.len(buf);
        let mut host = vec![B::Scalar::from_f64(0.0); len];
        self.be.download(&mut host, self.be.view(buf, 0..len)).expect("download");
        host
    }

    /// Runs an operation twice on guarded buffers; the outputs, or what was wrong.
    fn twice(
        &mut self,
        ins: &[&[f64]],
        outs: &[Out<'_>],
        op: &mut dyn for<'a> FnMut(&[B::Ref<'a>], Vec<B::Mut<'a>>, &mut B::Workspace) -> Result<()>,
    ) -> Result<Arrays, String> {
        const SENTINEL: f64 = -1234.5;
        let mut first: Option<Vec<Vec<B::Scalar>>> = None;
        for _ in 0..2 {
            let inputs: Vec<B::Buf> =
                ins.iter().map(|x| self.guarded(x.iter().copied(), x.len(), f64::NAN)).collect();
            let mut outputs: Vec<B::Buf> = outs
                .iter()
                .map(|out| match out {
                    Out::Over(len) => self.guarded(std::iter::repeat(f64::NAN), *len, SENTINEL),
                    Out::Add(x) => self.guarded(x.iter().copied(), x.len(), SENTINEL),
                })
                .collect();
            {
                let refs: Vec<B::Ref<'_>> =
                    inputs.iter().zip(ins).map(|(b, x)| self.be.view(b, GUARD..GUARD + x.len())).collect();
                let muts: Vec<B::Mut<'_>> = outputs
                    .iter_mut()
                    .map(|b| {
                        let end = self.be.len(b) - GUARD;
                        self.be.view_mut(b, GUARD..end)
                    })
                    .collect();
                op(&refs, muts, &mut self.ws).map_err(|e| e.to_string())?;
            }
            for (buf, x) in inputs.iter().zip(ins) {
                let after = self.download(buf);
                if !after[GUARD..GUARD + x.len()].iter().zip(*x).all(|(a, &b)| a.to_f64() == b) {
                    return Err("an input was changed".into());
                }
            }
            let mut results = Vec::new();
            for buf in &outputs {
                let host = self.download(buf);
                let end = host.len() - GUARD;
                if host[..GUARD].iter().chain(&host[end..]).any(|x| x.to_f64() != SENTINEL) {
                    return Err("written beyond an output".into());
                }
                results.push(host[GUARD..end].to_vec());
            }
            match &first {
                None => first = Some(results),
                Some(first) => {
                    let same = first
                        .iter()
                        .flatten()
                        .zip(results.iter().flatten())
                        .all(|(a, b)| bits(*a) == bits(*b));
                    if !same {
                        return Err("a second run gave other bits".into());
                    }
                }
            }
        }
        Ok(first.unwrap_or_default().iter().map(|r| r.iter().map(|x| x.to_f64()).collect()).collect())
    }

    /// Records how far `got` is from `want`.
    fn compare(&mut self, case: &str, quantity: &str, got: &[f64], want: &[f64], tolerance: f64) {
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
        let (diff, size) =
            (norm(&mut got.iter().zip(want).map(|(a, b)| a - b)), norm(&mut want.iter().copied()));
        let error = match got.len() == want.len() {
            true if size > 0.0 => diff / size,
            true => diff,
            false => f64::INFINITY,
        };
        self.record(case, quantity, got, error, tolerance);
    }

    fn record(&mut self, case: &str, quantity: &str, got: &[f64], error: f64, tolerance: f64) {
        let hash = got
            .iter()
            .flat_map(|x| x.to_bits().to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ b as u64).wrapping_mul(0x0100_0000_01b3));
        let (case, quantity) = (case.to_string(), quantity.to_string());
        self.checks.push(Check { case, quantity, error, tolerance, bits: hash });
    }

    /// An operation that failed altogether.
    fn failed(&mut self, case: &str, why: &str) {
        self.record(case, why, &[], f64::INFINITY, 0.0);
    }

    /// Runs a forward operation and compares every output with `want`; gives the outputs.
    fn forward(
        &mut self,
        case: &str,
        ins: &[&[f64]],
        want: &[(&str, Vec<f64>)],
        op: &mut dyn for<'a> FnMut(&[B::Ref<'a>], Vec<B::Mut<'a>>, &mut B::Workspace) -> Result<()>,
    ) {
        let outs: Vec<Out<'_>> = want.iter().map(|(_, w)| Out::Over(w.len())).collect();
        match self.twice(ins, &outs, op) {
            Ok(got) => {
                for ((name, want), got) in want.iter().zip(&got) {
                    self.compare(case, name, got, want, self.value_tolerance());
                }
            }
            Err(why) => self.failed(case, &why),
        }
    }

    /// Compares a gradient with the finite difference of L = f(inputs): element by element where x is short,
    /// along three random directions where it is long.
    fn gradient(
        &mut self,
        case: &str,
        quantity: &str,
        got: &[f64],
        x: &[f64],
        f: &mut dyn FnMut(&[f64]) -> f64,
    ) {
        // Fourth order: the error is h⁴·f⁽⁵⁾/30 and some 1e-16·f/h of rounding, both below 1e-10 here.
        let mut slope = |v: &dyn Fn(usize) -> f64, h: f64| {
            let mut at = |s: f64| f(&x.iter().enumerate().map(|(i, x)| x + s * h * v(i)).collect::<Vec<_>>());
            (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * h)
        };
        let tolerance = self.gradient_tolerance();
        if x.len() <= 200 {
            let want: Vec<f64> =
                (0..x.len()).map(|i| slope(&|j| if i == j { 1.0 } else { 0.0 }, 5e-4)).collect();
            self.compare(case, quantity, got, &want, tolerance);
            return;
        }
        let size = got.iter().map(|g| g * g).sum::<f64>().sqrt();
        let mut error = if got.len() == x.len() { 0.0f64 } else { f64::INFINITY };
        for _ in 0..3 {
            let v: Vec<f64> = (0..x.len()).map(|_| self.rng.normal()).collect();
            let along: f64 = got.iter().zip(&v).map(|(g, v)| g * v).sum();
            let miss = (along - slope(&|i| v[i], 5e-4)).abs() / size;
            error = if miss.is_nan() { f64::NAN } else { error.max(miss) };
        }
        self.record(case, quantity, got, error, tolerance);
    }
}

fn bits<T: Scalar>(x: T) -> u64 {
    x.to_f64().to_bits()
}

/// a·b.
fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// a − b, the part that an accumulating operation added.
fn added(after: &[f64], before: &[f64]) -> Vec<f64> {
    after.iter().zip(before).map(|(a, b)| a - b).collect()
}

/// Exactly N arguments.
fn take<const N: usize, M>(v: Vec<M>) -> [M; N] {
    v.try_into().unwrap_or_else(|v: Vec<M>| panic!("{} arguments for {N}", v.len()))
}
