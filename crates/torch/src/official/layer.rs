//! One layer: the SSM's parameters by the names of V4, of V3 and of the minimal S4D, and the linear after it.

use super::{
    keys::{Keys, unknown},
    options::{Options, refuse},
    step::Step,
};
use crate::{
    error::{Error, Result, quoted},
    tensor::Dtype,
};
use serde_json::{Map, Value as Json, json};

/// A tensor that holds C̃ = C(I − Ā^length) in place of C.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tilde {
    /// This library's name of the tensor.
    pub name: String,
    /// The length that C̃ was made for.
    pub length: u64,
}

/// What a layer's tensors say: options, steps.
pub(super) struct Layer {
    pub config: Map<String, Json>,
    pub steps: Vec<Step>,
    pub tilde: Option<Tilde>,
}

/// Longest kernel a file may name.
const MAX_LENGTH: u64 = 1 << 40;

/// Finds which kind of layer stands under `theirs` (`model.layers.0.layer.`) and maps it to `ours` (`blocks.0.`).
pub(super) fn layer(
    keys: &mut Keys<'_>,
    options: &mut Options<'_>,
    theirs: &str,
    ours: &str,
) -> Result<Layer> {
    options.check_layer()?;
    let mut layer = Layer { config: Map::new(), steps: Vec::new(), tilde: None };
    if keys.has(&format!("{theirs}layer.kernel.inv_dt")) {
        let names = Names {
            d: format!("{theirs}layer.D"),
            kernel: format!("{theirs}layer.kernel."),
            dt: "inv_dt",
            real: "A_real",
            imag: "A_imag",
            length: "l_kernel",
            is_v3: false,
        };
        ssm(&mut layer, keys, options, &names, ours)?;
    } else if keys.has(&format!("{theirs}kernel.kernel.log_dt")) {
        let kernel = format!("{theirs}kernel.kernel.");
        let diagonal = keys.has(&format!("{kernel}inv_A_real"));
        let names = Names {
            d: format!("{theirs}D"),
            dt: "log_dt",
            real: if diagonal { "inv_A_real" } else { "inv_w_real" },
            imag: if diagonal { "A_imag" } else { "w_imag" },
            length: "L",
            is_v3: true,
            kernel,
        };
        ssm(&mut layer, keys, options, &names, ours)?;
        // V3's diagonal kernel stores a Λ that it does not use.
        let unused = format!("{}A", names.kernel);
        if keys.has(&unused) {
            layer.steps.push(Step::Kept { theirs: keys.keep(&unused) });
        }
    } else if keys.has(&format!("{theirs}kernel.log_A_real")) {
        minimal(&mut layer, keys, options, theirs, ours)?;
    } else {
        let first = keys.starting(theirs).first().copied().unwrap_or(theirs).to_string();
        return Err(unknown(&keys.full(&first)));
    }
    mix(&mut layer, keys, options, theirs, ours)?;
    Ok(layer)
}

/// Names of the SSM's tensors in one version.
struct Names {
    d: String,
    kernel: String,
    dt: &'static str,
    real: &'static str,
    imag: &'static str,
    length: &'static str,
    is_v3: bool,
}

