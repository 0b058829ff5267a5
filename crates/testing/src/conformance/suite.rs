//! Runs operations on guarded buffers and records how far their results are from the truth.

use super::report::{Comparison, Extent, Report};
use crate::{relative, relative_or_zero};
use s4_backend::{Backend, Code, Dtype, Error, Memory, Result, Scalar, random::Rng};

/// Elements around each buffer that nobody may touch; arrays begin at odd addresses.
pub(super) const GUARD: usize = 37;
/// The same for the families of the SSM, whose arrays begin at multiples of 16 bytes, as whole buffers do.
pub(super) const ALIGNED_GUARD: usize = 64;
/// What outputs lie between.
pub(super) const SENTINEL: f64 = -1234.5;

/// An output: its length where it is overwritten (it starts as NaN), or what it holds before.
pub(super) enum Out<'a> {
    Over(usize),
    Add(&'a [f64]),
}

/// Arrays in the order of their arguments.
pub(super) type Arrays = Vec<Vec<f64>>;

/// The views of one run, in the order in which the arrays were given.
pub(super) struct Args<'a, B: Memory> {
    pub ins: Vec<B::Ref<'a>>,
    pub outs: Vec<B::Mut<'a>>,
    pub ints: &'a [B::Ints],
}

/// An operation on views. Lives as long as any view, so that one struct of arguments can hold them all.
pub(super) type Operation<'o, B> =
    dyn for<'a> FnMut(Args<'a, B>, &mut <B as Memory>::Workspace) -> Result<()> + 'o;

/// Where a check stands: the operation and the case.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub operation: &'static str,
    pub case: &'a str,
}

/// The backend under test and what was found.
pub(super) struct Suite<'b, B: Backend> {
    pub be: &'b B,
    pub ws: B::Workspace,
    pub rng: Rng,
    pub extent: Extent,
    /// Elements around each buffer of the family that is run.
    pub guard: usize,
    pub report: Report,
}

impl<'b, B: Backend> Suite<'b, B> {
    pub fn new(be: &'b B, extent: Extent) -> Self {
        let (ws, rng) = (be.workspace(), Rng::new(20_211_031, 396));
        Suite { be, ws, rng, extent, guard: GUARD, report: Report::default() }
    }

    /// All of the cases, or the few that are small.
    pub fn cases<T: Copy>(&self, all: &[T], few: &[T]) -> Vec<T> {
        if self.extent == Extent::All { all.to_vec() } else { few.to_vec() }
    }

    /// Tolerance of outputs.
    pub fn value_tolerance(&self) -> f64 {
        match B::Scalar::DTYPE {
            Dtype::F32 => 1e-5,
            Dtype::F64 => 1e-10,
        }
    }

    /// Tolerance of gradients.
    pub fn gradient_tolerance(&self) -> f64 {
        match B::Scalar::DTYPE {
            Dtype::F32 => 1e-4,
            Dtype::F64 => 1e-8,
        }
    }

    /// Numbers as the backend's type holds them.
    pub fn held(&self, x: &[f64]) -> Vec<f64> {
        x.iter().map(|&x| B::Scalar::from_f64(x).to_f64()).collect()
    }

    /// Standard normal numbers that the backend's type holds exactly.
    pub fn normal(&mut self, len: usize) -> Vec<f64> {
        (0..len).map(|_| B::Scalar::from_f64(self.rng.normal()).to_f64()).collect()
    }

    /// The same, none within 0.02 of 0 (for functions with a kink there).
    pub fn away_from_zero(&mut self, len: usize) -> Vec<f64> {
        self.normal(len).into_iter().map(|x| if x.abs() < 0.02 { 0.5 } else { x }).collect()
    }

    /// What a gradient is added to: small beside most gradients, so that rounding hides none.
    pub fn start(&mut self, len: usize) -> Vec<f64> {
        self.normal(len).into_iter().map(|x| x * 0.0625).collect()
    }

    /// Noise of the size of a gradient, for it to be added to.
    pub fn before(&mut self, gradient: &[f64]) -> Vec<f64> {
        let mean_square = gradient.iter().map(|g| g * g).sum::<f64>() / gradient.len().max(1) as f64;
        let noise = self.normal(gradient.len());
        self.held(&noise.iter().map(|x| x * mean_square.sqrt()).collect::<Vec<_>>())
    }

