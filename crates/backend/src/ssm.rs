//! The SSM as one operation, parameters and u to y, by either algorithm.

use crate::{Memory, Result, SsmGrads, SsmParams, SsmSpec};

/// How an SSM is applied to a whole sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// The backend picks by shape, from measurements.
    Auto,
    /// The paper: Cauchy kernel and FFT convolution.
    Fft,
    /// Chunked state passing (no kernel of the sequence's length).
    Chunk,
}

/// One application: what, on which sizes, how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SsmCall {
    /// The layer.
    pub spec: SsmSpec,
    /// Rows.
    pub batch: usize,
    /// L.
    pub len: usize,
    /// Multiplies every Δ.
    pub rate: f64,
    /// How.
    pub algorithm: Algorithm,
    /// Counter that changes whenever the parameters do; constants are kept in the plan while
    /// (version, rate, what else they depend on) stand still.
    pub version: u64,
}

/// The SSM: y_t = C x_t + D u_t with x_t = Ā x_{t−1} + B̄ u_t (paper eq. 3), its end state and its gradients.
///
/// Rows may have lengths of their own (`lengths`: (batch), 1 ≤ length ≤ len): a row then gives what it would
/// give alone, its end state is the state after its own last sample, y beyond it is 0, dy beyond it counts
/// as 0, and du beyond it is 0. Two-sided and truncated layers take and give no state.
pub trait SsmOps: Memory {
    /// Constants of one layer, kept between calls: kernel or its spectrum, chunk constants.
    type SsmPlan: Send + 'static;

    /// An empty plan.
    fn ssm_plan(&self, spec: &SsmSpec) -> Result<Self::SsmPlan>;

    /// Which algorithm `Auto` means for this call (with or without states); others return themselves, or an
    /// error where the layer cannot run so (a truncated kernel needs `Fft`).
    fn ssm_algorithm(&self, call: &SsmCall) -> Result<Algorithm>;

    /// Elements of the `saved` buffer between forward and backward for this call; may be 0.
    fn ssm_saved_len(&self, call: &SsmCall) -> usize;

    /// `y`: (batch, channels·H, len). `state_end`: (batch, H, 2, N/2) or not wanted. `saved`: filled for
    /// [`SsmOps::ssm_backward`], `None` in inference. `state0`: the state before the first sample, or zero.
    fn ssm_forward(
        &self,
        y: Self::Mut<'_>,
        state_end: Option<Self::Mut<'_>>,
        saved: Option<Self::Mut<'_>>,
        u: Self::Ref<'_>,
        state0: Option<Self::Ref<'_>>,
        lengths: Option<&Self::Ints>,
        params: &SsmParams<'_, Self>,
        call: &SsmCall,
        plan: &mut Self::SsmPlan,
        ws: &mut Self::Workspace,
    ) -> Result<()>;

    /// Gradients of sum(y·dy) + sum(state_end·dstate_end). `du`, `dstate0` overwrite, `grads` accumulate
    /// (all of them, `grads.d` too).
    fn ssm_backward(
        &self,
        du: Option<Self::Mut<'_>>,
        dstate0: Option<Self::Mut<'_>>,
        grads: SsmGrads<'_, Self>,
        dy: Self::Ref<'_>,
        dstate_end: Option<Self::Ref<'_>>,
        u: Self::Ref<'_>,
        state0: Option<Self::Ref<'_>>,
        saved: Self::Ref<'_>,
        lengths: Option<&Self::Ints>,
        params: &SsmParams<'_, Self>,
        call: &SsmCall,
        plan: &mut Self::SsmPlan,
        ws: &mut Self::Workspace,
    ) -> Result<()>;
}
