//! Functions of the addon that need no layer or model: HiPPO matrices, their NPLR form, and convolution.

use crate::{
    background::{Background, in_background},
    buffer::{Data, DataIn, Real},
    error::to_js_result,
    objects::NamedData,
};
use napi::bindgen_prelude::AsyncTask;
use napi_derive::napi;
use s4_backend::{ConvForward, ConvShape, Error, Memory, Result, checks, host_memory};
use s4_cpu::Cpu;
use s4_ssm::{C64, Measure};

/// A named f64 array for JavaScript.
fn named_array(name: &str, shape: &[usize], data: Vec<f64>) -> NamedData {
    NamedData { name: name.into(), shape: shape.iter().map(|&n| n as u32).collect(), data: Data::F64(data) }
}

/// The measure of this name, and the size n once it is checked. `even`: whether n must be even for any measure.
fn checked_measure(op: &'static str, kind: &str, n: u32, must_be_even: bool) -> Result<(Measure, usize)> {
    let measure = match kind {
        "legs" => Measure::LegS,
        "legt" => Measure::LegT,
        "fourier" => Measure::Fourier,
        other => return Err(Error::value(op, "'legs', 'legt' or 'fourier'", other)),
    };
    let must_be_even = must_be_even || measure == Measure::Fourier;
    if n == 0 || n > 4096 || (must_be_even && n % 2 != 0) {
        return Err(Error::value(
            op,
            if must_be_even { "an even size from 2 to 4096" } else { "a size from 1 to 4096" },
            n,
        ));
    }
    Ok((measure, n as usize))
}

/// The HiPPO matrices of a measure: A (N, N), B (N), P (rank, N).
fn hippo_arrays(kind: &str, n: u32) -> Result<Vec<NamedData>> {
    let (measure, n) = checked_measure("hippo", kind, n, false)?;
    let h = s4_ssm::hippo(measure, n);
    Ok(vec![
        named_array("A", &[n, n], h.a),
        named_array("B", &[n], h.b),
        named_array("P", &[h.p.len(), n], h.p.concat()),
    ])
}

/// The HiPPO matrices of a measure: A (N, N), B (N), P (rank, N).
#[napi]
pub fn hippo(kind: String, n: u32) -> napi::Result<Vec<NamedData>> {
    to_js_result(|| hippo_arrays(&kind, n))
}

/// As `hippo`, away from the JavaScript thread.
#[napi(ts_return_type = "Promise<Array<NamedArray>>")]
pub fn hippo_async(kind: String, n: u32) -> AsyncTask<Background<Vec<NamedData>>> {
    in_background(move || hippo_arrays(&kind, n))
}

/// The diagonalised normal plus low-rank form of a measure: lambda, p, b, b_unclipped; complex numbers as pairs (re, im).
fn nplr_arrays(kind: &str, n: u32) -> Result<Vec<NamedData>> {
    let (measure, n) = checked_measure("nplr", kind, n, true)?;
    let nplr_form = s4_ssm::nplr(measure, n);
    let re_im_pairs = |z: &[C64]| z.iter().flat_map(|z| [z.re, z.im]).collect::<Vec<f64>>();
    Ok(vec![
        named_array("lambda", &[n / 2, 2], re_im_pairs(&nplr_form.lambda)),
        named_array("p", &[nplr_form.p.len(), n / 2, 2], re_im_pairs(&nplr_form.p.concat())),
        named_array("b", &[n / 2, 2], re_im_pairs(&nplr_form.b)),
        named_array("b_unclipped", &[n / 2, 2], re_im_pairs(&nplr_form.b_unclipped)),
    ])
}

/// The diagonalised normal plus low-rank form of a measure: lambda, p, b, b_unclipped; complex numbers as pairs (re, im).
#[napi]
pub fn nplr(kind: String, n: u32) -> napi::Result<Vec<NamedData>> {
    to_js_result(|| nplr_arrays(&kind, n))
}

/// As `nplr`, away from the JavaScript thread.
#[napi(ts_return_type = "Promise<Array<NamedArray>>")]
pub fn nplr_async(kind: String, n: u32) -> AsyncTask<Background<Vec<NamedData>>> {
    in_background(move || nplr_arrays(&kind, n))
}

