//! The products of a linear layer on Hopper, of f16 copies of the operands (`kernels/dense/products_sm90.cu`,
//! `kernels/dense/product_copies_sm90.cu`), for every precision below [`Precision::Highest`].

use super::{
    dropout::{DropoutKey, drop_args},
    f16_copies::F16CopiesMode,
};
use crate::{
    Precision,
    device::Cuda,
    driver::{ElementType, Span, TensorMap, args},
    memory::DeviceBlock,
};
use s4_backend::{MixCall, Result, random::DropKey};

/// Shared memory of the products whose result is (batch, rows, len), bytes: three stages of a 128 × 64 and of a 64 × 256 box
/// of f16, two staging areas, barriers, and what alignment takes.
const SHARED_BYTES: usize = 3 * (48 << 10) + (64 << 10) + (2 << 10);
/// Shared memory of the gradient of W, bytes: four stages.
const SHARED_WEIGHTS_BYTES: usize = 4 * (48 << 10) + (2 << 10);
/// Time steps of a tile.
const TILE_STEPS: usize = 256;
/// Operations of a product below which the copies would take longer than they save.
const LEAST_WORK: usize = 1 << 29;
/// The batch is gone through in portions of which no copy has more than this many bytes.
const MAX_COPY_BYTES: usize = 112 << 20;

/// A linear layer that these kernels serve, with its sizes.
#[derive(Clone, Copy, Debug)]
pub(super) struct HopperProducts {
    batch: usize,
    outputs: usize,
    inputs: usize,
    len: usize,
}

/// What a layer multiplies: an array x, or a = dropout(activation(s)) of an array s, as a mix has it.
#[derive(Clone, Copy)]
pub(super) enum ProductInput<'a> {
    Array(Span),
    Activated(Span, &'a MixCall),
}

/// Where the gradients of a layer go: dx (of s, where the input is activated) is overwritten, dW accumulates.
pub(super) struct ProductGradients {
    pub(super) dx: Option<Span>,
    pub(super) dweight: Span,
}

/// f16 copies of x, W and dy of one portion of the batch, those that were asked for.
struct Copies {
    blocks: [Option<DeviceBlock>; 3],
    /// Largest magnitudes of the three.
    magnitudes: DeviceBlock,
}

impl Copies {
    fn span(&self, i: usize) -> Span {
        self.blocks[i].as_ref().expect("a copy that was made").span()
    }
}

impl HopperProducts {
    /// The layer (batch, outputs, inputs, len), or `None` where the general kernels serve it: the copy engine needs rows that
    /// begin at multiples of 16 bytes, and the copies enough work.
    pub(super) fn if_supported(
        be: &Cuda,
        (batch, outputs, inputs, len): (usize, usize, usize, usize),
    ) -> Option<Self> {
        let largest = [inputs, outputs, len, batch, outputs * inputs].into_iter().max().unwrap_or(0);
        let tiles = outputs.max(inputs).div_ceil(128) * len.div_ceil(TILE_STEPS) * batch;
        let serves = be.precision() != Precision::Highest
            && len % 8 == 0
            && inputs % 8 == 0
            && inputs >= 64
            && outputs >= 64
            && largest < 1 << 30
            && tiles < 1 << 30
            && 2 * outputs * inputs * len * batch >= LEAST_WORK
            && be.multiplies_by_warpgroups();
        serves.then_some(HopperProducts { batch, outputs, inputs, len })
    }

    /// Sequences of a portion.
    fn portion(&self) -> usize {
        let bytes = 2 * self.inputs.max(self.outputs) * self.len;
        (MAX_COPY_BYTES / bytes).clamp(1, self.batch)
    }

