//! Maps one layer: the SSM's parameters, by the names of the official versions 4 and 3 and of the minimal S4D, and the
//! linear layer after the SSM.

use super::{
    keys::{Keys, unmapped_key},
    mapping::TensorMapping,
    options::{Options, refuse},
};
use crate::error::{Error, Result, quoted};
use serde_json::{Map, Value as Json, json};

/// A tensor that holds C̃ = C(I − Ā^length) in place of C.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CTilde {
    /// This library's name of the tensor.
    pub name: String,
    /// The length for which C̃ was computed.
    pub length: u64,
}

/// A layer that has been mapped: its options, its tensors, and the tensor that holds C̃, if one does.
pub(super) struct MappedLayer {
    pub config: Map<String, Json>,
    pub mappings: Vec<TensorMapping>,
    pub c_tilde: Option<CTilde>,
}

/// Largest kernel length that a file may give.
const MAX_KERNEL_LENGTH: u64 = 1 << 40;

/// Recognises the kind of the layer whose keys begin with `theirs` (`model.layers.0.layer.`) and maps it to this
/// library's names, which begin with `ours` (`blocks.0.`).
pub(super) fn map_layer(
    keys: &mut Keys<'_>,
    options: &mut Options<'_>,
    theirs: &str,
    ours: &str,
) -> Result<MappedLayer> {
    options.check_layer()?;
    let mut layer = MappedLayer { config: Map::new(), mappings: Vec::new(), c_tilde: None };
    if keys.has(&format!("{theirs}layer.kernel.inv_dt")) {
        let names = SsmTensorNames {
            d: format!("{theirs}layer.D"),
            kernel: format!("{theirs}layer.kernel."),
            dt: "inv_dt",
            real: "A_real",
            imag: "A_imag",
            length: "l_kernel",
            is_v3: false,
        };
        map_ssm(&mut layer, keys, options, &names, ours)?;
    } else if keys.has(&format!("{theirs}kernel.kernel.log_dt")) {
        let kernel = format!("{theirs}kernel.kernel.");
        let diagonal = keys.has(&format!("{kernel}inv_A_real"));
        let names = SsmTensorNames {
            d: format!("{theirs}D"),
            dt: "log_dt",
            real: if diagonal { "inv_A_real" } else { "inv_w_real" },
            imag: if diagonal { "A_imag" } else { "w_imag" },
            length: "L",
            is_v3: true,
            kernel,
        };
        map_ssm(&mut layer, keys, options, &names, ours)?;
        // The diagonal kernel of version 3 stores a tensor A that it does not use.
        let unused = format!("{}A", names.kernel);
        if keys.has(&unused) {
            layer.mappings.push(TensorMapping::Kept { theirs: keys.mark_used(&unused) });
        }
    } else if keys.has(&format!("{theirs}kernel.log_A_real")) {
        map_minimal_s4d(&mut layer, keys, options, theirs, ours)?;
    } else {
        let first = keys.names_starting_with(theirs).first().copied().unwrap_or(theirs).to_string();
        return Err(unmapped_key(&keys.key_in_file(&first)));
    }
    map_mix(&mut layer, keys, options, theirs, ours)?;
    Ok(layer)
}

/// The names of the SSM's tensors in one version of the official code.
struct SsmTensorNames {
    d: String,
    kernel: String,
    dt: &'static str,
    real: &'static str,
    imag: &'static str,
    length: &'static str,
    is_v3: bool,
}

