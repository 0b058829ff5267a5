//! Reads a pickle: a stack, a memo and an arena of plain values.
//!
//! It knows exactly the opcodes that torch's weights-only reader allows. Names are compared with a list, nothing is
//! imported, called or run. Work and memory are linear in the pickle's bytes, and bounded.

use crate::{
    arena::{Arena, MAX_DEPTH},
    error::{Error, Result},
    globals::{self, Global},
    opcode::{self as op, *},
    pickle::Pickle,
    rebuild,
    value::{Object, Storage, Value},
};
use std::collections::HashMap;

/// Values on the stack.
const MAX_STACK: usize = 1 << 20;
/// Values in the memo.
const MAX_MEMO: usize = 1 << 21;
/// Bytes of a class's or module's name.
const MAX_NAME: usize = 256;

/// The machine while it reads.
struct Machine<'a> {
    code: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    arena: Arena,
    /// Bytes of the entry `data/KEY`.
    entry: &'a dyn Fn(&str) -> Option<u64>,
}

/// Reads a whole pickle. `entry` says how many bytes the archive has for a storage's key.
pub(crate) fn read(code: &[u8], entry: &dyn Fn(&str) -> Option<u64>) -> Result<Pickle> {
    let mut machine = Machine {
        code,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        arena: Arena::default(),
        entry,
    };
    let root =
        machine.run().map_err(|e| Error { at: format!("{} (data.pkl, byte {})", e.at, machine.at), ..e })?;
    Ok(Pickle { arena: machine.arena, root })
}

