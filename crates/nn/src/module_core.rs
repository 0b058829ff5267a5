//! What a [`crate::Module`] wraps: an SSM alone, or a block around one.

use crate::{
    block::BlockCore,
    config::{BlockConfig, LayerConfig},
    s4::S4Core,
};
use s4_backend::Backend;

/// Names of a module's operations in error messages.
#[doc(hidden)]
#[derive(Debug)]
pub struct OperationNames {
    pub forward: &'static str,
    pub backward: &'static str,
    pub step: &'static str,
    pub kernel: &'static str,
    pub initial_state: &'static str,
}

/// An SSM alone, or a block.
pub trait Core<B: Backend>: Send + 'static {
    /// Its options.
    type Config: Clone + Send;
    #[doc(hidden)]
    const NAMES: OperationNames;
    /// The configuration as JSON.
    fn config_json(config: &Self::Config) -> String;
    /// Of the initial values and of dropout.
    fn seed(config: &Self::Config) -> u64;
    #[doc(hidden)]
    fn s4(&self) -> &S4Core<B>;
    #[doc(hidden)]
    fn s4_mut(&mut self) -> &mut S4Core<B>;
    #[doc(hidden)]
    fn block(&self) -> Option<&BlockCore<B>>;
    #[doc(hidden)]
    fn block_mut(&mut self) -> Option<&mut BlockCore<B>>;
}

impl<B: Backend> Core<B> for S4Core<B> {
    type Config = LayerConfig;
    const NAMES: OperationNames = OperationNames {
        forward: "S4Layer.forward",
        backward: "S4Layer.backward",
        step: "S4Layer.step",
        kernel: "S4Layer.kernel",
        initial_state: "S4Layer.initialState",
    };
    fn config_json(config: &LayerConfig) -> String {
        config.to_json()
    }
    fn seed(config: &LayerConfig) -> u64 {
        config.seed
    }
    fn s4(&self) -> &S4Core<B> {
        self
    }
    fn s4_mut(&mut self) -> &mut S4Core<B> {
        self
    }
    fn block(&self) -> Option<&BlockCore<B>> {
        None
    }
    fn block_mut(&mut self) -> Option<&mut BlockCore<B>> {
        None
    }
}

impl<B: Backend> Core<B> for BlockCore<B> {
    type Config = BlockConfig;
    const NAMES: OperationNames = OperationNames {
        forward: "S4Block.forward",
        backward: "S4Block.backward",
        step: "S4Block.step",
        kernel: "S4Block.kernel",
        initial_state: "S4Block.initialState",
    };
    fn config_json(config: &BlockConfig) -> String {
        config.to_json()
    }
    fn seed(config: &BlockConfig) -> u64 {
        config.layer.seed
    }
    fn s4(&self) -> &S4Core<B> {
        &self.s4
    }
    fn s4_mut(&mut self) -> &mut S4Core<B> {
        &mut self.s4
    }
    fn block(&self) -> Option<&BlockCore<B>> {
        Some(self)
    }
    fn block_mut(&mut self) -> Option<&mut BlockCore<B>> {
        Some(self)
    }
}
