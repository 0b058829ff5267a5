//! The operations of the perturbed backend. One table gives the kind (input, overwritten output, accumulated output, …)
//! of every field of every struct of arguments, so that no output can be forgotten: without an entry for each field the
//! code does not compile.

use super::Perturbed;
use s4_backend::*;

/// The binding of a field's variable: mutable where a view is lent to the inner backend.
macro_rules! binding {
    (set $x:ident) => { mut $x };
    (set_option $x:ident) => { mut $x };
    (add $x:ident) => { mut $x };
    (add_option $x:ident) => { mut $x };
    (stats $x:ident) => { mut $x };
    (ssm_grads $x:ident) => { mut $x };
    (mix_grads $x:ident) => { mut $x };
    ($kind:ident $x:ident) => { $x };
}

/// The names of the outputs in a field of this kind; none for an input.
macro_rules! output_names {
    (set $x:ident) => {
        &[stringify!($x)]
    };
    (set_option $x:ident) => {
        &[stringify!($x)]
    };
    (add $x:ident) => {
        &[stringify!($x)]
    };
    (add_option $x:ident) => {
        &[stringify!($x)]
    };
    (stats $x:ident) => {
        &["stats.loss", "stats.metrics"]
    };
    (ssm_grads $x:ident) => {
        &["grads.inv_dt", "grads.a_real", "grads.a_imag", "grads.b", "grads.c", "grads.p", "grads.d"]
    };
    (mix_grads $x:ident) => {
        &["grads.weight", "grads.bias"]
    };
    ($kind:ident $x:ident) => {
        &[]
    };
}

/// A field of the arguments; where the operation adds to it, together with a copy of its values before.
macro_rules! hold_output {
    ($to:ident, $op:expr, add $x:ident) => {{
        let before = $to.copy_if_target($op, stringify!($x), &$x)?;
        ($x, before)
    }};
    ($to:ident, $op:expr, add_option $x:ident) => {
        match $x {
            Some(view) => {
                let before = $to.copy_if_target($op, stringify!($x), &view)?;
                Some((view, before))
            }
            None => None,
        }
    };
    ($to:ident, $op:expr, stats $x:ident) => {{
        let mut view = $x;
        let before = {
            let (loss, metrics) = $to.inner.split_mut($to.inner.reborrow(&mut view), 1);
            [
                $to.copy_if_target($op, "stats.loss", &loss)?,
                $to.copy_if_target($op, "stats.metrics", &metrics)?,
            ]
        };
        (view, before)
    }};
    ($to:ident, $op:expr, ssm_grads $x:ident) => {{
        let before = [
            $to.copy_if_target($op, "grads.inv_dt", &$x.inv_dt)?,
            $to.copy_if_target($op, "grads.a_real", &$x.a_real)?,
            $to.copy_if_target($op, "grads.a_imag", &$x.a_imag)?,
            $to.copy_if_target($op, "grads.b", &$x.b)?,
            $to.copy_if_target($op, "grads.c", &$x.c)?,
            $to.copy_if_target($op, "grads.p", &$x.p)?,
            $to.copy_if_target($op, "grads.d", &$x.d)?,
        ];
        ($x, before)
    }};
    ($to:ident, $op:expr, mix_grads $x:ident) => {{
        let before = [
            $to.copy_if_target($op, "grads.weight", &$x.weight)?,
            $to.copy_if_target($op, "grads.bias", &$x.bias)?,
        ];
        ($x, before)
    }};
    ($to:ident, $op:expr, $kind:ident $x:ident) => {
        $x
    };
}

