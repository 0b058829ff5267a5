//! Reads a pickle with a stack machine: its opcodes push values on a stack, number some of them in a memo, and build
//! objects in an arena.
//!
//! The machine knows exactly the opcodes that torch's weights-only reader allows. Classes and functions are compared
//! with a list of names; nothing is imported, called or run. Time and memory are linear in the pickle's bytes, and
//! bounded.

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

/// Largest number of values on the stack.
const MAX_STACK: usize = 1 << 20;
/// Largest number of values in the memo.
const MAX_MEMO: usize = 1 << 21;
/// Largest number of bytes of a class's or module's name.
const MAX_NAME: usize = 256;

/// The stack machine that reads a pickle.
struct PickleMachine<'a> {
    /// Bytes of the pickle.
    code: &'a [u8],
    /// Index of the next byte.
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack at open marks.
    marks: Vec<usize>,
    /// Values that the pickle has numbered, to refer to them again.
    memo: HashMap<u32, Value>,
    arena: Arena,
    /// The size in bytes of the archive's entry `data/KEY`.
    entry_bytes: &'a dyn Fn(&str) -> Option<u64>,
}

/// Reads a whole pickle. `entry_bytes` gives the size of the archive's entry for a storage's key.
pub(crate) fn read_pickle(code: &[u8], entry_bytes: &dyn Fn(&str) -> Option<u64>) -> Result<Pickle> {
    let mut machine = PickleMachine {
        code,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        arena: Arena::default(),
        entry_bytes,
    };
    let root = machine
        .run_to_stop()
        .map_err(|e| Error { at: format!("{} (data.pkl, byte {})", e.at, machine.at), ..e })?;
    Ok(Pickle { arena: machine.arena, root })
}

fn malformed(expected: impl std::fmt::Display, got: impl std::fmt::Display) -> Error {
    Error::new("the pickle", expected, got)
}

impl<'a> PickleMachine<'a> {
    fn run_to_stop(&mut self) -> Result<Value> {
        if self.take_bytes(1)? != [PROTO] {
            return Err(malformed("a pickle of protocol 2 to 5", "another beginning"));
        }
        let protocol = self.next_byte()?;
        if !(2..=5).contains(&protocol) {
            return Err(malformed("protocol 2 to 5", protocol));
        }
        loop {
            let opcode = self.next_byte()?;
            if opcode == STOP {
                let root = self.pop()?;
                if !self.stack.is_empty() || !self.marks.is_empty() {
                    return Err(malformed("one value at the end", format!("{} more", self.stack.len())));
                }
                if self.at != self.code.len() {
                    return Err(malformed(
                        "nothing after STOP",
                        format!("{} bytes", self.code.len() - self.at),
                    ));
                }
                return Ok(root);
            }
            self.execute(opcode)?;
        }
    }

