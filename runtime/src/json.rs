//! JSON objects, written by hand: the runtime carries no library for it.

use std::fmt::{self, Write};

/// One JSON object under construction. Allocates; never used by the loop.
#[derive(Clone, Debug)]
pub struct Object(String);

impl Default for Object {
    fn default() -> Self {
        Self::new()
    }
}

impl Object {
    /// An empty object.
    #[must_use]
    pub fn new() -> Self {
        Self("{".to_owned())
    }

    /// The object of an event: `{"event":"NAME"`.
    #[must_use]
    pub fn event(name: &str) -> Self {
        Self::new().text("event", name)
    }

    fn raw(mut self, key: &str, value: impl fmt::Display) -> Self {
        let separator = if self.0.len() > 1 { "," } else { "" };
        // Writing to a string does not fail.
        let _ = write!(self.0, "{separator}{}:{value}", Quoted(key));
        self
    }

    /// Adds a string.
    #[must_use]
    pub fn text(self, key: &str, value: &str) -> Self {
        self.raw(key, Quoted(value))
    }

    /// Adds a string, or null.
    #[must_use]
    pub fn optional_text(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(text) => self.text(key, text),
            None => self.raw(key, "null"),
        }
    }

    /// Adds a list of whole numbers.
    #[must_use]
    pub fn integers(self, key: &str, values: impl IntoIterator<Item = u32>) -> Self {
        self.list(key, values.into_iter())
    }

    /// Adds a list of objects.
    #[must_use]
    pub fn objects(self, key: &str, values: impl IntoIterator<Item = Self>) -> Self {
        self.list(key, values.into_iter())
    }

    fn list(self, key: &str, values: impl Iterator<Item = impl fmt::Display>) -> Self {
        let mut list = String::new();
        for value in values {
            let separator = if list.is_empty() { "[" } else { "," };
            let _ = write!(list, "{separator}{value}");
        }
        if list.is_empty() {
            list.push('[');
        }
        self.raw(key, list + "]")
    }

    /// Adds a whole number.
    #[must_use]
    pub fn integer(self, key: &str, value: impl Into<u64>) -> Self {
        self.raw(key, value.into())
    }

    /// Adds a whole number, or null.
    #[must_use]
    pub fn optional_integer(self, key: &str, value: Option<u64>) -> Self {
        match value {
            Some(value) => self.raw(key, value),
            None => self.raw(key, "null"),
        }
    }

    /// Adds a number; null if it is not finite, for which JSON has no word.
    #[must_use]
    pub fn number(self, key: &str, value: f64) -> Self {
        self.optional_number(key, Some(value))
    }

    /// Adds a number, or null.
    #[must_use]
    pub fn optional_number(self, key: &str, value: Option<f64>) -> Self {
        match value.filter(|value| value.is_finite()) {
            // Six digits after the point say all that is measured; an integer stays one.
            Some(value) => self.raw(key, (value * 1e6).round() / 1e6),
            None => self.raw(key, "null"),
        }
    }

    /// Adds true or false.
    #[must_use]
    pub fn boolean(self, key: &str, value: bool) -> Self {
        self.raw(key, value)
    }

    /// Adds an object.
    #[must_use]
    pub fn object(self, key: &str, value: &Self) -> Self {
        self.raw(key, value)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}}}", self.0)
    }
}

/// A string as JSON (RFC 8259, section 7).
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\u{0}'..='\u{1f}' => write!(f, "\\u{:04x}", u32::from(character))?,
                _ => f.write_char(character)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_written_in_the_order_of_its_fields() {
        let inner = Object::new().integer("a", 1_u32);
        let object = Object::event("x")
            .optional_integer("none", None)
            .number("half", 0.5)
            .number("not", f64::NAN)
            .boolean("yes", true)
            .object("inner", &inner);
        assert_eq!(
            object.to_string(),
            r#"{"event":"x","none":null,"half":0.5,"not":null,"yes":true,"inner":{"a":1}}"#
        );
        assert_eq!(Object::new().to_string(), "{}");
    }

    #[test]
    fn lists_may_be_empty() {
        let object = Object::new()
            .integers("none", [])
            .integers("two", [1, 2])
            .objects("things", [Object::new().optional_text("a", None)]);
        assert_eq!(
            object.to_string(),
            r#"{"none":[],"two":[1,2],"things":[{"a":null}]}"#
        );
    }

    #[test]
    fn strings_are_escaped() {
        let object = Object::new().text("k\"", "a\\b\n\u{1}é");
        assert_eq!(object.to_string(), "{\"k\\\"\":\"a\\\\b\\u000a\\u0001é\"}");
    }

    #[test]
    fn numbers_have_no_exponent_and_no_noise() {
        let object = Object::new().number("n", 0.1 + 0.2).number("m", 1e9);
        assert_eq!(object.to_string(), r#"{"n":0.3,"m":1000000000}"#);
    }
}