/// The field as an argument of the inner backend.
macro_rules! lend_to_inner {
    ($be:ident, set $x:ident) => {
        $be.reborrow(&mut $x)
    };
    ($be:ident, set_option $x:ident) => {
        $x.as_mut().map(|view| $be.reborrow(view))
    };
    ($be:ident, add $x:ident) => {
        $be.reborrow(&mut $x.0)
    };
    ($be:ident, add_option $x:ident) => {
        $x.as_mut().map(|(view, _)| $be.reborrow(view))
    };
    ($be:ident, stats $x:ident) => {
        $be.reborrow(&mut $x.0)
    };
    ($be:ident, ssm_grads $x:ident) => {
        SsmGrads {
            inv_dt: $be.reborrow(&mut $x.0.inv_dt),
            a_real: $be.reborrow(&mut $x.0.a_real),
            a_imag: $be.reborrow(&mut $x.0.a_imag),
            b: $be.reborrow(&mut $x.0.b),
            c: $be.reborrow(&mut $x.0.c),
            p: $be.reborrow(&mut $x.0.p),
            d: $be.reborrow(&mut $x.0.d),
        }
    };
    ($be:ident, mix_grads $x:ident) => {
        MixGrads { weight: $be.reborrow(&mut $x.0.weight), bias: $be.reborrow(&mut $x.0.bias) }
    };
    ($be:ident, view $x:ident) => {
        $be.shorten($x)
    };
    ($be:ident, view_option $x:ident) => {
        $x.map(|view| $be.shorten(view))
    };
    ($be:ident, ssm_params $x:ident) => {
        SsmParams {
            inv_dt: $be.shorten($x.inv_dt),
            a_real: $be.shorten($x.a_real),
            a_imag: $be.shorten($x.a_imag),
            b: $be.shorten($x.b),
            c: $be.shorten($x.c),
            p: $be.shorten($x.p),
            d: $be.shorten($x.d),
        }
    };
    ($be:ident, mix_params $x:ident) => {
        MixParams { weight: $be.shorten($x.weight), bias: $be.shorten($x.bias) }
    };
    ($be:ident, target $x:ident) => {
        match $x {
            Target::Values(values) => Target::Values($be.shorten(values)),
            Target::Labels(labels) => Target::Labels(labels),
        }
    };
    ($be:ident, ssm_call $x:ident) => {
        inner_call(&$x)
    };
    ($be:ident, value $x:ident) => {
        $x
    };
}

/// Makes the outputs in a field wrong where they are the target.
macro_rules! perturb_output {
    ($to:ident, $op:expr, set $x:ident) => {
        $to.perturb_overwritten($op, stringify!($x), $x)?
    };
    ($to:ident, $op:expr, set_option $x:ident) => {
        if let Some(view) = $x {
            $to.perturb_overwritten($op, stringify!($x), view)?
        }
    };
    ($to:ident, $op:expr, add $x:ident) => {
        $to.perturb_accumulated($x.1, $x.0)?
    };
    ($to:ident, $op:expr, add_option $x:ident) => {
        if let Some((view, before)) = $x {
            $to.perturb_accumulated(before, view)?
        }
    };
    ($to:ident, $op:expr, stats $x:ident) => {
        let (view, [loss_before, metrics_before]) = $x;
        let (loss, metrics) = $to.inner.split_mut(view, 1);
        $to.perturb_accumulated(loss_before, loss)?;
        $to.perturb_accumulated(metrics_before, metrics)?
    };
    ($to:ident, $op:expr, ssm_grads $x:ident) => {
        let (SsmGrads { inv_dt, a_real, a_imag, b, c, p, d }, before) = $x;
        for (before, view) in before.into_iter().zip([inv_dt, a_real, a_imag, b, c, p, d]) {
            $to.perturb_accumulated(before, view)?
        }
    };
    ($to:ident, $op:expr, mix_grads $x:ident) => {
        let (MixGrads { weight, bias }, before) = $x;
        for (before, view) in before.into_iter().zip([weight, bias]) {
            $to.perturb_accumulated(before, view)?
        }
    };
    ($to:ident, $op:expr, $kind:ident $x:ident) => {};
}

