//! The two products of a block of time steps (`step_blocks.rs`), a tile of registers at a time.
//!
//! Each sequence has a row [x | u | y | w_1 | … | w_R]: its state of one head, and T numbers each for the inputs, outputs and low-rank
//! coefficients of the block's time steps. [`outputs`] makes y and w out of x and u, [`advance`] the new x. Real and imaginary parts of
//! the state are padded to whole vectors by zeros.

use crate::{
    Level,
    linalg::{
        gemm::{Mat, MatMut, gemm},
        math::fma,
        matvec_simd::{f32s, f32s_mut},
        simd::{apart, simd},
    },
};
use pulp::{Simd, WithSimd};
use s4_backend::{Scalar, SsmSpec};

/// T: time steps of a block.
pub(crate) const BLOCK: usize = 16;
/// Rows of the tallest tile.
pub(crate) const MOST_ROWS: usize = 8;
/// Most numbers of a vector.
const MOST_LANES: usize = 16;
/// Most columns of `to_outputs`: ranks are 8 at the most.
const MOST_COLUMNS: usize = 9 * BLOCK;

/// Sizes of a head's constants and of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockSizes {
    /// N/2, and as many as whole vectors have.
    pairs: usize,
    padded: usize,
    /// 1 + R: numbers of a time step, (y, w_1, …) and (u, w_1, …).
    pub(crate) slots: usize,
    /// Numbers of a vector.
    lanes: usize,
}

impl BlockSizes {
    /// The sizes of a layer.
    pub(crate) fn of(spec: &SsmSpec, level: Level) -> Self {
        let lanes = if level == Level::Avx512 { 16 } else { 8 };
        let pairs = spec.pairs();
        BlockSizes { pairs, padded: pairs.next_multiple_of(lanes), slots: 1 + spec.rank, lanes }
    }

    /// Numbers of a padded state.
    pub(crate) fn state(&self) -> usize {
        2 * self.padded
    }
    /// Where number i of a state stands in a row.
    pub(crate) fn state_at(&self, i: usize) -> usize {
        if i < self.pairs { i } else { self.padded + i - self.pairs }
    }
    /// Where the inputs stand in a row.
    pub(crate) fn input(&self) -> usize {
        self.state()
    }
    /// Where the outputs stand in a row, before the coefficients.
    pub(crate) fn output(&self) -> usize {
        self.state() + BLOCK
    }
    /// Where the numbers of a slot stand in a row that are added to the state: the inputs, or the coefficients.
    fn slot(&self, slot: usize) -> usize {
        self.input() + if slot == 0 { 0 } else { (1 + slot) * BLOCK }
    }
    /// Length of a row.
    pub(crate) fn row(&self) -> usize {
        self.output() + self.slots * BLOCK
    }

    /// Time steps that stand side by side in [`HeadConstants::to_outputs`]: with a rank of 1 a vector has half of each slot, so that less of it
    /// is wasted where there are fewer time steps than T.
    fn side_by_side(&self) -> usize {
        if self.slots == 2 { self.lanes / 2 } else { self.lanes }
    }
    /// Columns of `to_outputs`.
    fn columns(&self) -> usize {
        self.slots * BLOCK
    }
    /// Where `to_outputs` has what slot `slot` of time step k reads of number i of a row.
    pub(crate) fn to_output_at(&self, i: usize, (k, slot): (usize, usize)) -> usize {
        let side = self.side_by_side();
        i * self.columns() + (k / side * self.slots + slot) * side + k % side
    }
    /// Where `to_state` has what slot `slot` of time step j adds to number i of a padded state.
    pub(crate) fn to_state_at(&self, (j, slot): (usize, usize), i: usize) -> usize {
        let (part, pair) = (i / self.padded, i % self.padded);
        let (vector, lane) = (pair / self.lanes, pair % self.lanes);
        (((vector * self.slots + slot) * BLOCK + j) * 2 + part) * self.lanes + lane
    }
    /// Lengths of a head's constants.
    pub(crate) fn to_outputs(&self) -> usize {
        self.to_outputs_of(BLOCK)
    }
    /// As many of `to_outputs` as `len` time steps need.
    pub(crate) fn to_outputs_of(&self, len: usize) -> usize {
        (self.state() + len) * self.columns()
    }
    /// Numbers of `to_state` that `len` time steps of a slot have for a vector of pairs.
    pub(crate) fn to_state_part(&self, len: usize) -> usize {
        len * 2 * self.lanes
    }
    pub(crate) fn to_state(&self) -> usize {
        self.slots * BLOCK * self.state()
    }
    pub(crate) fn constants(&self) -> usize {
        self.to_outputs() + self.to_state() + BLOCK * self.state()
    }

