//! Reads JSON only as far as a budget of bytes reaches, because a body of a few megabytes can make a tree that takes
//! hundreds of megabytes.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The bytes of JSON that may still be read.
#[derive(Debug)]
pub(crate) struct Budget {
    left: Cell<usize>,
    is_spent: Cell<bool>,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            left: Cell::new(bytes),
            is_spent: Cell::new(false),
        }
    }

    /// Takes this many bytes from the budget. If fewer are left, the reading ends.
    pub(crate) fn take<E: Error>(&self, bytes: usize) -> Result<(), E> {
        match self.left.get().checked_sub(bytes) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.is_spent.set(true);
                Err(E::custom("too large"))
            }
        }
    }

    /// Returns whether the reading ended because the budget did not suffice.
    pub(crate) fn is_spent(&self) -> bool {
        self.is_spent.get()
    }
}

/// The bytes that quotes and a comma take.
const AROUND: usize = 3;

/// Reads a value within a budget. A value costs about as many bytes as it has as compact JSON.
#[derive(Clone, Copy)]
pub(crate) struct Bounded<'b>(pub(crate) &'b Budget);

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Bounded<'_> {
    fn number<E: Error>(self, number: impl Into<Number>) -> Result<Value, E> {
        let number = number.into();
        self.0.take(number.to_string().len() + 1)?;
        Ok(Value::Number(number))
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.0.take(5)?;
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.0.take(5)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.number(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.number(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        match Number::from_f64(value) {
            Some(number) => self.number(number),
            None => self.visit_unit(),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.0.take(value.len() + AROUND)?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.0.take(AROUND)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.0.take(AROUND)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.0.take(key.len() + AROUND)?;
            map.insert(key, entries.next_value_seed(self)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str, budget: &Budget) -> Option<Value> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        Bounded(budget).deserialize(&mut deserializer).ok()
    }

    #[test]
    fn a_value_is_read_whole_or_not_at_all() {
        let value = json!({ "a": [1, -2, 2.5, "x", null, true], "b": { "c": "\"" } });
        let text = value.to_string();
        let budget = Budget::new(2 * text.len());
        assert_eq!(read(&text, &budget), Some(value));
        assert!(!budget.is_spent());
        let budget = Budget::new(text.len() / 2);
        assert_eq!(read(&text, &budget), None);
        assert!(budget.is_spent());
    }

    #[test]
    fn a_value_costs_about_its_number_of_bytes() {
        for (text, cost) in [
            ("null", 5),
            ("true", 5),
            ("-12", 4),
            ("2.5", 4),
            ("\"ab\"", 5),
            ("[]", 3),
            ("[1,2]", 7),
            ("{}", 3),
            ("{\"ab\":1}", 10),
        ] {
            assert!(read(text, &Budget::new(cost)).is_some(), "{text}");
            assert!(read(text, &Budget::new(cost - 1)).is_none(), "{text}");
        }
    }

    #[test]
    fn nonsense_is_not_too_large() {
        let budget = Budget::new(1000);
        assert_eq!(read("{\"a\":", &budget), None);
        assert!(!budget.is_spent());
    }

    #[test]
    fn a_long_list_ends_the_reading_early() {
        let budget = Budget::new(64 * 1024);
        let text = format!("[{}0]", "0,".repeat(4_000_000));
        assert_eq!(read(&text, &budget), None);
        assert!(budget.is_spent());
    }
}