    /// A buffer with `values` between guards of `guard`.
    fn guarded(&self, values: impl Iterator<Item = f64>, len: usize, guard: f64) -> B::Buf {
        let of = B::Scalar::from_f64;
        let side = std::iter::repeat_n(of(guard), self.guard);
        let host: Vec<B::Scalar> = side.clone().chain(values.take(len).map(of)).chain(side).collect();
        assert_eq!(host.len(), len + 2 * self.guard);
        let mut buf = self.be.alloc(host.len()).expect("a buffer");
        let all = self.be.view_mut(&mut buf, 0..host.len());
        self.be.upload(all, &host).expect("upload");
        buf
    }

    /// Integers on the device.
    pub fn upload_ints(&self, values: &[i32]) -> B::Ints {
        let mut ints = self.be.alloc_ints(values.len()).expect("integers");
        self.be.upload_ints(&mut ints, values).expect("upload of integers");
        ints
    }

    pub fn download(&self, buf: &B::Buf) -> Vec<f64> {
        let len = self.be.len(buf);
        let mut host = vec![B::Scalar::from_f64(0.0); len];
        self.be.download(&mut host, self.be.view(buf, 0..len)).expect("download");
        host.into_iter().map(B::Scalar::to_f64).collect()
    }

    /// Runs an operation once on guarded buffers; the outputs, or what was wrong.
    fn once(
        &mut self,
        ins: &[&[f64]],
        ints: &[B::Ints],
        outs: &[Out<'_>],
        op: &mut Operation<'_, B>,
    ) -> Result<Arrays> {
        let margin = self.guard;
        let wrong = |what: &str| Error::new(Code::Internal, "conformance", "guarded buffers", what);
        let inputs: Vec<B::Buf> =
            ins.iter().map(|x| self.guarded(x.iter().copied(), x.len(), f64::NAN)).collect();
        let mut outputs: Vec<B::Buf> = outs
            .iter()
            .map(|out| match out {
                Out::Over(len) => self.guarded(std::iter::repeat(f64::NAN), *len, SENTINEL),
                Out::Add(x) => self.guarded(x.iter().copied(), x.len(), SENTINEL),
            })
            .collect();
        let args = Args {
            ins: inputs.iter().zip(ins).map(|(b, x)| self.be.view(b, margin..margin + x.len())).collect(),
            outs: outputs
                .iter_mut()
                .map(|b| {
                    let end = self.be.len(b) - margin;
                    self.be.view_mut(b, margin..end)
                })
                .collect(),
            ints,
        };
        op(args, &mut self.ws)?;
        for (buf, x) in inputs.iter().zip(ins) {
            if self.download(buf)[margin..margin + x.len()] != **x {
                return Err(wrong("an input was changed"));
            }
        }
        let mut results = Vec::new();
        for buf in &outputs {
            let host = self.download(buf);
            let end = host.len() - margin;
            if host[..margin].iter().chain(&host[end..]).any(|&x| x != SENTINEL) {
                return Err(wrong("something was written beyond an output"));
            }
            results.push(host[margin..end].to_vec());
        }
        Ok(results)
    }

    /// Runs an operation twice; what it gave, or its error.
    pub fn twice(
        &mut self,
        ins: &[&[f64]],
        ints: &[&[i32]],
        outs: &[Out<'_>],
        op: &mut Operation<'_, B>,
    ) -> Result<Arrays> {
        let ints: Vec<B::Ints> = ints.iter().map(|x| self.upload_ints(x)).collect();
        let first = self.once(ins, &ints, outs, op)?;
        let second = self.once(ins, &ints, outs, op)?;
        let bits = |x: &Arrays| x.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
        if bits(&first) == bits(&second) {
            return Ok(first);
        }
        Err(Error::new(Code::Internal, "conformance", "the same bits in a second run", "others"))
    }

    /// Runs an operation twice; an error is a failed check.
    pub fn outputs(
        &mut self,
        at: At<'_>,
        ins: &[&[f64]],
        ints: &[&[i32]],
        outs: &[Out<'_>],
        op: &mut Operation<'_, B>,
    ) -> Option<Arrays> {
        let got = self.twice(ins, ints, outs, op);
        got.map_err(|error| self.failed(at, &error.to_string())).ok()
    }

    /// Runs an operation that overwrites its outputs, and compares each with what is wanted.
    pub fn forward(
        &mut self,
        at: At<'_>,
        ins: &[&[f64]],
        ints: &[&[i32]],
        want: &[(&str, &[f64])],
        op: &mut Operation<'_, B>,
    ) {
        let outs: Vec<Out<'_>> = want.iter().map(|(_, w)| Out::Over(w.len())).collect();
        for ((name, want), got) in want.iter().zip(self.outputs(at, ins, ints, &outs, op).iter().flatten()) {
            self.value(at, name, got, want);
        }
    }

    /// An output within its tolerance of a truth that is not zero.
    pub fn value(&mut self, at: At<'_>, output: &str, got: &[f64], want: &[f64]) {
        self.compare(at, output, got, want, self.value_tolerance());
    }

    /// A gradient within its tolerance of a truth that is not zero.
    pub fn gradient(&mut self, at: At<'_>, output: &str, got: &[f64], want: &[f64]) {
        self.compare(at, output, got, want, self.gradient_tolerance());
    }

    fn compare(&mut self, at: At<'_>, output: &str, got: &[f64], want: &[f64], tolerance: f64) {
        if want.iter().all(|&x| x == 0.0) {
            let case = format!("{}: its truth is zero, which proves nothing", at.case);
            return self.record(At { case: &case, ..at }, output, got, f64::INFINITY, tolerance);
        }
        self.record(at, output, got, relative(got, want), tolerance);
    }

    /// An output that is to the bit what is wanted, zeros included.
    pub fn exact(&mut self, at: At<'_>, output: &str, got: &[f64], want: &[f64]) {
        self.record(at, output, got, relative_or_zero(got, want), 0.0);
    }

    /// A gradient against the finite difference of f: element by element where x is short, along three random
    /// directions where it is long.
    pub fn difference(
        &mut self,
        at: At<'_>,
        output: &str,
        got: &[f64],
        x: &[f64],
        f: &mut dyn FnMut(&[f64]) -> f64,
    ) {
        // Fourth order: the error is h⁴·f⁽⁵⁾/30 and some 1e-16·f/h of rounding, both below 1e-10 here.
        let mut slope = |v: &dyn Fn(usize) -> f64, h: f64| {
            let mut moved =
                |s: f64| f(&x.iter().enumerate().map(|(i, x)| x + s * h * v(i)).collect::<Vec<_>>());
            (8.0 * (moved(1.0) - moved(-1.0)) - (moved(2.0) - moved(-2.0))) / (12.0 * h)
        };
        if x.len() <= 200 {
            let want: Vec<f64> =
                (0..x.len()).map(|i| slope(&|j| if i == j { 1.0 } else { 0.0 }, 5e-4)).collect();
            return self.gradient(at, output, got, &want);
        }
        let size = got.iter().map(|g| g * g).sum::<f64>().sqrt();
        let mut error = if got.len() == x.len() { 0.0f64 } else { f64::INFINITY };
        for _ in 0..3 {
            let v: Vec<f64> = (0..x.len()).map(|_| self.rng.normal()).collect();
            let along: f64 = got.iter().zip(&v).map(|(g, v)| g * v).sum();
            let miss = (along - slope(&|i| v[i], 5e-4)).abs() / size;
            error = if miss.is_nan() { f64::INFINITY } else { error.max(miss) };
        }
        self.record(at, output, got, error, self.gradient_tolerance());
    }

    pub fn record(&mut self, at: At<'_>, output: &str, got: &[f64], error: f64, tolerance: f64) {
        let bits = got
            .iter()
            .flat_map(|x| x.to_bits().to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        self.report.comparisons.push(Comparison {
            operation: at.operation.into(),
            output: output.into(),
            case: at.case.into(),
            error,
            tolerance,
            bits,
        });
    }

    /// An operation that failed altogether.
    pub fn failed(&mut self, at: At<'_>, why: &str) {
        let case = format!("{}: {why}", at.case);
        self.record(At { case: &case, ..at }, "all", &[], f64::INFINITY, 0.0);
    }

    /// A statement that holds, or a failed check.
    pub fn holds(&mut self, at: At<'_>, output: &str, holds: bool) {
        self.record(at, output, &[], if holds { 0.0 } else { f64::INFINITY }, 0.0);
    }

    /// What forward saved is seen in backward alone: it is as wrong as the worst of the checks from `first` on.
    pub fn saved(&mut self, at: At<'_>, saved: &[f64], first: usize) {
        if saved.is_empty() {
            return;
        }
        let worst = self.report.comparisons[first..].iter().map(|c| c.error).fold(0.0, f64::max);
        let case = format!("{}: by the gradients that come from it", at.case);
        self.record(At { case: &case, ..at }, "saved", saved, worst, self.gradient_tolerance());
    }
}

/// a·b.
pub(super) fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// a − b, the part that an accumulating operation added.
pub(super) fn added(after: &[f64], before: &[f64]) -> Vec<f64> {
    after.iter().zip(before).map(|(a, b)| a - b).collect()
}

/// Exactly N arguments.
pub(super) fn take<const N: usize, M>(v: Vec<M>) -> [M; N] {
    v.try_into().unwrap_or_else(|v: Vec<M>| panic!("{} arguments for {N}", v.len()))
}
