//! Runs operations on guarded buffers and records how far their results are from the truth.

use super::report::{Comparison, Extent, Report};
use crate::{relative, relative_or_zero};
use s4_backend::{Backend, Code, Dtype, Error, Memory, Result, Scalar, random::Rng};

/// Elements before and after each array that no operation may change. The number is odd, so that arrays begin at
/// addresses that are multiples of nothing but their elements' size.
pub(super) const GUARD_ELEMENTS: usize = 37;
/// Elements before and after each array for the families of the SSM, whose arrays must begin at multiples of 16 bytes,
/// as whole buffers do.
pub(super) const ALIGNED_GUARD_ELEMENTS: usize = 64;
/// The value of the elements before and after each output.
pub(super) const GUARD_VALUE: f64 = -1234.5;

/// The array of an output before an operation runs: NaNs, this many, where the operation must overwrite it; these
/// values where the operation adds to it.
pub(super) enum OutputBuffer<'a> {
    Overwritten(usize),
    AddedTo(&'a [f64]),
}

/// The results of an operation, in the order of its outputs.
pub(super) type Arrays = Vec<Vec<f64>>;

/// The views that an operation gets, in the order in which the arrays were given.
pub(super) struct DeviceArgs<'a, B: Memory> {
    pub ins: Vec<B::Ref<'a>>,
    pub outs: Vec<B::Mut<'a>>,
    pub ints: &'a [B::Ints],
    /// Copies of [`Suite::whole_buffers`].
    pub buffers: &'a [B::Buf],
}

/// A closure that calls the operation under test. All views have one lifetime, so that one struct of arguments can hold
/// them.
pub(super) type Operation<'o, B> =
    dyn for<'a> FnMut(DeviceArgs<'a, B>, &mut <B as Memory>::Workspace) -> Result<()> + 'o;

/// The operation and the case (sizes and options) that a comparison is about.
#[derive(Clone, Copy)]
pub(super) struct CaseLabel<'a> {
    pub operation: &'static str,
    pub case: &'a str,
}

/// The backend under test, and the comparisons made so far.
pub(super) struct Suite<'b, B: Backend> {
    pub backend: &'b B,
    pub workspace: B::Workspace,
    pub rng: Rng,
    pub extent: Extent,
    /// Elements around each buffer of the family that is run.
    pub guard: usize,
    /// Arrays that the operation under test takes as whole buffers, not as views.
    pub whole_buffers: Vec<Vec<f64>>,
    pub report: Report,
}

impl<'b, B: Backend> Suite<'b, B> {
    pub fn new(backend: &'b B, extent: Extent) -> Self {
        let (workspace, rng) = (backend.workspace(), Rng::new(20_211_031, 396));
        Suite {
            backend,
            workspace,
            rng,
            extent,
            guard: GUARD_ELEMENTS,
            whole_buffers: Vec::new(),
            report: Report::default(),
        }
    }

    /// `all` cases or the `few` small ones, by the extent of the run.
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

    /// Numbers rounded to the backend's type.
    pub fn rounded(&self, x: &[f64]) -> Vec<f64> {
        x.iter().map(|&x| B::Scalar::from_f64(x).to_f64()).collect()
    }

    /// Standard normal numbers that the backend's type holds exactly.
    pub fn normal(&mut self, len: usize) -> Vec<f64> {
        (0..len).map(|_| B::Scalar::from_f64(self.rng.normal()).to_f64()).collect()
    }

    /// Standard normal numbers of which those within 0.02 of 0 are replaced by 0.5: for functions with a kink at 0,
    /// where finite differences fail.
    pub fn away_from_zero(&mut self, len: usize) -> Vec<f64> {
        self.normal(len).into_iter().map(|x| if x.abs() < 0.02 { 0.5 } else { x }).collect()
    }

    /// Values that an operation adds a gradient to: small compared with most gradients, so that the sum loses few
    /// digits of the gradient.
    pub fn small_initial_gradient(&mut self, len: usize) -> Vec<f64> {
        self.normal(len).into_iter().map(|x| x * 0.0625).collect()
    }