    /// Writes a state to a row.
    #[inline(always)]
    pub(crate) fn put_state<T: Scalar>(&self, row: &mut [T], state: &[T]) {
        if self.pairs == self.padded {
            return copy(&mut row[..state.len()], state);
        }
        let (re, im) = row[..self.state()].split_at_mut(self.padded);
        for (to, from) in [re, im].into_iter().zip(state.chunks_exact(self.pairs)) {
            to[..self.pairs].copy_from_slice(from);
            to[self.pairs..].fill(T::zero());
        }
    }
    /// Reads the state of a row.
    #[inline(always)]
    pub(crate) fn take_state<T: Scalar>(&self, state: &mut [T], row: &[T]) {
        if self.pairs == self.padded {
            return copy(state, &row[..state.len()]);
        }
        for (to, from) in state.chunks_exact_mut(self.pairs).zip(row.chunks_exact(self.padded)) {
            to.copy_from_slice(&from[..self.pairs]);
        }
    }
}

/// `to` ← `from`, in whole vectors: they are few, and a call for each head and sequence would take as long as they do.
#[inline(always)]
fn copy<T: Scalar>(to: &mut [T], from: &[T]) {
    for (to, from) in to.as_chunks_mut::<8>().0.iter_mut().zip(from.as_chunks::<8>().0) {
        *to = *from;
    }
}

/// The constants of one head.
pub(crate) struct HeadConstants<'a, T> {
    /// (state + T, T·slots): from [x₀ | u] to (y, w_1, …) of each time step; columns as [`BlockSizes::to_output_at`] has them.
    pub(crate) to_outputs: &'a [T],
    /// From (u, w_1, …) of each time step to the state's increment, as [`BlockSizes::to_state_at`] has them.
    pub(crate) to_state: &'a [T],
    /// (T, state): D₀^k − 1 for k = 1, 2, ….
    pub(crate) powers: &'a [T],
}

impl<'a, T: Scalar> HeadConstants<'a, T> {
    /// As f32, where they are.
    fn f32s(&self) -> Option<HeadConstants<'a, f32>> {
        let HeadConstants { to_outputs, to_state, powers } = *self;
        Some(HeadConstants {
            to_outputs: f32s(to_outputs)?,
            to_state: f32s(to_state)?,
            powers: f32s(powers)?,
        })
    }
}

/// What both products work on: rows of sequences, one head. `count` rows are written; what lies behind the last of them, up to a whole tile, is
/// read.
struct Rows<'a, T> {
    sizes: &'a BlockSizes,
    constants: &'a HeadConstants<'a, T>,
    rows: &'a mut [T],
    count: usize,
    /// Time steps.
    len: usize,
    /// What is needed next; a part of it is asked for with each tile.
    ahead: &'a mut dyn FnMut(),
}

/// y and w of the first `len` time steps in the first `count` rows.
pub(crate) fn outputs<T: Scalar>(
    level: Level,
    sizes: &BlockSizes,
    constants: &HeadConstants<'_, T>,
    rows: &mut [T],
    (count, len): (usize, usize),
    ahead: &mut dyn FnMut(),
) {
    if let (true, Some(constants), Some(rows)) =
        (level > Level::Portable, &constants.f32s(), f32s_mut(&mut *rows))
    {
        return level.dispatch(Outputs(Rows { sizes, constants, rows, count, len, ahead }));
    }
    plain_outputs(Rows { sizes, constants, rows, count, len, ahead });
}

/// The states after `len` time steps in the first `count` rows.
pub(crate) fn advance<T: Scalar>(
    level: Level,
    sizes: &BlockSizes,
    constants: &HeadConstants<'_, T>,
    rows: &mut [T],
    (count, len): (usize, usize),
    ahead: &mut dyn FnMut(),
) {
    if let (true, Some(constants), Some(rows)) =
        (level > Level::Portable, &constants.f32s(), f32s_mut(&mut *rows))
    {
        return level.dispatch(Advance(Rows { sizes, constants, rows, count, len, ahead }));
    }
    simd!(level, FMA => plain_advance::<T, FMA>(Rows { sizes, constants, rows, count, len, ahead }));
}

