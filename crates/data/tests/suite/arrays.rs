//! Reading of NumPy, IDX and CIFAR-10 files: valid ones, some written by other programs, and ones with a single fault.

use s4_data::*;

fn test_file(name: &str) -> String {
    format!("{}/tests/files/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn arrays_that_numpy_wrote() {
    let count = |n: usize| (0..n).map(|i| i as f64).collect::<Vec<f64>>();
    let f4 = read_npy(test_file("f4.npy")).unwrap();
    assert_eq!((&f4.shape[..], f4.values.to_f64()), (&[2, 3, 4][..], count(24)));
    assert!(matches!(f4.values, Numbers::F32(_)));
    // Big-endian and with the first axis fastest in the file.
    let fortran = read_npy(test_file("fortran.npy")).unwrap();
    assert_eq!((&fortran.shape[..], fortran.values.to_f64()), (&[2, 3, 4][..], count(24)));
    let half = read_npy(test_file("half.npy")).unwrap().values.to_f64();
    assert_eq!(half[..4], [0.0, 1.0, -2.5, 65504.0]);
    assert!((half[4] - 6e-8).abs() < 1e-9 && half[5] == f64::INFINITY);
    let two = read_npz(test_file("two.npz")).unwrap();
    assert_eq!((two[0].0.as_str(), two[1].0.as_str()), ("first", "second"));
    assert_eq!(two[0].1.values, Numbers::F64(count(24)));
    assert_eq!(two[1].1.values, Numbers::I64((0..300).map(|i| i % 7).collect()));
    let plain = read_npz(test_file("plain.npz")).unwrap();
    assert_eq!(plain[0].1, NumberArray { shape: vec![2], values: Numbers::U8(vec![1, 0]) });
    assert_eq!(plain[1].1, NumberArray { shape: vec![], values: Numbers::U32(vec![7]) });
}

fn npy_file(header: &str) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend([0; 16]);
    bytes
}

#[test]
fn npy_headers_with_one_thing_wrong() {
    let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }";
    assert_eq!(parse_npy(&npy_file(good)[..]).unwrap().values, Numbers::F32(vec![0.0; 4]));
    for (from, to, said) in [
        ("'<f4'", "'<c8'", "c8"),
        ("'<f4'", "'|O'", "|O"),
        ("'<f4'", "[('a', '<f4')]", "records"),
        ("'<f4'", "'", "expected"),
        ("False", "Maybe", "fortran_order"),
        ("(4,)", "(-4,)", "integers"),
        ("(4,)", "4", "parentheses"),
        ("(4,)", "(18446744073709551615, 2)", "fits memory"),
        ("(4,)", "(99999999999999999999,)", "integers"),
        ("(4,)", "(1099511627776,)", "file ends"),
        ("'shape'", "'form'", "shape"),
    ] {
        let failed = parse_npy(&npy_file(&good.replace(from, to))[..]).unwrap_err();
        assert!(failed.offset.is_some() && failed.reason.contains(said), "{to}: {failed}");
    }
    assert_eq!(parse_npy(&b"PK\x03\x04something else"[..]).unwrap_err().offset, Some(0));
    let failed = read_npz(test_file("f4.npy")).unwrap_err();
    assert!(failed.path.is_some() && failed.offset == Some(0), "{failed}");
}

fn idx_file(kind: u8, sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, kind, sizes.len() as u8];
    sizes.iter().for_each(|s| bytes.extend(s.to_be_bytes()));
    bytes.extend(data);
    bytes
}

#[test]
fn idx_of_every_type() {
    let pictures = parse_idx(&idx_file(8, &[2, 2, 3], &[7; 12])[..]).unwrap();
    assert_eq!(pictures, NumberArray { shape: vec![2, 2, 3], values: Numbers::U8(vec![7; 12]) });
    let values = |kind: u8, bytes: &[u8]| parse_idx(&idx_file(kind, &[1], bytes)[..]).unwrap().values;
    assert_eq!(values(0x09, &[0xFF]), Numbers::I8(vec![-1]));
    assert_eq!(values(0x0B, &[1, 2]), Numbers::I16(vec![258]));
    assert_eq!(values(0x0C, &[0, 0, 1, 0]), Numbers::I32(vec![256]));
    assert_eq!(values(0x0D, &1.5f32.to_be_bytes()), Numbers::F32(vec![1.5]));
    assert_eq!(values(0x0E, &(-2.5f64).to_be_bytes()), Numbers::F64(vec![-2.5]));
    // Sizes that promise more than any memory holds are refused before anything is reserved.
    let huge = parse_idx(&idx_file(8, &[u32::MAX; 8], &[])[..]).unwrap_err();
    assert!(huge.reason.contains("fits memory"), "{huge}");
    let large = parse_idx(&idx_file(0x0E, &[u32::MAX, 1000], &[1; 100])[..]).unwrap_err();
    assert!(large.reason.contains("file ends"), "{large}");
    for (bytes, offset) in [
        (vec![], 0),
        (vec![0, 0, 8], 3),
        (idx_file(0x0A, &[1], &[1]), 0),
        (idx_file(8, &[], &[1]), 3),
        (idx_file(8, &[3], &[1, 2]), 10),
        (vec![0x1F, 0x8B, 8, 0, 0], 0),
    ] {
        assert_eq!(parse_idx(&bytes[..]).unwrap_err().offset, Some(offset), "{bytes:?}");
    }
}

#[test]
fn cifar_records() {
    let mut bytes = Vec::new();
    for label in [3u8, 9, 0] {
        bytes.push(label);
        (0..3u32)
            .for_each(|c| bytes.extend((0..1024u32).map(|i| ((i + c * 50 + u32::from(label)) % 251) as u8)));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data_batch_1.bin");
    std::fs::write(&path, &bytes).unwrap();
    let whole_file = read_cifar10(&path).unwrap();
    assert_eq!((&whole_file.labels[..], whole_file.pixels.len()), (&[3, 9, 0][..], 3 * 3072));
    // Channels of one pixel stand together.
    assert_eq!(whole_file.pixels[3 * 5..3 * 5 + 3], [8, 58, 108]);
    let mut reader = Cifar10Reader::new(&bytes[..]);
    assert_eq!(reader.next_pictures(2).unwrap().unwrap().labels, [3, 9]);
    assert_eq!(reader.next_pictures(2).unwrap().unwrap().pixels, whole_file.pixels[2 * 3072..]);
    assert_eq!(reader.next_pictures(2).unwrap(), None);
    std::fs::write(&path, &bytes[..5000]).unwrap();
    let failed = read_cifar10(&path).unwrap_err();
    assert!(failed.offset == Some(3073) && failed.path.is_some(), "{failed}");
    bytes[3073] = 10;
    let mut reader = Cifar10Reader::new(&bytes[..]);
    assert!(reader.next_pictures(9).unwrap_err().reason.contains("label"));
}
