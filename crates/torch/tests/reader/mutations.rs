//! A sound file with some bytes changed.

use crate::common::*;
use s4_torch::Checkpoint;

/// Bytes of a sound file changed at random: read or refused, never a panic.
#[test]
fn mutations_do_no_harm() {
    let state = dict(&[
        ("a", tensor(storage("FloatStorage", "0", 16), 2, &[3, 4], &[1, 3])),
        ("b", tensor(storage("FloatStorage", "0", 16), 0, &[16], &[1])),
    ]);
    let node = [
        global("omegaconf.dictconfig", "DictConfig"),
        b")\x81".to_vec(),
        dict(&[("_content", dict(&[("lr", int(3))]))]),
        b"b".to_vec(),
    ]
    .concat();
    let root = dict(&[("state_dict", state), ("hyper_parameters", node), ("epoch", int(3))]);
    let storage: Vec<u8> = (0..16).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let code = pickle(&[&root]);
    let whole = checkpoint(&code, &storage);
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
        let mut out = bytes.to_vec();
        for _ in 0..1 + random(4) {
            if out.len() < 2 {
                break;
            }
            let at = random(out.len());
            match random(5) {
                0 => out[at] ^= 1 << random(8),
                1 => out[at] = random(256) as u8,
                2 => {
                    out.remove(at);
                }
                3 => out.insert(at, random(256) as u8),
                _ => out.truncate(at.max(1)),
            }
        }
        out
    };
    for i in 0..6000 {
        // Alternately the file, and its pickle with a right checksum.
        let file = match i % 2 {
            0 => mutate(&whole),
            _ => checkpoint(&mutate(&code), &storage),
        };
        if let Err(error) = Checkpoint::from_torch(file) {
            assert!(!error.expected.is_empty(), "{error}");
        }
    }
}