fn ssm(
    layer: &mut Layer,
    keys: &mut Keys<'_>,
    options: &mut Options<'_>,
    names: &Names,
    ours: &str,
) -> Result<()> {
    let name = |part: &str| format!("{}{part}", names.kernel);
    let mine = |part: &str| format!("{ours}layer.kernel.{part}");
    let d = keys.real(&names.d, 2)?.shape();
    let (channels, features) = (d[0], d[1]);
    if let [_, _, _] = keys.peek(&name("C"))?.shape() {
        return Err(Error::new(quoted(&keys.full(&name("C"))), "complex C (…, 2)", "a real one (is_real)"));
    }
    let real = keys.real(&name(names.real), 2)?.shape();
    let (n_ssm, pairs) = (real[0], real[1]);
    if n_ssm > features || features % n_ssm != 0 {
        return Err(Error::new(
            quoted(&keys.full(&name(names.real))),
            "an n_ssm that divides the features",
            n_ssm,
        ));
    }
    keys.shaped(&name(names.imag), &[n_ssm, pairs])?;
    let rows = keys.peek(&name("C"))?.shape().first().copied().unwrap_or(0);
    let bidirectional = match rows {
        rows if rows == channels => false,
        rows if rows == 2 * channels => true,
        _ => {
            return Err(Error::new(
                quoted(&keys.full(&name("C"))),
                "the channels of D, or twice as many",
                rows,
            ));
        }
    };
    keys.shaped(&name("C"), &[rows, features, pairs, 2])?;
    let dt = match names.is_v3 {
        true => {
            keys.shaped(&name(names.dt), &[features])?;
            1
        }
        false => {
            let width = keys.real(&name(names.dt), 2)?.shape()[1];
            keys.shaped(&name(names.dt), &[features, if width == 1 { 1 } else { pairs }])?;
            width
        }
    };
    // V3's diagonal kernel lacks the first axis of B.
    match keys.peek(&name("B"))?.shape().len() {
        3 if names.is_v3 => keys.shaped(&name("B"), &[n_ssm, pairs, 2])?,
        _ => keys.shaped(&name("B"), &[1, n_ssm, pairs, 2])?,
    };
    let rank = match keys.has(&name("P")) {
        true => {
            let rank = keys.real(&name("P"), 4)?.shape()[0];
            keys.shaped(&name("P"), &[rank, n_ssm, pairs, 2])?;
            Some(rank)
        }
        false => None,
    };
    check_mode(options, rank.is_some())?;
    transforms(layer, options, names, rank.is_some())?;
    let c = &mut layer.config;
    c.insert("features".into(), features.into());
    c.insert("state".into(), (2 * pairs).into());
    c.insert("mode".into(), if rank.is_some() { "s4" } else { "s4d" }.into());
    c.insert("nSsm".into(), n_ssm.into());
    if let Some(rank) = rank {
        c.insert("rank".into(), rank.into());
    }
    c.insert("channels".into(), channels.into());
    c.insert("bidirectional".into(), bidirectional.into());
    c.insert("dtPerState".into(), (dt != 1).into());
    if let Some(l_max) = options.layer("l_max").filter(|x| !x.is_null()) {
        let length =
            l_max.as_u64().filter(|&n| n > 0).ok_or_else(|| refuse("l_max", "a length or null", l_max))?;
        c.insert("truncate".into(), length.into());
    }
    let shape =
        |ours: String, theirs: String, shape: &[usize]| Step::Shape { theirs, ours, shape: shape.to_vec() };
    let steps = &mut layer.steps;
    steps.push(shape(format!("{ours}layer.D"), keys.full(&names.d), &[channels, features]));
    steps.push(shape(mine("inv_dt"), keys.full(&name(names.dt)), &[features, dt]));
    steps.push(shape(mine("A_real"), keys.full(&name(names.real)), &[n_ssm, pairs]));
    let imag = (keys.full(&name(names.imag)), mine("A_imag"));
    steps.push(match names.is_v3 {
        true => Step::Negated { theirs: imag.0, ours: imag.1 },
        false => shape(imag.1, imag.0, &[n_ssm, pairs]),
    });
    steps.push(shape(mine("B"), keys.full(&name("B")), &[1, n_ssm, pairs, 2]));
    if let Some(rank) = rank {
        steps.push(shape(mine("P"), keys.full(&name("P")), &[rank, n_ssm, pairs, 2]));
    }
    let length = name(names.length);
    let has_length = keys.has(&length);
    if has_length {
        let stored = keys.peek(&length)?;
        let value = stored.to_f64().first().copied().unwrap_or(-1.0);
        let at = quoted(&keys.full(&length));
        if stored.dtype() != Dtype::I64 || stored.len() != 1 || !(0.0..=MAX_LENGTH as f64).contains(&value) {
            return Err(Error::new(at, "one length from 0 to 2^40", format!("{:?} {value}", stored.shape())));
        }
        if value > 0.0 && rank.is_some() {
            layer.tilde = Some(Tilde { name: mine("C"), length: value as u64 });
        }
        keys.keep(&length);
    } else if rank.is_some() {
        return Err(Error::new(
            "state dict",
            format!("key {} (it says whether C is C or C̃)", quoted(&keys.full(&length))),
            "none",
        ));
    }
    layer.steps.push(Step::KernelC {
        theirs: keys.full(&name("C")),
        ours: mine("C"),
        length: has_length.then(|| keys.full(&length)),
    });
    Ok(())
}

