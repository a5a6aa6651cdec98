//! How many requests may wait: nobody is admitted only to be late.

use super::{Action, Inputs, Overload, Schedule, Serving, margin_ns};
use crate::queue::Admission;

impl Schedule {
    /// Who may wait while an action is carried out that begins now: as many as are answered within their budget, if
    /// nothing but inference, and training that is owed, follows.
    #[must_use]
    pub fn admission(&self, now_ns: u64, action: Action, inputs: &Inputs) -> Admission {
        let Some(serving) = self.assignment.serving else {
            return Admission::at_most(0);
        };
        if self.assignment.policy.overload == Overload::AnswerLate {
            return Admission::at_most(u16::MAX);
        }
        let mut promise = self.promise;
        let running_ns = match action {
            Action::Infer { .. } => self.infer.tail_ns(),
            Action::Train => {
                promise.pay(now_ns, self.train.mean_ns());
                self.train_lasts_ns(now_ns, inputs, &serving)
            }
            Action::Bulk { .. } => self.bulk.tail_ns(),
            Action::Reselect => inputs.switch.map_or(0, |switch| switch.cost_ns),
            Action::Drop | Action::Wait { .. } => 0,
        };
        let mut time_ns = serving.budget_ns.saturating_sub(margin_ns(&serving));
        let mut batch_ns = self.infer.mean_ns();
        let mut least = 1;
        if self.keeps_promise() {
            let step_ns = self.train.tail_ns();
            // Whoever comes too early while a batch runs would wait for so long that no owed step could come before.
            least = u16::from(!promise.spares_batch(now_ns, time_ns, step_ns, batch_ns));
            (time_ns, batch_ns) = promise.beside(now_ns, time_ns, step_ns, batch_ns);
        }
        Admission {
            free_ns: now_ns.saturating_add(running_ns),
            time_ns,
            batch: serving.batch,
            batch_ns,
            least,
        }
    }

    /// How long a step that begins now keeps the device. One that is only tried is cancelled so that a batch after it is
    /// in time for whoever comes first; where many come, that is at once.
    fn train_lasts_ns(&self, now_ns: u64, inputs: &Inputs, serving: &Serving) -> u64 {
        let tail_ns = self.train.tail_ns();
        let cancelled_ns = self.free_by_ns(serving);
        let tried = cancelled_ns < tail_ns && self.may_be_tried();
        if tried && !self.owes_step(now_ns, inputs) {
            return cancelled_ns;
        }
        tail_ns
    }
}
