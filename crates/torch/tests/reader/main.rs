//! Reading of valid checkpoints: dtypes, views of storages, shared storages, objects of unknown classes.

#[path = "../common/mod.rs"]
mod common;
mod mutations;

use common::*;
use s4_torch::{Checkpoint, Dtype};
use zip::CompressionMethod;

fn float_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn read_checkpoint(pickle: &[u8], storage: &[u8]) -> Checkpoint {
    Checkpoint::from_torch(checkpoint_file(pickle, storage)).unwrap()
}

#[test]
fn views_are_gathered_in_row_major_order() {
    let six = float_bytes(&[0., 1., 2., 3., 4., 5.]);
    let cases: [(i64, &[i64], &[i64], &[f64]); 7] = [
        (0, &[2, 3], &[3, 1], &[0., 1., 2., 3., 4., 5.]),
        (0, &[3, 2], &[1, 3], &[0., 3., 1., 4., 2., 5.]),
        (1, &[2, 2], &[3, 1], &[1., 2., 4., 5.]),
        (4, &[3], &[0], &[4., 4., 4.]),
        (5, &[], &[], &[5.]),
        (6, &[0, 4], &[4, 1], &[]),
        (2, &[1, 2], &[i64::MAX, 2], &[2., 4.]),
    ];
    for (offset, size, stride, want) in cases {
        let file = read_checkpoint(&pickle_of_floats(6, offset, size, stride), &six);
        let tensor = &file.tensors["w"];
        assert_eq!(tensor.to_f64(), want, "{offset} {size:?} {stride:?}");
        assert_eq!(tensor.shape().iter().map(|&n| n as i64).collect::<Vec<_>>(), size);
    }
}

#[test]
fn every_dtype() {
    let raw: Vec<u8> = (0..32).collect();
    for (kind, dtype) in [
        ("DoubleStorage", Dtype::F64),
        ("FloatStorage", Dtype::F32),
        ("HalfStorage", Dtype::F16),
        ("BFloat16Storage", Dtype::Bf16),
        ("LongStorage", Dtype::I64),
        ("IntStorage", Dtype::I32),
        ("ShortStorage", Dtype::I16),
        ("CharStorage", Dtype::I8),
        ("ByteStorage", Dtype::U8),
        ("BoolStorage", Dtype::Bool),
        ("ComplexFloatStorage", Dtype::C64),
        ("ComplexDoubleStorage", Dtype::C128),
    ] {
        let n = 32 / dtype.size() as i64;
        let file = read_checkpoint(
            &whole_pickle(&[&pickled_dict(&[(
                "w",
                pickled_tensor(pickled_storage(kind, "0", n), 0, &[n], &[1]),
            )])]),
            &raw,
        );
        assert_eq!((file.tensors["w"].dtype(), file.tensors["w"].bytes()), (dtype, raw.as_slice()), "{kind}");
    }
    // A storage of bytes, with the dtype beside it.
    let args = [
        pickled_storage("UntypedStorage", "0", 32),
        pickled_int(1),
        pickled_ints(&[2]),
        pickled_ints(&[1]),
        b"\x89".to_vec(),
        pickled_call(pickled_global("collections", "OrderedDict"), &[]),
        pickled_global("torch", "complex64"),
    ];
    let untyped = pickled_call(pickled_global("torch._utils", "_rebuild_tensor_v3"), &args);
    let file = read_checkpoint(&whole_pickle(&[&pickled_dict(&[("w", untyped)])]), &raw);
    assert_eq!(file.tensors["w"].bytes(), &raw[8..24]);
}