fn bad(expected: impl std::fmt::Display, got: impl std::fmt::Display) -> Error {
    Error::new("the pickle", expected, got)
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Value> {
        if self.take(1)? != [PROTO] {
            return Err(bad("a pickle of protocol 2 to 5", "another beginning"));
        }
        let protocol = self.byte()?;
        if !(2..=5).contains(&protocol) {
            return Err(bad("protocol 2 to 5", protocol));
        }
        loop {
            let opcode = self.byte()?;
            if opcode == STOP {
                let root = self.pop()?;
                if !self.stack.is_empty() || !self.marks.is_empty() {
                    return Err(bad("one value at the end", format!("{} more", self.stack.len())));
                }
                if self.at != self.code.len() {
                    return Err(bad("nothing after STOP", format!("{} bytes", self.code.len() - self.at)));
                }
                return Ok(root);
            }
            self.step(opcode)?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            MARK => {
                if self.marks.len() >= MAX_DEPTH {
                    return Err(bad(format!("at most {MAX_DEPTH} open marks"), "more"));
                }
                self.marks.push(self.stack.len());
                Ok(())
            }
            NONE => self.push(Value::None),
            NEWTRUE => self.push(Value::Bool(true)),
            NEWFALSE => self.push(Value::Bool(false)),
            BININT => {
                let x = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(x as i64))
            }
            BININT1 => {
                let x = self.byte()?;
                self.push(Value::Int(x as i64))
            }
            BININT2 => {
                let x = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(x as i64))
            }
            LONG1 => self.long(),
            BINFLOAT => {
                let x = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(x))
            }
            BINUNICODE => {
                let n = u32::from_le_bytes(self.array()?) as usize;
                self.string(n)
            }
            SHORT_BINSTRING => {
                let n = self.byte()? as usize;
                self.string(n)
            }
            EMPTY_LIST => self.new_object(Object::List(Vec::new())),
            EMPTY_DICT => self.new_object(Object::Dict(Vec::new())),
            EMPTY_SET => self.new_object(Object::Set(Vec::new())),
            EMPTY_TUPLE => self.new_object(Object::Tuple(Vec::new())),
            TUPLE1 => self.tuple(1),
            TUPLE2 => self.tuple(2),
            TUPLE3 => self.tuple(3),
            TUPLE => {
                let items = self.pop_mark()?;
                self.new_container(items)
            }
            APPEND => {
                let item = self.pop()?;
                self.extend(vec![item])
            }
            APPENDS => {
                let items = self.pop_mark()?;
                self.extend(items)
            }
            SETITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])
            }
            SETITEMS => {
                let items = self.pop_mark()?;
                self.set_items(&items)
            }
            BINGET => {
                let key = self.byte()? as u32;
                self.get(key)
            }
            LONG_BINGET => {
                let key = u32::from_le_bytes(self.array()?);
                self.get(key)
            }
            BINPUT => {
                let key = self.byte()? as u32;
                self.put(key)
            }
            LONG_BINPUT => {
                let key = u32::from_le_bytes(self.array()?);
                self.put(key)
            }
            GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                let global = globals::find(module, name)?;
                self.new_object(Object::Global(global))
            }
            BINPERSID => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.new_object(Object::Storage(storage))
            }
            REDUCE => {
                let (args, function) = (self.pop()?, self.pop()?);
                let made = rebuild::reduce(&mut self.arena, function, args)?;
                self.push(made)
            }
            NEWOBJ => {
                let (args, class) = (self.pop()?, self.pop()?);
                let made = rebuild::new_object(&mut self.arena, class, args)?;
                self.push(made)
            }
            BUILD => self.build(),
            PROTO => Err(bad("one PROTO, at the beginning", "another")),
            _ => Err(bad(
                "an opcode that weights need (torch.save with its own pickle_protocol, 2)",
                op::name(opcode),
            )),
        }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.code.len());
        let Some(end) = end else {
            return Err(bad(format!("{n} more bytes"), format!("{} left", self.code.len() - self.at)));
        };
        let out = &self.code[self.at..end];
        self.at = end;
        Ok(out)
    }
    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }
    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.code[self.at..];
        let end = rest.iter().take(MAX_NAME + 1).position(|&b| b == b'\n');
        let Some(end) = end else {
            return Err(bad(format!("a name of at most {MAX_NAME} bytes"), "a longer one, or the end"));
        };
        let text = std::str::from_utf8(&rest[..end]).map_err(|_| bad("a name in UTF-8", "other bytes"))?;
        self.at += end + 1;
        Ok(text)
    }
    fn string(&mut self, n: usize) -> Result<()> {
        let bytes = self.take(n)?;
        // Python lets lone surrogates through; a name of a tensor has none.
        let text = std::str::from_utf8(bytes).map_err(|_| bad("a string in UTF-8", "other bytes"))?;
        self.new_object(Object::Text(text.to_string()))
    }
    /// A two's complement integer of up to 255 bytes, of which 16 are read.
    fn long(&mut self) -> Result<()> {
        let n = self.byte()? as usize;
        let bytes = self.take(n)?;
        if n > 16 {
            return Err(bad("an integer of at most 128 bits", format!("{n} bytes")));
        }
        let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 16];
        wide[..n].copy_from_slice(bytes);
        let x = i128::from_le_bytes(wide);
        match i64::try_from(x) {
            Ok(x) => self.push(Value::Int(x)),
            Err(_) => self.new_object(Object::Big(x)),
        }
    }

    fn push(&mut self, value: Value) -> Result<()> {
        if self.stack.len() >= MAX_STACK {
            return Err(bad(format!("at most {MAX_STACK} values on the stack"), "more"));
        }
        self.stack.push(value);
        Ok(())
    }
    /// What lies above the last mark.
    fn pop(&mut self) -> Result<Value> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(bad("a value on the stack", "none"));
        }
        self.stack.pop().ok_or_else(|| bad("a value on the stack", "none"))
    }
    fn top(&self) -> Result<Value> {
        match self.stack.len() > self.marks.last().copied().unwrap_or(0) {
            true => self.stack.last().copied().ok_or_else(|| bad("a value on the stack", "none")),
            false => Err(bad("a value on the stack", "none")),
        }
    }
    fn pop_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().ok_or_else(|| bad("a mark", "none"))?;
        Ok(self.stack.split_off(mark))
    }

    fn new_object(&mut self, object: Object) -> Result<()> {
        let value = self.arena.add(object)?;
        self.push(value)
    }
    fn new_container(&mut self, items: Vec<Value>) -> Result<()> {
        self.new_object(Object::Tuple(items))
    }
    fn tuple(&mut self, n: usize) -> Result<()> {
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            items.push(self.pop()?);
        }
        items.reverse();
        self.new_container(items)
    }
    /// The object on top of the stack, which opcodes of containers change.
    fn container(&mut self, items: &[Value]) -> Result<u32> {
        match self.top()? {
            Value::Object(place) => {
                self.arena.deepen(place, items)?;
                Ok(place)
            }
            other => Err(bad("a container", format!("{other:?}"))),
        }
    }
    fn extend(&mut self, items: Vec<Value>) -> Result<()> {
        let place = self.container(&items)?;
        match self.arena.get_mut(place) {
            Some(Object::List(list)) => list.extend(items),
            Some(Object::Inert(node)) => node.elements.extend(items),
            other => return Err(bad("a list to append to", other.map_or("nothing", |o| o.kind()))),
        }
        Ok(())
    }
    fn set_items(&mut self, items: &[Value]) -> Result<()> {
        let place = self.container(items)?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(bad("keys and values in pairs", "one without the other"));
        }
        match self.arena.get_mut(place) {
            Some(Object::Dict(dict)) => dict.extend(pairs.iter().map(|p| (p[0], p[1]))),
            Some(Object::Inert(node)) => node.items.extend(pairs.iter().map(|p| (p[0], p[1]))),
            other => return Err(bad("a dict to set items of", other.map_or("nothing", |o| o.kind()))),
        }
        Ok(())
    }
    fn get(&mut self, key: u32) -> Result<()> {
        let value = self.memo.get(&key).copied().ok_or_else(|| bad("a memo that was put before", key))?;
        self.push(value)
    }
    fn put(&mut self, key: u32) -> Result<()> {
        let value = self.top()?;
        if self.memo.len() >= MAX_MEMO && !self.memo.contains_key(&key) {
            return Err(bad(format!("at most {MAX_MEMO} memos"), "more"));
        }
        self.memo.insert(key, value);
        Ok(())
    }
    /// Gives an inert node its state. What a state would do to a tensor or a dict (attributes) is of no use here.
    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let place = self.container(&[state])?;
        match self.arena.get_mut(place) {
            Some(Object::Inert(node)) => node.state = state,
            Some(Object::Dict(_) | Object::Tensor(_)) => {}
            other => {
                let got = other.map_or("nothing", |o| o.kind());
                return Err(bad("BUILD of a dict, a tensor or an inert object", got));
            }
        }
        Ok(())
    }

    /// ('storage', type, key, location, elements), the only persistent id that torch.save writes.
    fn storage(&self, id: Value) -> Result<Storage> {
        let what = "a persistent id ('storage', type, key, location, elements)";
        let Some(&[tag, kind, key, _location, elements]) = self.arena.tuple(id) else {
            return Err(bad(what, "something else"));
        };
        if self.arena.text(tag) != Some("storage") {
            return Err(bad(what, "another kind"));
        }
        let Some(Object::Global(Global::StorageType(dtype))) = self.arena.object(kind) else {
            return Err(bad(what, "no type of storage"));
        };
        let (Some(key), Value::Int(elements)) = (self.arena.text(key), elements) else {
            return Err(bad(what, "no key or no number of elements"));
        };
        let name = crate::error::quoted(key);
        if key.is_empty() || key.len() > 32 || !key.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad("a storage key in digits", name));
        }
        let bytes =
            u64::try_from(elements).ok().and_then(|n| n.checked_mul(dtype.map_or(1, |d| d.size()) as u64));
        let have =
            (self.entry)(key).ok_or_else(|| bad(format!("an entry data/{key}"), "none in the archive"))?;
        match bytes == Some(have) {
            true => Ok(Storage { key: key.to_string(), dtype: *dtype, bytes: have }),
            false => Err(bad(
                format!("storage {name} of the {have} bytes that the archive has"),
                format!("{elements} elements of {dtype:?}"),
            )),
        }
    }
}
