//! Convolution by FFT (`kernels/ssm/conv.cu`), a group of heads at a time so that scratch stays bounded.

use crate::{
    device::Cuda,
    driver::{Arg, Span, args},
    memory::{DeviceBlock, Ints, Workspace},
};
use s4_backend::{ConvBackward, ConvForward, ConvOps, ConvShape, Error, Result};

/// Longest transform that one block of any chip holds, points.
const ROW: usize = 4096;
/// Most bytes of the spectra of one group of heads (a single head may take more). Small groups, which stay in the L2
/// cache, are slower: their launches do not fill the chip.
const GROUP: usize = 256 << 20;

/// Sizes of the transforms of one call.
struct Fft {
    /// Points of a transform.
    n: usize,
    /// Heads in a group.
    group: usize,
}

fn plan(op: &'static str, s: &ConvShape) -> Result<Fft> {
    if s.len > ROW * ROW {
        return Err(Error::value(op, format!("{} samples or fewer by FFT on CUDA", ROW * ROW), s.len));
    }
    let n = s.len.next_power_of_two().max(8);
    Ok(Fft { n, group: (GROUP / (8 * n * s.batch.max(1))).clamp(1, s.heads.max(1)) })
}

/// Arrays of a convolution.
#[derive(Clone, Copy)]
pub(super) struct Convolution<'a> {
    /// (B, channels, H, L): y, or dy for gradients.
    pub(super) y: Span,
    pub(super) u: Span,
    pub(super) kernel: Span,
    pub(super) d: Option<Span>,
    pub(super) lengths: Option<&'a Ints>,
    pub(super) shape: &'a ConvShape,
}

/// Where the gradients of a convolution go: du overwrites, the others accumulate.
pub(super) struct ConvolutionBackward {
    pub(super) du: Option<Span>,
    pub(super) dkernel: Span,
    pub(super) dd: Option<Span>,
}

impl Convolution<'_> {
    /// The arguments that `conv.cu` calls CONV, for heads from h0 on and transforms of n points.
    fn args(&self, h0: usize, n: usize) -> Vec<Arg> {
        let &Convolution { y, u, kernel, d, lengths, shape: s } = self;
        let (b, m) = (s.batch, s.kernel_len);
        args![y, u, kernel, d, lengths, b, s.channels, s.heads, h0, s.len, m, s.bidirectional, n].to_vec()
    }
}

/// One channel of a group of heads, of an array (B, channels, H, L).
#[derive(Clone, Copy)]
struct HeadGroup {
    channels: usize,
    channel: usize,
    h0: usize,
    heads: usize,
}

/// How a transform of n points is cut: n1 rows of n2 points (n1 = 1 where one block holds it).
#[derive(Clone, Copy)]
struct TransformSplit {
    n1: usize,
    n2: usize,
}

impl TransformSplit {
    fn new(n: usize) -> TransformSplit {
        // Columns have eight points or more.
        let n2 = if n <= ROW { n } else { ROW.min(n / 8) };
        TransformSplit { n1: n / n2, n2 }
    }

    /// Rows per block, threads per block, and bytes of their points.
    fn rows(self) -> (usize, u32, usize) {
        let together = (128 / (self.n2 / 8)).max(1);
        (together, (together * self.n2 / 8) as u32, 8 * self.n2 * together)
    }

    /// Columns per block, threads per block, and bytes of shared memory.
    fn columns(self) -> (usize, u32, usize) {
        let width = (4096 / self.n1).clamp(1, 256).min(self.n2);
        (width, (self.n1 / 8 * width) as u32, 8 * self.n1 * width)
    }
}

impl Cuda {
    /// `count` transforms of n points in place; the inverse is scaled by 1/n.
    fn transform(&self, z: &DeviceBlock, n: usize, count: usize, inverse: bool) -> Result<()> {
        let shape = TransformSplit::new(n);
        let TransformSplit { n1, n2 } = shape;
        let sign = if inverse { 1 } else { -1 };
        let scale = if inverse { 1.0 / n as f32 } else { 1.0 };
        let rows = || {
            let (together, threads, shared) = shape.rows();
            let total = count * n1;
            self.launch(
                ("conv", "fft_rows"),
                (total.div_ceil(together), 1, 1),
                (threads, 1),
                shared,
                args![z, total, n2, sign, scale],
            )
        };
        let columns = || {
            let (width, threads, shared) = shape.columns();
            self.launch(
                ("conv", "fft_columns"),
                (n2 / width * count, 1, 1),
                (threads, 1),
                shared,
                args![z, n1, n2, width, sign],
            )
        };
        match (n1 > 1, inverse) {
            (false, _) => rows(),
            (true, false) => columns().and_then(|()| rows()),
            (true, true) => rows().and_then(|()| columns()),
        }
    }

