//! A chart as inline SVG: two axes with round ticks, and marks.
//!
//! Colours, strokes and fonts come from the page's style sheet, so that a chart follows light and dark.
//! A series is told by its shape and its label as well as by its colour.

use super::markup::Element;
use super::scale::Scale;
use super::spread::spread;
use super::ticks;

/// Font size of the style sheet, in units of the view box.
const FONT: f64 = 12.0;
/// Width of a letter, on average, wide fonts included.
const LETTER: f64 = 0.6 * FONT;

/// Size of a chart's view box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// A chart that fills a phone's width.
pub const FULL: Size = Size {
    width: 400.0,
    height: 270.0,
};
/// A square one.
pub const SQUARE: Size = Size {
    width: 400.0,
    height: 380.0,
};
/// One of many, two abreast on a phone.
pub const SMALL: Size = Size {
    width: 210.0,
    height: 190.0,
};

/// An axis with its title.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What is counted, with its unit.
    pub title: String,
    /// Range and ticks.
    pub scale: Scale,
    /// Names of the ticks, instead of their numbers; none for a number axis.
    pub names: Vec<String>,
}

impl Axis {
    /// An axis of numbers.
    #[must_use]
    pub fn new(title: impl Into<String>, scale: Scale) -> Self {
        Self {
            title: title.into(),
            scale,
            names: Vec::new(),
        }
    }

    /// Ticks with their labels.
    fn labels(&self) -> Vec<(f64, String)> {
        let ticks = self.scale.ticks().iter().enumerate();
        let label = |(at, tick): (usize, &f64)| {
            let name = self.names.get(at).cloned();
            (*tick, name.unwrap_or_else(|| ticks::label(*tick)))
        };
        ticks.map(label).collect()
    }
}

/// The colour and shape of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series(usize);

/// The symbol of what was thrown away.
const CROSS: &str = "M-3.5-3.5L3.5 3.5M-3.5 3.5L3.5-3.5";
/// Colours of the style sheet, classes `s0` to `s7`: an ordered ramp.
const COLOURS: usize = 8;

impl Series {
    /// The only series of a chart: the accent colour.
    pub const ONLY: Self = Self(COLOURS);

    /// Number `at` of `count` in an order (batch sizes, rates), spread over the ramp.
    #[must_use]
    pub const fn ordered(at: usize, count: usize) -> Self {
        let last = if count > 1 { count - 1 } else { 1 };
        Self((at * (COLOURS - 1) + last / 2) / last % COLOURS)
    }

    fn class(self) -> String {
        match self.0 {
            COLOURS => "only".to_owned(),
            at => format!("s{at}"),
        }
    }

    /// A symbol around the origin, about 7 units wide.
    fn symbol(self) -> &'static str {
        match self.0 {
            1 => "M-3-3h6v6h-6z",
            2 | 6 => "M0-4.2L4.2 0L0 4.2L-4.2 0z",
            3 | 7 => "M0-4L3.8 2.8H-3.8z",
            4 => "M0 4L3.8-2.8H-3.8z",
            5 => "M-1.4-4h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6z",
            _ => "M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0z",
        }
    }
}

/// A point with what it says when it is pointed at.
#[derive(Clone, Debug)]
pub struct Point {
    /// Value on the horizontal axis.
    pub x: f64,
    /// Value on the vertical axis.
    pub y: f64,
    /// Its numbers in words.
    pub says: String,
}

