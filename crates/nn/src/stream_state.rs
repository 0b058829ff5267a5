//! Saves the state of a stream as the bytes of a safetensors file, and restores it.

use crate::{
    bytes, check,
    schedule::MAX_COUNT,
    stepper::{Stepper, StreamSizes},
    tensor_file::{FileMetadata, TensorFile, TensorToWrite},
};
use s4_backend::{Backend, Code, Error, Pooling, Result, host_memory};
use safetensors::{Dtype, SafeTensors};

/// Version of the format. A later one must read the states of every version before it.
const VERSION: u32 = 1;

impl<B: Backend> Stepper<B> {
    /// The whole state of the stream, from which a stream of the same model and batch can go on, as the bytes of a
    /// safetensors file.
    pub fn save(&self) -> Result<Vec<u8>> {
        self.refuse_torn("ModelStream.save")?;
        let be = &self.be;
        let mut tensors: Vec<(String, Vec<B::Scalar>)> = Vec::new();
        for i in 0..self.states.blocks.len() {
            tensors.push((format!("state.{i}"), self.states.read(be, i)?));
        }
        let n = self.pool.len();
        let mut pool = host_memory::zeros("s4-node", "a result", n)?;
        be.download(&mut pool, self.pool.carried.get(be, n))?;
        tensors.push(("pool".into(), pool));
        let tensors = tensors
            .into_iter()
            .map(|(name, x)| TensorToWrite {
                name,
                dtype: bytes::safetensors_dtype::<B::Scalar>(),
                shape: vec![x.len()],
                bytes: Box::new(move || Ok(bytes::to_bytes(&x)?.into())),
            })
            .collect();
        let mut meta: FileMetadata =
            self.sizes_by_name().map(|(name, value)| (name.to_string(), value)).into();
        meta.insert("format".into(), "s4-node stream".into());
        meta.insert("version".into(), VERSION.to_string());
        meta.insert("position".into(), self.position.to_string());
        TensorFile::new("ModelStream.save", tensors, &meta)?.into_bytes()
    }

    /// What a saved state and its stream agree on, by name. The rate is not of it: a state means the same at each.
    fn sizes_by_name(&self) -> [(&'static str, String); 5] {
        let StreamSizes { layers, features, state, pooling, .. } = &self.sizes;
        [
            ("batch", self.batch.to_string()),
            ("layers", layers.to_string()),
            ("features", features.to_string()),
            ("state", state.to_string()),
            ("pooling", pooling.map_or("none", Pooling::name).into()),
        ]
    }

    /// Goes back to a state that [`Stepper::save`] gave. `ERR_S4_CHECKPOINT`, with nothing changed, where it is not the
    /// state of a stream of these sizes.
    pub fn restore(&mut self, saved: &[u8]) -> Result<()> {
        let (_, header) = SafeTensors::read_metadata(saved).map_err(invalid_state)?;
        let file = SafeTensors::deserialize(saved).map_err(invalid_state)?;
        let meta = header.metadata().clone().unwrap_or_default();
        // What 0.1.0 saved says no version.
        if let Some(version) = meta.get("version")
            && !version.parse::<u32>().is_ok_and(|version| version <= VERSION)
        {
            return Err(invalid_state(format!("version {version}, which a later s4-node has written")));
        }
        for (name, expected_len) in self.sizes_by_name() {
            // What 0.1.0 saved says its batch alone.
            let found = meta.get(name);
            if found.map_or(name == "batch", |found| *found != expected_len) {
                let found = found.map_or("nothing", String::as_str);
                return Err(invalid_state(format!("{name} {found} for {expected_len}")));
            }
        }
        let position = meta.get("position").and_then(|position| position.parse::<u64>().ok());
        let position = position
            .filter(|&position| position <= MAX_COUNT)
            .ok_or_else(|| invalid_state(format!("no position of 0 to {MAX_COUNT}")))?;
        let names = (0..self.states.blocks.len()).map(|i| format!("state.{i}")).chain(["pool".to_string()]);
        let mut arrays = Vec::new();
        // What 0.1.0 saved does not say how many layers: an array of one more tells.
        if let Some(other) = file.names().iter().find(|name| !names.clone().any(|known| known == **name)) {
            return Err(invalid_state(format!("{other}, which this stream has not")));
        }
        for name in names {
            let view = file.tensor(&name).map_err(invalid_state)?;
            let expected_len = match name.as_str() {
                "pool" => self.pool.len(),
                _ => self.be.ref_len(self.states.view(&self.be, 0)),
            };
            let values = match view.dtype() {
                Dtype::F32 | Dtype::F64 => bytes::from_bytes::<B::Scalar>(view.dtype(), view.data())?,
                other => return Err(invalid_state(format!("{name} of type {other:?}"))),
            };
            if values.len() != expected_len || check::finite("", "", &values).is_err() {
                return Err(invalid_state(format!(
                    "{name}: {} elements for {expected_len}, or NaN",
                    values.len()
                )));
            }
            arrays.push(values);
        }
        // Until every array has been copied.
        self.torn = true;
        for (i, values) in arrays.iter().enumerate() {
            let destination = match i < self.states.blocks.len() {
                true => self.states.view_mut(&self.be, i),
                false => self.pool.carried.get_mut(&self.be, values.len()),
            };
            self.be.upload(destination, values)?;
        }
        self.position = position;
        self.journal.end();
        self.torn = false;
        Ok(())
    }
}

/// `ERR_S4_CHECKPOINT` for bytes that are not the state of this stream.
fn invalid_state(got: impl std::fmt::Display) -> Error {
    Error::new(Code::Checkpoint, "ModelStream.restore", "a saved state of this stream", got)
}
