//! The two products of a block of time steps (`step_blocks.rs`), a tile of registers at a time.
//!
//! Each sequence has a state x of one head, and a row [u | y | w_1 | … | w_R] of T numbers each for the inputs, outputs and low-rank
//! coefficients of the block's time steps. The first product makes y and w out of x and u, the second the state after them out of x, u and w.
//! Real and imaginary parts of the state are padded to whole vectors by zeros.

use crate::{
    Level,
    linalg::{
        gemm::{Mat, MatMut, gemm},
        math::fma,
        matvec_simd::{f32s, f32s_mut},
        simd::{apart, simd},
    },
    ssm::step_sizes::{BLOCK, BlockSizes, HeadConstants},
};
use pulp::{Simd, WithSimd};
use s4_backend::Scalar;

/// Rows of the tallest tile.
pub(crate) const MOST_ROWS: usize = 8;
/// Most numbers of a vector.
const MOST_LANES: usize = 16;
/// Numbers of a state that the plain form takes at a time.
const SOME_STATES: usize = 128;
/// Most columns of `to_outputs`: ranks are 8 at the most.
const MOST_COLUMNS: usize = 9 * BLOCK;

/// What both products work on: up to [`MOST_ROWS`] sequences and one head.
pub(crate) struct TileRows<'a, T> {
    pub(crate) sizes: &'a BlockSizes,
    pub(crate) constants: &'a HeadConstants<'a, T>,
    /// The padded states before the block; behind the last of them any others, which are read.
    pub(crate) states: [&'a [T]; MOST_ROWS],
    /// The padded states after the block, at this distance of each other.
    pub(crate) ends: &'a mut [T],
    pub(crate) end_stride: usize,
    /// Rows of numbers; of those behind the last of them, up to twice [`MOST_ROWS`], any are read.
    pub(crate) rows: &'a mut [T],
    /// How many, and the most time steps that any of them has.
    pub(crate) count: usize,
    pub(crate) len: usize,
}

impl<'a, T: Scalar> TileRows<'a, T> {
    /// As f32, where they are.
    fn f32s<'b>(&'b mut self, constants: &'b HeadConstants<'b, f32>) -> Option<TileRows<'b, f32>> {
        let &mut TileRows { sizes, states, ref mut ends, end_stride, ref mut rows, count, len, .. } = self;
        let mut of_f32: [&[f32]; MOST_ROWS] = [&[]; MOST_ROWS];
        for (to, state) in of_f32.iter_mut().zip(states) {
            *to = f32s(state)?;
        }
        let (ends, rows) = (f32s_mut(&mut ends[..])?, f32s_mut(&mut rows[..])?);
        Some(TileRows { sizes, constants, states: of_f32, ends, end_stride, rows, count, len })
    }

    /// Rows `begin`, … alone, `count` of them with `len` time steps.
    #[inline(always)]
    fn part(&mut self, begin: usize, (count, len): (usize, usize)) -> TileRows<'_, T> {
        let TileRows { sizes, constants, states, ends, end_stride, rows, .. } = self;
        let states = std::array::from_fn(
            #[inline(always)]
            |i| states[(begin + i).min(MOST_ROWS - 1)],
        );
        let (rows, ends) = (&mut rows[begin * sizes.row()..], &mut ends[begin * *end_stride..]);
        TileRows { sizes, constants, states, ends, end_stride: *end_stride, rows, count, len }
    }
}

/// Rows that go through both products together.
pub(crate) fn rows_of_tile(level: Level) -> usize {
    if level == Level::Avx2 { 6 } else { MOST_ROWS }
}

/// y and w of the first `len` time steps of each row of a tile, and the states after as many as each has: `lens` in descending order, `len`
/// at the most.
pub(crate) fn steps<T: Scalar>(level: Level, mut tile: TileRows<'_, T>, lens: &[usize]) {
    if level > Level::Portable
        && let Some(constants) = &tile.constants.f32s()
        && let Some(tile) = tile.f32s(constants)
    {
        return level.dispatch(Steps(tile, lens));
    }
    plain_outputs(&mut tile);
    simd!(level, FMA => for (begin, count, len) in runs(lens) {
        plain_advance::<T, FMA>(tile.part(begin, (count, len)));
    });
}

