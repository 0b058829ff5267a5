//! The slices of a head, which lie apart in a (batch, channels·H, len) array.

/// Cuts an (rows_per_head, H, len) array into slices of len and gives those of head 0 first, then those of head 1, and so on,
/// so that every head can be one task. Of a (batch, channels·H, len) array the slices of a head come in the order
/// (batch, channels).
pub(crate) fn rows_by_head<T>(data: &mut [T], len: usize, heads: usize) -> Vec<&mut [T]> {
    let rows_per_head = data.len() / (len * heads);
    let mut rows: Vec<&mut [T]> = Vec::new();
    rows.resize_with(rows_per_head * heads, Default::default);
    for (i, row) in data.chunks_exact_mut(len).enumerate() {
        rows[(i % heads) * rows_per_head + i / heads] = row;
    }
    rows
}
