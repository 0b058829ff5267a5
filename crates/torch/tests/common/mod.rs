//! Writes zip archives and pickles for the tests, as `torch.save` would and with any fault.

use std::io::{Cursor, Write};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// A zip archive of these (name, bytes).
pub fn zip_archive(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A checkpoint file of a pickle and one storage, `data/0`.
pub fn checkpoint_file(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    zip_archive(
        &[("m/data.pkl", pickle), ("m/byteorder", b"little"), ("m/data/0", storage), ("m/version", b"3\n")],
        CompressionMethod::Stored,
    )
}

/// A pickle of protocol 2 from the bytes of its opcodes; the functions below give those of one value each.
pub fn whole_pickle(parts: &[&[u8]]) -> Vec<u8> {
    [b"\x80\x02".as_slice(), &parts.concat(), b"."].concat()
}

pub fn pickled_text(s: &str) -> Vec<u8> {
    [b"X".as_slice(), (s.len() as u32).to_le_bytes().as_slice(), s.as_bytes()].concat()
}

pub fn pickled_int(n: i64) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), n.to_le_bytes().as_slice()].concat()
}

pub fn pickled_global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub fn pickled_tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(".as_slice(), &items.concat(), b"t"].concat()
}

pub fn pickled_dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let inner: Vec<u8> =
        items.iter().flat_map(|(key, value)| [pickled_text(key), value.clone()].concat()).collect();
    [b"}(".as_slice(), inner.as_slice(), b"u"].concat()
}

pub fn pickled_call(function: Vec<u8>, args: &[Vec<u8>]) -> Vec<u8> {
    [function, pickled_tuple(args), b"R".to_vec()].concat()
}

pub fn pickled_storage(kind: &str, key: &str, elements: i64) -> Vec<u8> {
    let id = [
        pickled_text("storage"),
        pickled_global("torch", kind),
        pickled_text(key),
        pickled_text("cpu"),
        pickled_int(elements),
    ];
    [pickled_tuple(&id), b"Q".to_vec()].concat()
}

pub fn pickled_ints(values: &[i64]) -> Vec<u8> {
    pickled_tuple(&values.iter().map(|&n| pickled_int(n)).collect::<Vec<_>>())
}

/// The opcodes of a tensor, as `torch.save` writes them.
pub fn pickled_tensor(storage: Vec<u8>, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    let hooks = pickled_call(pickled_global("collections", "OrderedDict"), &[]);
    let args =
        [storage, pickled_int(offset), pickled_ints(size), pickled_ints(stride), b"\x89".to_vec(), hooks];
    pickled_call(pickled_global("torch._utils", "_rebuild_tensor_v2"), &args)
}

/// The pickle of a state dict with one tensor `w` over a storage of floats.
pub fn pickle_of_floats(elements: i64, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    whole_pickle(&[&pickled_dict(&[(
        "w",
        pickled_tensor(pickled_storage("FloatStorage", "0", elements), offset, size, stride),
    )])])
}