/// Defines for each operation a function that runs it on the inner backend and then makes its outputs wrong where they
/// are the target; defines also the list of all outputs.
macro_rules! operations {
    ($($op:ident($args:ident) { $($x:ident: $kind:ident),+ $(,)? })+) => {
        pub(super) const OUTPUTS: &[(&str, &[&[&str]])] =
            &[("sum_squares", &[&["acc"]]), ("scale", &[&["x"]]), $((stringify!($op), &[$(output_names!($kind $x)),+])),+];

        $(fn $op<B: Backend>(
            to: &Perturbed<B>,
            args: $args<'_, Perturbed<B>>,
            run: impl FnOnce(&B, $args<'_, B>) -> Result<()>,
        ) -> Result<()> {
            const OP: &str = stringify!($op);
            let be = &to.inner;
            let $args { $($x),+ } = args;
            $(let binding!($kind $x) = hold_output!(to, OP, $kind $x);)+
            run(be, $args { $($x: lend_to_inner!(be, $kind $x)),+ })?;
            $(perturb_output!(to, OP, $kind $x);)+
            Ok(())
        })+
    };
}

operations! {
    kernel_forward(KernelForward) { kernel: set, params: ssm_params, spec: value, len: value, rate: value }
    conv_forward(ConvForward) { y: set, u: view, kernel: view, d: view_option, shape: value }
    ssm_forward(SsmForward) {
        y: set, state_end: set_option, saved: set_option, u: view, state0: view_option, params: ssm_params,
        call: ssm_call,
    }
    ssm_backward(SsmBackward) {
        du: set_option, dstate0: set_option, grads: ssm_grads, dy: view, dstate_end: view_option, u: view,
        state0: view_option, saved: view, params: ssm_params, call: ssm_call,
    }
    ssm_step(SsmStep) {
        y: set, state: set, u: view, interval: view_option, params: ssm_params, spec: value, batch: value,
        rate: value, version: value,
    }
    ssm_steps(SsmSteps) {
        y: set, state_end: set, u: view, state0: view, lens: value, params: ssm_params, spec: value, rate: value,
        version: value,
    }
    linear_forward(LinearForward) { y: set, x: view, weight: view, bias: view_option, shape: value }
    linear_backward(LinearBackward) {
        dx: set_option, dweight: add, dbias: add_option, dy: view, x: view, weight: view, shape: value,
    }
    layer_norm_forward(LayerNormForward) {
        y: set, stats: set, x: view, gamma: view, beta: view, eps: value, shape: value,
    }
    layer_norm_recompute(LayerNormRecompute) {
        y: set, stats: view, x: view, gamma: view, beta: view, shape: value,
    }
    layer_norm_backward(LayerNormBackward) {
        dx: set, dgamma: add, dbeta: add, dy: view, x: view, stats: view, gamma: view, residual: view_option,
        shape: value,
    }
    batch_norm_forward(BatchNormForward) {
        y: set_option, stats: set, running: set, x: view, moments: view_option, gamma: view, beta: view, lengths: value, eps: value,
        momentum: value, training: value, shape: value,
    }
    batch_norm_recompute(BatchNormRecompute) {
        y: set, stats: view, x: view, gamma: view, beta: view, lengths: value, shape: value,
    }
    batch_norm_backward(BatchNormBackward) {
        dx: set, dgamma: add, dbeta: add, dy: view, x: view, stats: view, gamma: view, residual: view_option,
        lengths: value, training: value, shape: value,
    }
    batch_norm_moments(BatchNormMoments) { moments: set, x: view, lengths: value, shape: value }
    batch_norm_joint(BatchNormJoint) {
        stats: set, running: set, moments: view, ranks: value, heads: value, eps: value, momentum: value,
    }
    batch_norm_gradient_sums(BatchNormGradientSums) {
        sums: set, dgamma: add, dbeta: add, dy: view, x: view, stats: view, lengths: value, shape: value,
    }
    batch_norm_input_gradient(BatchNormInputGradient) {
        dx: set, dy: view, x: view, stats: view, sums: view, gamma: view, residual: view_option, lengths: value,
        shape: value,
    }
    mix_forward(MixForward) {
        y: set, saved: set_option, s: view, residual: view_option, params: mix_params, call: value,
    }
    mix_backward(MixBackward) {
        ds: set, grads: mix_grads, dy: view, s: view, saved: view, params: mix_params, call: value,
    }
    drop_path(DropPath) {
        y: set, x: view, residual: view_option, probability: value, key: value, batch: value, elements: value,
    }
    zero_beyond_lengths(ZeroBeyondLengths) { x: set, lengths: value, shape: value }
    pool_forward(PoolForward) { y: set, x: view, lengths: value, pooling: value, shape: value }
    pool_backward(PoolBackward) {
        dx: set, dy: view, x: view, lengths: value, pooling: value, shape: value,
    }
    embedding_forward(EmbeddingForward) { y: set, table: view, tokens: value, vocabulary: value, shape: value }
    embedding_backward(EmbeddingBackward) {
        dtable: add, dy: view, tokens: value, vocabulary: value, shape: value,
    }
    loss_forward_backward(LossForwardBackward) {
        stats: stats, doutput: set_option, predictions: set_option, output: view, target: target,
        row_weights: view_option, class_weights: view_option, loss: value, top_k: value, rows: value,
        outputs: value, denominator: value,
    }
    sample_tokens(SampleTokens) {
        tokens: value, progress: value, seen: value, results: set, logits: view, sampling: value, seed: value,
        rows: value, vocabulary: value, window: value,
    }
    adamw(AdamWUpdate) { value: set, m: set, v: set, grad: view, guard: view, hyper: value, clip: value }
    ema(EmaUpdate) { average: set, value: view, guard: view, decay: value }
}

/// The same call with the inner backend as its type.
fn inner_call<'a, B: Backend>(call: &SsmCall<'a, Perturbed<B>>) -> SsmCall<'a, B> {
    let &SsmCall { spec, batch, len, options, version } = call;
    SsmCall { spec, batch, len, options: options.with_arrays(options.lengths, options.intervals), version }
}