/// Something on a chart.
#[derive(Clone, Debug)]
pub enum Mark {
    /// Faint dots that only show where measurements lie.
    Dots(Vec<(f64, f64)>),
    /// Points of a series.
    Points(Series, Vec<Point>),
    /// Points of a series, as outlines.
    Hollow(Series, Vec<Point>),
    /// Crosses: what was thrown away.
    Crosses(Vec<Point>),
    /// A staircase: each corner's height holds from its place to the next, the last to the edge.
    Steps(Series, Vec<(f64, f64)>),
    /// A staircase's name, at its right end.
    EndLabel(Series, f64, String),
    /// A straight line of no series, such as the diagonal.
    Line((f64, f64), (f64, f64)),
    /// A dashed one.
    Guide((f64, f64), (f64, f64)),
    /// Words beside a place; before it if they would not fit behind.
    Note(f64, f64, String),
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Identifier in the page, unique.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// What can be seen in it, for who cannot see it.
    pub description: String,
    /// Size.
    pub size: Size,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// From back to front.
    pub marks: Vec<Mark>,
}

/// Where the axes of a chart run.
struct Frame<'a> {
    chart: &'a Chart,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

fn width_of(text: &str) -> f64 {
    text.chars().map(|_| LETTER).sum()
}

fn at(value: f64) -> String {
    ticks::label((value * 10.0).round() / 10.0)
}

impl<'a> Frame<'a> {
    fn of(chart: &'a Chart) -> Self {
        let labels = chart.y.labels();
        let widest = labels.iter().map(|(_, label)| width_of(label));
        let widest = widest.fold(0.0, f64::max);
        let ends = chart.marks.iter().filter_map(|mark| match mark {
            Mark::EndLabel(_, _, text) => Some(width_of(text) + 8.0),
            _ => None,
        });
        // Half of the last tick's label sticks out.
        let aside = ends.fold(14.0, f64::max);
        Self {
            chart,
            left: widest + 8.0,
            right: chart.size.width - aside,
            top: 26.0,
            bottom: chart.size.height - 38.0,
        }
    }

    fn x(&self, value: f64) -> f64 {
        self.left + self.chart.x.scale.place(value) * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - self.chart.y.scale.place(value) * (self.bottom - self.top)
    }

    fn axes(&self) -> Element {
        let mut group = Element::new("g").class("axes");
        for (tick, label) in self.chart.y.labels() {
            let y = self.y(tick);
            let line = format!("M{} {}H{}", at(self.left), at(y), at(self.right));
            group.push(Element::new("path").class("grid").with("d", line));
            group.push(words(self.left - 6.0, y + 4.0, "end", &label));
        }
        let base = format!("M{} {}H{}", at(self.left), at(self.bottom), at(self.right));
        group.push(Element::new("path").class("base").with("d", base));
        for (tick, label) in self.x_labels() {
            let x = self.x(tick);
            let mark = format!("M{} {}v4", at(x), at(self.bottom));
            group.push(Element::new("path").class("base").with("d", mark));
            if let Some(label) = label {
                group.push(words(x, self.bottom + 17.0, "middle", &label));
            }
        }
        let middle = f64::midpoint(self.left, self.right);
        let low = self.chart.size.height - 5.0;
        group.push(words(middle, low, "middle", &self.chart.x.title).class("title"));
        group.push(words(1.0, 12.0, "start", &self.chart.y.title).class("title"));
        group
    }

    /// Ticks with their labels, as far as the labels keep apart.
    fn x_labels(&self) -> Vec<(f64, Option<String>)> {
        let mut end = f64::NEG_INFINITY;
        let keep = |(tick, text): (f64, String)| {
            let (middle, half) = (self.x(tick), width_of(&text) / 2.0);
            if middle - half < end + 4.0 {
                return (tick, None);
            }
            end = middle + half;
            (tick, Some(text))
        };
        self.chart.x.labels().into_iter().map(keep).collect()
    }

    fn points(&self, class: &str, symbol: &str, points: &[Point]) -> Element {
        let mut group = Element::new("g").class(class);
        for point in points {
            let place = format!("translate({} {})", at(self.x(point.x)), at(self.y(point.y)));
            let symbol = Element::new("path")
                .with("transform", place)
                .with("d", symbol);
            group.push(symbol.child(Element::new("title").text(&point.says)));
        }
        group
    }