/// Runs of equal numbers: where each begins, how many, and which.
#[inline(always)]
fn runs(lens: &[usize]) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut begin = 0;
    lens.chunk_by(|a, b| a == b).map(
        #[inline(always)]
        move |run| {
            begin += run.len();
            (begin - run.len(), run.len(), run[0])
        },
    )
}

/// The form that [`outputs`] must equal, by the matrix library.
fn plain_outputs<T: Scalar>(tile: &mut TileRows<'_, T>) {
    let TileRows { sizes, constants, states, ref mut rows, count, len, .. } = *tile;
    let (state, columns) = (sizes.state(), sizes.columns());
    let side = sizes.side_by_side();
    let used = len.div_ceil(side) * sizes.slots * side;
    let (of_state, of_inputs) = constants.to_outputs.split_at(state * columns);
    let mut sums = [T::zero(); MOST_ROWS * MOST_COLUMNS];
    let mut add = |a: Mat<'_, T>, depth: usize, right: &[T], beta: T| {
        let size = [count, used, depth];
        gemm(size, T::one(), a, Mat::rows(right, columns), beta, MatMut::rows(&mut sums, used));
    };
    // The states lie apart from each other: some numbers of each at a time.
    let mut some = [T::zero(); MOST_ROWS * SOME_STATES];
    for (begin, right) in (0..state).step_by(SOME_STATES).zip(of_state.chunks(SOME_STATES * columns)) {
        let depth = SOME_STATES.min(state - begin);
        for (to, x) in some.chunks_exact_mut(depth).zip(states).take(count) {
            to.copy_from_slice(&x[begin..][..depth]);
        }
        add(Mat::rows(&some, depth), depth, right, if begin == 0 { T::zero() } else { T::one() });
    }
    add(Mat::rows(rows, sizes.row()), len, of_inputs, T::one());
    for (row, sums) in rows.chunks_exact_mut(sizes.row()).zip(sums.chunks_exact(used)).take(count) {
        for (i, sums) in sums.chunks_exact(side).enumerate() {
            let at = sizes.output() + i % sizes.slots * BLOCK + i / sizes.slots * side;
            row[at..][..side].copy_from_slice(sums);
        }
    }
}

/// The form that [`advance`] must equal, by the matrix library.
#[inline(always)]
fn plain_advance<T: Scalar, const FMA: bool>(tile: TileRows<'_, T>) {
    let TileRows { sizes, constants, states, ends, end_stride, rows, count, len } = tile;
    let (row_len, padded, lanes) = (sizes.row(), sizes.padded, sizes.lanes);
    let (p_re, p_im) = constants.powers[(len - 1) * sizes.state()..][..sizes.state()].split_at(padded);
    let by_vector = constants.to_state.chunks_exact(sizes.slots * BLOCK * 2 * lanes);
    let mut increments = [T::zero(); MOST_ROWS * 2 * MOST_LANES];
    for (j, to_state) in by_vector.enumerate() {
        increments.fill(T::zero());
        for (slot, b) in to_state.chunks_exact(BLOCK * 2 * lanes).enumerate() {
            let size = [count, 2 * lanes, len];
            let a = Mat::rows(&rows[sizes.slot(slot)..], row_len);
            let b = Mat::rows(&b[(BLOCK - len) * 2 * lanes..], 2 * lanes);
            gemm(size, T::one(), a, b, T::one(), MatMut::rows(&mut increments, 2 * lanes));
        }
        let (p_re, p_im) = (&p_re[j * lanes..][..lanes], &p_im[j * lanes..][..lanes]);
        let adds = increments.chunks_exact(2 * lanes);
        for ((x, end), add) in states.iter().zip(ends.chunks_mut(end_stride)).zip(adds).take(count) {
            let (x_re, x_im) = (&x[j * lanes..][..lanes], &x[padded + j * lanes..][..lanes]);
            let (end_re, end_im) = end[..sizes.state()].split_at_mut(padded);
            let (end_re, end_im) = (&mut end_re[j * lanes..][..lanes], &mut end_im[j * lanes..][..lanes]);
            for l in 0..lanes {
                let (re, im) = (x_re[l], x_im[l]);
                end_re[l] = re + fma::<T, FMA>(p_re[l], re, fma::<T, FMA>(-p_im[l], im, add[l]));
                end_im[l] = im + fma::<T, FMA>(p_re[l], im, fma::<T, FMA>(p_im[l], re, add[lanes + l]));
            }
        }
    }
}

