//! Writes safetensors files tensor by tensor, so that there is never more than one of them in memory beside the model, and with the
//! metadata in the order of their names, so that the same contents are the same bytes. (The library `safetensors`, which reads them,
//! would write the metadata in an order that differs from process to process, and makes the whole file in memory.)

use s4_backend::{Code, Error, Result, host_memory};
use safetensors::Dtype;
use serde::Serialize;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Write},
};

/// Most bytes of a header; readers refuse larger ones.
const MAX_HEADER: usize = 100_000_000;
/// The header is filled up to a multiple of as many bytes, so that the tensors behind it are aligned.
const ALIGNMENT: usize = 8;

/// Texts of a file's metadata, by name.
pub type FileMetadata = BTreeMap<String, String>;

/// Gives the bytes of a tensor when it is its turn to be written.
pub type TensorBytes<'a> = Box<dyn FnOnce() -> Result<Cow<'a, [u8]>> + 'a>;

/// A tensor to be written.
pub struct TensorToWrite<'a> {
    /// Name.
    pub name: String,
    /// Type of its elements.
    pub dtype: Dtype,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Its elements, little-endian, the last size running fastest.
    pub bytes: TensorBytes<'a>,
}

/// Why a file was not written: its contents could not be had, or not be written.
#[derive(Debug)]
pub enum WriteError {
    /// The file system's answer.
    Io(io::Error),
    /// An error of this library, such as of memory.
    Contents(Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        WriteError::Io(error)
    }
}
impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        WriteError::Contents(error)
    }
}

/// What the header says of a tensor, in the order in which the library `safetensors` writes it.
#[derive(Serialize)]
struct TensorInfo<'a> {
    dtype: Dtype,
    shape: &'a [usize],
    data_offsets: (usize, usize),
}

/// A file whose tensors are in their order and whose header is made: all that is needed to know its size.
pub struct TensorFile<'a> {
    op: &'static str,
    header: Vec<u8>,
    tensors: Vec<TensorToWrite<'a>>,
    /// Where each tensor ends, in bytes from the beginning of the first.
    ends: Vec<usize>,
}

impl<'a> TensorFile<'a> {
    /// Sorts the tensors, the widest types first and then by name, and makes the header. `ERR_S4_SHAPE` for sizes beyond
    /// those of this machine's memory, `ERR_S4_CHECKPOINT` where the header would be too large to be read again.
    pub fn new(
        op: &'static str,
        mut tensors: Vec<TensorToWrite<'a>>,
        metadata: &FileMetadata,
    ) -> Result<Self> {
        tensors.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
        let texts: usize = metadata.iter().map(|(name, text)| name.len() + text.len()).sum();
        let too_large = |bytes: usize| {
            Error::new(
                Code::Checkpoint,
                op,
                format!("names and metadata of at most {MAX_HEADER} bytes"),
                format!("{bytes} bytes"),
            )
        };
        if texts > MAX_HEADER {
            return Err(too_large(texts));
        }
        // Each byte of a text becomes six at most; the vector that it is written to doubles.
        host_memory::check(op, "the file's header", texts as u128 * 12)?;
        let unwritable = |e: serde_json::Error| Error::new(Code::Checkpoint, op, "a header", e);
        let mut header = vec![b'{'];
        if !metadata.is_empty() {
            header.extend_from_slice(b"\"__metadata__\":");
            serde_json::to_writer(&mut header, metadata).map_err(unwritable)?;
        }
        let mut ends = Vec::with_capacity(tensors.len());
        for tensor in &tensors {
            let wrong_size =
                || Error::shape(op, "a tensor of this machine's sizes", format!("{:?}", tensor.shape));
            let elements = tensor.shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
            let bits = elements.and_then(|n| n.checked_mul(tensor.dtype.bitsize())).ok_or_else(wrong_size)?;
            let start = ends.last().copied().unwrap_or(0usize);
            let end = start.checked_add(bits / 8).ok_or_else(wrong_size)?;
            if header.len() > 1 {
                header.push(b',');
            }
            serde_json::to_writer(&mut header, &tensor.name).map_err(unwritable)?;
            header.push(b':');
            let info = TensorInfo { dtype: tensor.dtype, shape: &tensor.shape, data_offsets: (start, end) };
            serde_json::to_writer(&mut header, &info).map_err(unwritable)?;
            ends.push(end);
        }
        header.push(b'}');
        header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
        if header.len() > MAX_HEADER {
            return Err(too_large(header.len()));
        }
        Ok(TensorFile { op, header, tensors, ends })
    }