    /// Copies of `arrays` (x, W, dy), those that are there, and of an activated x for `count` sequences from `b0` on: `masks` keeps
    /// what its dropout draws, a bit per element.
    fn copies(
        &self,
        be: &Cuda,
        op: &'static str,
        arrays: [Option<Span>; 3],
        activated: Option<(Span, &MixCall, Option<Span>)>,
        (b0, count): (usize, usize),
    ) -> Result<Copies> {
        let magnitudes = be.block(op, 24)?;
        be.zero(magnitudes.span().part(0, 24))?;
        let mut blocks = [None, None, None];
        let mut octets = [0; 3];
        for (i, array) in arrays.iter().enumerate() {
            if let Some(array) = array {
                octets[i] = array.bytes() / 32;
                blocks[i] = Some(be.block(op, array.bytes() / 2)?);
            }
        }
        let largest = octets.into_iter().max().unwrap_or(0);
        let grid = |blocks: usize| (blocks.max(1), 3, 1);
        let module = "product_copies_sm90";
        be.launch(
            (module, "sample_magnitudes"),
            grid(largest.div_ceil(256).min(64)),
            (256, 1),
            0,
            args![
                &magnitudes,
                blocks[0].as_ref(),
                arrays[0],
                octets[0],
                blocks[1].as_ref(),
                arrays[1],
                octets[1],
                blocks[2].as_ref(),
                arrays[2],
                octets[2]
            ],
        )?;
        let modes = [F16CopiesMode::Guess, F16CopiesMode::Fit];
        for mode in modes {
            be.launch(
                (module, "f16_copies"),
                grid(largest.div_ceil(256).min(16 * be.processors())),
                (256, 1),
                0,
                args![
                    &magnitudes,
                    blocks[0].as_ref(),
                    arrays[0],
                    octets[0],
                    blocks[1].as_ref(),
                    arrays[1],
                    octets[1],
                    blocks[2].as_ref(),
                    arrays[2],
                    octets[2],
                    mode.code()
                ],
            )?;
        }
        if let Some((s, call, masks)) = activated {
            let a = be.block(op, 2 * count * self.inputs * self.len)?;
            let drop = DropoutKey::new(call, 0);
            let lines = count * self.inputs;
            let units = lines * self.len.div_ceil(TILE_STEPS);
            for mode in modes {
                be.launch(
                    (module, "activated_copy"),
                    (units.div_ceil(8).min(16 * be.processors()), 1, 1),
                    (256, 1),
                    0,
                    drop_args![
                        drop; &magnitudes, &a, masks, s, b0 * self.inputs, lines, self.len, self.inputs, mode.code(),
                        call.spec.activation.code()
                    ],
                )?;
            }
            blocks[0] = Some(a);
        }
        Ok(Copies { blocks, magnitudes })
    }

    /// The bits of the masks of an activated input, where something is dropped.
    fn masks(&self, be: &Cuda, op: &'static str, call: &MixCall) -> Result<Option<DeviceBlock>> {
        let bytes = self.batch * self.len.div_ceil(TILE_STEPS) * self.inputs * 32;
        (DropKey::threshold(call.spec.dropout) > 0).then(|| be.block(op, bytes)).transpose()
    }

    /// An array (batch, rows, len) of f16 in boxes of `height` rows.
    fn boxes(
        &self,
        op: &'static str,
        span: Span,
        (batch, rows): (usize, usize),
        height: usize,
    ) -> Result<TensorMap> {
        TensorMap::new(op, span, ElementType::F16, (batch, rows, self.len), (height, 128))
    }

    /// An array (batch, rows, len) of f32 in boxes of 64 rows.
    fn boxes_f32(&self, op: &'static str, span: Span, (batch, rows): (usize, usize)) -> Result<TensorMap> {
        TensorMap::new(op, span, ElementType::F32, (batch, rows, self.len), (64, 128))
    }

    /// Blocks, one per multiprocessor, that go through all tiles of a result (batch, rows, len).
    fn grid(&self, be: &Cuda, batch: usize, rows: usize) -> (usize, usize, usize) {
        let tiles = rows.div_ceil(128) * self.len.div_ceil(TILE_STEPS) * batch;
        (tiles.min(be.processors()), 1, 1)
    }

    /// y (batch, outputs, len) = W x + bias.
    pub(super) fn forward(
        &self,
        be: &Cuda,
        op: &'static str,
        y: Span,
        x: ProductInput<'_>,
        (weight, bias): (Span, Option<Span>),
    ) -> Result<()> {
        let &HopperProducts { batch, outputs, inputs, len } = self;
        let (to, own) = be.aligned_place(op, y)?;
        let (array, activated, masks, _s) = self.input(be, op, x)?;
        let portion = self.portion();
        for b0 in (0..batch).step_by(portion) {
            let count = portion.min(batch - b0);
            let line = 4 * len;
            let array = array.map(|x| x.part(b0 * inputs * line, count * inputs * line));
            let activated = activated.map(|(s, call)| (s, call, masks.as_ref().map(|m| m.span())));
            let copies = self.copies(be, op, [array, Some(weight), None], activated, (b0, count))?;
            be.launch(
                ("products_sm90", "product_forward"),
                self.grid(be, count, outputs),
                (384, 1),
                SHARED_BYTES,
                args![
                    self.boxes_f32(
                        op,
                        to.part(b0 * outputs * line, count * outputs * line),
                        (count, outputs)
                    )?,
                    TensorMap::new(op, copies.span(1), ElementType::F16, (1, outputs, inputs), (128, 128))?,
                    self.boxes(op, copies.span(0), (count, inputs), 64)?,
                    bias,
                    &copies.magnitudes,
                    outputs,
                    inputs,
                    len,
                    count
                ],
            )?;
        }
        if own.is_some() {
            be.copy_span(y, to)?;
        }
        Ok(())
    }

