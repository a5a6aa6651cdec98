//! What training is owed of a share of the time that it was promised.

use super::{Inputs, Overload, Schedule, Serving, margin_ns};

/// Most that is owed, and most that is had in advance: the share holds over seconds, not over hours.
const BALANCE_MAX_NS: i64 = 1_000_000_000;
const MILLE: u64 = 1_000;

/// The account of a promised share of the time, in constant memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    share_per_mille: u64,
    since_ns: u64,
    /// At `since_ns`; negative if training had more than its share.
    owed_ns: i64,
}

impl Promise {
    /// A share from a time on; with a share of zero nothing is ever owed.
    pub(super) fn new(share_per_mille: u16, now_ns: u64) -> Self {
        Self {
            share_per_mille: u64::from(share_per_mille).min(MILLE),
            since_ns: now_ns,
            owed_ns: 0,
        }
    }

    pub(super) const fn is_made(&self) -> bool {
        self.share_per_mille > 0
    }

    /// The share of a duration.
    const fn of(&self, duration_ns: u64) -> u64 {
        duration_ns.saturating_mul(self.share_per_mille) / MILLE
    }

    /// What is owed at a time.
    pub(super) fn owed_ns(&self, now_ns: u64) -> i64 {
        let accrued = self.of(now_ns.saturating_sub(self.since_ns));
        let accrued = i64::try_from(accrued).unwrap_or(i64::MAX);
        self.owed_ns.saturating_add(accrued).min(BALANCE_MAX_NS)
    }

    /// Training had this much of the time. A step longer than what may be had in advance counts whole.
    pub(super) fn pay(&mut self, now_ns: u64, took_ns: u64) {
        let took_ns = i64::try_from(took_ns).unwrap_or(i64::MAX);
        let left_ns = self.owed_ns(now_ns).saturating_sub(took_ns);
        self.owed_ns = left_ns.max(BALANCE_MAX_NS.max(took_ns).saturating_neg());
        self.since_ns = now_ns;
    }

    /// What a time for inference and the time of a batch are worth beside what training is owed until the time is over,
    /// where steps of `step_ns` begin as soon as one is owed.
    ///
    /// With a share `s` and the debt `d`, batches of `w` in all wait for `x = d + s (w + x)` of training, and for a step
    /// more at most: in a time `t` fits `w = (1 - s) (t - step) - d`, as if each batch took `1 / (1 - s)` times as
    /// long. Where training had enough in advance (`d < 0`) all of the time is left.
    pub(super) fn beside(
        &self,
        now_ns: u64,
        time_ns: u64,
        step_ns: u64,
        batch_ns: u64,
    ) -> (u64, u64) {
        let owed_ns = self.owed_ns(now_ns);
        let spared_ns = time_ns.saturating_sub(step_ns);
        let kept_ns = spared_ns.saturating_sub(self.of(spared_ns));
        if kept_ns.saturating_add_signed(owed_ns.saturating_neg()) >= time_ns {
            return (time_ns, batch_ns);
        }
        let debt_ns = self.stretched(owed_ns.unsigned_abs());
        let left_ns = match owed_ns > 0 {
            true => spared_ns.saturating_sub(debt_ns),
            false => spared_ns.saturating_add(debt_ns),
        };
        (left_ns, self.stretched(batch_ns))
    }

    /// Whether at least one such batch fits beside the share, so that nobody has to be admitted whom it makes late. If
    /// more is owed than accrues in this time, something else than requests kept training from it.
    pub(super) fn spares_batch(
        &self,
        now_ns: u64,
        time_ns: u64,
        step_ns: u64,
        batch_ns: u64,
    ) -> bool {
        let accrues_ns = i64::try_from(self.of(time_ns)).unwrap_or(i64::MAX);
        let fits = self.stretched(batch_ns) <= time_ns.saturating_sub(step_ns);
        fits && self.owed_ns(now_ns) <= accrues_ns
    }

    /// How long something takes beside which training gets its share.
    fn stretched(&self, duration_ns: u64) -> u64 {
        let rest = MILLE.saturating_sub(self.share_per_mille);
        let scaled = duration_ns.saturating_mul(MILLE);
        scaled.checked_div(rest).unwrap_or(u64::MAX)
    }
}

impl Schedule {
    /// Whether an owed step fits in the budget at all, when nobody waits; so where nothing is promised.
    #[must_use]
    pub fn can_keep_promise(&self) -> bool {
        let serving = self.assignment.serving.filter(|_| self.is_promised());
        serving.is_none_or(|serving| self.spares_step(&serving, 0))
    }

    /// Whether training has a share of the time that requests cannot take.
    pub(super) const fn is_promised(&self) -> bool {
        self.promise.is_made() && self.assignment.train_ns.is_some()
    }

    /// Whether training has a share of the time that requests cannot take, and steps that fit beside them.
    pub(super) fn keeps_promise(&self) -> bool {
        self.is_promised() && self.can_keep_promise()
    }

    /// Whether training is owed a step that the oldest request is in time after, or whoever comes next. Or that request
    /// is late anyway, and so may be those behind it.
    pub(super) fn owes_step(&self, now_ns: u64, inputs: &Inputs) -> bool {
        let serving = self
            .assignment
            .serving
            .filter(|_| self.is_promised() && self.promise.owed_ns(now_ns) > 0);
        serving.is_some_and(|serving| {
            let waited_ns = inputs.waited_ns(now_ns);
            let may_be_late = self.assignment.policy.overload == Overload::AnswerLate;
            self.spares_step(&serving, waited_ns)
                || may_be_late && self.is_late(waited_ns, &serving)
        })
    }

    /// Whether a request that has waited for so long is in time behind a step. By the means: with the tails of a machine
    /// whose times spread, hardly a step would fit in a short budget, and the share would not be kept.
    fn spares_step(&self, serving: &Serving, waited_ns: u64) -> bool {
        let answered_ns = waited_ns
            .saturating_add(self.train.mean_ns())
            .saturating_add(self.infer.mean_ns())
            .saturating_add(margin_ns(serving));
        answered_ns <= serving.budget_ns
    }
}