    /// Values that an operation adds a gradient to: random numbers with the root mean square of the true gradient.
    pub fn initial_gradient_like(&mut self, gradient: &[f64]) -> Vec<f64> {
        let mean_square = gradient.iter().map(|g| g * g).sum::<f64>() / gradient.len().max(1) as f64;
        let noise = self.normal(gradient.len());
        self.rounded(&noise.iter().map(|x| x * mean_square.sqrt()).collect::<Vec<_>>())
    }

    /// A buffer with `len` of `values`, and elements of value `guard` before and after them.
    fn guarded_buffer(&self, values: impl Iterator<Item = f64>, len: usize, guard: f64) -> B::Buf {
        let of = B::Scalar::from_f64;
        let side = std::iter::repeat_n(of(guard), self.guard);
        let host: Vec<B::Scalar> = side.clone().chain(values.take(len).map(of)).chain(side).collect();
        assert_eq!(host.len(), len + 2 * self.guard);
        let mut buf = self.backend.alloc(host.len()).expect("a buffer");
        let all = self.backend.view_mut(&mut buf, 0..host.len());
        self.backend.upload(all, &host).expect("upload");
        buf
    }

    /// Numbers on the device.
    pub fn upload(&self, values: &[f64]) -> B::Buf {
        let host: Vec<B::Scalar> = values.iter().copied().map(B::Scalar::from_f64).collect();
        let mut buf = self.backend.alloc(host.len()).expect("a buffer");
        self.backend.upload(self.backend.view_mut(&mut buf, 0..host.len()), &host).expect("upload");
        buf
    }

    /// Integers on the device.
    pub fn upload_ints(&self, values: &[i32]) -> B::Ints {
        let mut ints = self.backend.alloc_ints(values.len()).expect("integers");
        self.backend.upload_ints(&mut ints, values).expect("upload of integers");
        ints
    }

    /// All elements of a buffer.
    pub fn download(&self, buf: &B::Buf) -> Vec<f64> {
        let len = self.backend.len(buf);
        let mut host = vec![B::Scalar::from_f64(0.0); len];
        self.backend.download(&mut host, self.backend.view(buf, 0..len)).expect("download");
        host.into_iter().map(B::Scalar::to_f64).collect()
    }

