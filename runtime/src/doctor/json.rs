//! Just enough JSON to write a report: objects, arrays, strings and whole numbers.

use std::fmt::Write as _;

/// A JSON text under construction. Commas are put where they belong.
#[derive(Debug, Default)]
pub(super) struct Json {
    text: String,
}

impl Json {
    pub(super) fn object(&mut self, members: impl FnOnce(&mut Self)) {
        self.text.push('{');
        members(self);
        self.text.push('}');
    }

    /// Begins a member; its value has to follow.
    pub(super) fn key(&mut self, name: &str) -> &mut Self {
        self.comma();
        self.string(name);
        self.text.push(':');
        self
    }

    pub(super) fn array<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        self.text.push('[');
        for value in items {
            self.comma();
            item(self, value);
        }
        self.text.push(']');
    }

    pub(super) fn number(&mut self, value: u32) {
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{value}");
    }

    pub(super) fn optional_string(&mut self, value: Option<&str>) {
        match value {
            Some(text) => self.string(text),
            None => self.text.push_str("null"),
        }
    }

    pub(super) fn string(&mut self, value: &str) {
        self.text.push('"');
        for c in value.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                c if u32::from(c) < 0x20 => {
                    let _ = write!(self.text, "\\u{:04x}", u32::from(c));
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    fn comma(&mut self) {
        if !self.text.ends_with(['{', '[']) {
            self.text.push(',');
        }
    }
}
