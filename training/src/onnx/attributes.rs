//! Attributes of a node, by name.

use super::tensor::Tensor;
use std::collections::BTreeMap;

/// Value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// A float.
    Float(f32),
    /// An integer.
    Int(i64),
    /// A string.
    String(String),
    /// A tensor.
    Tensor(Tensor),
    /// Floats.
    Floats(Vec<f32>),
    /// Integers.
    Ints(Vec<i64>),
    /// Strings.
    Strings(Vec<String>),
    /// A sub-graph or another kind that this crate does not read.
    Unsupported,
}

/// The attributes of a node, ordered by name so that files are the same every time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(BTreeMap<String, Attribute>);

impl Attributes {
    /// No attribute.
    #[must_use]
    pub fn new() -> Attributes {
        Attributes::default()
    }

    /// With one attribute more, or another value for it.
    #[must_use]
    pub fn with(mut self, name: &str, value: Attribute) -> Attributes {
        self.0.insert(name.to_owned(), value);
        self
    }

    /// With an integer.
    #[must_use]
    pub fn int(self, name: &str, value: i64) -> Attributes {
        self.with(name, Attribute::Int(value))
    }

    /// With integers.
    #[must_use]
    pub fn ints(self, name: &str, values: &[i64]) -> Attributes {
        self.with(name, Attribute::Ints(values.to_vec()))
    }

    /// With a float.
    #[must_use]
    pub fn float(self, name: &str, value: f32) -> Attributes {
        self.with(name, Attribute::Float(value))
    }

    /// With a string.
    #[must_use]
    pub fn string(self, name: &str, value: &str) -> Attributes {
        self.with(name, Attribute::String(value.to_owned()))
    }

    /// Without an attribute.
    #[must_use]
    pub fn without(mut self, name: &str) -> Attributes {
        self.0.remove(name);
        self
    }

    /// The attribute of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.0.get(name)
    }

    /// An integer, or its default.
    #[must_use]
    pub fn int_or(&self, name: &str, default: i64) -> i64 {
        match self.0.get(name) {
            Some(Attribute::Int(value)) => *value,
            _ => default,
        }
    }

    /// A float, or its default.
    #[must_use]
    pub fn float_or(&self, name: &str, default: f32) -> f32 {
        match self.0.get(name) {
            Some(Attribute::Float(value)) => *value,
            _ => default,
        }
    }

    /// Integers, if there.
    #[must_use]
    pub fn ints_of(&self, name: &str) -> Option<&[i64]> {
        match self.0.get(name) {
            Some(Attribute::Ints(values)) => Some(values),
            _ => None,
        }
    }

    /// A string, or its default.
    #[must_use]
    pub fn string_or<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        match self.0.get(name) {
            Some(Attribute::String(value)) => value,
            _ => default,
        }
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Attribute)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}
