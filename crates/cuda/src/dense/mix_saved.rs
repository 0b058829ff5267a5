//! What the forward pass of a mix on Hopper saves for its backward pass (`mix_sm90.rs`).

use super::mix_sm90::HopperMix;
use crate::{device::Cuda, driver::Span, memory::DeviceBlock};
use s4_backend::{Result, random::DropKey};

/// Forward saves the f16 copy of a, of single numbers, for backward up to this size; larger ones are recomputed, and those of pairs; where ds are rows, it saves all.
const MAX_SAVED_A_BYTES: usize = 60 << 20;

/// What forward saves for backward: largest magnitudes; of single f16 numbers also the copy of W, one bit per element for each of the
/// two dropouts, and the copy of a. With pairs, whose products take longer, backward makes these again, since 'highest' is to hold
/// little memory. Where ds are rows, the slopes of the activation at s stand for s and for the masks after the activation.
pub(super) struct SavedParts {
    pub(super) largest: Span,
    pub(super) w: Option<Span>,
    pub(super) gate_masks: Option<Span>,
    pub(super) activation_masks: Option<Span>,
    pub(super) a: Option<Span>,
    pub(super) slopes: Option<Span>,
}

impl HopperMix<'_> {
    /// Bytes of each of [`SavedParts`].
    pub(super) fn saved_part_bytes(&self) -> [usize; 6] {
        let ([gate, activation], a) = (self.mask_bytes(), self.a_bytes(self.batch));
        let parts = match self.products {
            1 if self.rows_of_ds => [16, self.w_bytes(), gate, 0, a, a],
            1 => [16, self.w_bytes(), gate, activation, if a <= MAX_SAVED_A_BYTES { a } else { 0 }, 0],
            _ => [16, 0, 0, 0, 0, 0],
        };
        parts.map(|n| n.next_multiple_of(128))
    }

    /// Bytes of the bits of the masks after the gate and of those after the activation, 0 where there are none.
    pub(super) fn mask_bytes(&self) -> [usize; 2] {
        // As the kernels ask: below the smallest threshold nothing is drawn, so nothing is kept.
        match DropKey::threshold(self.spec.dropout) > 0 {
            true => [
                self.tiles(self.rows(), self.batch) * 256 * 8,
                self.batch * self.columns() * self.spec.inputs * 32,
            ],
            false => [0, 0],
        }
    }

    /// Bytes of the f16 copy of W.
    pub(super) fn w_bytes(&self) -> usize {
        self.copy_bytes(self.rows() * self.spec.inputs)
    }

    /// Bytes of the f16 copy of a, (batch, inputs, len).
    pub(super) fn a_bytes(&self, batch: usize) -> usize {
        self.copy_bytes(batch * self.spec.inputs * self.len)
    }

    /// The saved memory `span`, divided.
    pub(super) fn saved_parts(&self, span: Span) -> SavedParts {
        let mut at = 0;
        let mut parts = self.saved_part_bytes().map(|bytes| {
            at += bytes;
            span.part(at - bytes, bytes)
        });
        parts[0] = parts[0].part(0, 16);
        let [largest, rest @ ..] = parts;
        let [w, gate_masks, activation_masks, a, slopes] =
            rest.map(|span: Span| (span.bytes() > 0).then_some(span));
        SavedParts { largest, w, gate_masks, activation_masks, a, slopes }
    }

    /// `kept`, or memory of the call's own, with what owns it.
    pub(super) fn kept_or_own(
        be: &Cuda,
        op: &'static str,
        kept: Option<Span>,
        bytes: usize,
    ) -> Result<(Span, Option<DeviceBlock>)> {
        if let Some(kept) = kept {
            return Ok((kept, None));
        }
        let own = be.block(op, bytes)?;
        Ok((own.span(), Some(own)))
    }

    /// The masks after the activation, kept or to be drawn again, with what owns their memory; `None` where nothing is dropped, or where
    /// slopes hold them.
    #[allow(clippy::type_complexity)]
    pub(super) fn activation_masks(
        &self,
        be: &Cuda,
        op: &'static str,
        kept: Option<Span>,
    ) -> Result<(Option<Span>, Option<DeviceBlock>)> {
        match self.mask_bytes()[1] {
            _ if self.rows_of_ds => Ok((None, None)),
            0 => Ok((None, None)),
            bytes => Self::kept_or_own(be, op, kept, bytes).map(|(span, own)| (Some(span), own)),
        }
    }
}
