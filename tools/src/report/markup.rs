//! HTML and SVG as a tree of elements. Text and attribute values are escaped when they are printed, so
//! no name of a workload, board or file can become markup.

use std::fmt::{self, Write as _};

/// An element with what is inside.
#[derive(Clone, Debug)]
pub struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Node>,
}

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Style(&'static str),
    Element(Element),
}

/// Elements without a closing tag in HTML.
const VOID: [&str; 3] = ["br", "link", "meta"];
/// Elements that end a line, so that a page can be read and compared as text.
const LINES: [&str; 22] = [
    "body", "dd", "details", "div", "dt", "figure", "g", "h1", "h2", "h3", "head", "li", "link",
    "meta", "p", "path", "section", "style", "svg", "title", "tr", "ul",
];

impl Element {
    /// An empty element.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            attributes: Vec::new(),
            children: Vec::new(),
        }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// Sets the class.
    #[must_use]
    pub fn class(self, class: &str) -> Self {
        self.with("class", class)
    }

    /// Adds text.
    #[must_use]
    pub fn text(mut self, text: impl ToString) -> Self {
        self.children.push(Node::Text(text.to_string()));
        self
    }

    /// Adds a style sheet as it is: one of this program's own, never text of a user.
    #[must_use]
    pub fn style_sheet(mut self, text: &'static str) -> Self {
        self.children.push(Node::Style(text));
        self
    }

    /// Adds an element.
    #[must_use]
    pub fn child(mut self, child: Self) -> Self {
        self.push(child);
        self
    }

    /// Adds elements.
    #[must_use]
    pub fn children(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children
            .extend(children.into_iter().map(Node::Element));
        self
    }

    /// Adds an element in place.
    pub fn push(&mut self, child: Self) {
        self.children.push(Node::Element(child));
    }
}

/// Escapes what is markup in text and in a quoted attribute value. Control characters, which HTML does
/// not allow even escaped, become the replacement character.
fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for letter in text.chars() {
        match letter {
            '&' => f.write_str("&amp;")?,
            '<' => f.write_str("&lt;")?,
            '>' => f.write_str("&gt;")?,
            '"' => f.write_str("&quot;")?,
            '\'' => f.write_str("&#39;")?,
            '\n' | '\t' => f.write_char(letter)?,
            control if control.is_control() => f.write_char('\u{fffd}')?,
            other => f.write_char(other)?,
        }
    }
    Ok(())
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}", self.name)?;
        for (name, value) in &self.attributes {
            write!(f, " {name}=\"")?;
            write_escaped(f, value)?;
            f.write_char('"')?;
        }
        f.write_char('>')?;
        for child in &self.children {
            match child {
                Node::Text(text) => write_escaped(f, text)?,
                Node::Style(text) => f.write_str(text)?,
                Node::Element(element) => element.fmt(f)?,
            }
        }
        if !VOID.contains(&self.name) {
            write!(f, "</{}>", self.name)?;
        }
        if LINES.contains(&self.name) {
            f.write_char('\n')?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_and_no_attribute_becomes_markup() {
        let evil = "\"><script>alert('x')</script>&\u{1}";
        let element = Element::new("b").with("title", evil).text(evil);
        let escaped = "&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;\u{fffd}";
        assert_eq!(
            element.to_string(),
            format!("<b title=\"{escaped}\">{escaped}</b>")
        );
    }

    #[test]
    fn elements_nest_and_void_ones_have_no_end() {
        let list = Element::new("ul").children([Element::new("li").text("a"), Element::new("br")]);
        assert_eq!(list.to_string(), "<ul><li>a</li>\n<br></ul>\n");
    }
}
