//! Damaged and malicious files: every one must be refused with its reason, without a panic, without running anything,
//! and with little memory.

mod common;

use common::*;
use s4_torch::Checkpoint;
use zip::CompressionMethod::{Deflated, Stored};

#[global_allocator]
static ALLOC: dhat::Alloc = dhat::Alloc;

/// Largest number of bytes that may be allocated at once while all cases are read.
const MAX_MEMORY: usize = 384 << 20;

struct HostileFile {
    name: String,
    file: Vec<u8>,
    /// A part of the error's message.
    reason: &'static str,
}

fn valid_pickle() -> Vec<u8> {
    pickle_of_floats(4, 0, &[2, 2], &[2, 1])
}

fn pickle_of_w(value: Vec<u8>) -> Vec<u8> {
    whole_pickle(&[&pickled_dict(&[("w", value)])])
}

fn repeat(part: &[u8], n: usize) -> Vec<u8> {
    part.repeat(n)
}

/// The file that a command in one of the pickles would create if it were run.
fn command_trace() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("s4-torch-trace-{}", std::process::id()))
}

/// Adds files that name or call classes and functions which checkpoints do not need.
fn calls(add: &mut dyn FnMut(&str, Vec<u8>, &'static str)) {
    let command = pickled_text(&format!("touch {}", command_trace().display()));
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("__builtin__", "eval"),
        ("importlib", "import_module"),
        ("functools", "partial"),
        ("operator", "attrgetter"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torch._utils", "_rebuild_sparse_tensor"),
        ("torch._utils", "_rebuild_qtensor"),
        ("torch.jit", "load"),
        ("pickle", "loads"),
        ("webbrowser", "open"),
        ("copyreg", "_reconstructor"),
        ("runpy", "_run_code"),
    ] {
        add(
            &format!("{module}.{name}"),
            pickle_of_w(pickled_call(pickled_global(module, name), std::slice::from_ref(&command))),
            "the name '",
        );
    }
    add("a name alone", pickle_of_w(pickled_global("os", "system")), "'os.system'");
    add("dots in a name", pickle_of_w(pickled_global("src", "a..b")), "names of classes");
    add("a name with spaces", pickle_of_w(pickled_global("src", "a b")), "names of classes");
    add("an empty name", pickle_of_w(pickled_global("src", "")), "names of classes");
    add("a name without end", [b"\x80\x02c".to_vec(), repeat(b"a", 5000)].concat(), "a name of at most");
    add("a name that is no UTF-8", b"\x80\x02c\xff\xfe\nx\n.".to_vec(), "UTF-8");
    add("REDUCE of a string", pickle_of_w(pickled_call(pickled_text("eval"), &[])), "REDUCE of a name");
    add(
        "REDUCE of an inert node",
        pickle_of_w(pickled_call(pickled_call(pickled_global("src", "f"), &[]), &[])),
        "REDUCE of a name",
    );
    add(
        "REDUCE without a tuple",
        pickle_of_w([pickled_global("collections", "OrderedDict"), pickled_int(1), b"R".to_vec()].concat()),
        "a tuple",
    );
    add(
        "NEWOBJ of a function",
        pickle_of_w([pickled_global("torch._utils", "_rebuild_tensor"), b")\x81".to_vec()].concat()),
        "NEWOBJ",
    );
    add("BUILD of a list", pickle_of_w([b"]".to_vec(), pickled_dict(&[]), b"b".to_vec()].concat()), "BUILD");
    add(
        "BUILD of a number",
        pickle_of_w([pickled_int(1), pickled_dict(&[]), b"b".to_vec()].concat()),
        "a container",
    );
    add(
        "BUILD of a class",
        pickle_of_w([pickled_global("src", "A"), pickled_dict(&[]), b"b".to_vec()].concat()),
        "BUILD",
    );
    add("an inert node as weights", pickle_of_w(pickled_call(pickled_global("src", "A"), &[])), "tensors");
    add(
        "a call of a dtype",
        pickle_of_w(pickled_call(pickled_global("torch", "float32"), &[])),
        "REDUCE of a function",
    );
}

/// Adds files with faults among the opcodes and bytes of the pickle.
fn opcodes(add: &mut dyn FnMut(&str, Vec<u8>, &'static str)) {
    let ops: [(&str, &[u8]); 14] = [
        ("STACK_GLOBAL", b"\x93"),
        ("INST", b"i"),
        ("OBJ", b"o"),
        ("PERSID", b"Pid\n"),
        ("EXT1", b"\x82\x01"),
        ("EXT4", b"\x84\x01\0\0\0"),
        ("POP", b"0"),
        ("DUP", b"2"),
        ("FRAME", b"\x95"),
        ("BINBYTES8", b"\x8e"),
        ("NEWOBJ_EX", b"\x92"),
        ("STRING", b"S'a'\n"),
        ("NEXT_BUFFER", b"\x97"),
        ("the byte 0xff", b"\xff"),
    ];
    for (name, op) in ops {
        add(&format!("opcode {name}"), whole_pickle(&[op]), name);
    }
    add("protocol 1", b"\x80\x01N.".to_vec(), "protocol 2 to 5");
    add("protocol 9", b"\x80\x09N.".to_vec(), "protocol 2 to 5");
    add("no protocol", b"N.".to_vec(), "another beginning");
    add("a second PROTO", whole_pickle(&[b"\x80\x02N"]), "one PROTO");
    add("an empty pickle", Vec::new(), "1 more bytes");
    add("no STOP", b"\x80\x02N".to_vec(), "1 more bytes");
    add("bytes after STOP", [valid_pickle(), b"x".to_vec()].concat(), "nothing after STOP");
    add("nothing at STOP", b"\x80\x02.".to_vec(), "a value on the stack");
    add("two values at STOP", whole_pickle(&[b"NN"]), "one value at the end");
    add("a mark at STOP", whole_pickle(&[b"N("]), "a value on the stack");
    add("a tuple without mark", whole_pickle(&[b"Nt"]), "a mark");
    add("TUPLE3 of two", whole_pickle(&[b"NN\x87"]), "a value on the stack");
    add("APPEND across a mark", whole_pickle(&[b"](Na"]), "a value on the stack");
    add("SETITEMS of three", whole_pickle(&[b"}(NNNu"]), "in pairs");
    add("APPENDS to a dict", whole_pickle(&[b"}(Ne"]), "a list to append to");
    add("SETITEM of a tuple", whole_pickle(&[b")NNs"]), "a dict to set items of");
    add("a memo that is not there", whole_pickle(&[b"h\x07"]), "a memo");
    add("a long memo that is not there", whole_pickle(&[b"j\xff\xff\xff\xff"]), "a memo");
    add("a string of 4 GiB", whole_pickle(&[b"X\xff\xff\xff\xffabc"]), "more bytes");
    add("a string that is no UTF-8", whole_pickle(&[b"X\x02\0\0\0\xc3\x28"]), "UTF-8");
    add("an integer of 255 bytes", whole_pickle(&[b"\x8a\xff", &[1; 255]]), "128 bits");
    add("100,000 open marks", whole_pickle(&[&repeat(b"(", 100_000)]), "open marks");
    add("100,000 tuples in tuples", whole_pickle(&[b")", &repeat(b"\x85", 100_000)]), "in one another");
    add("3,000,000 values on the stack", whole_pickle(&[&repeat(b"N", 3_000_000)]), "on the stack");
    add("3,000,000 objects", whole_pickle(&[b"]", &repeat(b")a", 3_000_000)]), "objects");
    // A list of 100,000 given to 200,000 calls.
    let shared =
        [pickled_global("builtins", "set"), b"q\0](".to_vec(), repeat(b"N", 100_000), b"eq\x01]".to_vec()]
            .concat();
    let calls = repeat(b"h\0h\x01\x85Ra", 200_000);
    add("a list in many sets", whole_pickle(&[&shared, &calls]), "one value at the end");
    let arguments = [b"(".to_vec(), repeat(b"N", 100_000), b"tR".to_vec()].concat();
    add(
        "a call of 100,000 arguments",
        whole_pickle(&[&pickled_global("builtins", "set"), &arguments]),
        "at most 8 arguments",
    );
    let memos: Vec<u8> =
        (0..2_200_000u32).flat_map(|i| [b"r".as_slice(), &i.to_le_bytes()].concat()).collect();
    add("2,200,000 memos", whole_pickle(&[b"N", &memos]), "memos");
}

/// Adds files with faults in storages, tensors and state dicts.
fn tensors(add: &mut dyn FnMut(&str, Vec<u8>, &'static str)) {
    let f = |n| pickled_storage("FloatStorage", "0", n);
    add(
        "a storage that is not there",
        pickle_of_w(pickled_tensor(pickled_storage("FloatStorage", "9", 4), 0, &[4], &[1])),
        "data/9",
    );
    add(
        "a storage with a path",
        pickle_of_w(pickled_tensor(pickled_storage("FloatStorage", "../0", 4), 0, &[4], &[1])),
        "key in digits",
    );
    add(
        "a storage larger than its entry",
        pickle_of_w(pickled_tensor(f(5), 0, &[4], &[1])),
        "of the 16 bytes",
    );
    add(
        "a storage smaller than its entry",
        pickle_of_w(pickled_tensor(f(3), 0, &[3], &[1])),
        "of the 16 bytes",
    );
    add(
        "a storage of 2^62 elements",
        pickle_of_w(pickled_tensor(f(1 << 62), 0, &[4], &[1])),
        "of the 16 bytes",
    );
    add("a storage of -1 elements", pickle_of_w(pickled_tensor(f(-1), 0, &[4], &[1])), "of the 16 bytes");
    add(
        "a quantised storage",
        pickle_of_w(pickled_tensor(pickled_storage("QInt8Storage", "0", 16), 0, &[4], &[1])),
        "a storage of f32",
    );
    let id = pickled_tuple(&[
        pickled_text("module"),
        pickled_global("torch", "FloatStorage"),
        pickled_text("0"),
        pickled_text("cpu"),
        pickled_int(4),
    ]);
    add("another persistent id", pickle_of_w([id, b"Q".to_vec()].concat()), "another kind");
    add(
        "a persistent id of a number",
        pickle_of_w([pickled_int(1), b"Q".to_vec()].concat()),
        "a persistent id",
    );
    add("a negative stride", pickle_of_floats(4, 3, &[4], &[-1]), "a stride of at least 0");
    add("a negative size", pickle_of_floats(4, 0, &[-4], &[1]), "a size of at least 0");
    add("a negative offset", pickle_of_floats(4, -1, &[4], &[1]), "a storage offset of at least 0");
    add("an offset at the end", pickle_of_floats(4, 4, &[1], &[1]), "within storage");
    add("one element too many", pickle_of_floats(4, 1, &[4], &[1]), "within storage");
    add("a stride too wide", pickle_of_floats(4, 0, &[2, 2], &[3, 1]), "within storage");
    add("a stride that overflows", pickle_of_floats(4, 0, &[3], &[i64::MAX]), "within storage");
    add("sizes that overflow", pickle_of_floats(4, 0, &[1 << 40, 1 << 40], &[0, 0]), "within storage");
    add("4 TiB of one value", pickle_of_floats(4, 0, &[1 << 40], &[0]), "tensors of at most");
    add("as many strides as sizes", pickle_of_floats(4, 0, &[2, 2], &[1]), "as many strides");
    add("40 dimensions", pickle_of_floats(4, 0, &[1; 40], &[1; 40]), "at most 32");
    add(
        "a size of words",
        pickle_of_w(pickled_call(
            pickled_global("torch._utils", "_rebuild_tensor"),
            &[f(4), pickled_int(0), pickled_tuple(&[pickled_text("4")]), pickled_ints(&[1])],
        )),
        "a whole number",
    );
    add(
        "a tensor of no storage",
        pickle_of_w(pickled_tensor(pickled_int(4), 0, &[4], &[1])),
        "a tensor of a storage",
    );
    add(
        "a rebuild of two arguments",
        pickle_of_w(pickled_call(
            pickled_global("torch._utils", "_rebuild_tensor_v2"),
            &[f(4), pickled_int(0)],
        )),
        "the arguments",
    );
    add(
        "a parameter of no tensor",
        pickle_of_w(pickled_call(
            pickled_global("torch._utils", "_rebuild_parameter"),
            &[pickled_int(1), pickled_int(1), pickled_int(1)],
        )),
        "no tensor",
    );
    let twice = [pickled_text("w"), pickled_tensor(f(4), 0, &[4], &[1])].concat();
    add("a name twice", whole_pickle(&[b"}(", &twice, &twice, b"u"]), "twice");
    add(
        "a number among the tensors",
        whole_pickle(&[&pickled_dict(&[("w", pickled_tensor(f(4), 0, &[4], &[1])), ("n", pickled_int(3))])]),
        "a tensor",
    );
    add("a list as checkpoint", whole_pickle(&[b"]"]), "a dict of tensors");
    add("no tensors", whole_pickle(&[&pickled_dict(&[("epoch", pickled_int(3))])]), "'epoch'");
    add(
        "a whole module",
        whole_pickle(&[&pickled_dict(&[("model", pickled_call(pickled_global("src.models", "Net"), &[]))])]),
        "save model.state_dict()",
    );
}

/// Adds files with faults in the zip archive around the pickle.
fn archives(out: &mut Vec<HostileFile>) {
    let (p, raw) = (valid_pickle(), [0u8; 16]);
    let mut add =
        |name: &str, file: Vec<u8>, reason| out.push(HostileFile { name: name.into(), file, reason });
    let whole = checkpoint_file(&p, &raw);
    add("an empty file", Vec::new(), "an empty file");
    add("text", b"hello".to_vec(), "something else");
    add(
        "a legacy pickle",
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec(),
        "a legacy pickle",
    );
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    add("a legacy tar", tar, "a legacy tar");
    add("a bare pickle", p.clone(), "a bare pickle");
    add("safetensors", b"\x02\0\0\0\0\0\0\0{}".to_vec(), "safetensors");
    add("an empty archive", zip_archive(&[], Stored), "an empty zip");
    for part in [1, 2, 3] {
        add(&format!("{part}/4 of a file"), whole[..whole.len() * part / 4].to_vec(), "a sound zip archive");
    }
    // The bytes of the storage change, not its checksum.
    let marked = checkpoint_file(&p, b"0123456789abcdef");
    let at = marked.windows(16).position(|bytes| bytes == b"0123456789abcdef").unwrap();
    let mut wrong = marked;
    wrong[at] ^= 1;
    add("a wrong checksum", wrong, "a sound entry");
    let at = whole.windows(p.len()).position(|bytes| bytes == p).unwrap();
    let mut wrong = whole.clone();
    wrong[at + 3] ^= 0x40;
    add("a wrong checksum of the pickle", wrong, "a sound entry");
    let entry = |name: &str| zip_archive(&[("m/data.pkl", &p), ("m/data/0", &raw), (name, b"x")], Stored);
    for name in ["../evil", "/etc/passwd", "m/../../evil", "m\\evil", "C:evil", "m//x", "m/./x"] {
        add(&format!("an entry {name}"), entry(name), "");
    }
    add("an entry beside the root", entry("other/x"), "entries under");
    add("two pickles", entry("n/data.pkl"), "one entry NAME/data.pkl");
    add("no pickle", zip_archive(&[("m/data/0", &raw)], Stored), "an entry NAME/data.pkl");
    add("TorchScript", entry("m/constants.pkl"), "TorchScript");
    add("TorchScript's code", entry("m/code/x.py"), "TorchScript");
    let order =
        |bytes: &[u8]| zip_archive(&[("m/data.pkl", &p), ("m/data/0", &raw), ("m/byteorder", bytes)], Stored);
    add("big-endian", order(b"big"), "'little'");
    add("a long endianness", order(&[b'l'; 64]), "at most 16 bytes");
    let bomb = vec![0u8; 80 << 20];
    add("a zip bomb", zip_archive(&[("m/data.pkl", &p), ("m/data/0", &bomb)], Deflated), "unfold");
    let huge = [b"\x80\x02".to_vec(), vec![b'N'; 65 << 20]].concat();
    add("a pickle of 65 MiB", zip_archive(&[("m/data.pkl", &huge)], Stored), "at most 67108864 bytes");
    drop(huge);
    add("bytes before the archive", [b"#!/bin/sh\n".to_vec(), whole.clone()].concat(), "something else");
    // The central directory says another size than the entry has.
    let at = whole.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
    let mut wrong = whole.clone();
    wrong[at + 24..at + 28].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    add("a size that is not there", wrong, "");
    let mut wrong = whole;
    wrong[at + 42..at + 46].copy_from_slice(&0u32.to_le_bytes());
    add("an entry over another", wrong, "");
}

fn hostile_files() -> Vec<HostileFile> {
    let mut out = Vec::new();
    let raw = [0u8; 16];
    let mut add = |name: &str, pickle: Vec<u8>, reason| {
        out.push(HostileFile { name: name.into(), file: checkpoint_file(&pickle, &raw), reason });
    };
    calls(&mut add);
    opcodes(&mut add);
    tensors(&mut add);
    archives(&mut out);
    out
}

#[test]
fn every_hostile_file_is_refused_with_its_reason() {
    assert!(Checkpoint::from_torch(checkpoint_file(&valid_pickle(), &[0; 16])).is_ok());
    let hostile_files = hostile_files();
    assert!(hostile_files.len() >= 50, "{}", hostile_files.len());
    let _profiler = dhat::Profiler::builder().testing().build();
    for HostileFile { name, file, reason } in hostile_files {
        match Checkpoint::from_torch(file) {
            Ok(file) => panic!("{name}: was read: {:?}", file.tensors.keys()),
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains(reason), "{name}: {message}");
                assert!(message.len() < 1000, "{name}: {} bytes", message.len());
            }
        }
    }
    let most = dhat::HeapStats::get().max_bytes;
    assert!(most < MAX_MEMORY, "{most} bytes");
    assert!(!command_trace().exists(), "a command was run");
}