/// The option `mode` (or `kernel`) against the tensors that are there.
fn check_mode(options: &Options<'_>, has_p: bool) -> Result<()> {
    let given = options.layer("kernel").filter(|x| x.is_string()).or_else(|| options.layer("mode"));
    let Some(mode) = given.filter(|x| !x.is_null()) else { return Ok(()) };
    match (mode.as_str(), has_p) {
        (Some("nplr" | "dplr" | "s4"), true) | (Some("diag" | "s4d"), false) => Ok(()),
        _ if has_p => Err(refuse("mode", "nplr, dplr or s4, as the tensor P says", mode)),
        _ => Err(refuse("mode", "diag or s4d, as there is no tensor P", mode)),
    }
}

fn transforms(layer: &mut Layer, options: &mut Options<'_>, names: &Names, is_dplr: bool) -> Result<()> {
    let dt = match (names.is_v3, options.layer("dt_transform")) {
        (true, _) => "exp".to_string(),
        (false, None) if !options.is_complete() => {
            return Err(Error::new(
                "option 'dt_transform'",
                "it, since tensors do not tell ('softplus' with configs/model/layer/s4.yaml, 'exp' by the class)",
                "none",
            ));
        }
        (false, _) => options.transform("dt_transform", "exp")?,
    };
    let real = options.transform(if names.is_v3 { "real_type" } else { "real_transform" }, "exp")?;
    if names.is_v3 && is_dplr && real == "relu" {
        // V3's NPLR kernel has max(x, 0), without the 1e-4 that everything else adds.
        return Err(refuse("real_type", "exp, softplus, sigmoid or none", &real.into()));
    }
    let imag = match names.is_v3 {
        true => "none".to_string(),
        false => options.transform("imag_transform", "none")?,
    };
    let discretization = match (is_dplr, options.layer("disc")) {
        (true, _) => "bilinear",
        (false, None | Some(Json::Null)) if names.is_v3 => "bilinear",
        (false, None | Some(Json::Null)) => "zoh",
        (false, Some(x)) => match x.as_str() {
            Some("zoh") => "zoh",
            Some("bilinear") => "bilinear",
            _ => return Err(refuse("disc", "zoh or bilinear", x)),
        },
    };
    if !options.is_complete() && !is_dplr && options.layer("disc").is_none() {
        options.note(format!("disc: assumed '{discretization}', the class's default"));
    }
    let c = &mut layer.config;
    c.insert("discretization".into(), discretization.into());
    c.insert("dtTransform".into(), dt.into());
    c.insert("realTransform".into(), real.into());
    c.insert("imagTransform".into(), imag.into());
    Ok(())
}

/// `models/s4/s4d.py`.
fn minimal(
    layer: &mut Layer,
    keys: &mut Keys<'_>,
    options: &mut Options<'_>,
    theirs: &str,
    ours: &str,
) -> Result<()> {
    let name = |part: &str| format!("{theirs}kernel.{part}");
    let mine = |part: &str| format!("{ours}layer.kernel.{part}");
    let d = format!("{theirs}D");
    let features = keys.real(&d, 1)?.shape()[0];
    let pairs = keys.real(&name("log_A_real"), 2)?.shape()[1];
    keys.shaped(&name("log_A_real"), &[features, pairs])?;
    keys.shaped(&name("A_imag"), &[features, pairs])?;
    keys.shaped(&name("log_dt"), &[features])?;
    keys.shaped(&name("C"), &[features, pairs, 2])?;
    check_mode(options, false)?;
    let config = json!({
        "features": features, "state": 2 * pairs, "mode": "s4d", "nSsm": features, "channels": 1,
        "bidirectional": false, "dtPerState": false, "discretization": "zoh", "dtTransform": "exp",
        "realTransform": "exp", "imagTransform": "none",
    });
    if let Json::Object(map) = config {
        layer.config.extend(map);
    }
    let shape =
        |theirs: String, ours: String, shape: &[usize]| Step::Shape { theirs, ours, shape: shape.to_vec() };
    let full = [1, features, pairs, 2].to_vec();
    layer.steps.extend([
        shape(keys.full(&d), format!("{ours}layer.D"), &[1, features]),
        shape(keys.full(&name("log_dt")), mine("inv_dt"), &[features, 1]),
        shape(keys.full(&name("log_A_real")), mine("A_real"), &[features, pairs]),
        shape(keys.full(&name("A_imag")), mine("A_imag"), &[features, pairs]),
        Step::Ones { ours: mine("B"), like: keys.full(&name("C")), shape: full.clone() },
        Step::Conjugate { theirs: keys.full(&name("C")), ours: mine("C"), b: mine("B"), shape: full },
    ]);
    Ok(())
}