/// Maps the parameters of the SSM of version 3 or 4 and the options that they determine.
fn map_ssm(
    layer: &mut MappedLayer,
    keys: &mut Keys<'_>,
    options: &mut Options<'_>,
    names: &SsmTensorNames,
    ours: &str,
) -> Result<()> {
    let their_name = |part: &str| format!("{}{part}", names.kernel);
    let our_name = |part: &str| format!("{ours}layer.kernel.{part}");
    let d = keys.real_tensor(&names.d, 2)?.shape();
    let (channels, features) = (d[0], d[1]);
    if let [_, _, _] = keys.tensor(&their_name("C"))?.shape() {
        return Err(Error::new(
            quoted(&keys.key_in_file(&their_name("C"))),
            "complex C (…, 2)",
            "a real one (is_real)",
        ));
    }
    let real = keys.real_tensor(&their_name(names.real), 2)?.shape();
    let (n_ssm, pairs) = (real[0], real[1]);
    if n_ssm > features || features % n_ssm != 0 {
        return Err(Error::new(
            quoted(&keys.key_in_file(&their_name(names.real))),
            "an n_ssm that divides the features",
            n_ssm,
        ));
    }
    keys.tensor_of_shape(&their_name(names.imag), &[n_ssm, pairs])?;
    let rows = keys.tensor(&their_name("C"))?.shape().first().copied().unwrap_or(0);
    let bidirectional = match rows {
        rows if rows == channels => false,
        rows if rows == 2 * channels => true,
        _ => {
            return Err(Error::new(
                quoted(&keys.key_in_file(&their_name("C"))),
                "the channels of D, or twice as many",
                rows,
            ));
        }
    };
    match options.layer_option("bidirectional") {
        Some(given) if !given.is_null() && given.as_bool() != Some(bidirectional) => {
            let expected = match bidirectional {
                true => "true, as the rows of C say",
                false => "false, as the rows of C say",
            };
            return Err(refuse("bidirectional", expected, given));
        }
        _ => {}
    }
    keys.tensor_of_shape(&their_name("C"), &[rows, features, pairs, 2])?;
    let dt = match names.is_v3 {
        true => {
            keys.tensor_of_shape(&their_name(names.dt), &[features])?;
            1
        }
        false => {
            let width = keys.real_tensor(&their_name(names.dt), 2)?.shape()[1];
            keys.tensor_of_shape(&their_name(names.dt), &[features, if width == 1 { 1 } else { pairs }])?;
            width
        }
    };
    // In the diagonal kernel of version 3, B has no first axis.
    match keys.tensor(&their_name("B"))?.shape().len() {
        3 if names.is_v3 => keys.tensor_of_shape(&their_name("B"), &[n_ssm, pairs, 2])?,
        _ => keys.tensor_of_shape(&their_name("B"), &[1, n_ssm, pairs, 2])?,
    };
    let rank = match keys.has(&their_name("P")) {
        true => {
            let rank = keys.real_tensor(&their_name("P"), 4)?.shape()[0];
            keys.tensor_of_shape(&their_name("P"), &[rank, n_ssm, pairs, 2])?;
            Some(rank)
        }
        false => None,
    };
    check_mode(options, rank.is_some())?;
    map_transforms(layer, options, names, rank.is_some())?;
    let config = &mut layer.config;
    config.insert("features".into(), features.into());
    config.insert("state".into(), (2 * pairs).into());
    config.insert("mode".into(), if rank.is_some() { "s4" } else { "s4d" }.into());
    config.insert("nSsm".into(), n_ssm.into());
    if let Some(rank) = rank {
        config.insert("rank".into(), rank.into());
    }
    config.insert("channels".into(), channels.into());
    config.insert("bidirectional".into(), bidirectional.into());
    config.insert("dtPerState".into(), (dt != 1).into());
    if let Some(length) = options.truncation()? {
        config.insert("truncate".into(), length.into());
    }
    let reshaped = |ours: String, theirs: String, shape: &[usize]| TensorMapping::Reshaped {
        theirs,
        ours,
        shape: shape.to_vec(),
    };
    let mappings = &mut layer.mappings;
    mappings.push(reshaped(format!("{ours}layer.D"), keys.key_in_file(&names.d), &[channels, features]));
    mappings.push(reshaped(our_name("inv_dt"), keys.key_in_file(&their_name(names.dt)), &[features, dt]));
    mappings.push(reshaped(our_name("A_real"), keys.key_in_file(&their_name(names.real)), &[n_ssm, pairs]));
    let imag = (keys.key_in_file(&their_name(names.imag)), our_name("A_imag"));
    mappings.push(match names.is_v3 {
        true => TensorMapping::Negated { theirs: imag.0, ours: imag.1 },
        false => reshaped(imag.1, imag.0, &[n_ssm, pairs]),
    });
    mappings.push(reshaped(our_name("B"), keys.key_in_file(&their_name("B")), &[1, n_ssm, pairs, 2]));
    if let Some(rank) = rank {
        mappings.push(reshaped(our_name("P"), keys.key_in_file(&their_name("P")), &[rank, n_ssm, pairs, 2]));
    }
    let length = their_name(names.length);
    let has_length = keys.has(&length);
    if has_length {
        let stored = keys.tensor(&length)?;
        let value = stored.to_f64().first().copied().unwrap_or(-1.0);
        let at = quoted(&keys.key_in_file(&length));
        if stored.len() != 1 || value.fract() != 0.0 || !(0.0..=MAX_KERNEL_LENGTH as f64).contains(&value) {
            return Err(Error::new(at, "one length from 0 to 2^40", format!("{:?} {value}", stored.shape())));
        }
        if value > 0.0 && rank.is_some() {
            layer.c_tilde = Some(CTilde { name: our_name("C"), length: value as u64 });
        }
        keys.mark_used(&length);
    } else if rank.is_some() && !options.is_block {
        // A single block may come from this library, which keeps C alone.
        return Err(Error::new(
            "state dict",
            format!("key {} (it says whether C is C or C̃)", quoted(&keys.key_in_file(&length))),
            "none",
        ));
    }
    layer.mappings.push(TensorMapping::KernelC {
        theirs: keys.key_in_file(&their_name("C")),
        ours: our_name("C"),
        length: has_length.then(|| keys.key_in_file(&length)),
    });
    Ok(())
}

