//! Convolution by FFT (`kernels/conv.cu`), a group of heads at a time so that scratch stays bounded.

use crate::{
    Cuda, Ints,
    device::Span,
    launch::{Arg, args},
    memory::{Block, same_len},
};
use s4_backend::*;

/// Longest row that one block of any chip transforms.
const ROW: usize = 4096;
/// Bytes of one spectrum buffer that a group of heads may take, where one head fits. Small groups that stay in the L2 cache
/// are slower: their launches do not fill the chip.
const GROUP: usize = 256 << 20;

/// Sizes of the transforms of one call.
struct Fft {
    /// Points.
    n: usize,
    /// Heads in a group.
    group: usize,
}

fn plan(op: &'static str, s: &ConvShape) -> Result<Fft> {
    if s.kernel_len == 0 || s.kernel_len > s.len {
        return Err(Error::value(op, "a kernel of 1 to len samples", s.kernel_len));
    }
    if s.len > ROW * ROW {
        return Err(Error::value(op, format!("{} samples or fewer by FFT on CUDA", ROW * ROW), s.len));
    }
    let n = s.len.next_power_of_two().max(8);
    Ok(Fft { n, group: (GROUP / (8 * n * s.batch.max(1))).clamp(1, s.heads.max(1)) })
}

fn check(op: &'static str, s: &ConvShape, y: usize, u: usize, kernel: usize, d: Option<usize>) -> Result<()> {
    same_len(op, s.batch * s.channels * s.heads * s.len, y)?;
    same_len(op, s.batch * s.heads * s.len, u)?;
    same_len(op, s.channels * (1 + s.two_sided as usize) * s.heads * s.kernel_len, kernel)?;
    d.map_or(Ok(()), |d| same_len(op, s.channels * s.heads, d))
}

/// The arguments that `conv.cu` calls CONV.
fn conv(
    y: Span,
    u: Span,
    kernel: Span,
    d: Option<Span>,
    lengths: Option<&Ints>,
    s: &ConvShape,
    h0: usize,
    n: usize,
) -> Vec<Arg> {
    let (b, m) = (s.batch, s.kernel_len);
    args![y, u, kernel, d, lengths, b, s.channels, s.heads, h0, s.len, m, s.two_sided, n].to_vec()
}

/// How a transform of n points is cut: n1 columns' points (1 for a row that one block holds) by rows of n2.
#[derive(Clone, Copy)]
struct Shape {
    n1: usize,
    n2: usize,
}

impl Shape {
    fn new(n: usize) -> Shape {
        // Columns have eight points or more.
        let n2 = if n <= ROW { n } else { ROW.min(n / 8) };
        Shape { n1: n / n2, n2 }
    }

    /// Rows of a block, its threads and the bytes of their points.
    fn rows(self) -> (usize, u32, usize) {
        let together = (128 / (self.n2 / 8)).max(1);
        (together, (together * self.n2 / 8) as u32, 8 * self.n2 * together)
    }

    /// Columns of a block, its threads and its shared memory.
    fn columns(self) -> (usize, u32, usize) {
        let width = (4096 / self.n1).clamp(1, 256).min(self.n2);
        (width, (self.n1 / 8 * width) as u32, 8 * self.n1 * width)
    }
}