    /// Writes the spectrum of channel c's kernel for heads h0 … h0 + heads.
    fn kernel_spectrum(
        &self,
        k: &DeviceBlock,
        conv: &[Arg],
        f: &Fft,
        (c, heads): (usize, usize),
    ) -> Result<()> {
        let total = heads * f.n;
        self.launch_elementwise(("conv", "pack_kernel"), total, &[conv, args![k, total, c]].concat())?;
        self.transform(k, f.n, heads, false)
    }

    /// Writes to z the spectra of one group of heads of x, with the batch and lengths of `conv`.
    fn spectra(&self, z: &DeviceBlock, x: Span, conv: &Convolution<'_>, f: &Fft, g: HeadGroup) -> Result<()> {
        let (&Convolution { lengths, shape: s, .. }, HeadGroup { channels, channel: c, h0, heads }) =
            (conv, g);
        let total = heads * s.batch * f.n;
        self.launch_elementwise(
            ("conv", "pack_rows"),
            total,
            args![z, x, lengths, total, f.n, s.batch, channels, c, s.heads, h0, s.len],
        )?;
        self.transform(z, f.n, heads * s.batch, false)
    }

    /// Writes the inverse transforms of z to one group of heads of y.
    fn signals(&self, y: Span, z: &DeviceBlock, conv: &Convolution<'_>, f: &Fft, g: HeadGroup) -> Result<()> {
        let (&Convolution { lengths, shape: s, .. }, HeadGroup { channels, channel: c, h0, heads }) =
            (conv, g);
        self.transform(z, f.n, heads * s.batch, true)?;
        let total = heads * s.batch * s.len;
        self.launch_elementwise(
            ("conv", "unpack_rows"),
            total,
            args![y, z, lengths, total, f.n, s.batch, channels, c, s.heads, h0, s.len],
        )
    }

    /// y = K̄∗u + D·u. u beyond a sequence's length counts as 0, and y is 0 there.
    pub(super) fn convolve(&self, op: &'static str, conv: &Convolution<'_>) -> Result<()> {
        let s = conv.shape;
        let Fft { n, .. } = plan(op, s)?;
        let shape = TransformSplit::new(n);
        let TransformSplit { n1, n2 } = shape;
        let (together, row_threads, row_shared) = shape.rows();
        let call = |h0| conv.args(h0, n);
        if n1 == 1 {
            let (parts, sequences_per_part) = self.shares(s.heads.div_ceil(together), s.batch);
            for c in 0..s.channels {
                let arguments = [&call(0)[..], args![c, parts, sequences_per_part]].concat();
                let blocks = ((s.heads * parts).div_ceil(together), 1, 1);
                self.launch(("conv", "conv_rows"), blocks, (row_threads, 1), 2 * row_shared, &arguments)?;
            }
            return Ok(());
        }
        let rows = s.batch + s.channels;
        let group = (GROUP / (8 * n * rows)).clamp(1, s.heads.max(1));
        let (width, column_threads, column_shared) = shape.columns();
        let z = self.block(op, 8 * n * rows * group)?;
        // With one channel the product may overwrite the spectrum: each row is read before it is written.
        let separate_product = (s.channels > 1).then(|| self.block(op, 8 * n * rows * group)).transpose()?;
        let w = separate_product.as_ref().unwrap_or(&z);
        for h0 in (0..s.heads).step_by(group) {
            let (heads, call) = ((s.heads - h0).min(group), call(h0));
            let (threads, blocks) = ((column_threads, 1), |rows: usize| (n2 / width * heads * rows, 1, 1));
            let arguments = [&call[..], args![&z, n1, n2, width]].concat();
            self.launch(("conv", "conv_in"), blocks(rows), threads, column_shared, &arguments)?;
            let (parts, sequences_per_part) = self.shares((heads * n1).div_ceil(together), s.batch);
            for c in 0..s.channels {
                let shares = heads * parts * n1;
                let arguments =
                    args![w, &z, s.batch, s.channels, c, n1, n2, parts, sequences_per_part, shares];
                let grid = (shares.div_ceil(together), 1, 1);
                self.launch(("conv", "conv_times"), grid, (row_threads, 1), 2 * row_shared, arguments)?;
                let arguments = [&call[..], args![w, c, n1, n2, width]].concat();
                self.launch(("conv", "conv_out"), blocks(s.batch), threads, column_shared, &arguments)?;
            }
        }
        Ok(())
    }