/// Refuses an option `mode` (or `kernel`) that contradicts the presence of P.
fn check_mode(options: &Options<'_>, has_p: bool) -> Result<()> {
    let given =
        options.layer_option("kernel").filter(|x| x.is_string()).or_else(|| options.layer_option("mode"));
    let Some(mode) = given.filter(|x| !x.is_null()) else { return Ok(()) };
    match (mode.as_str(), has_p) {
        (Some("nplr" | "dplr" | "s4"), true) | (Some("diag" | "s4d"), false) => Ok(()),
        _ if has_p => Err(refuse("mode", "nplr, dplr or s4, as the tensor P says", mode)),
        _ => Err(refuse("mode", "diag or s4d, as there is no tensor P", mode)),
    }
}

/// Maps the options of the parameter transforms and of the discretisation.
fn map_transforms(
    layer: &mut MappedLayer,
    options: &mut Options<'_>,
    names: &SsmTensorNames,
    is_dplr: bool,
) -> Result<()> {
    let dt = match (names.is_v3, options.layer_option("dt_transform")) {
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
        // The NPLR kernel of version 3 uses max(x, 0); everywhere else, and here, relu means max(x, 0) + 1e-4.
        return Err(refuse("real_type", "exp, softplus, sigmoid or none", &real.into()));
    }
    let imag = match names.is_v3 {
        true => "none".to_string(),
        false => options.transform("imag_transform", "none")?,
    };
    let discretization = match (is_dplr, options.layer_option("disc")) {
        (true, _) => "bilinear",
        (false, None | Some(Json::Null)) if names.is_v3 => "bilinear",
        (false, None | Some(Json::Null)) => "zoh",
        (false, Some(x)) => match x.as_str() {
            Some("zoh") => "zoh",
            Some("bilinear") => "bilinear",
            _ => return Err(refuse("disc", "zoh or bilinear", x)),
        },
    };
    if !options.is_complete() && !is_dplr && options.layer_option("disc").is_none() {
        options.add_note(format!("disc: assumed '{discretization}', the class's default"));
    }
    let config = &mut layer.config;
    config.insert("discretization".into(), discretization.into());
    config.insert("dtTransform".into(), dt.into());
    config.insert("realTransform".into(), real.into());
    config.insert("imagTransform".into(), imag.into());
    Ok(())
}

