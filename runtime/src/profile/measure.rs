//! One profile: what is read before, what is run, what is read after.

use super::course::{Course, Limits, Minibatch, Phase};
use super::serve::{Profiler, Report, Trouble};
use fulcrum_plan::PowerMode;
use fulcrum_plan::link::{Hello, Measured, Order, Progress, Reason, Stage};
use fulcrum_plan::units::{MicroSec, MilliWatt};
use std::ops::ControlFlow;
use std::time::Duration;

/// Firmware publishes over-current events about every 2 s (jetson.md 1.7): events of the last
/// minibatch are seen after this.
const EVENTS_DELAY: Duration = Duration::from_secs(2);
/// Between two reports of progress.
const REPORT_PERIOD: Duration = Duration::from_secs(1);
/// What loading a model is expected to take, once: an execution provider may compile it.
const LOAD: Duration = Duration::from_secs(100);
/// What setting a mode and the first minibatch are expected to take: 6 to 14 s of start-up on an AGX
/// Orin (fulcrum.md section 7).
const START: Duration = Duration::from_secs(15);

/// Told after every minibatch; breaks when there are enough.
pub type OnMinibatch<'a> = dyn FnMut(&Minibatch<'_>) -> ControlFlow<()> + 'a;

/// A board with its sensors and workloads.
pub trait Rig {
    /// Makes a workload ready to run, if it is not.
    ///
    /// # Errors
    /// It is not offered, does not load, or the board's power is not known.
    fn load(&mut self, order: &Order) -> Result<(), Trouble>;

    /// Sets a mode.
    ///
    /// # Errors
    /// The board does not have it, or a file failed; the clocks are those of before.
    fn apply(&mut self, mode: &PowerMode) -> Result<(), Trouble>;

    /// The mode as the kernel tells it; a clock that is not pinned is 0.
    ///
    /// # Errors
    /// A file failed.
    fn read_back(&mut self, asked: &PowerMode) -> Result<PowerMode, Trouble>;

    /// Over-current events since boot; `None` if they are not counted.
    fn over_current_events(&mut self) -> Option<u64>;

    /// Whether a thermal limit holds a clock down now, or did while the last minibatches ran.
    fn is_throttled(&mut self) -> bool;

    /// Runs minibatches of the loaded workload until `on_minibatch` breaks.
    ///
    /// # Errors
    /// The engine failed.
    fn run(&mut self, order: &Order, on_minibatch: &mut OnMinibatch<'_>) -> Result<(), Trouble>;

    /// Waits.
    fn wait(&mut self, pause: Duration);
}

/// Reports about one order.
struct Reporter<'a, 'b> {
    number: u32,
    report: &'a mut Report<'b>,
}

impl Reporter<'_, '_> {
    fn tell(&mut self, stage: Stage, minibatches: u16, left: Duration) -> Result<(), Trouble> {
        let progress = Progress {
            number: self.number,
            stage,
            minibatches,
            left_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
        };
        match (self.report)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Trouble::Abandoned),
        }
    }
}

/// Measures once.
///
/// # Errors
/// [`Trouble`]: what the rig refuses or fails at; no power sample; `report` said to stop.
pub fn measure(
    rig: &mut impl Rig,
    order: &Order,
    limits: Limits,
    report: &mut Report<'_>,
) -> Result<Measured, Trouble> {
    let mut reporter = Reporter {
        number: order.number,
        report,
    };
    let rest = START + limits.settle_max + limits.measure_min;
    reporter.tell(Stage::Load, 0, LOAD + rest)?;
    rig.load(order)?;
    reporter.tell(Stage::Apply, 0, rest)?;
    rig.apply(&order.mode)?;
    let mode_before = rig.read_back(&order.mode)?;
    let events_before = rig.over_current_events();
    let mut throttled = rig.is_throttled();
    reporter.tell(Stage::Settle, 0, rest)?;

    let course = run(rig, order, limits, &mut reporter)?;
    throttled |= rig.is_throttled();
    let mode_after = rig.read_back(&order.mode)?;
    if events_before.is_some() {
        reporter.tell(Stage::Measure, course.minibatches(), EVENTS_DELAY)?;
        rig.wait(EVENTS_DELAY);
    }
    let over_current_events = events_between(events_before, rig.over_current_events());

    let nothing = || Trouble::failed(Reason::Engine, "no minibatch was measured");
    let finding = course.finish().ok_or_else(nothing)?;
    let power_mw = finding.power_mw.ok_or_else(|| {
        let words = "no power sample could be read while the minibatches ran";
        Trouble::failed(Reason::Power, words)
    })?;
    Ok(Measured {
        number: order.number,
        time_us: MicroSec(finding.time_us.median.max(1)),
        time_spread_us: MicroSec(finding.time_us.spread),
        power_mw: MilliWatt(power_mw.median.max(1)),
        power_spread_mw: MilliWatt(power_mw.spread),
        mode_before,
        mode_after,
        over_current_events,
        throttled,
        minibatches: finding.minibatches,
        warm_up: finding.warm_up,
        settled: finding.settled,
    })
}

