//! An open checkpoint file: its pickle has been read and checked, the values of its tensors are read when asked for.

use crate::{
    archive::{Archive, MAX_PICKLE_BYTES, Source},
    error::{Error, Result, quoted},
    machine,
    pickle::Pickle,
    tensor::{StateDict, Tensor, element_count},
    value::{Object, Storage, TensorView, Value},
};
use std::{collections::HashMap, fs::File, io::Cursor, path::Path};

/// All tensors together may take this many times the file's bytes (more than once, since tensors may share a storage or
/// repeat its values), or `ALWAYS_ALLOWED_BYTES` where that is more.
const MAX_EXPANSION: u64 = 4;
const ALWAYS_ALLOWED_BYTES: u64 = 64 << 20;

/// An open checkpoint.
pub struct TorchFile {
    archive: Archive,
    pub(crate) pickle: Pickle,
    /// Bytes of all tensors that were read so far.
    bytes_read: u64,
}

impl TorchFile {
    /// Opens a file and reads its pickle, but not the values of its tensors.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::new(path.display(), "a readable file", e))?;
        TorchFile::new(Box::new(file))
    }

    /// Opens a file whose bytes are in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        TorchFile::new(Box::new(Cursor::new(bytes)))
    }

    fn new(source: Box<dyn Source>) -> Result<Self> {
        let mut archive = Archive::open(source)?;
        let code = archive.read("data.pkl", MAX_PICKLE_BYTES)?;
        let pickle = machine::read_pickle(&code, &|key| archive.size(&format!("data/{key}")))?;
        Ok(TorchFile { archive, pickle, bytes_read: 0 })
    }

    /// Reads the tensors of a dict, whose keys must all be text and whose values must all be tensors.
    pub(crate) fn read_tensors(&mut self, dict: Value) -> Result<StateDict> {
        let items = self.pickle.items(dict).map(<[_]>::to_vec).unwrap_or_default();
        let mut tensors = StateDict::new();
        // The bytes of a storage are read once, however many tensors view it.
        let mut storages = HashMap::new();
        for (key, value) in items {
            let Some(name) = self.pickle.text(key).map(str::to_string) else {
                return Err(Error::new("state dict", "names of tensors", self.pickle.kind(key)));
            };
            let Some(Object::Tensor(view)) = self.pickle.object(value) else {
                return Err(Error::new(
                    format!("state dict, {}", quoted(&name)),
                    "a tensor",
                    self.pickle.kind(value),
                ));
            };
            let view = view.clone();
            let tensor = self
                .read_tensor(&view, &mut storages)
                .map_err(|e| Error { at: format!("{}, {}", quoted(&name), e.at), ..e })?;
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(Error::new("state dict", "different names", format!("{} twice", quoted(&name))));
            }
        }
        Ok(tensors)
    }

    fn read_tensor(&mut self, view: &TensorView, storages: &mut HashMap<String, Vec<u8>>) -> Result<Tensor> {
        let Some(Object::Storage(storage)) = self.pickle.arena.get(view.storage) else {
            return Err(Error::new("tensor", "a storage", "none"));
        };
        let Storage { key, bytes: have, .. } = storage.clone();
        let value_bytes = view.dtype.size();
        let need = element_count(&view.shape).and_then(|n| n.checked_mul(value_bytes));
        let most = self.archive.len().saturating_mul(MAX_EXPANSION).max(ALWAYS_ALLOWED_BYTES);
        let too_much = || {
            Error::new(
                "tensor",
                format!("tensors of at most {most} bytes in a file of {}", self.archive.len()),
                format!("{:?} {:?}", view.dtype, view.shape),
            )
        };
        let need = need.ok_or_else(too_much)?;
        self.bytes_read = self.bytes_read.saturating_add(need as u64);
        if self.bytes_read > most {
            return Err(too_much());
        }
        if !storages.contains_key(&key) {
            let bytes = self.archive.read(&format!("data/{key}"), have)?;
            storages.insert(key.clone(), bytes);
        }
        let bytes = storages.get(&key).map(Vec::as_slice).unwrap_or_default();
        let mut values = Vec::new();
        values
            .try_reserve_exact(need)
            .map_err(|_| Error::new("tensor", "memory", format!("none for {need} bytes")))?;
        gather_values(&mut values, bytes, view, value_bytes)
            .ok_or_else(|| Error::new("tensor", "its storage", "less of it"))?;
        Tensor::new(view.dtype, view.shape.clone(), values)
    }
}

/// Appends the values of a view in row-major order. `None` where a value lies outside the storage, which the check of
/// the view has excluded.
fn gather_values(values: &mut Vec<u8>, storage: &[u8], view: &TensorView, value_bytes: usize) -> Option<()> {
    if view.shape.contains(&0) {
        return Some(());
    }
    let mut at = usize::try_from(view.offset).ok()?.checked_mul(value_bytes)?;
    let strides: Vec<usize> = view
        .stride
        .iter()
        .map(|&s| usize::try_from(s).ok().and_then(|s| s.checked_mul(value_bytes)).unwrap_or(0))
        .collect();
    let mut contiguous_bytes = value_bytes;
    let is_contiguous = view.shape.iter().zip(&strides).rev().all(|(&n, &step)| {
        let fits = n == 1 || step == contiguous_bytes;
        contiguous_bytes = contiguous_bytes.saturating_mul(n);
        fits
    });
    if is_contiguous {
        values.extend_from_slice(storage.get(at..at.checked_add(contiguous_bytes)?)?);
        return Some(());
    }
    let mut index = vec![0; view.shape.len()];
    loop {
        values.extend_from_slice(storage.get(at..at.checked_add(value_bytes)?)?);
        let mut axis = view.shape.len();
        loop {
            if axis == 0 {
                return Some(());
            }
            axis -= 1;
            if index[axis] + 1 < view.shape[axis] {
                index[axis] += 1;
                at = at.checked_add(strides[axis])?;
                break;
            }
            at = at.checked_sub(index[axis].checked_mul(strides[axis])?)?;
            index[axis] = 0;
        }
    }
}