impl<B: Backend> KernelOps for Perturbed<B> {
    fn kernel_forward(&self, args: KernelForward<'_, Self>, ws: &mut B::Workspace) -> Result<()> {
        kernel_forward(self, args, |be, args| be.kernel_forward(args, ws))
    }
}

impl<B: Backend> ConvOps for Perturbed<B> {
    fn conv_forward(&self, args: ConvForward<'_, Self>, ws: &mut B::Workspace) -> Result<()> {
        conv_forward(self, args, |be, args| be.conv_forward(args, ws))
    }
}

impl<B: Backend> SsmOps for Perturbed<B> {
    type SsmPlan = B::SsmPlan;

    fn ssm_plan(&self, spec: &SsmSpec) -> Result<B::SsmPlan> {
        self.inner.ssm_plan(spec)
    }
    fn ssm_saved_len(&self, call: &SsmCall<'_, Self>) -> usize {
        self.inner.ssm_saved_len(&inner_call(call))
    }
    fn ssm_reads_input(
        &self,
        call: &SsmCall<'_, Self>,
        saved: B::Ref<'_>,
        states: bool,
        plan: &B::SsmPlan,
    ) -> bool {
        self.inner.ssm_reads_input(&inner_call(call), saved, states, plan)
    }
    fn ssm_forward(
        &self,
        args: SsmForward<'_, Self>,
        plan: &mut B::SsmPlan,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        ssm_forward(self, args, |be, args| be.ssm_forward(args, plan, ws))
    }
    fn ssm_backward(
        &self,
        args: SsmBackward<'_, Self>,
        plan: &mut B::SsmPlan,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        ssm_backward(self, args, |be, args| be.ssm_backward(args, plan, ws))
    }
}

impl<B: Backend> StepOps for Perturbed<B> {
    type StepPlan = B::StepPlan;

    fn step_plan(&self, spec: &SsmSpec) -> Result<B::StepPlan> {
        self.inner.step_plan(spec)
    }
    fn ssm_step(&self, args: SsmStep<'_, Self>, plan: &mut B::StepPlan, ws: &mut B::Workspace) -> Result<()> {
        ssm_step(self, args, |be, args| be.ssm_step(args, plan, ws))
    }
    fn ssm_steps(
        &self,
        args: SsmSteps<'_, Self>,
        plan: &mut B::StepPlan,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        ssm_steps(self, args, |be, args| be.ssm_steps(args, plan, ws))
    }
    fn takes_steps_together(&self, spec: &SsmSpec, lens: &[usize]) -> bool {
        self.inner.takes_steps_together(spec, lens)
    }

    fn most_steps_together(&self, spec: &SsmSpec) -> Option<usize> {
        self.inner.most_steps_together(spec)
    }
}

