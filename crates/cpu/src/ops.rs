//! The operations of the contract, each in its own file, for the two scalars by name: so they are compiled here once. Implemented for every
//! scalar at once they would be compiled again in every program that calls them.

use crate::{
    Cpu, SsmPlan, Workspace,
    dense::{batch_norm, drop_path, embedding, layer_norm, linear, loss, mix, optim, pooling, sample},
    ssm::step::{self, StepPlan},
};
use s4_backend::*;

macro_rules! operations {
    ($T:ty) => {
        impl KernelOps for Cpu<$T> {
            fn kernel_forward(&self, args: KernelForward<'_, Self>, ws: &mut Workspace<$T>) -> Result<()> {
                self.kernel_by_blocks(args, ws)
            }
        }

        impl ConvOps for Cpu<$T> {
            fn conv_forward(&self, args: ConvForward<'_, Self>, ws: &mut Workspace<$T>) -> Result<()> {
                self.conv_by_fft(args, ws)
            }
        }

        impl SsmOps for Cpu<$T> {
            type SsmPlan = SsmPlan<$T>;

            fn ssm_plan(&self, spec: &SsmSpec) -> Result<SsmPlan<$T>> {
                SsmPlan::new(spec)
            }

            fn ssm_saved_len(&self, call: &SsmCall<'_, Self>) -> usize {
                self.sequence_saved_len(call)
            }

            fn ssm_forward(
                &self,
                args: SsmForward<'_, Self>,
                plan: &mut SsmPlan<$T>,
                ws: &mut Workspace<$T>,
            ) -> Result<()> {
                self.sequence_forward(args, plan, ws)
            }

            fn ssm_backward(
                &self,
                args: SsmBackward<'_, Self>,
                plan: &mut SsmPlan<$T>,
                ws: &mut Workspace<$T>,
            ) -> Result<()> {
                self.sequence_backward(args, plan, ws)
            }
        }

        impl StepOps for Cpu<$T> {
            type StepPlan = StepPlan<$T>;

            fn step_plan(&self, spec: &SsmSpec) -> Result<StepPlan<$T>> {
                StepPlan::new(self, spec)
            }

            fn step_plan_beside(&self, plan: &StepPlan<$T>, _: &SsmSpec) -> Result<StepPlan<$T>> {
                plan.beside(self)
            }

            fn ssm_step(
                &self,
                args: SsmStep<'_, Self>,
                plan: &mut StepPlan<$T>,
                ws: &mut Workspace<$T>,
            ) -> Result<()> {
                self.time_step(args, plan, ws)
            }

            fn ssm_steps(
                &self,
                args: SsmSteps<'_, Self>,
                plan: &mut StepPlan<$T>,
                ws: &mut Workspace<$T>,
            ) -> Result<()> {
                self.time_steps(args, plan, ws)
            }

            fn takes_steps_together(&self, spec: &SsmSpec, lens: &[usize]) -> bool {
                step::quicker_together(spec, lens)
            }

            fn most_steps_together(&self, spec: &SsmSpec) -> Option<usize> {
                step::most_together(spec)
            }
        }

        impl OptimOps for Cpu<$T> {
            fn sum_squares(&self, sum: &mut [$T], x: &[$T], ws: &mut Workspace<$T>) -> Result<()> {
                optim::sum_squares(self, sum, x, ws)
            }

            fn adamw(&self, args: AdamWUpdate<'_, Self>) -> Result<()> {
                optim::adamw(self, args)
            }

            fn scale(&self, x: &mut [$T], factor: f64, divisor: Option<&[$T]>) -> Result<()> {
                optim::scale(self, x, factor, divisor)
            }

            fn ema(&self, args: EmaUpdate<'_, Self>) -> Result<()> {
                optim::ema(self, args)
            }
        }

        impl DenseOps for Cpu<$T> {
            fn linear_forward(&self, args: LinearForward<'_, Self>, _: &mut Workspace<$T>) -> Result<()> {
                linear::forward(self, args)
            }

            fn linear_backward(&self, args: LinearBackward<'_, Self>, ws: &mut Workspace<$T>) -> Result<()> {
                linear::backward(self, args, ws)
            }

            fn layer_norm_forward(
                &self,
                args: LayerNormForward<'_, Self>,
                _: &mut Workspace<$T>,
            ) -> Result<()> {
                layer_norm::forward(self, args)
            }

            fn layer_norm_recompute(&self, args: LayerNormRecompute<'_, Self>) -> Result<()> {
                layer_norm::recompute(self, args)
            }

            fn layer_norm_backward(
                &self,
                args: LayerNormBackward<'_, Self>,
                ws: &mut Workspace<$T>,
            ) -> Result<()> {
                layer_norm::backward(self, args, ws)
            }

            fn batch_norm_forward(
                &self,
                args: BatchNormForward<'_, Self>,
                _: &mut Workspace<$T>,
            ) -> Result<()> {
                batch_norm::forward(self, args)
            }

            fn batch_norm_recompute(&self, args: BatchNormRecompute<'_, Self>) -> Result<()> {
                batch_norm::recompute(self, args)
            }

            fn batch_norm_backward(
                &self,
                args: BatchNormBackward<'_, Self>,
                ws: &mut Workspace<$T>,
            ) -> Result<()> {
                batch_norm::backward(self, args, ws)
            }

            fn batch_norm_moments(&self, args: BatchNormMoments<'_, Self>) -> Result<()> {
                batch_norm::moments(self, args)
            }

            fn batch_norm_joint(&self, args: BatchNormJoint<'_, Self>) -> Result<()> {
                batch_norm::joint(self, args)
            }

            fn batch_norm_gradient_sums(&self, args: BatchNormGradientSums<'_, Self>) -> Result<()> {
                batch_norm::gradient_sums(self, args)
            }

            fn batch_norm_input_gradient(&self, args: BatchNormInputGradient<'_, Self>) -> Result<()> {
                batch_norm::input_gradient(self, args)
            }

            fn mix_saved_len(&self, _: &MixCall) -> usize {
                mix::SAVED
            }

            fn mix_forward(&self, args: MixForward<'_, Self>, ws: &mut Workspace<$T>) -> Result<()> {
                mix::forward(self, args, ws)
            }

            fn mix_backward(&self, args: MixBackward<'_, Self>, ws: &mut Workspace<$T>) -> Result<()> {
                mix::backward(self, args, ws)
            }

            fn drop_path(&self, args: DropPath<'_, Self>) -> Result<()> {
                drop_path::forward(self, args)
            }

            fn zero_beyond_lengths(&self, args: ZeroBeyondLengths<'_, Self>) -> Result<()> {
                pooling::zero_beyond_lengths(self, args)
            }

            fn pool_forward(&self, args: PoolForward<'_, Self>) -> Result<()> {
                pooling::forward(self, args)
            }

            fn pool_backward(&self, args: PoolBackward<'_, Self>) -> Result<()> {
                pooling::backward(self, args)
            }

            fn embedding_forward(&self, args: EmbeddingForward<'_, Self>) -> Result<()> {
                embedding::forward(self, args)
            }

            fn embedding_backward(
                &self,
                args: EmbeddingBackward<'_, Self>,
                _: &mut Workspace<$T>,
            ) -> Result<()> {
                embedding::backward(self, args)
            }

            fn loss_forward_backward(
                &self,
                args: LossForwardBackward<'_, Self>,
                ws: &mut Workspace<$T>,
            ) -> Result<()> {
                loss::forward_backward(self, args, ws)
            }

            fn sample_tokens(&self, args: SampleTokens<'_, Self>) -> Result<()> {
                sample::sample(self, args)
            }
        }
    };
}

operations!(f32);
operations!(f64);
