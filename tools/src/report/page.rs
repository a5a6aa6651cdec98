//! The page: everything in one file, nothing fetched, no script.

use super::budgets::Wishes;
use super::markup::Element;
use super::{Subject, about, answers, belief, front, ledger};

/// Layout and colours, light and dark.
const STYLE: &str = include_str!("page.css");
/// Nothing may be fetched, and no script may run, whatever a name tries.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

fn meta(name: &str, content: &str) -> Element {
    Element::new("meta")
        .with("name", name)
        .with("content", content)
}

fn head(title: &str) -> Element {
    Element::new("head")
        .child(Element::new("meta").with("charset", "utf-8"))
        .child(
            Element::new("meta")
                .with("http-equiv", "Content-Security-Policy")
                .with("content", POLICY),
        )
        .child(meta("viewport", "width=device-width, initial-scale=1"))
        .child(meta("color-scheme", "light dark"))
        // Without one a browser asks the server for an icon.
        .child(
            Element::new("link")
                .with("rel", "icon")
                .with("href", "data:,"),
        )
        .child(Element::new("title").text(title))
        .child(Element::new("style").style_sheet(STYLE))
}

/// The sections of a plan: identifier and heading.
const SECTIONS: [(&str, &str); 4] = [
    ("front", "What a watt buys"),
    ("answers", "What each budget selects"),
    ("spent", "What was spent"),
    ("belief", "What the surrogate believed"),
];

fn plan_section(subject: &Subject, wishes: &Wishes) -> Element {
    let id = &subject.id;
    let contents = [
        front::section(subject),
        answers::section(subject, wishes),
        ledger::section(subject),
        belief::section(subject),
    ];
    let sections = SECTIONS
        .iter()
        .zip(contents)
        .map(|((name, title), blocks)| {
            let id = format!("{id}-{name}");
            Element::new("section")
                .with("id", &id)
                .with("aria-labelledby", format!("{id}-title"))
                .child(
                    Element::new("h3")
                        .with("id", format!("{id}-title"))
                        .text(title),
                )
                .children(blocks)
        });
    let headline = format!(
        "{} on {}",
        about::headline(&subject.plan),
        subject.board_title
    );
    Element::new("section")
        .class("plan")
        .with("id", id)
        .with("aria-labelledby", format!("{id}-title"))
        .child(
            Element::new("h2")
                .with("id", format!("{id}-title"))
                .text(headline),
        )
        .children(about::section(subject))
        .children(sections)
}

fn link(target: &str, text: &str) -> Element {
    let link = Element::new("a")
        .with("href", format!("#{target}"))
        .text(text);
    Element::new("li").child(link)
}

fn contents(subjects: &[Subject]) -> Element {
    let links: Vec<Element> = match subjects {
        [subject] => SECTIONS
            .iter()
            .map(|(name, title)| link(&format!("{}-{name}", subject.id), title))
            .collect(),
        several => several
            .iter()
            .map(|subject| link(&subject.id, &subject.file))
            .collect(),
    };
    Element::new("nav")
        .with("aria-label", "Contents")
        .child(Element::new("ul").children(links))
}

/// The page of some plans, one section each. Deterministic: same plans and journals, same bytes.
#[must_use]
pub fn page(subjects: &[Subject], wishes: &Wishes) -> String {
    let title = match subjects {
        [subject] => format!("Fulcrum plan {}", subject.file),
        several => format!("{} Fulcrum plans", several.len()),
    };
    let foot = format!("Made by fulcrum {} report.", env!("CARGO_PKG_VERSION"));
    let body = Element::new("body")
        .child(
            Element::new("header")
                .child(Element::new("h1").text(&title))
                .child(contents(subjects)),
        )
        .child(
            Element::new("main")
                .children(subjects.iter().map(|subject| plan_section(subject, wishes))),
        )
        .child(Element::new("footer").child(Element::new("p").text(foot)));
    let html = Element::new("html")
        .with("lang", "en")
        .child(head(&title))
        .child(body);
    format!("<!doctype html>\n{html}\n")
}