    /// The number of parts into which a batch is cut, and the sequences of a part, where `blocks` blocks would take the
    /// batch whole: small parts fill the chip, but each part computes the kernel's spectrum again.
    fn shares(&self, blocks: usize, batch: usize) -> (usize, usize) {
        let wanted = (16 * self.processors()).div_ceil(blocks.max(1));
        let sequences_per_part = batch.div_ceil(wanted).clamp(batch.min(8), batch.max(1));
        (batch.div_ceil(sequences_per_part.max(1)), sequences_per_part)
    }

    /// du = Σ_c K̄_c ⋆ dy_c; dK̄_c += Σ_b dy_c ⋆ u; dD_c += Σ_b of the same sum at lag 0 (⋆: correlation).
    pub(super) fn convolve_backward(
        &self,
        op: &'static str,
        gradients: &ConvolutionBackward,
        conv: &Convolution<'_>,
    ) -> Result<()> {
        let &ConvolutionBackward { du, dkernel, dd } = gradients;
        let &Convolution { y: dy, u, shape: s, .. } = conv;
        let f = plan(op, s)?;
        let spectrum_bytes = 8 * f.group * s.batch * f.n;
        let (zu, zd) = (self.block(op, spectrum_bytes)?, self.block(op, spectrum_bytes)?);
        let w = du.map(|_| self.block(op, spectrum_bytes)).transpose()?;
        let k = self.block(op, 8 * f.group * f.n)?;
        for h0 in (0..s.heads).step_by(f.group) {
            let heads = (s.heads - h0).min(f.group);
            let total = heads * s.batch * f.n;
            let call = conv.args(h0, f.n);
            let single = HeadGroup { channels: 1, channel: 0, h0, heads };
            self.spectra(&zu, u, conv, &f, single)?;
            for c in 0..s.channels {
                let of_channel = HeadGroup { channels: s.channels, channel: c, ..single };
                self.spectra(&zd, dy, conv, &f, of_channel)?;
                if let Some(w) = &w {
                    self.kernel_spectrum(&k, &call, &f, (c, heads))?;
                    let arguments = args![w, &zd, &k, total, f.n, s.batch, c > 0];
                    self.launch_elementwise(("conv", "times"), total, arguments)?;
                }
                let arguments = args![&k, &zd, &zu, heads * f.n, f.n, s.batch];
                self.launch_elementwise(("conv", "correlate"), heads * f.n, arguments)?;
                self.transform(&k, f.n, heads, true)?;
                let n = heads * s.kernel_len;
                let arguments =
                    args![dkernel, dd, &k, n, f.n, s.kernel_len, s.channels, c, s.heads, h0, s.bidirectional];
                self.launch_elementwise(("conv", "unpack_kernel"), n, arguments)?;
            }
            if let (Some(du), Some(w)) = (du, &w) {
                self.signals(du, w, conv, &f, single)?;
            }
        }
        Ok(())
    }
}

impl Cuda {
    /// See [`ConvBackward`].
    pub fn conv_backward(&self, args: ConvBackward<'_, Self>, _ws: &mut Workspace) -> Result<()> {
        args.check(self)?;
        let conv = Convolution {
            y: args.dy.span(),
            u: args.u.span(),
            kernel: args.kernel.span(),
            d: args.d.map(|d| d.span()),
            lengths: None,
            shape: &args.shape,
        };
        let gradients = ConvolutionBackward {
            du: args.du.map(|x| x.span()),
            dkernel: args.dkernel.span(),
            dd: args.dd.map(|x| x.span()),
        };
        self.convolve_backward("conv_backward", &gradients, &conv)
    }
}

impl ConvOps for Cuda {
    fn conv_forward(&self, args: ConvForward<'_, Self>, _ws: &mut Workspace) -> Result<()> {
        args.check(self)?;
        let conv = Convolution {
            y: args.y.span(),
            u: args.u.span(),
            kernel: args.kernel.span(),
            d: args.d.map(|d| d.span()),
            lengths: None,
            shape: &args.shape,
        };
        self.convolve("conv_forward", &conv)
    }
}
