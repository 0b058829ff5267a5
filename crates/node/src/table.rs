//! Streams and optimisers of a handle, which JavaScript names by number.

use std::collections::HashMap;

/// Items by number. A number is not given again after its item is removed.
pub(crate) struct NumberedTable<T> {
    items: HashMap<u32, T>,
    last_number: u32,
}

impl<T> NumberedTable<T> {
    pub(crate) fn new() -> Self {
        NumberedTable { items: HashMap::new(), last_number: 0 }
    }
    /// Adds an item and gives its number.
    pub(crate) fn insert(&mut self, item: T) -> u32 {
        self.last_number += 1;
        self.items.insert(self.last_number, item);
        self.last_number
    }
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.items.get(&id)
    }
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.items.get_mut(&id)
    }
    /// Drops the item of this number, if there is one.
    pub(crate) fn remove(&mut self, id: u32) {
        self.items.remove(&id);
    }
}
