//! Pieces of a page that several sections use.

use super::chart::Chart;
use super::markup::Element;

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column<'a> {
    /// Numbers, to the right.
    Number(&'a str),
    /// Words, to the left.
    Words(&'a str),
}

impl Column<'_> {
    const fn title(&self) -> &str {
        match self {
            Self::Number(title) | Self::Words(title) => title,
        }
    }

    const fn class(&self) -> &'static str {
        match self {
            Self::Number(_) => "number",
            Self::Words(_) => "words",
        }
    }
}

/// The columns of `number::mode_cells`.
pub const MODE: [Column<'static>; 4] = [
    Column::Number("cores"),
    Column::Number("CPU MHz"),
    Column::Number("GPU MHz"),
    Column::Number("EMC MHz"),
];

/// A table that scrolls in itself where a screen is too narrow for it. The first column names the rows.
#[must_use]
pub fn table(
    caption: &str,
    columns: &[Column<'_>],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> Element {
    let cells = |row: Vec<String>| {
        let cell = |(at, text): (usize, String)| {
            let class = columns.get(at).map_or("words", Column::class);
            match at {
                0 => Element::new("th")
                    .with("scope", "row")
                    .class(class)
                    .text(text),
                _ => Element::new("td").class(class).text(text),
            }
        };
        Element::new("tr").children(row.into_iter().enumerate().map(cell))
    };
    table_of(caption, columns, rows.into_iter().map(cells))
}

/// As [`table()`], with rows that are made already.
#[must_use]
pub fn table_of(
    caption: &str,
    columns: &[Column<'_>],
    rows: impl IntoIterator<Item = Element>,
) -> Element {
    let titles = columns.iter().map(|column| {
        Element::new("th")
            .with("scope", "col")
            .class(column.class())
            .text(column.title())
    });
    let head = Element::new("thead").child(Element::new("tr").children(titles));
    let table = Element::new("table")
        .child(Element::new("caption").text(caption))
        .child(head)
        .child(Element::new("tbody").children(rows));
    // What scrolls must be reachable with a keyboard, and then needs a name.
    Element::new("div")
        .class("scroll")
        .with("tabindex", 0)
        .with("role", "region")
        .with("aria-label", caption)
        .child(table)
}

/// A chart with its headline and legend.
#[must_use]
pub fn figure(chart: &Chart, legend: Option<Element>) -> Element {
    Element::new("figure")
        .child(Element::new("figcaption").text(&chart.title))
        .children(legend)
        .child(chart.draw())
}

/// A paragraph.
#[must_use]
pub fn paragraph(text: impl ToString) -> Element {
    Element::new("p").text(text)
}

/// What unfolds when asked for.
#[must_use]
pub fn details(summary: &str, content: Element) -> Element {
    Element::new("details")
        .child(Element::new("summary").text(summary))
        .child(content)
}

/// Blocks beside each other where there is room.
#[must_use]
pub fn beside(blocks: impl IntoIterator<Item = Element>) -> Element {
    Element::new("div").class("beside").children(blocks)
}
