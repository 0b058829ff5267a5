//! Layers, blocks, models, training, streams and checkpoints, generic over the backend.
#![forbid(unsafe_code)]

mod block;
mod bytes;
mod check;
mod checkpoint;
mod config;
mod init;
mod layer;
mod loss;
mod metrics;
mod model;
mod net;
mod norm;
mod official;
mod optim;
mod param;
mod s4;
mod schedule;
mod stepper;
mod tensor;
mod train;

pub use checkpoint::{Loaded, inspect, inspect_bytes, load, load_bytes, save, save_bytes};
pub use config::*;
pub use layer::{Block, Forward, ForwardOptions, InputGrads, Layer};
pub use metrics::{Evaluation, Metrics};
pub use model::{Input, Model, ModelGrads};
pub use official::{NamedTensor, block_from_official, block_from_official_file};
pub use optim::{Adam, AdamConfig};
pub use param::{Flats, Group, ParamInfo, ParamStore, Slot};
pub use schedule::{Schedule, ScheduleConfig};
pub use stepper::{StepOptions, Stepper};
pub use train::{Batch, StepStats, TargetData, TrainConfig, Trainer};