    fn steps(&self, series: Series, corners: &[(f64, f64)]) -> Element {
        let mut path = String::new();
        for (number, (x, y)) in corners.iter().enumerate() {
            let (x, y) = (at(self.x(*x)), at(self.y(*y)));
            path += &match number {
                0 => format!("M{x} {y}"),
                _ => format!("H{x}V{y}"),
            };
        }
        path += &format!("H{}", at(self.right));
        let class = format!("steps {}", series.class());
        Element::new("path").class(&class).with("d", path)
    }

    /// Dots as one path of empty strokes with round caps: thousands cost little.
    fn dots(&self, points: &[(f64, f64)]) -> Element {
        let path: String = points
            .iter()
            .map(|(x, y)| format!("M{} {}h0", at(self.x(*x)), at(self.y(*y))))
            .collect();
        Element::new("path").class("dots").with("d", path)
    }

    fn line(&self, class: &str, from: (f64, f64), to: (f64, f64)) -> Element {
        let (x, y) = (at(self.x(from.0)), at(self.y(from.1)));
        let path = format!("M{x} {y}L{} {}", at(self.x(to.0)), at(self.y(to.1)));
        Element::new("path").class(class).with("d", path)
    }

    fn note(&self, x: f64, y: f64, text: &str) -> Element {
        let (x, y) = (self.x(x), self.y(y));
        let fits_behind = x + 8.0 + width_of(text) < self.chart.size.width;
        let y = (y - 7.0).max(self.top + 4.0);
        let words = match fits_behind {
            true => words(x + 4.0, y, "start", text),
            false => words(x - 6.0, y, "end", text),
        };
        words.class("note")
    }

    /// The names of staircases, kept apart from each other.
    fn end_labels(&self) -> Vec<Element> {
        let labels: Vec<(Series, f64, &str)> = self
            .chart
            .marks
            .iter()
            .filter_map(|mark| match mark {
                Mark::EndLabel(series, y, text) => Some((*series, self.y(*y), text.as_str())),
                _ => None,
            })
            .collect();
        let wanted: Vec<f64> = labels.iter().map(|label| label.1).collect();
        let places = spread(&wanted, FONT + 2.0, self.top, self.bottom);
        let text = |(label, y): (&(Series, f64, &str), f64)| {
            let class = format!("end {}", label.0.class());
            words(self.right + 5.0, y + 4.0, "start", label.2).class(&class)
        };
        labels.iter().zip(places).map(text).collect()
    }
}

fn words(x: f64, y: f64, anchor: &str, text: &str) -> Element {
    Element::new("text")
        .with("x", at(x))
        .with("y", at(y))
        .with("text-anchor", anchor)
        .text(text)
}

/// What a legend explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// [`Mark::Dots`].
    Dot,
    /// [`Mark::Points`].
    Point(Series),
    /// [`Mark::Hollow`].
    Hollow(Series),
    /// [`Mark::Crosses`].
    Cross,
    /// [`Mark::Steps`].
    Step(Series),
    /// [`Mark::Line`].
    Line,
    /// [`Mark::Guide`].
    Guide,
}

/// A legend: symbols with what they stand for.
#[must_use]
pub fn legend(entries: &[(Key, &str)]) -> Element {
    let entry = |(key, text): &(Key, &str)| {
        let (class, path) = match key {
            Key::Dot => ("dots".to_owned(), "M0 0h0"),
            Key::Point(series) => (format!("points {}", series.class()), series.symbol()),
            Key::Hollow(series) => (format!("hollow {}", series.class()), series.symbol()),
            Key::Cross => ("crosses".to_owned(), CROSS),
            Key::Step(series) => (format!("steps {}", series.class()), "M-7 4H0V-4H7"),
            Key::Line => ("base".to_owned(), "M-7 5L7-5"),
            Key::Guide => ("guide".to_owned(), "M-7 5L7-5"),
        };
        let group = Element::new("g").class(&class);
        let svg = Element::new("svg")
            .with("viewBox", "-8 -6 16 12")
            .with("aria-hidden", "true")
            .child(group.child(Element::new("path").class(&class).with("d", path)));
        Element::new("li").child(svg).text(*text)
    };
    Element::new("ul")
        .class("legend")
        .children(entries.iter().map(entry))
}