/// Whether there are thirty-two registers, not sixteen.
#[inline(always)]
fn many_registers<S: Simd>() -> bool {
    S::F32_LANES == 16
}

/// [`steps`] in vectors.
struct Steps<'a>(TileRows<'a, f32>, &'a [usize]);

impl WithSimd for Steps<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Steps(mut tile, lens) = self;
        outputs(s, &mut tile);
        for (begin, count, len) in runs(lens) {
            let part = tile.part(begin, (count, len));
            match many_registers::<S>() {
                true => advance::<S, 8>(s, part),
                false => advance::<S, 6>(s, part),
            }
        }
    }
}

#[inline(always)]
fn outputs<S: Simd>(s: S, tile: &mut TileRows<'_, f32>) {
    let TileRows { sizes, len, .. } = *tile;
    let vectors = len.div_ceil(sizes.side_by_side()) * sizes.slots * sizes.side_by_side() / sizes.lanes;
    let mut first = 0;
    while first < vectors {
        // Rows × vectors are sums that fit the registers with what they are made of.
        let left = vectors - first;
        first += match left {
            1 => outputs_of::<S, 8, 1>(s, tile, [0, first]),
            3 if many_registers::<S>() => outputs_of::<S, 8, 3>(s, tile, [0, first]),
            3 => {
                if tile.count > 4 {
                    outputs_of::<S, 4, 3>(s, tile, [4, first]);
                }
                outputs_of::<S, 4, 3>(s, tile, [0, first])
            }
            _ if many_registers::<S>() => outputs_of::<S, 8, 2>(s, tile, [0, first]),
            _ => outputs_of::<S, 6, 2>(s, tile, [0, first]),
        };
    }
}

/// acc += left · right: `depth` numbers of each of M rows, by as many rows of `columns` vectors, NV of them, from `first` on.
#[inline(always)]
fn accumulate<'a, S: Simd, const M: usize, const NV: usize>(
    s: S,
    acc: &mut [[S::f32s; NV]; M],
    (left, depth): (impl Fn(usize) -> &'a [f32], usize),
    (right, columns, first): (&[S::f32s], usize, usize),
) {
    let left: [&[f32]; M] = std::array::from_fn(
        #[inline(always)]
        |i| &apart(left(i))[..depth],
    );
    for (p, b) in right.chunks_exact(columns).take(depth).enumerate() {
        let b = &b[first..][..NV];
        for i in 0..M {
            let x = s.splat_f32s(left[i][p]);
            for v in 0..NV {
                acc[i][v] = s.mul_add_e_f32s(x, b[v], acc[i][v]);
            }
        }
    }
}