/// Maps the parameters of the minimal S4D, the class in `models/s4/s4d.py`.
fn map_minimal_s4d(
    layer: &mut MappedLayer,
    keys: &mut Keys<'_>,
    options: &mut Options<'_>,
    theirs: &str,
    ours: &str,
) -> Result<()> {
    let their_name = |part: &str| format!("{theirs}kernel.{part}");
    let our_name = |part: &str| format!("{ours}layer.kernel.{part}");
    let d = format!("{theirs}D");
    let features = keys.real_tensor(&d, 1)?.shape()[0];
    let pairs = keys.real_tensor(&their_name("log_A_real"), 2)?.shape()[1];
    keys.tensor_of_shape(&their_name("log_A_real"), &[features, pairs])?;
    keys.tensor_of_shape(&their_name("A_imag"), &[features, pairs])?;
    keys.tensor_of_shape(&their_name("log_dt"), &[features])?;
    keys.tensor_of_shape(&their_name("C"), &[features, pairs, 2])?;
    check_mode(options, false)?;
    let config = json!({
        "features": features, "state": 2 * pairs, "mode": "s4d", "nSsm": features, "channels": 1,
        "bidirectional": false, "dtPerState": false, "discretization": "zoh", "dtTransform": "exp",
        "realTransform": "exp", "imagTransform": "none",
    });
    if let Json::Object(map) = config {
        layer.config.extend(map);
    }
    let reshaped = |theirs: String, ours: String, shape: &[usize]| TensorMapping::Reshaped {
        theirs,
        ours,
        shape: shape.to_vec(),
    };
    let complex_shape = [1, features, pairs, 2].to_vec();
    layer.mappings.extend([
        reshaped(keys.key_in_file(&d), format!("{ours}layer.D"), &[1, features]),
        reshaped(keys.key_in_file(&their_name("log_dt")), our_name("inv_dt"), &[features, 1]),
        reshaped(keys.key_in_file(&their_name("log_A_real")), our_name("A_real"), &[features, pairs]),
        reshaped(keys.key_in_file(&their_name("A_imag")), our_name("A_imag"), &[features, pairs]),
        TensorMapping::Ones {
            ours: our_name("B"),
            like: keys.key_in_file(&their_name("C")),
            shape: complex_shape.clone(),
        },
        TensorMapping::Conjugate {
            theirs: keys.key_in_file(&their_name("C")),
            ours: our_name("C"),
            b: our_name("B"),
            shape: complex_shape,
        },
    ]);
    Ok(())
}

/// Maps the linear layer after the SSM, which has twice as many rows as features where its activation is GLU, and the
/// options of activations.
fn map_mix(
    layer: &mut MappedLayer,
    keys: &mut Keys<'_>,
    options: &mut Options<'_>,
    theirs: &str,
    ours: &str,
) -> Result<()> {
    let number = |key: &str| layer.config.get(key).and_then(Json::as_u64).unwrap_or(0) as usize;
    let (features, inputs) = (number("features"), number("features") * number("channels"));
    let their_name = |part: &str| format!("{theirs}output_linear.0.{part}");
    let our_name = |part: &str| format!("{ours}output_linear.0.{part}");
    if keys.names_starting_with(&format!("{theirs}output_linear.")).is_empty() {
        return Err(Error::new(
            "state dict",
            format!(
                "key {} (final_act null has no linear)",
                quoted(&keys.key_in_file(&their_name("weight")))
            ),
            "none",
        ));
    }
    let rows = keys.real_tensor(&their_name("bias"), 1)?.shape()[0];
    let glu = match rows {
        rows if rows == 2 * features => true,
        rows if rows == features => false,
        _ => {
            return Err(Error::new(
                quoted(&keys.key_in_file(&their_name("bias"))),
                "the features, or twice as many",
                rows,
            ));
        }
    };
    layer.mappings.push(TensorMapping::Reshaped {
        theirs: keys.key_in_file(&their_name("bias")),
        ours: our_name("bias"),
        shape: vec![rows],
    });
    let weight_norm = [
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ]
    .into_iter()
    .find(|(_, v)| keys.has(&their_name(v)));
    layer.mappings.push(match weight_norm {
        Some((g, v)) => {
            keys.tensor_of_shape(&their_name(v), &[rows, inputs])?;
            keys.tensor_of_shape(&their_name(g), &[rows, 1])?;
            TensorMapping::WeightNorm {
                g: keys.key_in_file(&their_name(g)),
                v: keys.key_in_file(&their_name(v)),
                ours: our_name("weight"),
            }
        }
        None => {
            // Where the official code has a Conv1d of width 1, its weight has one axis more.
            match keys.tensor(&their_name("weight"))?.shape().len() {
                3 => keys.tensor_of_shape(&their_name("weight"), &[rows, inputs, 1])?,
                _ => keys.tensor_of_shape(&their_name("weight"), &[rows, inputs])?,
            };
            TensorMapping::Reshaped {
                theirs: keys.key_in_file(&their_name("weight")),
                ours: our_name("weight"),
                shape: vec![rows, inputs],
            }
        }
    });
    let activation = match options.layer_option("activation") {
        None => "gelu",
        Some(x) => Options::activation("activation", x)?,
    };
    let given = options.layer_option("final_act").or_else(|| options.layer_option("postact"));
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
    let config = &mut layer.config;
    config.insert("activation".into(), activation.into());
    config.insert("glu".into(), glu.into());
    config.insert("finalActivation".into(), final_activation.into());
    Ok(())
}