/// y = K∗u + D·u by FFT, for arrays with time steps before features.
fn convolve<T: Real>(u: Data, kernel: Data, d: Option<Data>, shape: &ConvShape) -> Result<Data> {
    let be = Cpu::<T>::new(0)?;
    let (u, kernel) = (u.real::<T>()?, kernel.real::<T>()?);
    let d = d.map(Data::real::<T>).transpose()?;
    let finite = |x: &[T]| x.iter().all(|x| x.is_finite());
    if !(finite(&u) && finite(&kernel) && d.as_deref().is_none_or(finite)) {
        return Err(Error::value("fftConv", "finite numbers", "NaN or Inf"));
    }
    checks::same_len("fftConv", "u", shape.batch * shape.heads * shape.len, u.len())?;
    let taps = shape.kernel_channels() * shape.heads * shape.kernel_len;
    checks::same_len("fftConv", "kernel", taps, kernel.len())?;
    // The public API has (batch, len, features), backends have (batch, features, len).
    let mut u_heads_first = host_memory::zeros("fftConv", "the convolution", u.len())?;
    be.transpose(&mut u_heads_first, &u, shape.batch, shape.len, shape.heads)?;
    let outputs = shape.channels * shape.heads;
    let mut y = host_memory::zeros("fftConv", "the convolution", shape.batch * outputs * shape.len)?;
    let args = ConvForward::<Cpu<T>> {
        y: &mut y[..],
        u: &u_heads_first[..],
        kernel: &kernel[..],
        d: d.as_deref(),
        shape: *shape,
    };
    be.conv_by_fft(args, &mut be.workspace())?;
    let mut y_steps_first = host_memory::zeros("fftConv", "the convolution", y.len())?;
    be.transpose(&mut y_steps_first, &y, shape.batch, outputs, shape.len)?;
    Ok(T::into_data(y_steps_first))
}

/// Sizes of a convolution and the directions of its kernel.
#[napi(object, object_to_js = false)]
pub struct ConvSizes {
    /// Number of sequences.
    pub batch: u32,
    /// Number of features.
    pub heads: u32,
    /// Outputs for each feature.
    pub channels: u32,
    /// Time steps of each sequence.
    pub len: u32,
    /// Time steps of the kernel, 1 to `len`.
    pub kernel_len: u32,
    /// Whether the kernel also has taps for later inputs. It is then (2·channels, heads, kernelLen), the causal half first,
    /// and y_t = Σ_j k_j u_{t−j} + Σ_j k′_j u_{t+1+j}.
    pub two_sided: bool,
}

/// A convolution that is ready to be computed: its arrays copied from JavaScript's, its sizes.
struct CopiedConvolution {
    u: Data,
    kernel: Data,
    d: Option<Data>,
    shape: ConvShape,
}

impl CopiedConvolution {
    /// Copies the arrays.
    fn copy(u: &DataIn, kernel: &DataIn, d: Option<&DataIn>, sizes: &ConvSizes) -> Result<Self> {
        let shape = ConvShape {
            batch: sizes.batch as usize,
            heads: sizes.heads as usize,
            channels: sizes.channels as usize,
            len: sizes.len as usize,
            kernel_len: sizes.kernel_len as usize,
            bidirectional: sizes.two_sided,
        };
        let (u, kernel) = (Data::copy(u)?, Data::copy(kernel)?);
        Ok(CopiedConvolution { u, kernel, d: d.map(Data::copy).transpose()?, shape })
    }
    /// The output, in the number format of u.
    fn compute(self) -> Result<Data> {
        let CopiedConvolution { u, kernel, d, shape } = self;
        match u {
            Data::F64(_) => convolve::<f64>(u, kernel, d, &shape),
            _ => convolve::<f32>(u, kernel, d, &shape),
        }
    }
}

/// The convolution y = K∗u + D·u by FFT, (batch, len, channels·heads), in the number format of u.
#[napi(ts_return_type = "Floats")]
pub fn fft_conv(u: DataIn, kernel: DataIn, d: Option<DataIn>, sizes: ConvSizes) -> napi::Result<Data> {
    to_js_result(|| CopiedConvolution::copy(&u, &kernel, d.as_ref(), &sizes)?.compute())
}

/// As `fftConv`, away from the JavaScript thread.
#[napi(ts_return_type = "Promise<Floats>")]
pub fn fft_conv_async(
    u: DataIn,
    kernel: DataIn,
    d: Option<DataIn>,
    sizes: ConvSizes,
) -> napi::Result<AsyncTask<Background<Data>>> {
    to_js_result(|| {
        let convolution = CopiedConvolution::copy(&u, &kernel, d.as_ref(), &sizes)?;
        Ok(in_background(move || convolution.compute()))
    })
}
