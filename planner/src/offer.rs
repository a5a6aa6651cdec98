//! Offers: the ways in which one mode can answer a demand.
//!
//! An offer is a slot that serves, a slot that fills the gap between inference minibatches, or both.
//! A problem has a fixed list of them; every search and every evaluation goes through this list.

use crate::workload::{Role, Task};
use fulcrum_plan::select::Problem;

/// A slot with its batch size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Slot of the task.
    pub slot: usize,
    /// Samples of a minibatch.
    pub batch: u16,
    /// What a minibatch counts in throughput: a training step counts as one, a background inference
    /// minibatch as its samples.
    pub worth: u16,
}

/// A way to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Serves requests.
    pub serve: Option<Part>,
    /// Runs in the gaps, or alone.
    pub background: Option<Part>,
}

impl Offer {
    /// The slots it needs.
    pub fn slots(&self) -> impl Iterator<Item = usize> {
        self.serve
            .into_iter()
            .chain(self.background)
            .map(|part| part.slot)
    }

    /// The offers of a problem for a task, by slot.
    #[must_use]
    pub fn of(task: &Task, problem: Problem) -> Vec<Self> {
        let parts = |which: usize| -> Vec<Part> {
            let part = |slot: usize| {
                let batch = task.slots()[slot].batch;
                let worth = batch;
                Part { slot, batch, worth }
            };
            task.slots_infer(which).into_iter().map(part).collect()
        };
        let train: Vec<Part> = task
            .slot_train()
            .map(|slot| Part {
                slot,
                batch: task.slots()[slot].batch,
                worth: 1,
            })
            .into_iter()
            .collect();
        let pairs = |serve: Vec<Part>, background: &[Part]| -> Vec<Self> {
            let pair = |serve: Part| {
                background.iter().map(move |&part| Self {
                    serve: Some(serve),
                    background: Some(part),
                })
            };
            serve.into_iter().flat_map(pair).collect()
        };
        match problem {
            Problem::Training => train
                .into_iter()
                .map(|part| Self {
                    serve: None,
                    background: Some(part),
                })
                .collect(),
            Problem::Inference(which) => parts(which)
                .into_iter()
                .map(|part| Self {
                    serve: Some(part),
                    background: None,
                })
                .collect(),
            Problem::TrainingInference(which) => pairs(parts(which), &train),
            Problem::TwoInferences => pairs(parts(0), &parts(1)),
        }
    }
}

/// The problem that a plan of a task is mainly for: all of its workloads at once.
#[must_use]
pub fn main_problem(task: &Task) -> Problem {
    let infer = task
        .workloads()
        .iter()
        .filter(|w| w.role == Role::Infer)
        .count();
    match (task.slot_train(), infer) {
        (Some(_), 0) => Problem::Training,
        (Some(_), _) => Problem::TrainingInference(0),
        (None, 1) => Problem::Inference(0),
        (None, _) => Problem::TwoInferences,
    }
}
