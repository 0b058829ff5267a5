//! The readers of PyTorch's files: archives, pickles and state dicts of the official models.

use crate::{
    containers::Container,
    model_readers::{refused, use_model},
    reader::{MIB, Outcome, Reader, test_file},
};
use s4_backend::Code;
use s4_cpu::Cpu;
use s4_nn::{ImportedModel, block_from_official_file, model_from_official};
use s4_torch::{Checkpoint, Error};

/// A refusal must say where, what was expected and what was found.
fn refused_by_torch(error: &Error) -> Outcome {
    match !error.at.is_empty() && !error.expected.is_empty() && error.to_string().len() < 4000 {
        true => Ok(false),
        false => Err(format!("refused in {} bytes: {:.300}", error.to_string().len(), error.to_string())),
    }
}

fn read_pickle(bytes: &[u8]) -> Outcome {
    match Checkpoint::from_torch(bytes.to_vec()) {
        Ok(file) => {
            let sound = file.tensors.values().all(|t| t.bytes().len() == t.len() * t.dtype().size());
            if sound { Ok(true) } else { Err("a wrong value: as many bytes as the shape says".into()) }
        }
        Err(error) => refused_by_torch(&error),
    }
}

/// Reads whole models and blocks from a file with this ending.
fn official_reader(ending: &'static str) -> impl Fn(&[u8]) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let configs: Vec<String> = {
        let index: serde_json::Value =
            serde_json::from_slice(&test_file("__test__/fixtures/official/index.json")).unwrap();
        index.as_object().unwrap().values().map(|entry| entry["config"].to_string()).collect()
    };
    move |bytes: &[u8]| {
        let path = folder.path().join(format!("model.{ending}"));
        std::fs::write(&path, bytes).map_err(|e| e.to_string())?;
        // A file of the corpus fits the configuration that it was written with; which one that is, a changed file need not tell.
        let mut any = false;
        for config in std::iter::once(None).chain(configs.iter().map(|config| Some(config.as_str()))) {
            let be = Cpu::<f32>::new(1).map_err(|e| e.to_string())?;
            match model_from_official(be.clone(), &path, config) {
                Ok(ImportedModel { mut model, .. }) => {
                    use_model(&mut model)?;
                    any = true;
                }
                Err(error) => {
                    refused(&error, &[Code::Checkpoint, Code::Memory])?;
                }
            }
            match block_from_official_file(be, &path, config) {
                Ok(_) => any = true,
                Err(error) => {
                    refused(&error, &[Code::Checkpoint, Code::Memory, Code::Unsupported])?;
                }
            }
        }
        Ok(any)
    }
}

const MODELS: [&str; 6] = ["example-pre", "v3-diag", "v3-nplr", "v4-bi-batch", "v4-lm", "v4-weight-norm"];

/// All readers of PyTorch's files.
pub(crate) fn all() -> Vec<Reader> {
    let words: &'static [&'static str] = &[
        "ccollections\nOrderedDict\n",
        "ctorch._utils\n_rebuild_tensor_v2\n",
        "ctorch\nFloatStorage\n",
        "(",
        "t",
        "R",
        "}",
        "]",
        "u",
        "e",
        "b",
        ".",
        "\u{2}",
        "Q",
        "N",
        "h\u{1}",
        "q\u{1}",
        "j",
        "r",
        "kernel.C",
        "kernel.l_kernel",
        "state_dict",
        "hyper_parameters",
    ];
    let file = |name: &str| test_file(&format!("__test__/fixtures/official/{name}"));
    let archives: Vec<Vec<u8>> =
        MODELS.iter().map(|name| file(&format!("{name}.pt"))).chain([file("v4-lightning.ckpt")]).collect();
    let dicts = MODELS.iter().map(|name| file(&format!("{name}.safetensors"))).collect();
    // An archive's pickle may have two million objects; its entries may be folded by deflate.
    let memory = (64 * MIB, 2048);
    vec![
        Reader {
            name: "pickle",
            corpus: archives.clone(),
            container: Container::Zip,
            words,
            memory,
            read: Box::new(read_pickle),
        },
        Reader {
            name: "official-pt",
            corpus: archives,
            container: Container::Zip,
            words,
            memory,
            read: Box::new(official_reader("pt")),
        },
        Reader {
            name: "official-safetensors",
            corpus: dicts,
            container: Container::Safetensors,
            words,
            memory,
            read: Box::new(official_reader("safetensors")),
        },
    ]
}
