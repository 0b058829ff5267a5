//! Mathematics that needs no handle: matrices and convolution.

use crate::{
    buffer::{Data, DataIn, Real},
    error::guard,
    objects::NamedData,
};
use napi_derive::napi;
use s4_backend::{ConvForward, ConvOps, ConvShape, Error, Memory, Result, checks, host_memory};
use s4_cpu::Cpu;
use s4_ssm::{C64, Measure};

fn named(name: &str, shape: &[usize], data: Vec<f64>) -> NamedData {
    NamedData { name: name.into(), shape: shape.iter().map(|&n| n as u32).collect(), data: Data::F64(data) }
}

fn measure(op: &'static str, kind: &str, n: u32, even: bool) -> Result<(Measure, usize)> {
    let measure = match kind {
        "legs" => Measure::LegS,
        "legt" => Measure::LegT,
        "fourier" => Measure::Fourier,
        other => return Err(Error::value(op, "'legs', 'legt' or 'fourier'", other)),
    };
    let even = even || measure == Measure::Fourier;
    if n == 0 || n > 4096 || (even && n % 2 != 0) {
        return Err(Error::value(
            op,
            if even { "an even size from 2 to 4096" } else { "a size from 1 to 4096" },
            n,
        ));
    }
    Ok((measure, n as usize))
}

/// HiPPO matrices A (N, N), B (N), P (R, N).
#[napi]
pub fn hippo(kind: String, n: u32) -> napi::Result<Vec<NamedData>> {
    guard(|| {
        let (measure, n) = measure("hippo", &kind, n, false)?;
        let h = s4_ssm::hippo(measure, n);
        Ok(vec![named("A", &[n, n], h.a), named("B", &[n], h.b), named("P", &[h.p.len(), n], h.p.concat())])
    })
}

/// The diagonalised normal plus low-rank form: lambda, p, b, b_unclipped; complex as trailing pairs.
#[napi]
pub fn nplr(kind: String, n: u32) -> napi::Result<Vec<NamedData>> {
    guard(|| {
        let (measure, n) = measure("nplr", &kind, n, true)?;
        let form = s4_ssm::nplr(measure, n);
        let flat = |z: &[C64]| z.iter().flat_map(|z| [z.re, z.im]).collect::<Vec<f64>>();
        Ok(vec![
            named("lambda", &[n / 2, 2], flat(&form.lambda)),
            named("p", &[form.p.len(), n / 2, 2], flat(&form.p.concat())),
            named("b", &[n / 2, 2], flat(&form.b)),
            named("b_unclipped", &[n / 2, 2], flat(&form.b_unclipped)),
        ])
    })
}

fn conv<T: Real>(u: Data, kernel: Data, d: Option<Data>, shape: &ConvShape) -> Result<Data> {
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
    // Public layout is (batch, len, features); the contract's is (batch, features, len).
    let mut inside = host_memory::zeros("fftConv", "the convolution", u.len())?;
    be.transpose(&mut inside, &u, shape.batch, shape.len, shape.heads)?;
    let outputs = shape.channels * shape.heads;
    let mut y = host_memory::zeros("fftConv", "the convolution", shape.batch * outputs * shape.len)?;
    let args = ConvForward::<Cpu<T>> {
        y: &mut y[..],
        u: &inside[..],
        kernel: &kernel[..],
        d: d.as_deref(),
        shape: *shape,
    };
    be.conv_forward(args, &mut be.workspace())?;
    let mut out = host_memory::zeros("fftConv", "the convolution", y.len())?;
    be.transpose(&mut out, &y, shape.batch, outputs, shape.len)?;
    Ok(T::into_data(out))
}

/// Sizes of a convolution.
#[napi(object, object_to_js = false)]
pub struct ConvSizes {
    /// Rows.
    pub batch: u32,
    /// Features.
    pub heads: u32,
    /// Outputs a feature.
    pub channels: u32,
    /// Samples a row.
    pub len: u32,
    /// Samples of the kernel, 1 to `len`.
    pub kernel_len: u32,
    /// The kernel has 2·channels rows, the causal ones first.
    pub two_sided: bool,
}

/// y = K∗u + D·u, (batch, len, channels·heads).
#[napi(ts_return_type = "Floats")]
pub fn fft_conv(u: DataIn, kernel: DataIn, d: Option<DataIn>, sizes: ConvSizes) -> napi::Result<Data> {
    guard(|| {
        let shape = ConvShape {
            batch: sizes.batch as usize,
            heads: sizes.heads as usize,
            channels: sizes.channels as usize,
            len: sizes.len as usize,
            kernel_len: sizes.kernel_len as usize,
            bidirectional: sizes.two_sided,
        };
        let (u, kernel) = (Data::copy(&u)?, Data::copy(&kernel)?);
        let d = d.as_ref().map(Data::copy).transpose()?;
        match u {
            Data::F64(_) => conv::<f64>(u, kernel, d, &shape),
            _ => conv::<f32>(u, kernel, d, &shape),
        }
    })
}