    /// Writes the file.
    pub fn write_to(self, out: &mut impl Write) -> Result<(), WriteError> {
        out.write_all(&(self.header.len() as u64).to_le_bytes())?;
        out.write_all(&self.header)?;
        let mut start = 0;
        for (tensor, end) in self.tensors.into_iter().zip(self.ends) {
            let bytes = (tensor.bytes)()?;
            if bytes.len() != end - start {
                let expected = format!("'{}' of {} bytes", tensor.name, end - start);
                return Err(Error::shape(self.op, expected, bytes.len()).into());
            }
            out.write_all(&bytes)?;
            start = end;
        }
        Ok(())
    }

    /// The bytes of the file; `ERR_S4_MEMORY` where they cannot be had.
    pub fn into_bytes(self) -> Result<Vec<u8>> {
        let len = size_of::<u64>() + self.header.len() + self.ends.last().copied().unwrap_or(0);
        let op = self.op;
        let mut bytes = host_memory::reserved(op, "the file", len, len)?;
        match self.write_to(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(WriteError::Contents(error)) => Err(error),
            // A vector takes all that is written to it.
            Err(WriteError::Io(error)) => Err(Error::new(Code::Internal, op, "bytes", error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::{SafeTensors, tensor::TensorView};
    use std::collections::HashMap;

    fn tensor<'a>(name: &str, dtype: Dtype, shape: &[usize], bytes: &'a [u8]) -> TensorToWrite<'a> {
        let bytes: TensorBytes<'a> = Box::new(move || Ok(Cow::Borrowed(bytes)));
        TensorToWrite { name: name.into(), dtype, shape: shape.to_vec(), bytes }
    }

    #[test]
    fn the_bytes_are_those_of_the_library_and_the_metadata_is_sorted() {
        let data: Vec<u8> = (0..48).collect();
        let tensors = || {
            vec![
                tensor("b\"\u{e9}", Dtype::F32, &[2, 3], &data[..24]),
                tensor("a", Dtype::F32, &[], &data[..4]),
                tensor("z", Dtype::F64, &[6], &data),
                tensor("u", Dtype::U8, &[5], &data[..5]),
                tensor("none", Dtype::F32, &[0], &[]),
            ]
        };
        for metadata in [vec![], vec![("one", "\"text\"\n\u{1}")]] {
            let views = tensors().into_iter().map(|t| {
                let bytes = (t.bytes)().unwrap().into_owned();
                let view = TensorView::new(t.dtype, t.shape, bytes.leak()).unwrap();
                (t.name, view)
            });
            let pairs = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string()));
            let theirs = (!metadata.is_empty()).then(|| pairs.clone().collect::<HashMap<_, _>>());
            let want = safetensors::serialize(views, theirs).unwrap();
            let ours = TensorFile::new("test", tensors(), &pairs.collect()).unwrap().into_bytes().unwrap();
            assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&want));
        }
        let many: FileMetadata = (0..50).map(|i| (format!("name {i:02}"), i.to_string())).collect();
        let bytes = TensorFile::new("test", tensors(), &many).unwrap().into_bytes().unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let places: Vec<_> = many.keys().map(|name| text.find(name.as_str()).unwrap()).collect();
        assert!(places.is_sorted(), "{places:?}");
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header.metadata().clone().unwrap().into_iter().collect::<FileMetadata>(), many);
    }

    #[test]
    fn what_cannot_be_written_is_refused_before() {
        let huge = vec![tensor("t", Dtype::F64, &[1 << 40, 1 << 40], &[])];
        assert_eq!(TensorFile::new("test", huge, &FileMetadata::new()).err().unwrap().code, Code::Shape);
        let long = FileMetadata::from([("text".into(), "x".repeat(MAX_HEADER))]);
        assert_eq!(TensorFile::new("test", vec![], &long).err().unwrap().code, Code::Checkpoint);
        let short = vec![tensor("t", Dtype::F32, &[2], &[0; 4])];
        let file = TensorFile::new("test", short, &FileMetadata::new()).unwrap();
        assert_eq!(file.into_bytes().err().unwrap().code, Code::Shape);
        let galaxy = vec![tensor("t", Dtype::F32, &[1 << 45], &[])];
        let file = TensorFile::new("test", galaxy, &FileMetadata::new()).unwrap();
        assert_eq!(file.into_bytes().err().unwrap().code, Code::Memory);
    }
}