impl<B: Backend> DenseOps for Perturbed<B> {
    fn linear_forward(&self, args: LinearForward<'_, Self>, ws: &mut B::Workspace) -> Result<()> {
        linear_forward(self, args, |be, args| be.linear_forward(args, ws))
    }
    fn linear_backward(&self, args: LinearBackward<'_, Self>, ws: &mut B::Workspace) -> Result<()> {
        linear_backward(self, args, |be, args| be.linear_backward(args, ws))
    }
    fn layer_norm_forward(&self, args: LayerNormForward<'_, Self>, ws: &mut B::Workspace) -> Result<()> {
        layer_norm_forward(self, args, |be, args| be.layer_norm_forward(args, ws))
    }
    fn layer_norm_recompute(&self, args: LayerNormRecompute<'_, Self>) -> Result<()> {
        layer_norm_recompute(self, args, |be, args| be.layer_norm_recompute(args))
    }
    fn layer_norm_backward(&self, args: LayerNormBackward<'_, Self>, ws: &mut B::Workspace) -> Result<()> {
        layer_norm_backward(self, args, |be, args| be.layer_norm_backward(args, ws))
    }
    fn batch_norm_forward(&self, args: BatchNormForward<'_, Self>, ws: &mut B::Workspace) -> Result<()> {
        batch_norm_forward(self, args, |be, args| be.batch_norm_forward(args, ws))
    }
    fn batch_norm_recompute(&self, args: BatchNormRecompute<'_, Self>) -> Result<()> {
        batch_norm_recompute(self, args, |be, args| be.batch_norm_recompute(args))
    }
    fn batch_norm_backward(&self, args: BatchNormBackward<'_, Self>, ws: &mut B::Workspace) -> Result<()> {
        batch_norm_backward(self, args, |be, args| be.batch_norm_backward(args, ws))
    }
    fn batch_norm_moments(&self, args: BatchNormMoments<'_, Self>) -> Result<()> {
        batch_norm_moments(self, args, |be, args| be.batch_norm_moments(args))
    }
    fn batch_norm_joint(&self, args: BatchNormJoint<'_, Self>) -> Result<()> {
        batch_norm_joint(self, args, |be, args| be.batch_norm_joint(args))
    }
    fn batch_norm_gradient_sums(&self, args: BatchNormGradientSums<'_, Self>) -> Result<()> {
        batch_norm_gradient_sums(self, args, |be, args| be.batch_norm_gradient_sums(args))
    }
    fn batch_norm_input_gradient(&self, args: BatchNormInputGradient<'_, Self>) -> Result<()> {
        batch_norm_input_gradient(self, args, |be, args| be.batch_norm_input_gradient(args))
    }
    fn mix_saved_len(&self, call: &MixCall) -> usize {
        self.inner.mix_saved_len(call)
    }
    fn mix_forward(&self, args: MixForward<'_, Self>, ws: &mut B::Workspace) -> Result<()> {
        mix_forward(self, args, |be, args| be.mix_forward(args, ws))
    }
    fn mix_backward(&self, args: MixBackward<'_, Self>, ws: &mut B::Workspace) -> Result<()> {
        mix_backward(self, args, |be, args| be.mix_backward(args, ws))
    }
    fn drop_path(&self, args: DropPath<'_, Self>) -> Result<()> {
        drop_path(self, args, |be, args| be.drop_path(args))
    }
    fn zero_beyond_lengths(&self, args: ZeroBeyondLengths<'_, Self>) -> Result<()> {
        zero_beyond_lengths(self, args, |be, args| be.zero_beyond_lengths(args))
    }
    fn pool_forward(&self, args: PoolForward<'_, Self>) -> Result<()> {
        pool_forward(self, args, |be, args| be.pool_forward(args))
    }
    fn pool_backward(&self, args: PoolBackward<'_, Self>) -> Result<()> {
        pool_backward(self, args, |be, args| be.pool_backward(args))
    }
    fn embedding_forward(&self, args: EmbeddingForward<'_, Self>) -> Result<()> {
        embedding_forward(self, args, |be, args| be.embedding_forward(args))
    }
    fn embedding_backward(&self, args: EmbeddingBackward<'_, Self>, ws: &mut B::Workspace) -> Result<()> {
        embedding_backward(self, args, |be, args| be.embedding_backward(args, ws))
    }
    fn loss_forward_backward(
        &self,
        args: LossForwardBackward<'_, Self>,
        ws: &mut B::Workspace,
    ) -> Result<()> {
        loss_forward_backward(self, args, |be, args| be.loss_forward_backward(args, ws))
    }
    fn sample_tokens(&self, args: SampleTokens<'_, Self>) -> Result<()> {
        sample_tokens(self, args, |be, args| be.sample_tokens(args))
    }
}

impl<B: Backend> OptimOps for Perturbed<B> {
    fn sum_squares(&self, mut acc: B::Mut<'_>, x: B::Ref<'_>, ws: &mut B::Workspace) -> Result<()> {
        let before = self.copy_if_target("sum_squares", "acc", &acc)?;
        self.inner.sum_squares(self.inner.reborrow(&mut acc), x, ws)?;
        self.perturb_accumulated(before, acc)
    }
    fn adamw(&self, args: AdamWUpdate<'_, Self>) -> Result<()> {
        adamw(self, args, |be, args| be.adamw(args))
    }
    fn scale(&self, mut x: B::Mut<'_>, factor: f64, divisor: Option<B::Ref<'_>>) -> Result<()> {
        self.inner.scale(self.inner.reborrow(&mut x), factor, divisor)?;
        self.perturb_overwritten("scale", "x", x)
    }
    fn ema(&self, args: EmaUpdate<'_, Self>) -> Result<()> {
        ema(self, args, |be, args| be.ema(args))
    }
}

impl<B: Backend> CommOps for Perturbed<B> {}
