//! What each budget selects, as a device would.

use super::Subject;
use super::blocks::{Column, MODE, beside, details, figure, paragraph, table, table_of};
use super::budgets::{self, Wishes};
use super::chart::{Axis, Chart, FULL, Mark, Point, Series};
use super::markup::Element;
use super::number::{budget, millis, mode, mode_cells, significant, trimmed, watts};
use super::question::{Question, Step, steps};
use super::scale::Scale;
use fulcrum_plan::PlanTable;
use fulcrum_plan::problem::Demand;
use fulcrum_plan::select::{Problem, Selector, Solution};
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};

fn per_second(rate: MilliRps) -> String {
    format!("{}/s", trimmed(f64::from(rate.0) / 1e3))
}

/// A budget, then what training gets from it.
fn training_row(budget_mw: MilliWatt, solution: Option<&Solution>) -> Vec<String> {
    let mut row = vec![budget(budget_mw)];
    let background = solution.and_then(|solution| Some((solution, solution.background?)));
    let Some((solution, background)) = background else {
        row.resize(TRAINING.len() + MODE.len(), "–".to_owned());
        return row;
    };
    let rate = solution.background_per_second(MilliRps(0));
    let slack = budget_mw.0.saturating_sub(solution.power_mw.0);
    row.extend([
        rate.map_or_else(String::new, significant),
        millis(background.time_us),
        watts(solution.power_mw),
        watts(MilliWatt(slack)),
    ]);
    row.extend(mode_cells(&solution.mode));
    row
}

const TRAINING: [Column<'static>; 5] = [
    Column::Number("budget W"),
    Column::Number("rate /s"),
    Column::Number("time ms"),
    Column::Number("power W"),
    Column::Number("slack W"),
];

fn training(plan: &PlanTable) -> Option<Element> {
    let name = plan.train.as_ref()?.name.as_str();
    let selector = Selector::new(plan);
    let rows = budgets::powers(plan).into_iter().map(|power_mw| {
        let demand = Demand {
            power_mw,
            latency_us: MicroSec(0),
            rate: MilliRps(0),
        };
        training_row(
            power_mw,
            selector.select(Problem::Training, &demand).as_ref(),
        )
    });
    let all = steps(plan, Problem::Training, MicroSec(0), MilliRps(0));
    let count = all.len();
    let every = all
        .iter()
        .map(|step| training_row(step.budget, Some(&step.solution)));
    let columns = [&TRAINING[..], &MODE].concat();
    let caption = format!("Training {name} alone: rate in minibatches per second");
    Some(
        Element::new("div")
            .child(table(&caption, &columns, rows))
            .child(details(
                &format!("Every budget at which the answer changes ({count})"),
                table("Every step", &columns, every),
            )),
    )
}

/// How a question with requests is asked: at which latency and rates.
struct Inquiry<'a> {
    subject: &'a Subject,
    question: Question,
    number: usize,
    latency_us: MicroSec,
    rates: Vec<MilliRps>,
}

