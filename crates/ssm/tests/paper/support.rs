//! Golden files, read.

use s4_ssm::{C64, Discretization, Ssm};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;

pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

pub const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../__test__/fixtures/golden");

/// Every tensor as f64, and the configuration.
pub fn read(name: &str) -> (Tensors, serde_json::Value) {
    let path = format!("{GOLDEN}/{name}.safetensors");
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let (_, header) = SafeTensors::read_metadata(&bytes).expect(&path);
    let config = header.metadata().as_ref().and_then(|m| m.get("config"));
    let config = config.map_or(serde_json::Value::Null, |c| serde_json::from_str(c).expect(&path));
    let file = SafeTensors::deserialize(&bytes).expect(&path);
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let data = match view.dtype() {
            Dtype::F32 => view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b) as f64).collect(),
            Dtype::F64 => view.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            Dtype::I64 => view.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            other => panic!("{path}: {name} is {other:?}"),
        };
        (name, (view.shape().to_vec(), data))
    });
    (tensors.collect(), config)
}

/// The names of the cases that have a checkpoint.
pub fn cases() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(GOLDEN)
        .expect(GOLDEN)
        .filter_map(|e| Some(e.ok()?.file_name().to_str()?.strip_suffix(".ckpt.safetensors")?.to_owned()))
        .collect();
    names.sort();
    names
}

pub fn complex(data: &[f64]) -> Vec<C64> {
    data.chunks_exact(2).map(|x| C64::new(x[0], x[1])).collect()
}

/// ‖a − b‖/‖b‖; a length that differs or anything not finite is an infinite error.
pub fn relative(a: &[f64], b: &[f64]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let error = norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied());
    if a.len() == b.len() && error.is_finite() { error } else { f64::INFINITY }
}

pub fn flat(x: &[C64]) -> Vec<f64> {
    x.iter().flat_map(|x| [x.re, x.im]).collect()
}

fn transform(name: &str, x: f64) -> f64 {
    match name {
        "exp" => x.exp(),
        "softplus" => x.exp().ln_1p(),
        "relu" => x.max(0.0) + 1e-4,
        "none" => x,
        other => panic!("transform {other}"),
    }
}

/// The heads of a case, from the official names, with Δ·rate and the C given.
pub fn heads(tensors: &Tensors, prefix: &str, config: &serde_json::Value, c: &[f64], rate: f64) -> Vec<Ssm> {
    let get = |name: &str| &tensors[&format!("{prefix}{name}")];
    let text = |key: &str| config[key].as_str().expect(key);
    let (shape, a_real) = get("A_real");
    let (n_ssm, pairs) = (shape[0], shape[1]);
    let heads = get("inv_dt").0[0];
    let (inv_dt, a_imag, b) = (&get("inv_dt").1, &get("A_imag").1, complex(&get("B").1));
    let p = tensors.get(&format!("{prefix}P")).map_or(vec![], |(_, p)| complex(p));
    let c = complex(c);
    let steps = inv_dt.len() / heads;
    (0..heads)
        .map(|h| {
            let s = h % n_ssm;
            let row = |x: &[C64], i: usize| x[i * pairs..(i + 1) * pairs].to_vec();
            Ssm {
                lambda: (s * pairs..(s + 1) * pairs)
                    .map(|i| {
                        C64::new(
                            -transform(text("real_transform"), a_real[i]),
                            -transform(text("imag_transform"), a_imag[i]),
                        )
                    })
                    .collect(),
                p: (0..p.len() / (n_ssm * pairs)).map(|r| row(&p, r * n_ssm + s)).collect(),
                b: row(&b, s),
                c: (0..c.len() / (heads * pairs)).map(|k| row(&c, k * heads + h)).collect(),
                dt: (h * steps..(h + 1) * steps)
                    .map(|i| transform(text("dt_transform"), inv_dt[i]) * rate)
                    .collect(),
                disc: match text("disc") {
                    "bilinear" => Discretization::Bilinear,
                    "zoh" => Discretization::Zoh,
                    other => panic!("disc {other}"),
                },
            }
        })
        .collect()
}
