//! Transposes: of large arrays by strips, of small ones with a function of each element.

use s4_backend::Scalar;

/// Side of a tile that is transposed on the way through a buffer in L1: rows of a power of two of elements
/// would otherwise fall into the same few cache sets.
pub(crate) const TILE: usize = 32;

/// Rows c0 … of the transpose of `s` (rows, cols).
pub(crate) fn transpose_strip<T: Scalar>(d: &mut [T], s: &[T], rows: usize, cols: usize, c0: usize) {
    let width = d.len() / rows;
    let mut tile = [[T::zero(); TILE]; TILE];
    for r0 in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - r0);
        for (r, line) in tile[..height].iter_mut().enumerate() {
            line[..width].copy_from_slice(&s[(r0 + r) * cols + c0..][..width]);
        }
        for c in 0..width {
            let d = &mut d[c * rows + r0..][..height];
            for (d, line) in d.iter_mut().zip(&tile) {
                *d = line[c];
            }
        }
    }
}

/// Side of the blocks that [`transpose_map`] goes by: they fit the registers of any machine.
const BLOCK: usize = 4;

/// `to` (columns, rows) ← the transpose of `from` (rows, columns), each element through `f`.
#[inline(always)]
pub(crate) fn transpose_map<S: Scalar, T: Scalar>(
    to: &mut [T],
    ld_to: usize,
    from: &[S],
    ld: usize,
    [rows, columns]: [usize; 2],
    f: impl Fn(S) -> T,
) {
    for i in (0..rows).step_by(BLOCK) {
        for j in (0..columns).step_by(BLOCK) {
            if rows - i < BLOCK || columns - j < BLOCK {
                for i in i..rows.min(i + BLOCK) {
                    for j in j..columns.min(j + BLOCK) {
                        to[j * ld_to + i] = f(from[i * ld + j]);
                    }
                }
                continue;
            }
            let mut block = [[T::zero(); BLOCK]; BLOCK];
            for k in 0..BLOCK {
                let from = &from[(i + k) * ld + j..][..BLOCK];
                for l in 0..BLOCK {
                    block[l][k] = f(from[l]);
                }
            }
            for l in 0..BLOCK {
                to[(j + l) * ld_to + i..][..BLOCK].copy_from_slice(&block[l]);
            }
        }
    }
}