impl Chart {
    /// Draws the chart.
    #[must_use]
    pub fn draw(&self) -> Element {
        let frame = Frame::of(self);
        let (title_id, text_id) = (format!("{}-title", self.id), format!("{}-desc", self.id));
        let mut svg = Element::new("svg")
            .with("id", &self.id)
            .with(
                "viewBox",
                format!("0 0 {} {}", self.size.width, self.size.height),
            )
            .with("role", "img")
            .with("aria-labelledby", format!("{title_id} {text_id}"))
            .child(Element::new("title").with("id", title_id).text(&self.title))
            .child(
                Element::new("desc")
                    .with("id", text_id)
                    .text(&self.description),
            )
            .child(frame.axes());
        for mark in &self.marks {
            match mark {
                Mark::Dots(points) => svg.push(frame.dots(points)),
                Mark::Points(series, points) => {
                    let class = format!("points {}", series.class());
                    svg.push(frame.points(&class, series.symbol(), points));
                }
                Mark::Hollow(series, points) => {
                    let class = format!("hollow {}", series.class());
                    svg.push(frame.points(&class, series.symbol(), points));
                }
                Mark::Crosses(points) => svg.push(frame.points("crosses", CROSS, points)),
                Mark::Steps(series, corners) => svg.push(frame.steps(*series, corners)),
                Mark::EndLabel(..) => {}
                Mark::Line(from, to) => svg.push(frame.line("base", *from, *to)),
                Mark::Guide(from, to) => svg.push(frame.line("guide", *from, *to)),
                Mark::Note(x, y, text) => svg.push(frame.note(*x, *y, text)),
            }
        }
        svg.children(frame.end_labels())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(marks: Vec<Mark>) -> Chart {
        let axis = |title: &str| Axis::new(title, Scale::linear([0.0, 10.0], 5));
        Chart {
            id: "c".into(),
            title: "A title".into(),
            description: "What is seen".into(),
            size: FULL,
            x: axis("power, W"),
            y: axis("rate <per s>"),
            marks,
        }
    }

    #[test]
    fn a_chart_has_a_title_and_a_description_that_name_it() {
        let svg = chart(vec![]).draw().to_string();
        for part in [
            "role=\"img\"",
            "aria-labelledby=\"c-title c-desc\"",
            "<title id=\"c-title\">A title</title>",
            "<desc id=\"c-desc\">What is seen</desc>",
            ">rate &lt;per s&gt;</text>",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }

    #[test]
    fn a_staircase_holds_each_height_to_the_next_corner_and_the_last_to_the_edge() {
        let corners = vec![(0.0, 0.0), (5.0, 10.0)];
        let chart = chart(vec![Mark::Steps(Series::ONLY, corners)]);
        let frame = Frame::of(&chart);
        let (left, right) = (at(frame.left), at(frame.right));
        let middle = at(f64::midpoint(frame.left, frame.right));
        let (top, bottom) = (at(frame.top), at(frame.bottom));
        let path = format!("d=\"M{left} {bottom}H{middle}V{top}H{right}\"");
        let svg = chart.draw().to_string();
        assert!(svg.contains(&path), "{path}: {svg}");
    }

    #[test]
    fn series_in_an_order_have_different_colours_up_to_eight() {
        for count in 1..=8 {
            let series: Vec<Series> = (0..count).map(|at| Series::ordered(at, count)).collect();
            for (number, one) in series.iter().enumerate() {
                assert!(!series[..number].contains(one), "{count}: {series:?}");
            }
        }
    }
}