#[test]
fn shared_storages_parameters_and_attributes() {
    let raw = float_bytes(&[1., 2., 3., 4.]);
    let first = pickled_tensor(pickled_storage("FloatStorage", "0", 4), 0, &[2], &[1]);
    let second = pickled_tensor(pickled_storage("FloatStorage", "0", 4), 2, &[2], &[1]);
    let hooks = pickled_call(pickled_global("collections", "OrderedDict"), &[]);
    let parameter = pickled_call(
        pickled_global("torch._utils", "_rebuild_parameter"),
        &[second, b"\x88".to_vec(), hooks.clone()],
    );
    // The state dict of a torch module, whose attribute `_metadata` is set by the opcode BUILD.
    let state = [
        hooks,
        [b"(".to_vec(), pickled_text("a"), first, pickled_text("b"), parameter, b"u".to_vec()].concat(),
        pickled_dict(&[("_metadata", pickled_dict(&[]))]),
        b"b".to_vec(),
    ]
    .concat();
    let file = read_checkpoint(&whole_pickle(&[&state]), &raw);
    assert_eq!(file.tensors["a"].to_f64(), [1., 2.]);
    assert_eq!(file.tensors["b"].to_f64(), [3., 4.]);
}

#[test]
fn deflated_entries_are_read_too() {
    let raw = float_bytes(&[7.; 64]);
    let pickle = pickle_of_floats(64, 0, &[64], &[1]);
    let file = zip_archive(&[("x/data.pkl", &pickle), ("x/data/0", &raw)], CompressionMethod::Deflated);
    assert_eq!(Checkpoint::from_torch(file).unwrap().tensors["w"].to_f64(), [7.; 64]);
}

#[test]
fn weights_and_hyper_parameters_are_found() {
    let raw = float_bytes(&[1.]);
    let state =
        || pickled_dict(&[("w", pickled_tensor(pickled_storage("FloatStorage", "0", 1), 0, &[1], &[1]))]);
    // An argparse.Namespace, built by the opcodes NEWOBJ and BUILD, which refers to a class of the official code.
    let space = [
        pickled_global("argparse", "Namespace"),
        b")\x81".to_vec(),
        pickled_dict(&[
            ("lr", b"G\x3f\x84\x7a\xe1\x47\xae\x14\x7b".to_vec()),
            ("x", pickled_global("src.tasks", "Task")),
        ]),
        b"b".to_vec(),
    ]
    .concat();
    let file = read_checkpoint(
        &whole_pickle(&[&pickled_dict(&[("state_dict", state()), ("hyper_parameters", space)])]),
        &raw,
    );
    assert_eq!(file.under, "state_dict");
    assert_eq!(file.config.unwrap().to_string(), r#"{"lr":0.01,"x":null}"#);
    let file = read_checkpoint(
        &whole_pickle(&[&pickled_dict(&[
            ("model", state()),
            ("acc", pickled_int(3)),
            ("epoch", pickled_int(1)),
        ])]),
        &raw,
    );
    assert_eq!((file.under, file.config), ("model", None));
    assert_eq!(file.tensors["w"].to_f64(), [1.]);
}

/// A list in the hyper-parameters that contains itself must not be followed without end.
#[test]
fn cycles_are_harmless() {
    let cycle = [b"]q\x01".to_vec(), b"h\x01a".to_vec()].concat();
    let state =
        pickled_dict(&[("w", pickled_tensor(pickled_storage("FloatStorage", "0", 1), 0, &[1], &[1]))]);
    let root = pickled_dict(&[("state_dict", state), ("hyper_parameters", pickled_dict(&[("loop", cycle)]))]);
    let file = read_checkpoint(&whole_pickle(&[&root]), &float_bytes(&[1.]));
    assert!(file.config.unwrap()["loop"].is_array());
}

/// Each of 60 lists contains the one before ten times: code that visits every value would visit 10^60.
#[test]
fn shared_values_do_not_multiply() {
    let laughs = (0..60u8).fold(b"]q\0".to_vec(), |inner, i| {
        [b"](".to_vec(), inner, [b'h', i].repeat(9), b"eq".to_vec(), vec![i + 1]].concat()
    });
    let state =
        pickled_dict(&[("w", pickled_tensor(pickled_storage("FloatStorage", "0", 1), 0, &[1], &[1]))]);
    let root =
        pickled_dict(&[("state_dict", state), ("hyper_parameters", pickled_dict(&[("laughs", laughs)]))]);
    assert!(
        read_checkpoint(&whole_pickle(&[&root]), &float_bytes(&[1.])).config.unwrap()["laughs"].is_array()
    );
}
