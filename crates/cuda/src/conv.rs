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
/// Bytes of one spectrum buffer that a group of heads may take, where one head fits.
const GROUP: usize = 128 << 20;

/// Sizes of the transforms of one call.
struct Fft {
    /// Points.
    n: usize,
    /// Pairs of rows.
    pairs: usize,
    /// Heads in a group.
    group: usize,
}

fn plan(op: &'static str, s: &ConvShape) -> Result<Fft> {
    if s.kernel_len == 0 || s.kernel_len > s.len {
        return Err(Error::value(op, "a kernel of 1 to len samples", s.kernel_len));
    }
    let n = (s.len + s.kernel_len).next_power_of_two().max(8);
    if n > ROW * ROW {
        return Err(Error::value(op, format!("{} samples or fewer by FFT on CUDA", ROW * ROW / 2), s.len));
    }
    let pairs = s.batch.div_ceil(2);
    Ok(Fft { n, pairs, group: (GROUP / (8 * n * pairs.max(1))).clamp(1, s.heads.max(1)) })
}

fn check(op: &'static str, s: &ConvShape, y: usize, u: usize, kernel: usize, d: Option<usize>) -> Result<()> {
    same_len(op, s.batch * s.channels * s.heads * s.len, y)?;
    same_len(op, s.batch * s.heads * s.len, u)?;
    same_len(op, s.channels * (1 + s.two_sided as usize) * s.heads * s.kernel_len, kernel)?;
    d.map_or(Ok(()), |d| same_len(op, s.channels * s.heads, d))
}

/// How a transform of n points is cut: n1 columns' points (1 for a row that one block holds) by rows of n2.
#[derive(Clone, Copy)]
struct Shape {
    n1: usize,
    n2: usize,
}

impl Shape {
    /// Rows of a block, its threads and its shared memory.
    fn rows(self) -> (usize, u32, usize) {
        let together = (128 / (self.n2 / 8)).max(1);
        (together, (together * self.n2 / 8) as u32, 9 * self.n2 * together)
    }

    /// Columns of a block, its threads and its shared memory.
    fn columns(self) -> (usize, u32, usize) {
        let width = (4096 / self.n1).clamp(1, 256).min(self.n2);
        (width, (self.n1 / 8 * width) as u32, 8 * self.n1 * width)
    }
}

impl Cuda {
    fn fft_shape(&self, n: usize) -> Shape {
        let row = if self.shared_memory() > 9 * 2 * ROW { 2 * ROW } else { ROW };
        // Columns have eight points or more.
        let n2 = if n <= row { n } else { ROW.min(n / 8) };
        Shape { n1: n / n2, n2 }
    }

    /// `count` transforms of n points in place; the inverse is scaled by 1/n.
    fn transform(&self, z: &Block, n: usize, count: usize, inverse: bool) -> Result<()> {
        let shape = self.fft_shape(n);
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
            for first in (0..count).step_by(65535) {
                let some = (count - first).min(65535);
                let part = z.span().part(8 * n * first, 8 * n * some);
                self.launch(
                    ("conv", "fft_columns"),
                    (n2 / width, some, 1),
                    (threads, 1),
                    shared,
                    args![part, n1, n2, width, sign],
                )?;
            }
            Ok(())
        };
        match (n1 > 1, inverse) {
            (false, _) => rows(),
            (true, false) => columns().and_then(|()| rows()),
            (true, true) => rows().and_then(|()| columns()),
        }
    }

    /// The spectrum of channel c's kernel for heads h0 … h0 + heads.
    fn kernel_spectrum(
        &self,
        k: &Block,
        kernel: Span,
        d: Option<Span>,
        s: &ConvShape,
        f: &Fft,
        (c, h0, heads): (usize, usize, usize),
    ) -> Result<()> {
        let total = heads * f.n;
        self.each(
            ("conv", "pack_kernel"),
            total,
            args![k, kernel, d, total, f.n, s.kernel_len, s.channels, c, s.heads, h0, s.two_sided],
        )?;
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
        let total = heads * f.pairs * f.n;
        self.each(
            ("conv", "pack_rows"),
            total,
            args![z, x, lengths, total, f.n, f.pairs, s.batch, channels, c, s.heads, h0, s.len],
        )?;
        self.transform(z, f.n, heads * f.pairs, false)
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
        self.transform(z, f.n, heads * f.pairs, true)?;
        let total = heads * f.pairs * s.len;
        self.each(
            ("conv", "unpack_rows"),
            total,
            args![y, z, lengths, total, f.n, f.pairs, s.batch, channels, c, s.heads, h0, s.len],
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
        let f = plan(op, s)?;
        let shape = self.fft_shape(f.n);
        let Shape { n1, n2 } = shape;
        let scale = 1.0 / f.n as f32;
        let k = self.block(op, 8 * f.group * f.n)?;
        let (together, row_threads, row_shared) = shape.rows();
        let (width, column_threads, column_shared) = shape.columns();
        let size = if n1 > 1 { 8 * f.group * f.pairs * f.n } else { 0 };
        let (z, w) = (self.block(op, size)?, self.block(op, size)?);
        for h0 in (0..s.heads).step_by(f.group) {
            let heads = (s.heads - h0).min(f.group);
            let rows = |first: &[Arg], c: usize| {
                let mut all = first.to_vec();
                all.extend_from_slice(args![
                    y, u, lengths, f.pairs, s.batch, s.channels, c, s.heads, h0, s.len
                ]);
                all
            };
            let grid = (n2 / width, heads * f.pairs, 1);
            if n1 > 1 {
                let all = rows(args![&z, n1, n2, width], 0);
                self.launch(("conv", "conv_in"), grid, (column_threads, 1), column_shared, &all)?;
            }
            for c in 0..s.channels {
                self.kernel_spectrum(&k, kernel, d, s, &f, (c, h0, heads))?;
                let total = heads * f.pairs * n1;
                let blocks = (total.div_ceil(together), 1, 1);
                if n1 == 1 {
                    let all = rows(args![&k, total, f.n, scale], c);
                    self.launch(("conv", "conv_rows"), blocks, (row_threads, 1), row_shared, &all)?;
                    continue;
                }
                let all = args![&w, &z, &k, total, n1, n2, f.pairs];
                self.launch(("conv", "conv_times"), blocks, (row_threads, 1), row_shared, all)?;
                let all = rows(args![&w, n1, n2, width, scale], c);
                self.launch(("conv", "conv_out"), grid, (column_threads, 1), column_shared, &all)?;
            }
        }
        Ok(())
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
        let size = 8 * f.group * f.pairs * f.n;
        let (zu, zd) = (self.block(op, size)?, self.block(op, size)?);
        let w = du.map(|_| self.block(op, size)).transpose()?;
        let k = self.block(op, 8 * f.group * f.n)?;
        for h0 in (0..s.heads).step_by(f.group) {
            let heads = (s.heads - h0).min(f.group);
            let total = heads * f.pairs * f.n;
            self.spectra(&zu, u, lengths, s, &f, (1, 0), (h0, heads))?;
            for c in 0..s.channels {
                self.spectra(&zd, dy, lengths, s, &f, (s.channels, c), (h0, heads))?;
                if let Some(w) = &w {
                    self.kernel_spectrum(&k, kernel, d, s, &f, (c, h0, heads))?;
                    let one = args![w, &zd, &k, total, f.n, f.pairs, true, c > 0];
                    self.each(("conv", "times"), total, one)?;
                }
                let one = args![&k, &zd, &zu, heads * f.n, f.n, f.pairs];
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
