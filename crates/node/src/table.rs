//! What JavaScript holds by a number: a handle's streams and optimisers.

use std::collections::HashMap;

/// Items by number; a number is never given twice.
pub(crate) struct Table<T> {
    items: HashMap<u32, T>,
    next: u32,
}

impl<T> Table<T> {
    pub(crate) fn new() -> Self {
        Table { items: HashMap::new(), next: 0 }
    }
    /// Keeps an item and gives its number.
    pub(crate) fn insert(&mut self, item: T) -> u32 {
        self.next += 1;
        self.items.insert(self.next, item);
        self.next
    }
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.items.get(&id)
    }
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.items.get_mut(&id)
    }
    /// Frees an item; an unknown number is free already.
    pub(crate) fn remove(&mut self, id: u32) {
        self.items.remove(&id);
    }
}
