//! Values of the real code as numbers, so that a state is a few bytes and what is computed of it can be remembered.

use std::{collections::HashMap, hash::Hash};

/// What [`Interner`] numbers values with.
pub(crate) type Number = u32;

/// Numbers values in the order in which they come.
#[derive(Debug)]
pub(crate) struct Interner<T> {
    values: Vec<T>,
    numbers: HashMap<T, Number>,
}

impl<T: Clone + Eq + Hash> Interner<T> {
    pub(crate) fn new() -> Self {
        Self { values: Vec::new(), numbers: HashMap::new() }
    }

    /// The number of `value`.
    pub(crate) fn number(&mut self, value: &T) -> Number {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let number = Number::try_from(self.values.len()).expect("a small model has few values");
        self.values.push(value.clone());
        self.numbers.insert(value.clone(), number);
        number
    }

    /// The value with a number that [`Self::number`] gave.
    pub(crate) fn value(&self, number: Number) -> &T {
        &self.values[number as usize]
    }
}