/// The linear after the SSM: with GLU it has twice the features' rows.
fn mix(
    layer: &mut Layer,
    keys: &mut Keys<'_>,
    options: &mut Options<'_>,
    theirs: &str,
    ours: &str,
) -> Result<()> {
    let number = |key: &str| layer.config.get(key).and_then(Json::as_u64).unwrap_or(0) as usize;
    let (features, inputs) = (number("features"), number("features") * number("channels"));
    let name = |part: &str| format!("{theirs}output_linear.0.{part}");
    let mine = |part: &str| format!("{ours}output_linear.0.{part}");
    if keys.starting(&format!("{theirs}output_linear.")).is_empty() {
        return Err(Error::new(
            "state dict",
            format!("key {} (final_act null has no linear)", quoted(&keys.full(&name("weight")))),
            "none",
        ));
    }
    let rows = keys.real(&name("bias"), 1)?.shape()[0];
    let glu = match rows {
        rows if rows == 2 * features => true,
        rows if rows == features => false,
        _ => {
            return Err(Error::new(
                quoted(&keys.full(&name("bias"))),
                "the features, or twice as many",
                rows,
            ));
        }
    };
    layer.steps.push(Step::Shape { theirs: keys.full(&name("bias")), ours: mine("bias"), shape: vec![rows] });
    let weight_norm = [
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ]
    .into_iter()
    .find(|(_, v)| keys.has(&name(v)));
    layer.steps.push(match weight_norm {
        Some((g, v)) => {
            keys.shaped(&name(v), &[rows, inputs])?;
            keys.shaped(&name(g), &[rows, 1])?;
            Step::WeightNorm { g: keys.full(&name(g)), v: keys.full(&name(v)), ours: mine("weight") }
        }
        None => {
            // A Conv1d of width 1 has one axis more.
            match keys.peek(&name("weight"))?.shape().len() {
                3 => keys.shaped(&name("weight"), &[rows, inputs, 1])?,
                _ => keys.shaped(&name("weight"), &[rows, inputs])?,
            };
            Step::Shape {
                theirs: keys.full(&name("weight")),
                ours: mine("weight"),
                shape: vec![rows, inputs],
            }
        }
    });
    let activation = match options.layer("activation") {
        None => "gelu",
        Some(x) => Options::activation("activation", x)?,
    };
    let given = options.layer("final_act").or_else(|| options.layer("postact"));
    let final_activation = match (glu, given) {
        (true, None) => "identity",
        (true, Some(x)) if x == "glu" => "identity",
        (true, Some(x)) => return Err(refuse("final_act", "glu, as the linear's rows say", x)),
        (false, Some(x)) if x != "glu" => Options::activation("final_act", x)?,
        (false, _) => {
            return Err(Error::new(
                "option 'final_act'",
                "it, since the linear's rows say that it is no GLU",
                given.map_or("none".to_string(), |x| quoted(&x.to_string())),
            ));
        }
    };
    let c = &mut layer.config;
    c.insert("activation".into(), activation.into());
    c.insert("glu".into(), glu.into());
    c.insert("finalActivation".into(), final_activation.into());
    Ok(())
}
