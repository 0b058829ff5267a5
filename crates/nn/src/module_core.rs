//! What differs between the two things that a [`crate::Module`] wraps: an SSM alone, and a block around one.

use crate::{
    block::BlockCore,
    config::{BlockConfig, LayerConfig},
    s4::S4Core,
};
use s4_backend::Backend;

/// Names of the operations of a layer or a block, as error messages say them.
#[doc(hidden)]
#[derive(Debug)]
pub struct OperationNames {
    pub forward: &'static str,
    pub backward: &'static str,
    pub step: &'static str,
    pub kernel: &'static str,
    pub initial_state: &'static str,
}

/// The device side of a [`crate::Module`]: an SSM alone, or a block around one.
pub trait ModuleCore<B: Backend>: Send + 'static {
    /// Type of its options.
    type Config: Clone + Send;
    /// Names of its operations in error messages.
    #[doc(hidden)]
    const NAMES: OperationNames;
    /// Options as JSON, those with default values included.
    fn config_json(config: &Self::Config) -> String;
    /// Seed of the initial values and of the dropout masks.
    fn seed(config: &Self::Config) -> u64;
    /// Its SSM.
    #[doc(hidden)]
    fn s4(&self) -> &S4Core<B>;
    /// Its SSM, to be called.
    #[doc(hidden)]
    fn s4_mut(&mut self) -> &mut S4Core<B>;
    /// The block, if it is one.
    #[doc(hidden)]
    fn block(&self) -> Option<&BlockCore<B>>;
    /// The block, if it is one, to be called.
    #[doc(hidden)]
    fn block_mut(&mut self) -> Option<&mut BlockCore<B>>;
}

impl<B: Backend> ModuleCore<B> for S4Core<B> {
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

impl<B: Backend> ModuleCore<B> for BlockCore<B> {
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