    /// Runs an operation once on guarded buffers. Gives the outputs; an error where the operation failed, changed an
    /// input, or wrote outside an output.
    fn run_once(
        &mut self,
        ins: &[&[f64]],
        ints: &[B::Ints],
        outs: &[OutputBuffer<'_>],
        op: &mut Operation<'_, B>,
    ) -> Result<Arrays> {
        let margin = self.guard;
        let wrong = |what: &str| Error::new(Code::Internal, "conformance", "guarded buffers", what);
        let inputs: Vec<B::Buf> =
            ins.iter().map(|x| self.guarded_buffer(x.iter().copied(), x.len(), f64::NAN)).collect();
        let mut outputs: Vec<B::Buf> = outs
            .iter()
            .map(|out| match out {
                OutputBuffer::Overwritten(len) => {
                    self.guarded_buffer(std::iter::repeat(f64::NAN), *len, GUARD_VALUE)
                }
                OutputBuffer::AddedTo(x) => self.guarded_buffer(x.iter().copied(), x.len(), GUARD_VALUE),
            })
            .collect();
        let buffers: Vec<B::Buf> = self.whole_buffers.iter().map(|x| self.upload(x)).collect();
        let args = DeviceArgs {
            ins: inputs
                .iter()
                .zip(ins)
                .map(|(b, x)| self.backend.view(b, margin..margin + x.len()))
                .collect(),
            outs: outputs
                .iter_mut()
                .map(|b| {
                    let end = self.backend.len(b) - margin;
                    self.backend.view_mut(b, margin..end)
                })
                .collect(),
            ints,
            buffers: &buffers,
        };
        op(args, &mut self.workspace)?;
        for (buf, x) in inputs.iter().zip(ins) {
            if self.download(buf)[margin..margin + x.len()] != **x {
                return Err(wrong("an input was changed"));
            }
        }
        let mut results = Vec::new();
        for buf in &outputs {
            let host = self.download(buf);
            let end = host.len() - margin;
            if host[..margin].iter().chain(&host[end..]).any(|&x| x != GUARD_VALUE) {
                return Err(wrong("something was written beyond an output"));
            }
            results.push(host[margin..end].to_vec());
        }
        Ok(results)
    }

    /// Runs an operation twice, the second time with the workspace as the first run left it. Gives the outputs; an
    /// error also where the runs differ in a bit.
    pub fn run_twice(
        &mut self,
        ins: &[&[f64]],
        ints: &[&[i32]],
        outs: &[OutputBuffer<'_>],
        op: &mut Operation<'_, B>,
    ) -> Result<Arrays> {
        let ints: Vec<B::Ints> = ints.iter().map(|x| self.upload_ints(x)).collect();
        let first = self.run_once(ins, &ints, outs, op)?;
        let second = self.run_once(ins, &ints, outs, op)?;
        let bits = |x: &Arrays| x.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
        if bits(&first) == bits(&second) {
            return Ok(first);
        }
        Err(Error::new(Code::Internal, "conformance", "the same bits in a second run", "others"))
    }

    /// Runs an operation twice and gives its outputs. An error is recorded as a failure, and gives `None`.
    pub fn outputs_of(
        &mut self,
        label: CaseLabel<'_>,
        ins: &[&[f64]],
        ints: &[&[i32]],
        outs: &[OutputBuffer<'_>],
        op: &mut Operation<'_, B>,
    ) -> Option<Arrays> {
        let got = self.run_twice(ins, ints, outs, op);
        got.map_err(|error| self.record_failure(label, &error.to_string())).ok()
    }

    /// Runs an operation that overwrites its outputs, and compares each with its truth; `want` is (name, truth).
    pub fn check_forward(
        &mut self,
        label: CaseLabel<'_>,
        ins: &[&[f64]],
        ints: &[&[i32]],
        want: &[(&str, &[f64])],
        op: &mut Operation<'_, B>,
    ) {
        let outs: Vec<OutputBuffer<'_>> =
            want.iter().map(|(_, w)| OutputBuffer::Overwritten(w.len())).collect();
        for ((name, want), got) in
            want.iter().zip(self.outputs_of(label, ins, ints, &outs, op).iter().flatten())
        {
            self.check_output(label, name, got, want);
        }
    }

    /// Compares an output with its truth, which must not be zero, within the tolerance of outputs.
    pub fn check_output(&mut self, label: CaseLabel<'_>, output: &str, got: &[f64], want: &[f64]) {
        self.compare(label, output, got, want, self.value_tolerance());
    }

    /// Compares a gradient with its truth, which must not be zero, within the tolerance of gradients.
    pub fn check_gradient(&mut self, label: CaseLabel<'_>, output: &str, got: &[f64], want: &[f64]) {
        self.compare(label, output, got, want, self.gradient_tolerance());
    }

    fn compare(&mut self, label: CaseLabel<'_>, output: &str, got: &[f64], want: &[f64], tolerance: f64) {
        if want.iter().all(|&x| x == 0.0) {
            let case = format!("{}: its truth is zero, which proves nothing", label.case);
            return self.record(CaseLabel { case: &case, ..label }, output, got, f64::INFINITY, tolerance);
        }
        self.record(label, output, got, relative(got, want), tolerance);
    }

    /// Compares an output with its truth, which it must equal to the last bit; the truth may be zero.
    pub fn check_exact(&mut self, label: CaseLabel<'_>, output: &str, got: &[f64], want: &[f64]) {
        self.record(label, output, got, relative_or_zero(got, want), 0.0);
    }

    /// Compares a gradient of f at x with finite differences: for each element where x has at most 200, otherwise along
    /// three random directions.
    pub fn check_by_differences(
        &mut self,
        label: CaseLabel<'_>,
        output: &str,
        got: &[f64],
        x: &[f64],
        f: &mut dyn FnMut(&[f64]) -> f64,
    ) {
        // A central difference of fourth order: the error h⁴·f⁽⁵⁾/30 and the rounding of about 1e-16·f/h are both below
        // 1e-10 for these functions.
        let mut slope = |v: &dyn Fn(usize) -> f64, h: f64| {
            let mut moved =
                |s: f64| f(&x.iter().enumerate().map(|(i, x)| x + s * h * v(i)).collect::<Vec<_>>());
            (8.0 * (moved(1.0) - moved(-1.0)) - (moved(2.0) - moved(-2.0))) / (12.0 * h)
        };
        if x.len() <= 200 {
            let want: Vec<f64> =
                (0..x.len()).map(|i| slope(&|j| if i == j { 1.0 } else { 0.0 }, 5e-4)).collect();
            return self.check_gradient(label, output, got, &want);
        }
        let size = got.iter().map(|g| g * g).sum::<f64>().sqrt();
        let mut error = if got.len() == x.len() { 0.0f64 } else { f64::INFINITY };
        for _ in 0..3 {
            let v: Vec<f64> = (0..x.len()).map(|_| self.rng.normal()).collect();
            let along: f64 = got.iter().zip(&v).map(|(g, v)| g * v).sum();
            let miss = (along - slope(&|i| v[i], 5e-4)).abs() / size;
            error = if miss.is_nan() { f64::INFINITY } else { error.max(miss) };
        }
        self.record(label, output, got, error, self.gradient_tolerance());
    }

    /// Adds a comparison to the report.
    pub fn record(&mut self, label: CaseLabel<'_>, output: &str, got: &[f64], error: f64, tolerance: f64) {
        let bits = got
            .iter()
            .flat_map(|x| x.to_bits().to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        self.report.comparisons.push(Comparison {
            operation: label.operation.into(),
            output: output.into(),
            case: label.case.into(),
            error,
            tolerance,
            bits,
        });
    }

    /// Records that an operation failed, for the reason `why`.
    pub fn record_failure(&mut self, label: CaseLabel<'_>, why: &str) {
        let case = format!("{}: {why}", label.case);
        self.record(CaseLabel { case: &case, ..label }, "all", &[], f64::INFINITY, 0.0);
    }

    /// Records whether a statement holds.
    pub fn check_holds(&mut self, label: CaseLabel<'_>, output: &str, holds: bool) {
        self.record(label, output, &[], if holds { 0.0 } else { f64::INFINITY }, 0.0);
    }

    /// Records the error of the values that forward saved. They have no truth of their own and are used by backward
    /// only, so that their error is the largest of the comparisons from number `first` on, which must be backward's.
    pub fn check_saved(&mut self, label: CaseLabel<'_>, saved: &[f64], first: usize) {
        if saved.is_empty() {
            return;
        }
        let worst = self.report.comparisons[first..].iter().map(|c| c.error).fold(0.0, f64::max);
        let case = format!("{}: by the gradients that come from it", label.case);
        self.record(CaseLabel { case: &case, ..label }, "saved", saved, worst, self.gradient_tolerance());
    }
}

/// The inner product a·b.
pub(super) fn inner_product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// What an operation has added to an output: after − before.
pub(super) fn added_part(after: &[f64], before: &[f64]) -> Vec<f64> {
    after.iter().zip(before).map(|(a, b)| a - b).collect()
}

/// A list of exactly N elements as an array; panics for another length.
pub(super) fn into_array<const N: usize, M>(v: Vec<M>) -> [M; N] {
    v.try_into().unwrap_or_else(|v: Vec<M>| panic!("{} arguments for {N}", v.len()))
}