impl Cuda {
    /// `count` transforms of n points in place; the inverse is scaled by 1/n.
    fn transform(&self, z: &Block, n: usize, count: usize, inverse: bool) -> Result<()> {
        let shape = Shape::new(n);
        let Shape { n1, n2 } = shape;
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

    /// The spectrum of channel c's kernel for heads h0 … h0 + heads.
    fn kernel_spectrum(&self, k: &Block, conv: &[Arg], f: &Fft, (c, heads): (usize, usize)) -> Result<()> {
        let total = heads * f.n;
        self.each(("conv", "pack_kernel"), total, &[conv, args![k, total, c]].concat())?;
        self.transform(k, f.n, heads, false)
    }

    /// The spectra of channel `c` of x (B, channels, H, L).
    fn spectra(
        &self,
        z: &Block,
        x: Span,
        lengths: Option<&Ints>,
        s: &ConvShape,
        f: &Fft,
        (channels, c): (usize, usize),
        (h0, heads): (usize, usize),
    ) -> Result<()> {
        let total = heads * s.batch * f.n;
        self.each(
            ("conv", "pack_rows"),
            total,
            args![z, x, lengths, total, f.n, s.batch, channels, c, s.heads, h0, s.len],
        )?;
        self.transform(z, f.n, heads * s.batch, false)
    }

    /// Inverse transforms of z into channel `c` of y.
    fn signals(
        &self,
        y: Span,
        z: &Block,
        lengths: Option<&Ints>,
        s: &ConvShape,
        f: &Fft,
        (channels, c): (usize, usize),
        (h0, heads): (usize, usize),
    ) -> Result<()> {
        self.transform(z, f.n, heads * s.batch, true)?;
        let total = heads * s.batch * s.len;
        self.each(
            ("conv", "unpack_rows"),
            total,
            args![y, z, lengths, total, f.n, s.batch, channels, c, s.heads, h0, s.len],
        )
    }

    /// y = K̄∗u + D·u; u beyond a row's length counts as 0, y there is 0.
    pub(crate) fn convolve(
        &self,
        op: &'static str,
        y: Span,
        u: Span,
        kernel: Span,
        d: Option<Span>,
        lengths: Option<&Ints>,
        s: &ConvShape,
    ) -> Result<()> {
        let Fft { n, .. } = plan(op, s)?;
        let shape = Shape::new(n);
        let Shape { n1, n2 } = shape;
        let (together, row_threads, row_shared) = shape.rows();
        let call = |h0| conv(y, u, kernel, d, lengths, s, h0, n);
        if n1 == 1 {
            let (parts, each) = self.shares(s.heads.div_ceil(together), s.batch);
            for c in 0..s.channels {
                let all = [&call(0)[..], args![c, parts, each]].concat();
                let blocks = ((s.heads * parts).div_ceil(together), 1, 1);
                self.launch(("conv", "conv_rows"), blocks, (row_threads, 1), 2 * row_shared, &all)?;
            }
            return Ok(());
        }
        let rows = s.batch + s.channels;
        let group = (GROUP / (8 * n * rows)).clamp(1, s.heads.max(1));
        let (width, column_threads, column_shared) = shape.columns();
        let z = self.block(op, 8 * n * rows * group)?;
        // One channel's product may overwrite the spectrum; each row is read before it is written.
        let own = (s.channels > 1).then(|| self.block(op, 8 * n * rows * group)).transpose()?;
        let w = own.as_ref().unwrap_or(&z);
        for h0 in (0..s.heads).step_by(group) {
            let (heads, call) = ((s.heads - h0).min(group), call(h0));
            let (threads, blocks) = ((column_threads, 1), |rows: usize| (n2 / width * heads * rows, 1, 1));
            let all = [&call[..], args![&z, n1, n2, width]].concat();
            self.launch(("conv", "conv_in"), blocks(rows), threads, column_shared, &all)?;
            let (parts, each) = self.shares((heads * n1).div_ceil(together), s.batch);
            for c in 0..s.channels {
                let shares = heads * parts * n1;
                let all = args![w, &z, s.batch, s.channels, c, n1, n2, parts, each, shares];
                let grid = (shares.div_ceil(together), 1, 1);
                self.launch(("conv", "conv_times"), grid, (row_threads, 1), 2 * row_shared, all)?;
                let all = [&call[..], args![w, c, n1, n2, width]].concat();
                self.launch(("conv", "conv_out"), blocks(s.batch), threads, column_shared, &all)?;
            }
        }
        Ok(())
    }

    /// In how many parts the rows of a batch go, and how many rows a part has, where `blocks` blocks would take them
    /// whole: few rows a part fill the chip, and each part makes the kernel's spectrum anew.
    fn shares(&self, blocks: usize, batch: usize) -> (usize, usize) {
        let wanted = (16 * self.processors()).div_ceil(blocks.max(1));
        let each = batch.div_ceil(wanted).clamp(batch.min(8), batch.max(1));
        (batch.div_ceil(each.max(1)), each)
    }

    /// du = Σ_c K̄_c ⋆ dy_c; dK̄_c += Σ_rows dy_c ⋆ u; dD_c += its value at lag 0.
    pub(crate) fn convolve_backward(
        &self,
        op: &'static str,
        du: Option<Span>,
        dkernel: Span,
        dd: Option<Span>,
        dy: Span,
        u: Span,
        kernel: Span,
        d: Option<Span>,
        lengths: Option<&Ints>,
        s: &ConvShape,
    ) -> Result<()> {
        let f = plan(op, s)?;
        let size = 8 * f.group * s.batch * f.n;
        let (zu, zd) = (self.block(op, size)?, self.block(op, size)?);
        let w = du.map(|_| self.block(op, size)).transpose()?;
        let k = self.block(op, 8 * f.group * f.n)?;
        for h0 in (0..s.heads).step_by(f.group) {
            let heads = (s.heads - h0).min(f.group);
            let total = heads * s.batch * f.n;
            let call = conv(dy, u, kernel, d, lengths, s, h0, f.n);
            self.spectra(&zu, u, lengths, s, &f, (1, 0), (h0, heads))?;
            for c in 0..s.channels {
                self.spectra(&zd, dy, lengths, s, &f, (s.channels, c), (h0, heads))?;
                if let Some(w) = &w {
                    self.kernel_spectrum(&k, &call, &f, (c, heads))?;
                    let one = args![w, &zd, &k, total, f.n, s.batch, c > 0];
                    self.each(("conv", "times"), total, one)?;
                }
                let one = args![&k, &zd, &zu, heads * f.n, f.n, s.batch];
                self.each(("conv", "correlate"), heads * f.n, one)?;
                self.transform(&k, f.n, heads, true)?;
                let n = heads * s.kernel_len;
                let one =
                    args![dkernel, dd, &k, n, f.n, s.kernel_len, s.channels, c, s.heads, h0, s.two_sided];
                self.each(("conv", "unpack_kernel"), n, one)?;
            }
            if let (Some(du), Some(w)) = (du, &w) {
                self.signals(du, w, lengths, s, &f, (1, 0), (h0, heads))?;
            }
        }
        Ok(())
    }
}

impl ConvOps for Cuda {
    fn conv_forward(
        &self,
        y: Self::Mut<'_>,
        u: Self::Ref<'_>,
        kernel: Self::Ref<'_>,
        d: Option<Self::Ref<'_>>,
        shape: &ConvShape,
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        const OP: &str = "conv_forward";
        check(OP, shape, y.len(), u.len(), kernel.len(), d.map(|d| d.len()))?;
        self.convolve(OP, y.span(), u.span(), kernel.span(), d.map(|d| d.span()), None, shape)
    }

    fn conv_backward(
        &self,
        du: Option<Self::Mut<'_>>,
        dkernel: Self::Mut<'_>,
        dd: Option<Self::Mut<'_>>,
        dy: Self::Ref<'_>,
        u: Self::Ref<'_>,
        kernel: Self::Ref<'_>,
        d: Option<Self::Ref<'_>>,
        shape: &ConvShape,
        _ws: &mut Self::Workspace,
    ) -> Result<()> {
        const OP: &str = "conv_backward";
        check(OP, shape, dy.len(), u.len(), kernel.len(), d.map(|d| d.len()))?;
        same_len(OP, kernel.len(), dkernel.len())?;
        if let Some(du) = &du {
            same_len(OP, u.len(), du.len())?;
        }
        if let Some(dd) = &dd {
            same_len(OP, shape.channels * shape.heads, dd.len())?;
        }
        self.convolve_backward(
            OP,
            du.map(|x| x.span()),
            dkernel.span(),
            dd.map(|x| x.span()),
            dy.span(),
            u.span(),
            kernel.span(),
            d.map(|x| x.span()),
            None,
            shape,
        )
    }
}
