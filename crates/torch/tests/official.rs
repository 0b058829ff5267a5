//! Checkpoints that the official repository's code wrote: read and mapped, and given back bit for bit.

use s4_torch::{Checkpoint, Dtype, OfficialModel, StateDict, Tensor, to_safetensors};
use serde_json::{Value as Json, json};
use std::path::PathBuf;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../__test__/fixtures/official").join(name)
}

/// (name, configuration, checkpoint files) of every fixture.
fn fixture_index() -> Vec<(String, Json, Vec<String>)> {
    let text = std::fs::read_to_string(fixture("index.json")).unwrap();
    let fixtures: serde_json::Map<String, Json> = serde_json::from_str(&text).unwrap();
    let files = |x: &Json| -> Vec<String> {
        x["files"].as_array().unwrap().iter().map(|f| f.as_str().unwrap().to_string()).collect()
    };
    fixtures.into_iter().map(|(name, x)| (name, x["config"].clone(), files(&x))).collect()
}

fn safetensors_twin(name: &str) -> Checkpoint {
    Checkpoint::open(&fixture(&format!("{name}.safetensors"))).unwrap()
}

fn mapped_model(name: &str) -> OfficialModel {
    let file = safetensors_twin(name);
    OfficialModel::new(file.tensors, file.config.as_ref()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn pickles_hold_the_bits_of_their_safetensors_twins() {
    let index = fixture_index();
    assert!(index.len() >= 12);
    for (name, config, files) in index {
        let twin = safetensors_twin(&name);
        assert!(!twin.tensors.is_empty(), "{name}");
        assert_eq!(twin.config.as_ref(), Some(&config), "{name}");
        assert!(!files.is_empty(), "{name}");
        for file in files {
            let read = Checkpoint::open(&fixture(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert_eq!(read.tensors, twin.tensors, "{file}");
        }
    }
}

/// The hyper-parameters of a Lightning checkpoint, with references followed, must be those that omegaconf itself gives.
#[test]
fn hyper_parameters_of_lightning() {
    let file = Checkpoint::open(&fixture("v4-lightning.ckpt")).unwrap();
    assert_eq!(file.under, "state_dict");
    let (config, want) = (file.config.unwrap(), safetensors_twin("v4-lightning").config.unwrap());
    assert_eq!(config, want);
    assert_eq!(config["model"]["layer"]["dropout"], 0.0);
    assert_eq!(config["model"]["layer"]["tie_dropout"], true);
}

#[test]
fn configurations_are_ours() {
    let cases = [
        (
            "v4-post-layer",
            json!({"features": 6, "state": 8, "mode": "s4", "nSsm": 1, "rank": 1, "norm": "layer", "prenorm": false,
                "finalNorm": false, "pooling": "mean", "input": 3, "output": 5, "layers": 2, "dtTransform": "softplus",
                "glu": true, "residual": true, "encoder": "linear", "bidirectional": false, "discretization": "bilinear"}),
        ),
        (
            "v4-bi-batch",
            json!({"bidirectional": true, "norm": "batch", "prenorm": true, "finalNorm": true, "encoder": "embedding",
                "vocabulary": 9, "pooling": "last", "nSsm": 2}),
        ),
        (
            "v4-diag",
            json!({"mode": "s4d", "channels": 2, "dtPerState": true, "discretization": "bilinear",
                "realTransform": "softplus", "imagTransform": "exp", "dtTransform": "exp", "glu": false,
                "finalActivation": "gelu", "activation": "silu", "pooling": "first"}),
        ),
        ("v4-lm", json!({"encoder": "embedding", "vocabulary": 7, "output": 7, "pooling": "none"})),
        (
            "v4-legt-truncated",
            json!({"rank": 2, "truncate": 6, "pooling": "none", "norm": "batch", "prenorm": false}),
        ),
        ("v4-minimal-s4d", json!({"mode": "s4d", "discretization": "zoh", "nSsm": 4, "dtTransform": "exp"})),
        ("v4-weight-norm", json!({"norm": "none", "finalNorm": false})),
        ("v3-nplr", json!({"bidirectional": true, "dtTransform": "exp", "mode": "s4", "norm": "batch"})),
        ("v3-diag", json!({"mode": "s4d", "discretization": "bilinear", "pooling": "last"})),
        (
            "example-post",
            json!({"prenorm": false, "finalNorm": false, "pooling": "mean", "state": 64, "norm": "layer"}),
        ),
        ("example-pre", json!({"prenorm": true, "finalNorm": false, "residual": true})),
    ];
    for (name, want) in cases {
        let model = mapped_model(name);
        for (key, value) in want.as_object().unwrap() {
            assert_eq!(&model.config[key], value, "{name}: {key}");
        }
    }
}

#[test]
fn tensors_are_under_our_names() {
    let model = mapped_model("v3-nplr");
    let theirs = safetensors_twin("v3-nplr").tensors;
    let ours = &model.tensors;
    let get = |name: &str| ours[name].to_f64();
    assert_eq!(ours["blocks.1.layer.kernel.C"].shape(), [2, 4, 4, 2]);
    assert_eq!(ours["blocks.0.layer.kernel.inv_dt"].shape(), [4, 1]);
    let negated: Vec<f64> =
        theirs["model.layers.0.layer.kernel.kernel.w_imag"].to_f64().iter().map(|x| -x).collect();
    assert_eq!(get("blocks.0.layer.kernel.A_imag"), negated);
    let running =
        [theirs["model.norm.norm.running_mean"].to_f64(), theirs["model.norm.norm.running_var"].to_f64()];
    assert_eq!((ours["norm.running"].shape(), get("norm.running")), (&[2, 4][..], running.concat()));
    let c_tildes: Vec<(&str, u64)> = model.c_tildes.iter().map(|t| (t.name.as_str(), t.length)).collect();
    assert_eq!(c_tildes, [("blocks.0.layer.kernel.C", 16), ("blocks.1.layer.kernel.C", 16)]);

    let model = mapped_model("example-pre");
    let theirs = safetensors_twin("example-pre").tensors;
    let c = theirs["s4_layers.0.kernel.C"].to_f64();
    let conjugate: Vec<f64> = c.iter().enumerate().map(|(i, x)| if i % 2 == 1 { -x } else { *x }).collect();
    assert_eq!(model.tensors["blocks.0.layer.kernel.C"].to_f64(), conjugate);
    assert_eq!(model.tensors["blocks.0.layer.kernel.B"].to_f64()[..4], [1., 0., 1., 0.]);
    assert_eq!(model.tensors["blocks.1.output_linear.0.weight"].shape(), [12, 6]);
    assert!(model.c_tildes.is_empty());

    let (model, theirs) = (mapped_model("v4-lm"), safetensors_twin("v4-lm").tensors);
    let scaled: Vec<f64> = theirs["encoder.0.weight"].to_f64().iter().map(|x| x * 2.0).collect();
    assert_eq!(model.tensors["encoder.weight"].to_f64(), scaled);
}

/// The tensors with every value changed a little, as by training.
fn with_values_moved(tensors: &StateDict) -> StateDict {
    let move_one = |tensor: &Tensor| {
        let values: Vec<f64> =
            tensor.to_f64().iter().enumerate().map(|(i, x)| x * 1.01 + 0.001 * (i % 7) as f64).collect();
        Tensor::from_f64(Dtype::F32, tensor.shape().to_vec(), &values).unwrap()
    };
    tensors.iter().map(|(name, tensor)| (name.clone(), move_one(tensor))).collect()
}

#[test]
fn unchanged_models_go_back_bit_for_bit() {
    for (name, ..) in fixture_index() {
        let (mut model, twin) = (mapped_model(&name), safetensors_twin(&name).tensors);
        let back = model.to_official(&model.tensors).unwrap();
        assert_eq!(back, twin, "{name}");
        let file = to_safetensors(&back, None).unwrap();
        assert_eq!(Checkpoint::from_safetensors(&file).unwrap().tensors, twin, "{name}");
        // The same must hold for tensors of type F64, and after C̃ has been replaced by a C that is then unchanged.
        for c_tilde in model.c_tildes.clone() {
            let c = with_values_moved(&model.tensors).remove(&c_tilde.name).unwrap();
            model.set_solved_c(&c_tilde.name, c).unwrap();
        }
        let wide = model
            .tensors
            .iter()
            .map(|(name, t)| {
                (name.clone(), Tensor::from_f64(Dtype::F64, t.shape().to_vec(), &t.to_f64()).unwrap())
            })
            .collect();
        assert_eq!(model.to_official(&wide).unwrap(), twin, "{name}");
    }
}

#[test]
fn changed_models_go_back_and_come_again() {
    for (name, config, _) in fixture_index() {
        let model = mapped_model(&name);
        let trained = with_values_moved(&model.tensors);
        let back = model.to_official(&trained).unwrap();
        assert_eq!(
            back.keys().collect::<Vec<_>>(),
            safetensors_twin(&name).tensors.keys().collect::<Vec<_>>(),
            "{name}"
        );
        let again = OfficialModel::new(back, Some(&config)).unwrap();
        assert_eq!(again.config, model.config, "{name}");
        // A C that has changed is given back as C, with l_kernel 0.
        assert!(again.c_tildes.is_empty(), "{name}");
        let only_product_is_preserved =
            name.contains("example") || name.contains("minimal") || name.contains("weight-norm");
        for (key, tensor) in &again.tensors {
            let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-6 * (1.0 + b.abs());
            let (now, then) = (tensor.to_f64(), trained[key].to_f64());
            match only_product_is_preserved {
                // The minimal S4D has no B: the product C·B must be preserved, not each factor.
                true if key.ends_with("kernel.B") || key.ends_with("kernel.C") => {}
                true => assert!(now.iter().zip(&then).all(close), "{name}: {key}"),
                false => assert_eq!(tensor, &trained[key], "{name}: {key}"),
            }
        }
        if name.contains("example") {
            let product = |t: &StateDict| -> Vec<f64> {
                let (b, c) = (t["blocks.0.layer.kernel.B"].to_f64(), t["blocks.0.layer.kernel.C"].to_f64());
                b.chunks(2)
                    .zip(c.chunks(2))
                    .flat_map(|(b, c)| [b[0] * c[0] - b[1] * c[1], b[0] * c[1] + b[1] * c[0]])
                    .collect()
            };
            let (now, then) = (product(&again.tensors), product(&trained));
            assert!(now.iter().zip(&then).all(|(a, b)| (a - b).abs() < 1e-6), "{name}");
        }
    }
}

/// The error message for a fixture whose state dict or configuration was changed.
fn refusal_of(name: &str, change: impl FnOnce(&mut StateDict, &mut Json)) -> String {
    let file = safetensors_twin(name);
    let (mut tensors, mut config) = (file.tensors, file.config.unwrap());
    change(&mut tensors, &mut config);
    OfficialModel::new(tensors, Some(&config)).expect_err("a refusal").to_string()
}

#[test]
fn what_cannot_be_mapped_is_named() {
    let one = || Tensor::from_f64(Dtype::F32, vec![1], &[1.0]).unwrap();
    for (key, reason) in [
        ("model.layers.0.norm.norm.m", "transposed layer norm"),
        ("model.layers.0.reverse_layer.D", "opposite directions"),
        ("model.layers.0.bidirectional_linear.weight", "opposite directions"),
        ("model.layers.1.residual.affine", "residual with weights"),
        ("model.layers.1.pool.linear.weight", "pooling"),
        ("model.layers.1.layer.input_gate.weight", "a gate"),
        ("model.layers.1.layer.input_linear.weight", "a bottleneck"),
        ("encoder.1.pe", "'encoder.1.pe'"),
        ("decoder.1.retrieval.classifier.0.weight", "retrieval"),
        ("surprise", "'surprise'"),
    ] {
        let message = refusal_of("v4-post-layer", |tensors, _| drop(tensors.insert(key.into(), one())));
        assert!(message.contains(key) && message.contains(reason), "{key}: {message}");
    }
    for (path, value, reason) in [
        ("/model/residual", json!("A"), "residual"),
        ("/model/pool", json!({"_name_": "pool", "stride": 2, "expand": null}), "model.pool"),
        ("/model/norm", json!("group"), "norm"),
        ("/model/prenorm", json!(true), "prenorm"),
        ("/model/layer/final_act", json!("glu-relu"), "final_act"),
        ("/model/layer/dt_transform", json!("sinh"), "dt_transform"),
        ("/model/layer/activation", json!("elu"), "activation"),
        ("/model/layer/mode", json!("diag"), "mode"),
        ("/model/_name_", json!("sashimi"), "model._name_"),
        ("/decoder/_name_", json!("retrieval"), "decoder"),
        ("/decoder/mode", json!("ragged-sum"), "decoder.mode"),
        ("/encoder", json!("position"), "encoder"),
    ] {
        let message = refusal_of("v4-post-layer", |_, config| *config.pointer_mut(path).unwrap() = value);
        assert!(message.contains(reason), "{path}: {message}");
    }
    for (key, value) in [
        ("gate", json!(2)),
        ("bottleneck", json!(2)),
        ("bandlimit", json!(0.5)),
        ("is_real", json!(true)),
        ("dt_fast", json!(true)),
    ] {
        let message = refusal_of("v4-diag", |_, config| config["model"]["layer"][key] = value);
        assert!(message.contains(key), "{key}: {message}");
    }
    let message = refusal_of("v4-diag", |_, config| config["model"]["layer"]["disc"] = json!("dss"));
    assert!(message.contains("disc"), "{message}");
}

#[test]
fn what_only_a_configuration_tells_is_asked_for() {
    let alone = |name: &str, config: Json| OfficialModel::new(safetensors_twin(name).tensors, Some(&config));
    let missing = |name: &str, config: Json| alone(name, config).expect_err("a refusal").to_string();
    assert!(missing("v4-post-layer", json!({})).contains("dt_transform"));
    assert!(missing("v4-post-layer", json!({"dt_transform": "exp"})).contains("decoder"));
    assert!(missing("example-post", json!({})).contains("prenorm"));
    assert!(missing("v4-diag", json!({"dt_transform": "exp", "pooling": "mean"})).contains("final_act"));
    let model = alone("v4-post-layer", json!({"dt_transform": "softplus", "pooling": "mean"})).unwrap();
    assert!(model.notes.iter().any(|note| note.contains("residual")), "{:?}", model.notes);
    assert_eq!(model.config, mapped_model("v4-post-layer").config);
}

#[test]
fn damaged_state_dicts_are_refused() {
    let filled = |shape: &[usize]| {
        Tensor::from_f64(Dtype::F32, shape.to_vec(), &vec![0.5; shape.iter().product()]).unwrap()
    };
    let shape_cases: [(&str, &[usize]); 6] = [
        ("model.layers.0.layer.layer.kernel.C", &[3, 6, 4, 2]),
        ("model.layers.0.layer.layer.kernel.B", &[1, 2, 4, 2]),
        ("model.layers.0.layer.layer.kernel.inv_dt", &[6, 3]),
        ("model.layers.1.layer.output_linear.0.bias", &[7]),
        ("model.layers.1.norm.norm.weight", &[5]),
        ("encoder.0.weight", &[5, 3]),
    ];
    for (key, shape) in shape_cases {
        let message = refusal_of("v4-post-layer", |tensors, _| {
            tensors.insert(key.into(), filled(shape));
        });
        assert!(message.contains(key) || message.contains("layer"), "{key}: {message}");
    }
    for (key, reason) in [
        ("encoder.0.bias", "'encoder.0.weight'"),
        ("decoder.0.output_transform.weight", "'decoder.0.output_transform.bias'"),
        ("model.layers.0.layer.layer.kernel.l_kernel", "l_kernel'"),
        ("model.layers.1.layer.layer.D", "'model.layers.1.layer.layer.D'"),
    ] {
        let message = refusal_of("v4-post-layer", |tensors, _| drop(tensors.remove(key)));
        assert!(message.contains(reason), "{key}: {message}");
    }
    let message = refusal_of("v4-post-layer", |tensors, _| {
        let key = "model.layers.0.layer.layer.D";
        let nan = Tensor::from_f64(Dtype::F32, vec![1, 6], &[f64::NAN; 6]).unwrap();
        tensors.insert(key.into(), nan);
    });
    assert!(message.contains("finite"), "{message}");
    let message = refusal_of("v4-post-layer", |tensors, _| {
        tensors.retain(|key, _| !key.starts_with("model.layers.0."))
    });
    assert!(message.contains("layers from 0"), "{message}");
}

/// As hydra writes a configuration beside a run: references are followed there too.
#[test]
fn references_in_a_given_configuration_are_followed() {
    let mut config = safetensors_twin("v4-post-layer").config.unwrap();
    let want = OfficialModel::new(safetensors_twin("v4-post-layer").tensors, Some(&config)).unwrap().config;
    config["train"] = json!({"transform": config["model"]["layer"]["dt_transform"]});
    config["model"]["layer"]["dt_transform"] = json!("${train.transform}");
    config["model"]["layer"]["l_max"] = json!("${oc.select:dataset.none,null}");
    let got = OfficialModel::new(safetensors_twin("v4-post-layer").tensors, Some(&config)).unwrap().config;
    assert_eq!(got, want);
}

/// The keys of one block of a fixture, as a file of that block alone has them, with `prefix` before their names.
fn block_of(name: &str, layer: &str, prefix: &str) -> StateDict {
    let tensors = safetensors_twin(name).tensors.into_iter();
    tensors.filter_map(|(key, t)| Some((format!("{prefix}{}", key.strip_prefix(layer)?), t))).collect()
}

/// A block alone must become what it is within its model, whatever stands before its names.
#[test]
fn single_blocks_are_mapped_as_in_their_models() {
    for (name, layer, options) in [
        ("v4-post-layer", "model.layers.1.layer.", json!({"dt_transform": "softplus"})),
        ("v4-bi-batch", "model.layers.1.layer.", json!({"dt_transform": "softplus", "bidirectional": true})),
        ("v4-weight-norm", "model.layers.0.layer.", json!({"dt_transform": "softplus"})),
        ("v3-nplr", "model.layers.1.layer.", json!({})),
        ("v3-diag", "model.layers.0.layer.", json!({"disc": "bilinear"})),
        ("example-pre", "s4_layers.1.", json!({})),
    ] {
        let model = mapped_model(name);
        let i = layer.split('.').find_map(|part| part.parse::<usize>().ok()).unwrap();
        for prefix in ["", "module.net.s4."] {
            let original = block_of(name, layer, prefix);
            let block = OfficialModel::of_block(original.clone(), Some(&options))
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(!block.tensors.is_empty(), "{name}");
            let ours = format!("blocks.{i}.");
            let within: StateDict = (model.tensors.iter())
                .filter(|(key, _)| !key.contains(".norm."))
                .filter_map(|(key, t)| Some((key.strip_prefix(&ours)?.to_string(), t.clone())))
                .collect();
            assert_eq!(block.tensors, within, "{name}");
            assert_eq!((&block.config["norm"], &block.config["residual"]), (&json!("none"), &json!(false)));
            for (key, value) in block.config.as_object().unwrap() {
                if key != "norm" && key != "residual" {
                    assert_eq!(&model.config[key], value, "{name}: {key}");
                }
            }
            assert!(block.notes.is_empty(), "{name}: {:?}", block.notes);
            assert_eq!(block.to_official(&block.tensors).unwrap(), original, "{name}");
        }
    }
}

/// The options of a single block have the defaults of the official class; its `l_max` does not cut the kernel.
#[test]
fn options_of_single_blocks() {
    let block = |options: Json| {
        let original = block_of("v4-post-layer", "model.layers.0.layer.", "");
        OfficialModel::of_block(original, Some(&options))
    };
    let config = block(json!({"l_max": 16, "case": "x", "layout": null})).unwrap().config;
    assert_eq!((&config["dtTransform"], &config["activation"]), (&json!("exp"), &json!("gelu")));
    assert_eq!(config.get("truncate"), None);
    assert_eq!(block(json!({"truncate": 12})).unwrap().config["truncate"], 12);
    for (option, value) in [
        ("truncate", json!(0)),
        ("truncate", json!("12")),
        ("bidirectional", json!(true)),
        ("mode", json!("diag")),
        ("activation", json!("elu")),
        ("final_act", json!("relu")),
        ("real_transform", json!("sinh")),
        ("gate", json!(2)),
    ] {
        let mut options = json!({});
        options[option] = value;
        let message = block(options).expect_err(option).to_string();
        assert!(message.contains(option), "{option}: {message}");
    }
}

#[test]
fn what_is_not_one_block_is_refused() {
    let refusal = |tensors: StateDict| {
        OfficialModel::of_block(tensors, Some(&json!({}))).expect_err("a refusal").to_string()
    };
    let message = refusal(safetensors_twin("v4-post-layer").tensors);
    assert!(message.contains("one block") && message.contains("layers.1."), "{message}");
    let message = refusal(StateDict::new());
    assert!(message.contains("layer.kernel.inv_dt"), "{message}");
    let one = Tensor::from_f64(Dtype::F32, vec![1], &[1.0]).unwrap();
    for prefix in ["", "net."] {
        for surprise in ["encoder.weight", "net.norm.weight"] {
            let mut tensors = block_of("v4-post-layer", "model.layers.0.layer.", prefix);
            tensors.insert(surprise.into(), one.clone());
            let message = refusal(tensors);
            assert!(message.contains(surprise), "{message}");
        }
    }
    let mut tensors = block_of("v4-post-layer", "model.layers.0.layer.", "net.");
    tensors.remove("net.output_linear.0.bias").unwrap();
    let message = refusal(tensors);
    assert!(message.contains("'net.output_linear.0.bias'"), "{message}");
    assert!(
        OfficialModel::of_block(block_of("v3-diag", "model.layers.0.layer.", ""), Some(&json!([]))).is_err()
    );
}
