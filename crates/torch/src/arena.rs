//! All objects of a pickle in one place, referred to by number.
//!
//! A pickle may refer to an object before it is complete, share it, or put it into itself; with numbers none of that
//! needs recursion, copies or a garbage collector, and dropping is flat.

use crate::{
    error::{Error, Result},
    value::{Object, Value},
};

/// Objects a pickle may make.
const MAX_OBJECTS: usize = 1 << 21;
/// Open marks, and containers in containers. Python's own pickler gives up near 1,000.
pub(crate) const MAX_DEPTH: usize = 1024;

/// The objects, each with the depth of what it holds.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    objects: Vec<Object>,
    depth: Vec<u16>,
}

fn bad(most: usize, what: &str) -> Error {
    Error::new("the pickle", format!("at most {most} {what}"), "more")
}

impl Arena {
    /// Adds an object; its value refers to it.
    pub fn add(&mut self, object: Object) -> Result<Value> {
        if self.objects.len() >= MAX_OBJECTS {
            return Err(bad(MAX_OBJECTS, "objects"));
        }
        let depth = match &object {
            Object::Tuple(items) | Object::Set(items) => self.depth_of(items)?,
            Object::Inert(node) => self.depth_of(&[node.args])?,
            _ => 0,
        };
        self.objects.push(object);
        self.depth.push(depth);
        Ok(Value::Object(self.objects.len() as u32 - 1))
    }

    /// Depth of what holds `items`.
    fn depth_of(&self, items: &[Value]) -> Result<u16> {
        let deepest = items.iter().filter_map(|v| match v {
            Value::Object(i) => self.depth.get(*i as usize).map(|d| d + 1),
            _ => None,
        });
        let depth = deepest.max().unwrap_or(0);
        match depth as usize > MAX_DEPTH {
            true => Err(bad(MAX_DEPTH, "containers in one another")),
            false => Ok(depth),
        }
    }

    /// Notes that the object at `place` now holds `items` too.
    pub fn deepen(&mut self, place: u32, items: &[Value]) -> Result<()> {
        let depth = self.depth_of(items)?;
        if let Some(d) = self.depth.get_mut(place as usize) {
            *d = (*d).max(depth);
        }
        Ok(())
    }

    /// The object that a value refers to.
    pub fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(place) => self.get(place),
            _ => None,
        }
    }
    /// The object at a place.
    pub fn get(&self, place: u32) -> Option<&Object> {
        self.objects.get(place as usize)
    }
    /// The same, to change.
    pub fn get_mut(&mut self, place: u32) -> Option<&mut Object> {
        self.objects.get_mut(place as usize)
    }
    /// A tuple's items.
    pub fn tuple(&self, value: Value) -> Option<&[Value]> {
        match self.object(value) {
            Some(Object::Tuple(items)) => Some(items),
            _ => None,
        }
    }
    /// A string.
    pub fn text(&self, value: Value) -> Option<&str> {
        match self.object(value) {
            Some(Object::Text(s)) => Some(s),
            _ => None,
        }
    }
}
