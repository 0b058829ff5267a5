//! Valid checkpoint files with random bytes changed.

use crate::common::*;
use s4_torch::Checkpoint;

/// A valid file with random bytes changed must be read or refused, without a panic.
#[test]
fn mutations_do_no_harm() {
    let state = pickled_dict(&[
        ("a", pickled_tensor(pickled_storage("FloatStorage", "0", 16), 2, &[3, 4], &[1, 3])),
        ("b", pickled_tensor(pickled_storage("FloatStorage", "0", 16), 0, &[16], &[1])),
    ]);
    let node = [
        pickled_global("omegaconf.dictconfig", "DictConfig"),
        b")\x81".to_vec(),
        pickled_dict(&[("_content", pickled_dict(&[("lr", pickled_int(3))]))]),
        b"b".to_vec(),
    ]
    .concat();
    let root = pickled_dict(&[("state_dict", state), ("hyper_parameters", node), ("epoch", pickled_int(3))]);
    let storage: Vec<u8> = (0..16).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let code = whole_pickle(&[&root]);
    let whole = checkpoint_file(&code, &storage);
    assert!(Checkpoint::from_torch(whole.clone()).is_ok());
    // xorshift64*
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    };
    let mut mutate = |bytes: &[u8]| {
        let mut mutated = bytes.to_vec();
        for _ in 0..1 + random(4) {
            if mutated.len() < 2 {
                break;
            }
            let at = random(mutated.len());
            match random(5) {
                0 => mutated[at] ^= 1 << random(8),
                1 => mutated[at] = random(256) as u8,
                2 => {
                    mutated.remove(at);
                }
                3 => mutated.insert(at, random(256) as u8),
                _ => mutated.truncate(at.max(1)),
            }
        }
        mutated
    };
    for i in 0..6000 {
        // Changes in turn the file, and the pickle alone, so that the archive's checksums are right.
        let file = match i % 2 {
            0 => mutate(&whole),
            _ => checkpoint_file(&mutate(&code), &storage),
        };
        if let Err(error) = Checkpoint::from_torch(file) {
            assert!(!error.expected.is_empty(), "{error}");
        }
    }
}