/// M rows from `begin` on, NV vectors of columns from `first` on. Gives NV.
#[inline(always)]
fn outputs_of<S: Simd, const M: usize, const NV: usize>(
    s: S,
    tile: &mut TileRows<'_, f32>,
    [begin, first]: [usize; 2],
) -> usize {
    let TileRows { sizes, constants, ref states, ref mut rows, count, len, .. } = *tile;
    let row = sizes.row();
    let rows = &mut rows[begin * row..][..M * row];
    let mut acc = [[s.splat_f32s(0.0); NV]; M];
    let columns = sizes.columns() / S::F32_LANES;
    let (of_state, of_inputs) = S::as_simd_f32s(constants.to_outputs).0.split_at(sizes.state() * columns);
    accumulate(
        s,
        &mut acc,
        (
            #[inline(always)]
            |i| states[begin + i],
            sizes.state(),
        ),
        (of_state, columns, first),
    );
    accumulate(
        s,
        &mut acc,
        (
            #[inline(always)]
            |i| &rows[i * row..],
            len,
        ),
        (of_inputs, columns, first),
    );
    let (side, output) = (sizes.side_by_side(), sizes.output());
    // Of a vector with two slots a half belongs to each; other vectors have one, and those of a time step follow each other.
    let half = S::F32_LANES / 2;
    let [mut slot, mut group] = [first % sizes.slots, first / sizes.slots];
    let mut vector = [0.0; MOST_LANES];
    for v in 0..NV {
        for i in 0..M {
            if begin + i < count {
                let to = &mut rows[i * row + output..][..sizes.slots * BLOCK];
                if sizes.slots == 2 {
                    S::as_mut_simd_f32s(&mut vector).0[0] = acc[i][v];
                    let (y, w) = to.split_at_mut(BLOCK);
                    y[(first + v) * half..][..half].copy_from_slice(&vector[..half]);
                    w[(first + v) * half..][..half].copy_from_slice(&vector[half..2 * half]);
                } else {
                    let to = &mut to[slot * BLOCK + group * side..][..S::F32_LANES];
                    S::as_mut_simd_f32s(to).0[0] = acc[i][v];
                }
            }
        }
        slot += 1;
        if slot == sizes.slots {
            [slot, group] = [0, group + 1];
        }
    }
    NV
}

