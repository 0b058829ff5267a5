//! A checkpoint file: its pickle read and checked, its tensors fetched when asked for.

use crate::{
    archive::{Archive, MAX_PICKLE, Source},
    error::{Error, Result, quoted},
    machine,
    pickle::Pickle,
    tensor::{StateDict, Tensor, elements},
    value::{Object, Storage, Value, View},
};
use std::{collections::HashMap, fs::File, io::Cursor, path::Path};

/// All tensors that one call fetches may take this many times the file (shared storages, expanded tensors), or
/// `MIN_TENSORS` bytes when that is more.
const MAX_GROWTH: u64 = 4;
const MIN_TENSORS: u64 = 64 << 20;

/// An open checkpoint.
pub struct TorchFile {
    archive: Archive,
    pub(crate) pickle: Pickle,
    /// Bytes that fetched tensors took.
    spent: u64,
}

impl TorchFile {
    /// Opens a file; nothing but its structure is read.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::new(path.display(), "a readable file", e))?;
        TorchFile::new(Box::new(file))
    }

    /// The same of bytes in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        TorchFile::new(Box::new(Cursor::new(bytes)))
    }

    fn new(source: Box<dyn Source>) -> Result<Self> {
        let mut archive = Archive::open(source)?;
        let code = archive.read("data.pkl", MAX_PICKLE)?;
        let pickle = machine::read(&code, &|key| archive.size(&format!("data/{key}")))?;
        Ok(TorchFile { archive, pickle, spent: 0 })
    }

    /// The tensors under text keys of a dict, which must hold nothing else.
    pub(crate) fn tensors(&mut self, dict: Value) -> Result<StateDict> {
        let items = self.pickle.items(dict).map(<[_]>::to_vec).unwrap_or_default();
        let mut out = StateDict::new();
        // Bytes of a storage that several tensors view are read once.
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
                .tensor(&view, &mut storages)
                .map_err(|e| Error { at: format!("{}, {}", quoted(&name), e.at), ..e })?;
            if out.insert(name.clone(), tensor).is_some() {
                return Err(Error::new("state dict", "different names", format!("{} twice", quoted(&name))));
            }
        }
        Ok(out)
    }

    fn tensor(&mut self, view: &View, storages: &mut HashMap<String, Vec<u8>>) -> Result<Tensor> {
        let Some(Object::Storage(storage)) = self.pickle.arena.get(view.storage) else {
            return Err(Error::new("tensor", "a storage", "none"));
        };
        let Storage { key, bytes: have, .. } = storage.clone();
        let size = view.dtype.size();
        let need = elements(&view.shape).and_then(|n| n.checked_mul(size));
        let most = self.archive.len().saturating_mul(MAX_GROWTH).max(MIN_TENSORS);
        let too_much = || {
            Error::new(
                "tensor",
                format!("tensors of at most {most} bytes in a file of {}", self.archive.len()),
                format!("{:?} {:?}", view.dtype, view.shape),
            )
        };
        let need = need.ok_or_else(too_much)?;
        self.spent = self.spent.saturating_add(need as u64);
        if self.spent > most {
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
        gather(&mut values, bytes, view, size)
            .ok_or_else(|| Error::new("tensor", "its storage", "less of it"))?;
        Tensor::new(view.dtype, view.shape.clone(), values)
    }
}

/// Copies a view's values in row-major order. `None` where one lies outside (which the view's check has excluded).
fn gather(out: &mut Vec<u8>, storage: &[u8], view: &View, size: usize) -> Option<()> {
    if view.shape.contains(&0) {
        return Some(());
    }
    let mut at = usize::try_from(view.offset).ok()?.checked_mul(size)?;
    let strides: Vec<usize> = view
        .stride
        .iter()
        .map(|&s| usize::try_from(s).ok().and_then(|s| s.checked_mul(size)).unwrap_or(0))
        .collect();
    let mut contiguous = size;
    let dense = view.shape.iter().zip(&strides).rev().all(|(&n, &step)| {
        let fits = n == 1 || step == contiguous;
        contiguous = contiguous.saturating_mul(n);
        fits
    });
    if dense {
        out.extend_from_slice(storage.get(at..at.checked_add(contiguous)?)?);
        return Some(());
    }
    let mut index = vec![0; view.shape.len()];
    loop {
        out.extend_from_slice(storage.get(at..at.checked_add(size)?)?);
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
