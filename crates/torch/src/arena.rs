//! All objects of a pickle in one list, which refer to each other by index.
//!
//! A pickle may refer to an object before it is complete, refer to it several times, or put it into itself. With
//! indices none of this needs recursion, copies or a garbage collector, and freeing memory is not recursive either.

use crate::{
    error::{Error, Result},
    value::{Object, Value},
};

/// Largest number of objects in a pickle.
const MAX_OBJECTS: usize = 1 << 21;
/// Largest number of open marks, and of containers nested in each other. Python's own pickler gives up near 1,000.
pub(crate) const MAX_DEPTH: usize = 1024;

/// The objects of a pickle, each with the depth to which containers are nested in it.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    objects: Vec<Object>,
    depth: Vec<u16>,
}

fn too_many(limit: usize, what: &str) -> Error {
    Error::new("the pickle", format!("at most {limit} {what}"), "more")
}

impl Arena {
    /// Adds an object; its value refers to it.
    pub fn add(&mut self, object: Object) -> Result<Value> {
        if self.objects.len() >= MAX_OBJECTS {
            return Err(too_many(MAX_OBJECTS, "objects"));
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

    /// Depth of a container that holds `items`.
    fn depth_of(&self, items: &[Value]) -> Result<u16> {
        let deepest = items.iter().filter_map(|v| match v {
            Value::Object(i) => self.depth.get(*i as usize).map(|d| d + 1),
            _ => None,
        });
        let depth = deepest.max().unwrap_or(0);
        match depth as usize > MAX_DEPTH {
            true => Err(too_many(MAX_DEPTH, "containers in one another")),
            false => Ok(depth),
        }
    }

    /// Updates the depth of the object at `index`, to which `items` were added.
    pub fn update_depth(&mut self, index: u32, items: &[Value]) -> Result<()> {
        let depth = self.depth_of(items)?;
        if let Some(d) = self.depth.get_mut(index as usize) {
            *d = (*d).max(depth);
        }
        Ok(())
    }

    /// The object that a value refers to.
    pub fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(index) => self.get(index),
            _ => None,
        }
    }
    /// The object at an index.
    pub fn get(&self, index: u32) -> Option<&Object> {
        self.objects.get(index as usize)
    }
    /// The object at an index, to be changed.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Object> {
        self.objects.get_mut(index as usize)
    }
    /// The items of a tuple; `None` where the value is no tuple.
    pub fn tuple(&self, value: Value) -> Option<&[Value]> {
        match self.object(value) {
            Some(Object::Tuple(items)) => Some(items),
            _ => None,
        }
    }
    /// The text of a string; `None` where the value is no string.
    pub fn text(&self, value: Value) -> Option<&str> {
        match self.object(value) {
            Some(Object::Text(s)) => Some(s),
            _ => None,
        }
    }
}