/// The states after the time steps of M rows: x + (p∘x + increment), elementwise complex.
#[inline(always)]
fn advance<S: Simd, const M: usize>(s: S, tile: TileRows<'_, f32>) {
    let TileRows { sizes, constants, states, ends, end_stride, rows, count, len } = tile;
    let (row, vectors) = (sizes.row(), sizes.padded / S::F32_LANES);
    let rows = &rows[..M * row];
    let mut of_tile = ends.chunks_mut(end_stride).take(count);
    let ends: [&mut [S::f32s]; M] = std::array::from_fn(
        #[inline(always)]
        |_| match of_tile.next() {
            Some(end) => S::as_mut_simd_f32s(&mut end[..sizes.state()]).0,
            None => Default::default(),
        },
    );
    let powers = S::as_simd_f32s(&constants.powers[(len - 1) * sizes.state()..][..sizes.state()]).0;
    let (p_re, p_im) = powers.split_at(vectors);
    let to_state = S::as_simd_f32s(constants.to_state).0;
    let by_vector = to_state.chunks_exact(sizes.slots * BLOCK * 2);
    for (j, (to_state, (&p_re, &p_im))) in by_vector.zip(p_re.iter().zip(p_im)).enumerate() {
        let mut add = [[s.splat_f32s(0.0); 2]; M];
        for (slot, b) in to_state.chunks_exact(BLOCK * 2).enumerate() {
            let left: [&[f32]; M] = std::array::from_fn(
                #[inline(always)]
                |i| &apart(&rows[i * row + sizes.slot(slot)..])[..len],
            );
            for (k, b) in b.as_chunks::<2>().0[BLOCK - len..][..len].iter().enumerate() {
                for i in 0..M {
                    let x = s.splat_f32s(left[i][k]);
                    for v in 0..2 {
                        add[i][v] = s.mul_add_e_f32s(x, b[v], add[i][v]);
                    }
                }
            }
        }
        for i in 0..M {
            if i < count {
                let x = S::as_simd_f32s(states[i]).0;
                let (re, im) = (x[j], x[vectors + j]);
                let [add_re, add_im] = add[i];
                let step_re = s.mul_add_e_f32s(p_re, re, s.negate_mul_add_e_f32s(p_im, im, add_re));
                let step_im = s.mul_add_e_f32s(p_re, im, s.mul_add_e_f32s(p_im, re, add_im));
                ends[i][j] = s.add_f32s(re, step_re);
                ends[i][vectors + j] = s.add_f32s(im, step_im);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use s4_backend::random::Rng;

    #[test]
    fn tiles_equal_the_plain_form() {
        let mut rng = Rng::new(8, 0);
        let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.normal() as f32).collect() };
        let best = Level::detect();
        for level in [Level::Avx2, Level::Avx512].into_iter().filter(|&level| level <= best) {
            let lanes = if level == Level::Avx512 { 16 } else { 8 };
            for (pairs, slots) in [(32, 2), (32, 1), (2, 2), (5, 1), (16, 3), (16, 4), (70, 2)] {
                let sizes = BlockSizes { pairs, padded: pairs.next_multiple_of(lanes), slots, lanes };
                let (to_outputs, to_state) = (draw(sizes.to_outputs()), draw(sizes.to_state()));
                let powers = draw(BLOCK * sizes.state());
                let constants =
                    HeadConstants { to_outputs: &to_outputs, to_state: &to_state, powers: &powers };
                for (lens, len) in
                    [(vec![1], 1), (vec![4; 6], 4), (vec![10; 6], 10), (vec![10, 10, 7, 7, 7, 2], 10)]
                        .into_iter()
                        .chain([(vec![13; 5], 13), (vec![16, 1], 16), (vec![16; 6], 16), (vec![9, 5, 3], 9)])
                        .chain((level == Level::Avx512).then(|| (vec![12, 11, 11, 8, 8, 8, 8, 1], 12)))
                {
                    let (count, state, stride) = (lens.len(), sizes.state(), sizes.state() + 5);
                    let mut states: Vec<_> = (0..MOST_ROWS).map(|_| draw(state)).collect();
                    let mut before = (draw(2 * MOST_ROWS * sizes.row()), draw(count * stride));
                    // What is behind the last row is read, and comes to nothing.
                    before.0[count * sizes.row()..].fill(f32::NAN);
                    states[count..].iter_mut().for_each(|state| state.fill(f32::NAN));
                    let [mut fast, mut plain] = [before.clone(), before.clone()];
                    let what = format!("{level:?}, {pairs} pairs, {slots} slots, {lens:?} steps");
                    let (sizes, constants) = (&sizes, &constants);
                    let tile = |begin: usize,
                                (rows, ends): &mut (Vec<f32>, Vec<f32>),
                                count,
                                len,
                                f: &mut dyn FnMut(TileRows<'_, f32>)| {
                        let states = std::array::from_fn(|i| &states[(begin + i).min(MOST_ROWS - 1)][..]);
                        let (rows, ends) = (&mut rows[begin * sizes.row()..], &mut ends[begin * stride..]);
                        f(TileRows { sizes, constants, states, ends, end_stride: stride, rows, count, len });
                    };
                    tile(0, &mut fast, count, len, &mut |tile| steps(level, tile, &lens));
                    tile(0, &mut plain, count, len, &mut |mut tile| plain_outputs(&mut tile));
                    for (row, &len) in lens.iter().enumerate() {
                        tile(row, &mut plain, 1, len, &mut plain_advance::<f32, true>);
                    }
                    let end = count * sizes.row();
                    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(
                        bits(&fast.0[end..]),
                        bits(&before.0[end..]),
                        "{what}: written behind the rows"
                    );
                    for (i, end) in fast.1.chunks(stride).enumerate() {
                        assert_ne!(end[..state], before.1[i * stride..][..state], "{what}: states");
                        assert_eq!(
                            end[state..],
                            before.1[i * stride + state..][..5],
                            "{what}: behind a state"
                        );
                    }
                    let (mut error, mut norm) = (0.0, 0.0);
                    for (&a, &b) in fast.0[..end].iter().zip(&plain.0).chain(fast.1.iter().zip(&plain.1)) {
                        error += (f64::from(a) - f64::from(b)).powi(2);
                        norm += f64::from(b).powi(2);
                    }
                    let error = (error / norm).sqrt();
                    assert!(error.is_finite() && error <= 1e-5, "{what}: {error:e}");
                }
            }
        }
    }
}