/// The form that [`Outputs`] must equal, by the matrix library.
fn plain_outputs<T: Scalar>(args: Rows<'_, T>) {
    let Rows { sizes, constants, rows, count, len, .. } = args;
    let (row_len, columns, depth) = (sizes.row(), sizes.columns(), sizes.state() + len);
    let side = sizes.side_by_side();
    let used = len.div_ceil(side) * sizes.slots * side;
    let mut sums = [T::zero(); MOST_ROWS * MOST_COLUMNS];
    for rows in rows[..count * row_len].chunks_mut(MOST_ROWS * row_len) {
        let size = [rows.len() / row_len, used, depth];
        let (a, b) = (Mat::rows(rows, row_len), Mat::rows(constants.to_outputs, columns));
        gemm(size, T::one(), a, b, T::zero(), MatMut::rows(&mut sums, used));
        for (row, sums) in rows.chunks_exact_mut(row_len).zip(sums.chunks_exact(used)) {
            for (i, sums) in sums.chunks_exact(side).enumerate() {
                let at = sizes.output() + i % sizes.slots * BLOCK + i / sizes.slots * side;
                row[at..][..side].copy_from_slice(sums);
            }
        }
    }
}

/// The form that [`Advance`] must equal, by the matrix library.
#[inline(always)]
fn plain_advance<T: Scalar, const FMA: bool>(args: Rows<'_, T>) {
    let Rows { sizes, constants, rows, count, len, .. } = args;
    let (row_len, padded, lanes) = (sizes.row(), sizes.padded, sizes.lanes);
    let (p_re, p_im) = constants.powers[(len - 1) * sizes.state()..][..sizes.state()].split_at(padded);
    let by_vector = constants.to_state.chunks_exact(sizes.slots * BLOCK * 2 * lanes);
    let mut increments = [T::zero(); MOST_ROWS * 2 * MOST_LANES];
    for rows in rows[..count * row_len].chunks_mut(MOST_ROWS * row_len) {
        for (j, to_state) in by_vector.clone().enumerate() {
            increments.fill(T::zero());
            for (slot, b) in to_state.chunks_exact(BLOCK * 2 * lanes).enumerate() {
                let size = [rows.len() / row_len, 2 * lanes, len];
                let a = Mat::rows(&rows[sizes.slot(slot)..], row_len);
                let b = Mat::rows(&b[(BLOCK - len) * 2 * lanes..], 2 * lanes);
                gemm(size, T::one(), a, b, T::one(), MatMut::rows(&mut increments, 2 * lanes));
            }
            let (p_re, p_im) = (&p_re[j * lanes..][..lanes], &p_im[j * lanes..][..lanes]);
            for (row, add) in rows.chunks_exact_mut(row_len).zip(increments.chunks_exact(2 * lanes)) {
                let (x_re, x_im) = row[..sizes.state()].split_at_mut(padded);
                let (x_re, x_im) = (&mut x_re[j * lanes..][..lanes], &mut x_im[j * lanes..][..lanes]);
                for l in 0..lanes {
                    let (re, im) = (x_re[l], x_im[l]);
                    x_re[l] = re + fma::<T, FMA>(p_re[l], re, fma::<T, FMA>(-p_im[l], im, add[l]));
                    x_im[l] = im + fma::<T, FMA>(p_re[l], im, fma::<T, FMA>(p_im[l], re, add[lanes + l]));
                }
            }
        }
    }
}

/// Whether there are thirty-two registers, not sixteen.
#[inline(always)]
fn many_registers<S: Simd>() -> bool {
    S::F32_LANES == 16
}

/// [`outputs`] in vectors.
struct Outputs<'a>(Rows<'a, f32>);

impl WithSimd for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let Rows { sizes, count, len, .. } = self.0;
        let vectors = len.div_ceil(sizes.side_by_side()) * sizes.slots * sizes.side_by_side() / sizes.lanes;
        let mut first = 0;
        while first < vectors {
            // Rows × vectors of a tile are sums that fit the registers with what they are made of.
            match vectors - first {
                1 => {
                    (0..count).step_by(8).for_each(|begin| self.tile::<S, 8, 1>(s, begin, first));
                    first += 1;
                }
                3 if many_registers::<S>() => {
                    (0..count).step_by(8).for_each(|begin| self.tile::<S, 8, 3>(s, begin, first));
                    first += 3;
                }
                3 => {
                    (0..count).step_by(4).for_each(|begin| self.tile::<S, 4, 3>(s, begin, first));
                    first += 3;
                }
                _ if many_registers::<S>() => {
                    (0..count).step_by(8).for_each(|begin| self.tile::<S, 8, 2>(s, begin, first));
                    first += 2;
                }
                _ => {
                    (0..count).step_by(6).for_each(|begin| self.tile::<S, 6, 2>(s, begin, first));
                    first += 2;
                }
            }
        }
    }
}