/// Runs minibatches until there are enough, and reports on the way.
fn run(
    rig: &mut impl Rig,
    order: &Order,
    limits: Limits,
    reporter: &mut Reporter<'_, '_>,
) -> Result<Course, Trouble> {
    let mut course = Course::new(limits);
    let mut reported = (Phase::Settle, Duration::ZERO);
    let mut told = Ok(());
    rig.run(order, &mut |minibatch| {
        let phase = course.take(minibatch);
        let is_due = minibatch.ended.saturating_sub(reported.1) >= REPORT_PERIOD;
        if phase != reported.0 || is_due {
            reported = (phase, minibatch.ended);
            let stage = match phase {
                Phase::Settle => Stage::Settle,
                Phase::Measure | Phase::Done => Stage::Measure,
            };
            let left = course.left(minibatch.time_us);
            told = reporter.tell(stage, course.minibatches(), left);
        }
        match (phase, &told) {
            (Phase::Done, _) | (_, Err(_)) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    })?;
    told.map(|()| course)
}

/// A counter that vanished or began anew in between counts as one event: the profile cannot be trusted.
fn events_between(before: Option<u64>, after: Option<u64>) -> Option<u32> {
    let before = before?;
    let events = after.and_then(|after| after.checked_sub(before));
    Some(events.map_or(1, |events| u32::try_from(events).unwrap_or(u32::MAX)))
}

/// A [`Profiler`] that measures on a rig.
#[derive(Debug)]
pub struct RigProfiler<R> {
    /// Who it is.
    pub hello: Hello,
    /// Bounds of every profile.
    pub limits: Limits,
    /// The board.
    pub rig: R,
}

impl<R: Rig> Profiler for RigProfiler<R> {
    fn hello(&self) -> Hello {
        self.hello.clone()
    }

    fn profile(&mut self, order: &Order, report: &mut Report<'_>) -> Result<Measured, Trouble> {
        measure(&mut self.rig, order, self.limits, report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulcrum_plan::link::Role;
    use fulcrum_plan::units::Khz;

    const MODE: PowerMode = PowerMode {
        cores: 4,
        cpu_khz: Khz(1_344_000),
        gpu_khz: Khz(930_750),
        emc_khz: Khz(2_133_000),
    };

    /// A rig that moves its own clock.
    struct Fake {
        mode: PowerMode,
        drifts_to: Option<PowerMode>,
        events: Option<u64>,
        events_published: u64,
        throttled: bool,
        power: Option<MilliWatt>,
        log: Vec<&'static str>,
    }

    impl Fake {
        fn new() -> Self {
            Self {
                mode: PowerMode::default(),
                drifts_to: None,
                events: Some(17),
                events_published: 0,
                throttled: false,
                power: Some(MilliWatt(29_488)),
                log: Vec::new(),
            }
        }
    }

    impl Rig for Fake {
        fn load(&mut self, _order: &Order) -> Result<(), Trouble> {
            self.log.push("load");
            Ok(())
        }
        fn apply(&mut self, mode: &PowerMode) -> Result<(), Trouble> {
            self.log.push("apply");
            self.mode = *mode;
            Ok(())
        }
        fn read_back(&mut self, _asked: &PowerMode) -> Result<PowerMode, Trouble> {
            self.log.push("read back");
            Ok(self.mode)
        }
        fn over_current_events(&mut self) -> Option<u64> {
            self.log.push("events");
            self.events
        }
        fn is_throttled(&mut self) -> bool {
            self.throttled
        }
        fn run(&mut self, _: &Order, on_minibatch: &mut OnMinibatch<'_>) -> Result<(), Trouble> {
            self.log.push("run");
            let mut ended = Duration::ZERO;
            loop {
                ended += Duration::from_millis(100);
                let minibatch = Minibatch {
                    ended,
                    time_us: 100_000,
                    power: &[self.power],
                };
                if on_minibatch(&minibatch).is_break() {
                    self.mode = self.drifts_to.unwrap_or(self.mode);
                    return Ok(());
                }
            }
        }
        fn wait(&mut self, pause: Duration) {
            assert!(
                pause >= Duration::from_secs(2),
                "events come in batches of 2 s"
            );
            self.log.push("wait");
            self.events = self.events.map(|events| events + self.events_published);
        }
    }

    fn order() -> Order {
        Order {
            number: 5,
            mode: MODE,
            role: Role::Infer,
            workload: "m".try_into().unwrap(),
            batch: 4,
        }
    }

    fn measured(rig: &mut Fake) -> Result<Measured, Trouble> {
        let mut report = |_: Progress| ControlFlow::Continue(());
        measure(rig, &order(), Limits::default(), &mut report)
    }

    #[test]
    fn clocks_and_counters_are_read_around_the_minibatches() {
        let mut rig = Fake::new();
        let found = measured(&mut rig).unwrap();
        let log = [
            "load",
            "apply",
            "read back",
            "events",
            "run",
            "read back",
            "wait",
            "events",
        ];
        assert_eq!(rig.log, log);
        assert_eq!((found.number, found.time_us), (5, MicroSec(100_000)));
        assert_eq!(found.power_mw, MilliWatt(29_488));
        assert_eq!((found.mode_before, found.mode_after), (MODE, MODE));
        assert_eq!(found.over_current_events, Some(0));
        assert!(found.settled && !found.throttled);
        assert_eq!(found.minibatches, 40);
    }

    #[test]
    fn i7_what_makes_a_profile_worthless_is_told() {
        let other = PowerMode {
            gpu_khz: Khz(306_000),
            ..MODE
        };
        let mut rig = Fake::new();
        rig.drifts_to = Some(other);
        let found = measured(&mut rig).unwrap();
        assert_eq!((found.mode_before, found.mode_after), (MODE, other));

        let mut rig = Fake::new();
        rig.events_published = 3;
        assert_eq!(measured(&mut rig).unwrap().over_current_events, Some(3));

        let mut rig = Fake::new();
        rig.throttled = true;
        assert!(measured(&mut rig).unwrap().throttled);
    }

    #[test]
    fn a_counter_that_is_absent_is_absent_and_one_that_vanishes_is_an_event() {
        let mut rig = Fake::new();
        rig.events = None;
        assert_eq!(measured(&mut rig).unwrap().over_current_events, None);
        assert!(!rig.log.contains(&"wait"), "there is nothing to wait for");
        assert_eq!(events_between(Some(3), None), Some(1));
        assert_eq!(events_between(Some(3), Some(2)), Some(1));
        assert_eq!(events_between(Some(3), Some(3)), Some(0));
    }

    #[test]
    fn power_that_vanishes_is_a_failure_and_not_zero() {
        let mut rig = Fake::new();
        rig.power = None;
        let trouble = measured(&mut rig).unwrap_err();
        assert!(
            matches!(trouble, Trouble::Failed(Reason::Power, _)),
            "{trouble:?}"
        );
    }

    #[test]
    fn a_profile_that_nobody_waits_for_ends_at_the_next_report() {
        for reports in 0..6 {
            let mut rig = Fake::new();
            let mut left = reports;
            let outcome = measure(&mut rig, &order(), Limits::default(), &mut |_| {
                left -= 1;
                match left {
                    0.. => ControlFlow::Continue(()),
                    _ => ControlFlow::Break(()),
                }
            });
            assert_eq!(outcome, Err(Trouble::Abandoned), "after {reports} reports");
        }
    }

    #[test]
    fn stages_are_told_in_order_and_the_rest_shrinks_while_measuring() {
        let mut told = Vec::new();
        let mut report = |progress: Progress| {
            told.push(progress);
            ControlFlow::Continue(())
        };
        measure(&mut Fake::new(), &order(), Limits::default(), &mut report).unwrap();
        let mut stages: Vec<Stage> = told.iter().map(|progress| progress.stage).collect();
        stages.dedup();
        let all = [Stage::Load, Stage::Apply, Stage::Settle, Stage::Measure];
        assert_eq!(stages, all);
        let measuring: Vec<_> = told.iter().filter(|p| p.stage == Stage::Measure).collect();
        assert!(measuring.len() >= 4, "about one each second: {measuring:?}");
        let (last, running) = measuring.split_last().unwrap();
        assert!(running.is_sorted_by_key(|p| std::cmp::Reverse(p.left_ms)));
        assert_eq!(last.left_ms, 2_000, "for the counters");
    }
}