    /// dx = Wᵀ dy, or ds = (Wᵀ dy)·mask·f′(s) of an activated input, and dW += Σ dy·xᵀ.
    pub(super) fn backward(
        &self,
        be: &Cuda,
        op: &'static str,
        gradients: ProductGradients,
        dy: Span,
        x: ProductInput<'_>,
        weight: Span,
    ) -> Result<()> {
        let &HopperProducts { batch, outputs, inputs, len } = self;
        let ProductGradients { dx, dweight } = gradients;
        let place = dx.map(|dx| be.aligned_place(op, dx)).transpose()?;
        let (array, activated, masks, _s) = self.input(be, op, x)?;
        let masks = masks.as_ref().map(|m| m.span());
        let portion = self.portion();
        for b0 in (0..batch).step_by(portion) {
            let count = portion.min(batch - b0);
            let line = 4 * len;
            let part = |span: Span, rows: usize| span.part(b0 * rows * line, count * rows * line);
            let arrays = [array.map(|x| part(x, inputs)), dx.map(|_| weight), Some(part(dy, outputs))];
            let with_masks = activated.map(|(s, call)| (s, call, masks));
            let copies = self.copies(be, op, arrays, with_masks, (b0, count))?;
            self.weight_gradient(be, op, dweight, &copies, count)?;
            let Some((to, _)) = &place else { continue };
            let w = TensorMap::new(op, copies.span(1), ElementType::F16, (1, outputs, inputs), (64, 128))?;
            let grid = self.grid(be, count, inputs);
            let dy = self.boxes(op, copies.span(2), (count, outputs), 64)?;
            if let Some((s, call)) = activated {
                let f = call.spec.activation.code();
                let scale = DropoutKey::new(call, 0).scale;
                let (ds, s) =
                    (self.boxes_f32(op, *to, (batch, inputs))?, self.boxes_f32(op, s, (batch, inputs))?);
                be.launch(
                    ("products_sm90", "product_backward_activated"),
                    grid,
                    (384, 1),
                    SHARED_BYTES,
                    args![ds, s, w, dy, masks, &copies.magnitudes, b0, outputs, inputs, len, count, f, scale],
                )?;
            } else {
                be.launch(
                    ("products_sm90", "product_backward"),
                    grid,
                    (384, 1),
                    SHARED_BYTES,
                    args![
                        self.boxes_f32(op, part(*to, inputs), (count, inputs))?,
                        w,
                        dy,
                        &copies.magnitudes,
                        outputs,
                        inputs,
                        len,
                        count
                    ],
                )?;
            }
        }
        match (dx, place) {
            (Some(dx), Some((to, Some(_own)))) => be.copy_span(dx, to),
            _ => Ok(()),
        }
    }

    /// dW += Σ dy·xᵀ over a portion: as many parts of the sum as fill the chip once, of eight steps or more.
    fn weight_gradient(
        &self,
        be: &Cuda,
        op: &'static str,
        dweight: Span,
        copies: &Copies,
        count: usize,
    ) -> Result<()> {
        let &HopperProducts { outputs, inputs, len, .. } = self;
        let (kernel, width) =
            if inputs <= 128 { ("product_weights_128", 128) } else { ("product_weights_256", 256) };
        let tiles = (outputs.div_ceil(128), inputs.div_ceil(width));
        let steps = count * len.div_ceil(64);
        let parts = (be.processors() / (tiles.0 * tiles.1)).clamp(1, steps.div_ceil(8));
        let slices = be.scratch(op, parts * outputs * inputs)?;
        be.launch(
            ("products_sm90", kernel),
            (tiles.0, tiles.1, parts),
            (384, 1),
            SHARED_WEIGHTS_BYTES,
            args![
                self.boxes(op, copies.span(2), (count, outputs), 128)?,
                self.boxes(op, copies.span(0), (count, inputs), width / 2)?,
                &slices,
                &copies.magnitudes,
                outputs,
                inputs,
                len,
                count
            ],
        )?;
        be.launch_elementwise(
            ("gemm", "reduce_parts"),
            outputs * inputs,
            args![dweight, &slices, outputs * inputs, parts as i32],
        )
    }

    /// The parts of an input: the array x; s at an address that kernels can read by 16 bytes, with its call; room for masks; what owns
    /// a copy of s.
    #[allow(clippy::type_complexity)]
    fn input<'a>(
        &self,
        be: &Cuda,
        op: &'static str,
        x: ProductInput<'a>,
    ) -> Result<(Option<Span>, Option<(Span, &'a MixCall)>, Option<DeviceBlock>, Option<DeviceBlock>)> {
        match x {
            ProductInput::Array(x) => Ok((Some(x), None, None, None)),
            ProductInput::Activated(s, call) => {
                let (s, own) = be.aligned_copy(op, s)?;
                Ok((None, Some((s, call)), self.masks(be, op, call)?, own))
            }
        }
    }
}