impl Outputs<'_> {
    /// M rows from `begin` on, NV vectors of columns from `first` on.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const NV: usize>(&mut self, s: S, begin: usize, first: usize) {
        let Rows { sizes, constants, ref mut rows, count, len, ref mut ahead } = self.0;
        ahead();
        let (row, depth) = (sizes.row(), sizes.state() + len);
        let rows = &mut rows[begin * row..][..M * row];
        let mut acc = [[s.splat_f32s(0.0); NV]; M];
        let left: [&[f32]; M] = std::array::from_fn(
            #[inline(always)]
            |i| &apart(&rows[i * row..])[..depth],
        );
        let columns = sizes.columns() / S::F32_LANES;
        let to_outputs = S::as_simd_f32s(constants.to_outputs).0;
        for (p, b) in to_outputs.chunks_exact(columns).take(depth).enumerate() {
            let b = &b[first..][..NV];
            for i in 0..M {
                let x = s.splat_f32s(left[i][p]);
                for v in 0..NV {
                    acc[i][v] = s.mul_add_e_f32s(x, b[v], acc[i][v]);
                }
            }
        }
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
    }
}

/// [`advance`] in vectors.
struct Advance<'a>(Rows<'a, f32>);

impl WithSimd for Advance<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, s: S) {
        let count = self.0.count;
        if many_registers::<S>() {
            return (0..count).step_by(8).for_each(|begin| self.tile::<S, 8>(s, begin));
        }
        (0..count).step_by(6).for_each(|begin| self.tile::<S, 6>(s, begin));
    }
}

impl Advance<'_> {
    /// M rows from `begin` on: x ← x + (p∘x + increment), elementwise complex.
    #[inline(always)]
    fn tile<S: Simd, const M: usize>(&mut self, s: S, begin: usize) {
        let Rows { sizes, constants, ref mut rows, count, len, ref mut ahead } = self.0;
        ahead();
        let (row, vectors) = (sizes.row(), sizes.padded / S::F32_LANES);
        let mut of_tile = rows[begin * row..][..M * row].chunks_exact_mut(row);
        let rows: [(&mut [S::f32s], [&[f32]; 2]); M] = std::array::from_fn(
            #[inline(always)]
            |_| match of_tile.next() {
                Some(row) => {
                    let (x, numbers) = row.split_at_mut(sizes.state());
                    (S::as_mut_simd_f32s(x).0, [&numbers[..len], &numbers[2 * BLOCK..]])
                }
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
                    |i| match slot {
                        0 => &apart(rows[i].1[0])[..len],
                        r => &apart(&rows[i].1[1][(r - 1) * BLOCK..])[..len],
                    },
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
                if begin + i < count {
                    let x = &mut *rows[i].0;
                    let (re, im) = (x[j], x[vectors + j]);
                    let [add_re, add_im] = add[i];
                    let step_re = s.mul_add_e_f32s(p_re, re, s.negate_mul_add_e_f32s(p_im, im, add_re));
                    let step_im = s.mul_add_e_f32s(p_re, im, s.mul_add_e_f32s(p_im, re, add_im));
                    x[j] = s.add_f32s(re, step_re);
                    x[vectors + j] = s.add_f32s(im, step_im);
                }
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
            for (pairs, slots) in [(32, 2), (32, 1), (2, 2), (5, 1), (16, 4)] {
                let sizes = BlockSizes { pairs, padded: pairs.next_multiple_of(lanes), slots, lanes };
                let (to_outputs, to_state) = (draw(sizes.to_outputs()), draw(sizes.to_state()));
                let powers = draw(BLOCK * sizes.state());
                let constants =
                    HeadConstants { to_outputs: &to_outputs, to_state: &to_state, powers: &powers };
                for (count, len) in [(1, 1), (7, 4), (36, 10), (13, 5), (6, 16), (36, 13), (5, 9)] {
                    let before = draw((count + MOST_ROWS) * sizes.row());
                    let [mut fast, mut plain] = [before.clone(), before.clone()];
                    let mut tiles = 0;
                    outputs(level, &sizes, &constants, &mut fast, (count, len), &mut || tiles += 1);
                    advance(level, &sizes, &constants, &mut fast, (count, len), &mut || tiles += 1);
                    assert!(tiles >= 2);
                    let mut ahead = || {};
                    let rows = &mut plain[..];
                    let (sizes, constants) = (&sizes, &constants);
                    plain_outputs(Rows { sizes, constants, rows, count, len, ahead: &mut ahead });
                    let rows = &mut plain[..];
                    plain_advance::<f32, true>(Rows {
                        sizes,
                        constants,
                        rows,
                        count,
                        len,
                        ahead: &mut ahead,
                    });
                    let what = format!("{level:?}, {pairs} pairs, {slots} slots, {count} rows, {len} steps");
                    let end = count * sizes.row();
                    assert_eq!(fast[end..], before[end..], "{what}: written behind the rows");
                    let (mut error, mut norm) = (0.0, 0.0);
                    for (&a, &b) in fast.iter().zip(&plain) {
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