    fn execute(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            MARK => {
                if self.marks.len() >= MAX_DEPTH {
                    return Err(malformed(format!("at most {MAX_DEPTH} open marks"), "more"));
                }
                self.marks.push(self.stack.len());
                Ok(())
            }
            NONE => self.push(Value::None),
            NEWTRUE => self.push(Value::Bool(true)),
            NEWFALSE => self.push(Value::Bool(false)),
            BININT => {
                let x = i32::from_le_bytes(self.next_array()?);
                self.push(Value::Int(x as i64))
            }
            BININT1 => {
                let x = self.next_byte()?;
                self.push(Value::Int(x as i64))
            }
            BININT2 => {
                let x = u16::from_le_bytes(self.next_array()?);
                self.push(Value::Int(x as i64))
            }
            LONG1 => self.push_long(),
            BINFLOAT => {
                let x = f64::from_be_bytes(self.next_array()?);
                self.push(Value::Float(x))
            }
            BINUNICODE => {
                let n = u32::from_le_bytes(self.next_array()?) as usize;
                self.push_string(n)
            }
            SHORT_BINSTRING => {
                let n = self.next_byte()? as usize;
                self.push_string(n)
            }
            EMPTY_LIST => self.new_object(Object::List(Vec::new())),
            EMPTY_DICT => self.new_object(Object::Dict(Vec::new())),
            EMPTY_SET => self.new_object(Object::Set(Vec::new())),
            EMPTY_TUPLE => self.new_object(Object::Tuple(Vec::new())),
            TUPLE1 => self.push_tuple(1),
            TUPLE2 => self.push_tuple(2),
            TUPLE3 => self.push_tuple(3),
            TUPLE => {
                let items = self.pop_mark()?;
                self.new_container(items)
            }
            APPEND => {
                let item = self.pop()?;
                self.append_items(vec![item])
            }
            APPENDS => {
                let items = self.pop_mark()?;
                self.append_items(items)
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
                let key = self.next_byte()? as u32;
                self.push_memo(key)
            }
            LONG_BINGET => {
                let key = u32::from_le_bytes(self.next_array()?);
                self.push_memo(key)
            }
            BINPUT => {
                let key = self.next_byte()? as u32;
                self.store_memo(key)
            }
            LONG_BINPUT => {
                let key = u32::from_le_bytes(self.next_array()?);
                self.store_memo(key)
            }
            GLOBAL => {
                let (module, name) = (self.next_line()?, self.next_line()?);
                let global = globals::find_global(module, name)?;
                self.new_object(Object::Global(global))
            }
            BINPERSID => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.new_object(Object::Storage(storage))
            }
            REDUCE => {
                let (args, function) = (self.pop()?, self.pop()?);
                let made = rebuild::call_function(&mut self.arena, function, args)?;
                self.push(made)
            }
            NEWOBJ => {
                let (args, class) = (self.pop()?, self.pop()?);
                let made = rebuild::new_object(&mut self.arena, class, args)?;
                self.push(made)
            }
            BUILD => self.set_state(),
            PROTO => Err(malformed("one PROTO, at the beginning", "another")),
            _ => Err(malformed(
                "an opcode that weights need (torch.save with its own pickle_protocol, 2)",
                op::refused_name(opcode),
            )),
        }
    }

    fn take_bytes(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.code.len());
        let Some(end) = end else {
            return Err(malformed(format!("{n} more bytes"), format!("{} left", self.code.len() - self.at)));
        };
        let bytes = &self.code[self.at..end];
        self.at = end;
        Ok(bytes)
    }
    fn next_byte(&mut self) -> Result<u8> {
        Ok(self.take_bytes(1)?[0])
    }
    fn next_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take_bytes(N)?);
        Ok(bytes)
    }
    fn next_line(&mut self) -> Result<&'a str> {
        let rest = &self.code[self.at..];
        let end = rest.iter().take(MAX_NAME + 1).position(|&b| b == b'\n');
        let Some(end) = end else {
            return Err(malformed(format!("a name of at most {MAX_NAME} bytes"), "a longer one, or the end"));
        };
        let text =
            std::str::from_utf8(&rest[..end]).map_err(|_| malformed("a name in UTF-8", "other bytes"))?;
        self.at += end + 1;
        Ok(text)
    }
    fn push_string(&mut self, n: usize) -> Result<()> {
        let bytes = self.take_bytes(n)?;
        // Python would also accept lone surrogates, which are not UTF-8; names of tensors have none.
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("a string in UTF-8", "other bytes"))?;
        self.new_object(Object::Text(text.to_string()))
    }
    /// Reads a two's complement integer, which may have up to 255 bytes; more than 16 are refused.
    fn push_long(&mut self) -> Result<()> {
        let n = self.next_byte()? as usize;
        let bytes = self.take_bytes(n)?;
        if n > 16 {
            return Err(malformed("an integer of at most 128 bits", format!("{n} bytes")));
        }
        let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 16];
        wide[..n].copy_from_slice(bytes);
        let x = i128::from_le_bytes(wide);
        match i64::try_from(x) {
            Ok(x) => self.push(Value::Int(x)),
            Err(_) => self.new_object(Object::BigInt(x)),
        }
    }

    fn push(&mut self, value: Value) -> Result<()> {
        if self.stack.len() >= MAX_STACK {
            return Err(malformed(format!("at most {MAX_STACK} values on the stack"), "more"));
        }
        self.stack.push(value);
        Ok(())
    }
    /// Removes the value on top of the stack, which must be above the last mark.
    fn pop(&mut self) -> Result<Value> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(malformed("a value on the stack", "none"));
        }
        self.stack.pop().ok_or_else(|| malformed("a value on the stack", "none"))
    }
    /// The value on top of the stack, which stays there.
    fn top(&self) -> Result<Value> {
        match self.stack.len() > self.marks.last().copied().unwrap_or(0) {
            true => self.stack.last().copied().ok_or_else(|| malformed("a value on the stack", "none")),
            false => Err(malformed("a value on the stack", "none")),
        }
    }
    /// Removes the values above the last mark, and the mark.
    fn pop_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().ok_or_else(|| malformed("a mark", "none"))?;
        Ok(self.stack.split_off(mark))
    }

    fn new_object(&mut self, object: Object) -> Result<()> {
        let value = self.arena.add(object)?;
        self.push(value)
    }
    fn new_container(&mut self, items: Vec<Value>) -> Result<()> {
        self.new_object(Object::Tuple(items))
    }
    fn push_tuple(&mut self, n: usize) -> Result<()> {
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            items.push(self.pop()?);
        }
        items.reverse();
        self.new_container(items)
    }
    /// The index of the object on top of the stack, to which an opcode adds `items`.
    fn container_on_top(&mut self, items: &[Value]) -> Result<u32> {
        match self.top()? {
            Value::Object(place) => {
                self.arena.update_depth(place, items)?;
                Ok(place)
            }
            other => Err(malformed("a container", format!("{other:?}"))),
        }
    }
    fn append_items(&mut self, items: Vec<Value>) -> Result<()> {
        let place = self.container_on_top(&items)?;
        match self.arena.get_mut(place) {
            Some(Object::List(list)) => list.extend(items),
            Some(Object::Inert(node)) => node.elements.extend(items),
            other => return Err(malformed("a list to append to", other.map_or("nothing", |o| o.kind()))),
        }
        Ok(())
    }
    fn set_items(&mut self, items: &[Value]) -> Result<()> {
        let place = self.container_on_top(items)?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(malformed("keys and values in pairs", "one without the other"));
        }
        match self.arena.get_mut(place) {
            Some(Object::Dict(dict)) => dict.extend(pairs.iter().map(|p| (p[0], p[1]))),
            Some(Object::Inert(node)) => node.items.extend(pairs.iter().map(|p| (p[0], p[1]))),
            other => return Err(malformed("a dict to set items of", other.map_or("nothing", |o| o.kind()))),
        }
        Ok(())
    }
    fn push_memo(&mut self, key: u32) -> Result<()> {
        let value =
            self.memo.get(&key).copied().ok_or_else(|| malformed("a memo that was put before", key))?;
        self.push(value)
    }
    fn store_memo(&mut self, key: u32) -> Result<()> {
        let value = self.top()?;
        if self.memo.len() >= MAX_MEMO && !self.memo.contains_key(&key) {
            return Err(malformed(format!("at most {MAX_MEMO} memos"), "more"));
        }
        self.memo.insert(key, value);
        Ok(())
    }
    /// The opcode BUILD: keeps an object's state. For a tensor or a dict the state would be Python attributes, which
    /// are dropped.
    fn set_state(&mut self) -> Result<()> {
        let state = self.pop()?;
        let place = self.container_on_top(&[state])?;
        match self.arena.get_mut(place) {
            Some(Object::Inert(node)) => node.state = state,
            Some(Object::Dict(_) | Object::Tensor(_)) => {}
            other => {
                let got = other.map_or("nothing", |o| o.kind());
                return Err(malformed("BUILD of a dict, a tensor or an inert object", got));
            }
        }
        Ok(())
    }

    /// The storage of a persistent id ('storage', type, key, location, elements), the only kind that torch.save writes.
    fn storage(&self, id: Value) -> Result<Storage> {
        let what = "a persistent id ('storage', type, key, location, elements)";
        let Some(&[tag, kind, key, _location, elements]) = self.arena.tuple(id) else {
            return Err(malformed(what, "something else"));
        };
        if self.arena.text(tag) != Some("storage") {
            return Err(malformed(what, "another kind"));
        }
        let Some(Object::Global(Global::StorageType(dtype))) = self.arena.object(kind) else {
            return Err(malformed(what, "no type of storage"));
        };
        let (Some(key), Value::Int(elements)) = (self.arena.text(key), elements) else {
            return Err(malformed(what, "no key or no number of elements"));
        };
        let name = crate::error::quoted(key);
        if key.is_empty() || key.len() > 32 || !key.bytes().all(|b| b.is_ascii_digit()) {
            return Err(malformed("a storage key in digits", name));
        }
        let bytes =
            u64::try_from(elements).ok().and_then(|n| n.checked_mul(dtype.map_or(1, |d| d.size()) as u64));
        let have = (self.entry_bytes)(key)
            .ok_or_else(|| malformed(format!("an entry data/{key}"), "none in the archive"))?;
        match bytes == Some(have) {
            true => Ok(Storage { key: key.to_string(), dtype: *dtype, bytes: have }),
            false => Err(malformed(
                format!("storage {name} of the {have} bytes that the archive has"),
                format!("{elements} elements of {dtype:?}"),
            )),
        }
    }
}
