//! Dense slots with a free list: what is in flight lives here, and nothing on the hot path allocates.

/// Slots for values of one type. Freed slots are reused last in, first out, so the working set stays small.
#[derive(Debug, Default)]
pub struct Arena<T> {
    slots: Vec<T>,
    free: Vec<u32>,
    limit: u32,
}

impl<T: Default> Arena<T> {
    /// An arena that holds at most `limit` values at one moment.
    pub const fn new(limit: u32) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), limit }
    }

    /// Puts `value` into a slot; `None` if the arena is full.
    #[inline(always)]
    pub fn insert(&mut self, value: T) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.grow()?,
        };
        // The only place that needs the value, so that its fields go where they belong without a stop on the stack.
        self.slots[slot as usize] = value;
        Some(slot)
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> Option<u32> {
        let slot = self.slots.len();
        if slot >= self.limit as usize {
            return None;
        }
        if slot == self.slots.capacity() {
            // Small steps instead of doubling: with a million values in flight, memory matters more than copies.
            self.slots.reserve_exact(slot / 16 + 1024);
        }
        self.slots.push(T::default());
        Some(slot as u32)
    }

    /// Gives a slot back. The value stays readable until the slot is reused.
    #[inline]
    pub fn remove(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Values in use.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether nothing is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of slots ever used; slots are `0..slots()`, some of them free.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
    }
}

impl<T> std::ops::Index<u32> for Arena<T> {
    type Output = T;
    #[inline]
    fn index(&self, slot: u32) -> &T {
        &self.slots[slot as usize]
    }
}

impl<T> std::ops::IndexMut<u32> for Arena<T> {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut T {
        &mut self.slots[slot as usize]
    }
}