impl Inquiry<'_> {
    fn heading(&self) -> String {
        let plan = &self.subject.plan;
        let served = self.question.served_name(plan);
        match self.question.background_name(plan) {
            Some(other) => format!("Serving {served} with {other} in the gaps"),
            None => format!("Serving {served}"),
        }
    }

    fn series(&self, at: usize) -> Series {
        Series::ordered(at, self.rates.len())
    }

    /// What else an answer fixes, in short lines.
    fn fine_print(&self, solution: &Solution) -> Vec<String> {
        let Some(serving) = solution.serving else {
            return Vec::new();
        };
        #[expect(clippy::cast_precision_loss, reason = "for display")]
        let latency = format!("{} ms", significant(serving.latency_us as f64 / 1e3));
        let batch = format!("b {}", serving.batch);
        match (self.question.problem, solution.background) {
            (Problem::TwoInferences, Some(other)) => {
                let gaps = format!("{} × b {}", other.steps, other.batch);
                vec![batch, gaps, latency]
            }
            (_, Some(background)) => vec![format!("{batch}, k {}", background.steps), latency],
            (_, None) => vec![batch, format!("{} W", watts(solution.power_mw))],
        }
    }

    fn answers(&self, selector: &Selector<'_>, power_mw: MilliWatt) -> Vec<Option<Solution>> {
        let answer = |rate: &MilliRps| {
            let demand = Demand {
                power_mw,
                latency_us: self.latency_us,
                rate: *rate,
            };
            selector.select(self.question.problem, &demand)
        };
        self.rates.iter().map(answer).collect()
    }

    fn cell(&self, solution: Option<&Solution>, rate: MilliRps) -> Element {
        let cell = Element::new("td").class("number answer");
        let Some(solution) = solution else {
            return cell.child(Element::new("span").class("none").text("no solution"));
        };
        let value = significant(self.question.value(solution, rate));
        let fine_print = self.fine_print(solution).into_iter();
        let says = format!("{} W in {}", watts(solution.power_mw), mode(&solution.mode));
        cell.with("title", says)
            .child(Element::new("b").text(value))
            .children(fine_print.map(|text| Element::new("span").text(text)))
    }

    fn row(&self, power: MilliWatt, answers: &[Option<Solution>]) -> Element {
        let head = Element::new("th")
            .with("scope", "row")
            .class("number")
            .text(budget(power));
        let cells = answers.iter().zip(&self.rates);
        let cells = cells.map(|(answer, rate)| self.cell(answer.as_ref(), *rate));
        Element::new("tr").child(head).children(cells)
    }

    /// The table, up to the budget from which no answer changes any more.
    fn matrix(&self) -> Element {
        let titles: Vec<String> = self.rates.iter().map(|rate| per_second(*rate)).collect();
        let rates = titles.iter().map(|title| Column::Number(title));
        let columns: Vec<Column<'_>> = std::iter::once(Column::Number("budget W"))
            .chain(rates)
            .collect();
        let budgets = budgets::powers(&self.subject.plan).into_iter();
        let selector = Selector::new(&self.subject.plan);
        let mut rows: Vec<_> = budgets
            .map(|power| (power, self.answers(&selector, power)))
            .collect();
        let all = rows.len();
        while let [.., (_, before), (_, last)] = &rows[..]
            && before == last
        {
            rows.pop();
        }
        let end = match rows.last() {
            Some((power, _)) if rows.len() < all => {
                format!(". More than {} W change nothing", budget(*power))
            }
            _ => String::new(),
        };
        let caption = format!(
            "{}, by power budget and arrival rate; peak latency at most {} ms{end}",
            capitalized(self.question.value_title()),
            trimmed(f64::from(self.latency_us.0) / 1e3)
        );
        let rows = rows
            .iter()
            .map(|(power, answers)| self.row(*power, answers));
        table_of(&caption, &columns, rows)
    }

    fn point(&self, step: &Step, rate: MilliRps) -> Point {
        Point {
            x: f64::from(step.budget.0) / 1e3,
            y: self.question.value(&step.solution, rate),
            says: format!(
                "from {} W at {}: {}; {}",
                watts(step.budget),
                per_second(rate),
                self.fine_print(&step.solution).join(", "),
                mode(&step.solution.mode)
            ),
        }
    }

    fn chart(&self) -> Chart {
        let plan = &self.subject.plan;
        let problem = self.question.problem;
        let lines: Vec<Vec<Point>> = self
            .rates
            .iter()
            .map(|rate| {
                let steps = steps(plan, problem, self.latency_us, *rate);
                steps.iter().map(|step| self.point(step, *rate)).collect()
            })
            .collect();
        let all = || lines.iter().flatten();
        let mut marks = Vec::new();
        for (at, (points, rate)) in lines.iter().zip(&self.rates).enumerate() {
            let Some(last) = points.last() else { continue };
            let corners = points.iter().map(|point| (point.x, point.y)).collect();
            marks.push(Mark::Steps(self.series(at), corners));
            marks.push(Mark::EndLabel(self.series(at), last.y, per_second(*rate)));
        }
        for (at, points) in lines.iter().enumerate() {
            marks.push(Mark::Points(self.series(at), points.clone()));
        }
        let answered = lines.iter().filter(|points| !points.is_empty()).count();
        let y = match problem {
            Problem::Inference(_) => Scale::logarithmic(all().map(|point| point.y), 7),
            _ => Scale::from_zero(all().map(|point| point.y), 6),
        };
        Chart {
            id: format!("{}-answers{}", self.subject.id, self.number),
            title: "What a power budget buys at each arrival rate".to_owned(),
            description: format!(
                "{} over power budgets, one line for each of {answered} arrival rates; the numbers \
                 are in the table.",
                capitalized(self.question.value_title())
            ),
            size: FULL,
            x: Axis::new(
                "power budget, W",
                Scale::linear(all().map(|point| point.x), 7),
            ),
            y: Axis::new(self.question.value_title(), y),
            marks,
        }
    }

    fn section(&self) -> Element {
        let meaning = match self.question.problem {
            Problem::Inference(_) => {
                "In each cell: the peak latency in ms, the batch size b, and the power."
            }
            Problem::TwoInferences => {
                "In each cell: samples per second of the non-urgent model, the urgent batch size b \
                 with the number and size of the batches in its gaps, and the peak latency."
            }
            _ => {
                "In each cell: training minibatches per second, the batch size b, the training \
                 minibatches k per window, and the peak latency."
            }
        };
        Element::new("div")
            .child(Element::new("h4").text(self.heading()))
            .child(paragraph(meaning))
            .child(beside([figure(&self.chart(), None), self.matrix()]))
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// The section.
#[must_use]
pub fn section(subject: &Subject, wishes: &Wishes) -> Vec<Element> {
    let plan = &subject.plan;
    let inquiry = |(number, question): (usize, Question)| {
        let rates = budgets::rates(plan, question.served, wishes);
        let latency_us = budgets::latency(plan, question.served, &rates, wishes);
        let inquiry = Inquiry {
            subject,
            question,
            number,
            latency_us,
            rates,
        };
        inquiry.section()
    };
    let inquiries = Question::of(plan).into_iter().enumerate().map(inquiry);
    training(plan).into_iter().chain(inquiries).collect()
}
