//! Rows of a head, which lie apart in a (batch, channels·H, len) array.

/// The rows of a (outer, H, len) array, all rows of head 0 first: what lets every head be one task. With
/// (batch, channels·H, len) the rows of a head are in the order (batch, channels).
pub(crate) fn rows_by_head<T>(data: &mut [T], len: usize, heads: usize) -> Vec<&mut [T]> {
    let outer = data.len() / (len * heads);
    let mut rows: Vec<&mut [T]> = Vec::new();
    rows.resize_with(outer * heads, Default::default);
    for (i, row) in data.chunks_exact_mut(len).enumerate() {
        rows[(i % heads) * outer + i / heads] = row;
    }
    rows
}
