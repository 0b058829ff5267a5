//! Writes archives and pickles as `torch.save` would, and as it never would.

use std::io::{Cursor, Write};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// An archive of these entries.
pub fn archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A checkpoint of a pickle and one storage, `data/0`.
pub fn checkpoint(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    archive(
        &[("m/data.pkl", pickle), ("m/byteorder", b"little"), ("m/data/0", storage), ("m/version", b"3\n")],
        CompressionMethod::Stored,
    )
}

/// A whole pickle of protocol 2.
pub fn pickle(parts: &[&[u8]]) -> Vec<u8> {
    [b"\x80\x02".as_slice(), &parts.concat(), b"."].concat()
}

pub fn text(s: &str) -> Vec<u8> {
    [b"X".as_slice(), (s.len() as u32).to_le_bytes().as_slice(), s.as_bytes()].concat()
}

pub fn int(n: i64) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), n.to_le_bytes().as_slice()].concat()
}

pub fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(".as_slice(), &items.concat(), b"t"].concat()
}

pub fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let inner: Vec<u8> = items.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}(".as_slice(), inner.as_slice(), b"u"].concat()
}

pub fn reduce(function: Vec<u8>, args: &[Vec<u8>]) -> Vec<u8> {
    [function, tuple(args), b"R".to_vec()].concat()
}

pub fn storage(kind: &str, key: &str, elements: i64) -> Vec<u8> {
    let id = [text("storage"), global("torch", kind), text(key), text("cpu"), int(elements)];
    [tuple(&id), b"Q".to_vec()].concat()
}

pub fn ints(values: &[i64]) -> Vec<u8> {
    tuple(&values.iter().map(|&n| int(n)).collect::<Vec<_>>())
}

/// A tensor as `torch.save` writes it.
pub fn tensor(storage: Vec<u8>, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    let hooks = reduce(global("collections", "OrderedDict"), &[]);
    let args = [storage, int(offset), ints(size), ints(stride), b"\x89".to_vec(), hooks];
    reduce(global("torch._utils", "_rebuild_tensor_v2"), &args)
}

/// A state dict of one tensor `w` over a storage of floats.
pub fn floats(elements: i64, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    pickle(&[&dict(&[("w", tensor(storage("FloatStorage", "0", elements), offset, size, stride))])])
}
