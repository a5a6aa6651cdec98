//! Each rule of the module's documentation, and that nothing panics whatever the inputs.

use super::*;

const MS: u64 = 1_000_000;

/// Batches of 4 that take 8 ms, 100 ms of budget, training steps of 16 ms. With the margin (1.5625 ms)
/// and the tails (an eighth more), a batch may wait 89.4375 ms.
fn assignment() -> Assignment {
    Assignment {
        serving: Some(Serving {
            batch: 4,
            infer_ns: 8 * MS,
            budget_ns: 100 * MS,
        }),
        train_ns: Some(16 * MS),
        bulk: None,
        policy: Policy::default(),
    }
}

const PATIENCE_NS: u64 = 100 * MS - 9 * MS - 100 * MS / 64;
/// Mean step, mean batch, the larger of the two excesses, and the margin.
const STEP_RESERVE_NS: u64 = 16 * MS + 8 * MS + 2 * MS + 100 * MS / 64;

fn waiting(pending: usize, oldest_ns: u64) -> Inputs {
    Inputs {
        pending,
        oldest_ns: Some(oldest_ns),
        ..Inputs::default()
    }
}

fn step(assignment: Assignment, now_ns: u64, inputs: &Inputs) -> Action {
    Schedule::new(assignment, 0).step(now_ns, inputs)
}

#[test]
fn a_full_batch_runs_before_anything_else() {
    for pending in [4, 5, 900] {
        let action = step(assignment(), 0, &waiting(pending, 0));
        assert_eq!(action, Action::Infer { count: 4 });
    }
}

#[test]
fn training_fills_the_time_while_nothing_waits() {
    assert_eq!(step(assignment(), 0, &Inputs::default()), Action::Train);
}

#[test]
fn a_step_runs_up_to_the_last_instant_at_which_it_makes_nobody_late() {
    let last_ns = 100 * MS - STEP_RESERVE_NS;
    let inputs = waiting(1, 0);
    assert_eq!(step(assignment(), last_ns, &inputs), Action::Train);
    // One instant later the batch closes instead: a step fits again afterwards.
    assert_eq!(
        step(assignment(), last_ns + 1, &inputs),
        Action::Infer { count: 1 }
    );
}

#[test]
fn without_training_a_batch_waits_until_it_is_full_or_has_to_close() {
    let only = Assignment {
        train_ns: None,
        bulk: None,
        ..assignment()
    };
    let inputs = waiting(3, 5 * MS);
    let by_ns = 5 * MS + PATIENCE_NS;
    assert_eq!(
        step(only, by_ns - 1, &inputs),
        Action::Wait {
            until_ns: Some(by_ns)
        }
    );
    assert_eq!(step(only, by_ns, &inputs), Action::Infer { count: 3 });
    assert_eq!(
        step(only, 0, &Inputs::default()),
        Action::Wait { until_ns: None }
    );
}

#[test]
fn a_step_longer_than_the_budget_allows_is_never_started() {
    let long = Assignment {
        train_ns: Some(90 * MS),
        bulk: None,
        ..assignment()
    };
    assert_eq!(
        step(long, 0, &Inputs::default()),
        Action::Wait { until_ns: None }
    );
    // Closing early would win nothing: the batch waits for more requests.
    assert_eq!(
        step(long, 0, &waiting(1, 0)),
        Action::Wait {
            until_ns: Some(PATIENCE_NS)
        }
    );
}

#[test]
fn fear_of_the_tail_never_closes_a_batch_before_the_planned_window() {
    let mut schedule = Schedule::new(assignment(), 0);
    for _ in 0..10 {
        schedule.observe_infer(0, 8 * MS, 4);
    }
    for _ in 0..2 {
        schedule.observe_infer(0, 80 * MS, 4);
    }
    let close_by_ns = |rate| schedule.close_by_ns(0, MilliRps(rate)).unwrap();
    // At 50/s four requests take 80 ms; at 10/s they would take longer than the budget allows.
    assert_eq!(close_by_ns(50_000), 80 * MS);
    assert_eq!(close_by_ns(10_000), 100 * MS - schedule.infer().mean_ns());
    assert!(close_by_ns(1_000_000) < 20 * MS);
}

#[test]
fn a_batch_closes_early_only_where_that_leaves_more_time_for_training() {
    // No step fits in what is left, in both cases. Short steps waste little at the end of a window.
    for (train_ms, infer_ms, early) in [(16, 8, true), (2, 30, false)] {
        let schedule = Schedule::new(
            Assignment {
                serving: Some(Serving {
                    batch: 4,
                    infer_ns: infer_ms * MS,
                    budget_ns: 100 * MS,
                }),
                train_ns: Some(train_ms * MS),
                bulk: None,
                policy: Policy::default(),
            },
            0,
        );
        let by_ns = schedule.close_by_ns(0, MilliRps(0)).unwrap();
        let action = schedule.step(by_ns - 1, &waiting(1, 0));
        let expected = if early {
            Action::Infer { count: 1 }
        } else {
            Action::Wait {
                until_ns: Some(by_ns),
            }
        };
        assert_eq!(action, expected, "steps of {train_ms} ms");
    }
}

#[test]
fn without_inference_training_runs_back_to_back() {
    let only = Assignment {
        serving: None,
        ..assignment()
    };
    assert_eq!(step(only, 0, &Inputs::default()), Action::Train);
    // Requests that nobody serves do not stop it.
    assert_eq!(step(only, 0, &waiting(9, 0)), Action::Train);
}

#[test]
fn a_step_is_not_started_when_the_burst_to_expect_could_not_be_served_after_it() {
    // 18 ms at 1,500/s: 27 + 4 * 5 requests, 12 batches of 8 ms.
    let inputs = |rate| Inputs {
        rate: MilliRps(rate),
        ..Inputs::default()
    };
    assert_eq!(step(assignment(), 0, &inputs(100_000)), Action::Train);
    assert_eq!(
        step(assignment(), 0, &inputs(1_500_000)),
        Action::Wait { until_ns: None }
    );
}

#[test]
fn who_comes_at_the_end_of_a_long_step_waits_for_the_batches_before_and_no_more_for_the_step() {
    // Steps of 60 ms (at most 67.5) at 389/s, nearly four fifths of what inference serves: 27 + 4 * 5 requests come
    // during one and take 12 batches, too many after the step; but a burst is never more than 14 ahead of inference.
    let long = |budget_ns| Assignment {
        serving: Some(Serving {
            batch: 4,
            infer_ns: 8 * MS,
            budget_ns,
        }),
        train_ns: Some(60 * MS),
        ..assignment()
    };
    let inputs = |pending| Inputs {
        rate: MilliRps(389_000),
        ..waiting(pending, 0)
    };
    // 1 + 14 requests are four batches of 8 ms; 1 + 14 + 3 are five, for which this budget has no room.
    assert_eq!(step(long(100 * MS), 0, &inputs(0)), Action::Train);
    assert_ne!(step(long(100 * MS), 0, &inputs(3)), Action::Train);
    assert_eq!(step(long(110 * MS), 0, &inputs(3)), Action::Train);
}

#[test]
fn a_slower_step_than_planned_is_taken_into_account_at_once() {
    let mut schedule = Schedule::new(assignment(), 0);
    let now_ns = 100 * MS - STEP_RESERVE_NS;
    assert_eq!(schedule.step(now_ns, &waiting(1, 0)), Action::Train);
    schedule.observe_train(0, 30 * MS);
    assert_eq!(
        schedule.step(now_ns, &waiting(1, 0)),
        Action::Infer { count: 1 }
    );
}

#[test]
fn an_urgent_change_of_mode_comes_first_and_any_other_waits_for_a_gap() {
    let with = |pending, urgent, cost_ms: u64| Inputs {
        switch: Some(Switch {
            cost_ns: cost_ms * MS,
            urgent,
        }),
        ..waiting(pending, 0)
    };
    assert_eq!(step(assignment(), 0, &with(4, true, 500)), Action::Reselect);
    assert_eq!(
        step(assignment(), 0, &with(4, false, 10)),
        Action::Infer { count: 4 }
    );
    assert_eq!(step(assignment(), 0, &with(1, false, 10)), Action::Reselect);
    // It does not fit before the batch closes, so the batch is served first.
    assert_eq!(
        step(assignment(), 80 * MS, &with(1, false, 10)),
        Action::Infer { count: 1 }
    );
    // Without a gap of that length there is no such moment; work goes on.
    assert_eq!(step(assignment(), 0, &with(1, false, 500)), Action::Train);
}

#[test]
fn what_cannot_be_answered_in_time_is_dropped_only_if_asked_for() {
    let inputs = waiting(4, 0);
    let late_ns = 92 * MS + 1;
    assert_eq!(
        step(assignment(), late_ns, &inputs),
        Action::Infer { count: 4 }
    );
    let dropping = Assignment {
        policy: Policy {
            overload: Overload::DropLate,
            ..Policy::default()
        },
        ..assignment()
    };
    assert_eq!(step(dropping, late_ns, &inputs), Action::Drop);
    assert_eq!(
        step(dropping, late_ns - 1, &inputs),
        Action::Infer { count: 4 }
    );
}

#[test]
fn the_queue_admits_what_can_be_served_within_the_budget() {
    let most = |assignment, action, arrival_ns| {
        Schedule::new(assignment, 0)
            .admission(0, action, &Inputs::default())
            .most(arrival_ns)
    };
    let (idle, batch) = (Action::Wait { until_ns: None }, Action::Infer { count: 4 });
    // Without the margin 98.4 ms: 12 batches of 4 in 8 ms each. Behind a batch (9 ms at its tail) 11, behind a step
    // (18 ms) 10; and as many as on an idle board if it has ended.
    assert_eq!(most(assignment(), idle, 0), 48);
    assert_eq!(most(assignment(), batch, 0), 44);
    assert_eq!(most(assignment(), Action::Train, 0), 40);
    assert_eq!(most(assignment(), Action::Train, 18 * MS), 48);
    // Half of the time is training's: 80.4 ms beside a step, in which each batch takes 16 ms.
    let shared = Assignment {
        policy: Policy {
            train_share_per_mille: 500,
            ..Policy::default()
        },
        ..assignment()
    };
    assert_eq!(most(shared, idle, 0), 20);
    // Where late answers are wanted, too, only the ring's size counts.
    let patient = Assignment {
        policy: Policy {
            overload: Overload::AnswerLate,
            ..shared.policy
        },
        ..shared
    };
    assert!(most(patient, Action::Train, 0) >= crate::queue::CAPACITY);
    // A step that does not fit in the budget at all costs nobody anything.
    let long = Assignment {
        train_ns: Some(96 * MS),
        ..shared
    };
    assert!(!Schedule::new(long, 0).can_keep_promise());
    assert_eq!(most(long, idle, 0), 48);
    // Behind its tail (108 ms) nobody is in time but a batch. One that is cancelled after 90.4 ms at the latest leaves
    // those who come 9.6 ms later time for two.
    let mut tried = Schedule::new(long, 0);
    let behind = |schedule: &Schedule| {
        let admission = schedule.admission(0, Action::Train, &Inputs::default());
        [0, 9_600_000].map(|arrival_ns| admission.most(arrival_ns))
    };
    assert_eq!(behind(&tried), [4, 4]);
    tried.can_cancel();
    assert_eq!(behind(&tried), [4, 8]);
    let slow = Assignment {
        serving: Some(Serving {
            batch: 4,
            infer_ns: 900 * MS,
            budget_ns: 100 * MS,
        }),
        ..assignment()
    };
    assert_eq!(most(slow, batch, 0), 4);
}

/// With non-urgent batches of 8 that take 20 ms.
fn with_bulk(trains: bool) -> Assignment {
    Assignment {
        train_ns: trains.then_some(16 * MS),
        bulk: Some(Bulk {
            batch: 8,
            infer_ns: 20 * MS,
        }),
        ..assignment()
    }
}

fn bulk_waiting(pending: usize, oldest_ns: u64, inputs: Inputs) -> Inputs {
    Inputs {
        bulk_pending: pending,
        bulk_oldest_ns: Some(oldest_ns),
        ..inputs
    }
}

#[test]
fn non_urgent_batches_run_in_gaps_and_never_make_an_urgent_request_late() {
    let gap = bulk_waiting(900, 0, Inputs::default());
    assert_eq!(step(with_bulk(false), 0, &gap), Action::Bulk { count: 8 });
    // Without training a batch that is not full has nothing to wait for.
    let few = bulk_waiting(3, 0, Inputs::default());
    assert_eq!(step(with_bulk(false), 0, &few), Action::Bulk { count: 3 });
    let full = bulk_waiting(900, 0, waiting(4, 0));
    assert_eq!(step(with_bulk(false), 0, &full), Action::Infer { count: 4 });
    // 20 ms and 8 ms, an excess of 2.5 ms and the margin no longer fit.
    let late_ns = 100 * MS - 28 * MS - 2_500_000 - 100 * MS / 64;
    let one = bulk_waiting(900, 0, waiting(1, 0));
    assert_eq!(
        step(with_bulk(false), late_ns, &one),
        Action::Bulk { count: 8 }
    );
    assert_eq!(
        step(with_bulk(false), late_ns + 1, &one),
        Action::Infer { count: 1 }
    );
}

#[test]
fn a_non_urgent_batch_waits_to_fill_while_training_has_the_gaps_but_not_for_ever() {
    let few = bulk_waiting(3, 0, Inputs::default());
    let before_ns = BULK_PATIENCE_NS - 1;
    let mut schedule = Schedule::new(with_bulk(true), 0);
    // Training is ahead, so it would be the others' turn.
    schedule.observe_train(0, 16 * MS);
    assert_eq!(schedule.step(before_ns, &few), Action::Train);
    assert_eq!(
        schedule.step(BULK_PATIENCE_NS, &few),
        Action::Bulk { count: 3 }
    );
    // Where no step fits, the loop wakes up for it.
    let long = Assignment {
        train_ns: Some(90 * MS),
        ..with_bulk(true)
    };
    assert_eq!(
        step(long, 0, &few),
        Action::Wait {
            until_ns: Some(BULK_PATIENCE_NS)
        }
    );
}

#[test]
fn training_and_non_urgent_inference_share_the_gaps_evenly_by_time() {
    let mut schedule = Schedule::new(with_bulk(true), 0);
    let inputs = bulk_waiting(900, 0, Inputs::default());
    for _ in 0..1_000 {
        match schedule.step(0, &inputs) {
            Action::Train => schedule.observe_train(0, 16 * MS),
            Action::Bulk { .. } => schedule.observe_bulk(0, 20 * MS, 8),
            action => panic!("{action:?}"),
        }
    }
    let busy = schedule.busy();
    assert!(busy.train_ns.abs_diff(busy.bulk_ns) <= 20 * MS, "{busy:?}");
    // An hour without non-urgent requests is not owed to them.
    for _ in 0..100_000 {
        schedule.observe_train(0, 16 * MS);
    }
    let turns = (0..1_000).take_while(|_| {
        let bulk = matches!(schedule.step(0, &inputs), Action::Bulk { .. });
        schedule.observe_bulk(0, 20 * MS, 8);
        bulk
    });
    assert!(turns.count() <= 51);
}

#[test]
fn what_training_is_owed_outlives_modes_and_lost_steps_are_paid() {
    let shared = Assignment {
        policy: Policy {
            train_share_per_mille: 500,
            ..Policy::default()
        },
        ..assignment()
    };
    let full = waiting(4, 0);
    let train = |schedule: &Schedule| schedule.step(40 * MS, &full) == Action::Train;
    let mut schedule = Schedule::new(shared, 0);
    assert!(train(&schedule), "half of 40 ms is owed");
    assert!(train(&schedule.after(shared, 40 * MS)));
    assert!(!train(&Schedule::new(shared, 40 * MS)));
    schedule.observe_failed(40 * MS, 10 * MS);
    assert!(train(&schedule), "10 ms are still owed");
    schedule.observe_cancelled(40 * MS, 10 * MS, MS);
    assert!(!train(&schedule));
    // A step that takes longer than what may be had in advance is not had for less.
    schedule.observe_train(40 * MS, 10_000 * MS);
    assert_eq!(schedule.promise.owed_ns(40 * MS), -10_000 * MS as i64);
}

#[test]
fn pieces_of_upkeep_do_not_make_steps_look_short() {
    let mut schedule = Schedule::new(assignment(), 0);
    for _ in 0..10 {
        schedule.observe_train(0, 16 * MS);
    }
    let estimates = |schedule: &Schedule| {
        let train = schedule.train();
        (train.mean_ns(), train.tail_ns())
    };
    let (mean_ns, tail_ns) = estimates(&schedule);
    for _ in 0..300 {
        schedule.observe_part(0, MS);
    }
    assert_eq!(estimates(&schedule), (mean_ns, tail_ns));
    assert_eq!(schedule.busy().train_ns, 460 * MS);
    // A long one takes the place of a step for so long.
    schedule.observe_part(0, 20 * MS);
    assert!(estimates(&schedule).0 > mean_ns);
}

#[test]
fn a_step_that_fits_is_not_cancelled_before_its_tail_is_over() {
    // Half a step is kept for a cancellation, so that otherwise a step that fits late would have to end too early.
    let slow = Assignment {
        train_ns: Some(64 * MS),
        ..assignment()
    };
    let schedule = Schedule::new(slow, 0);
    let patience_ns = 100 * MS - 8 * MS - 100 * MS / 64 - 32 * MS;
    for now_ns in [0, 18 * MS] {
        assert_eq!(schedule.step(now_ns, &waiting(1, 0)), Action::Train);
        let end_ns = now_ns + 72 * MS;
        assert!(patience_ns < end_ns);
        let due = schedule.due(now_ns, &waiting(1, 0));
        assert_eq!(due, Some((Due::At(end_ns), patience_ns)));
    }
}

#[test]
fn a_step_that_does_not_fit_is_tried_while_nobody_waits_if_it_can_be_cancelled() {
    let long = Assignment {
        train_ns: Some(90 * MS),
        ..assignment()
    };
    let mut schedule = Schedule::new(long, 0);
    schedule.can_cancel();
    assert_eq!(schedule.step(0, &Inputs::default()), Action::Train);
    assert_ne!(schedule.step(0, &waiting(1, 0)), Action::Train);
    // A batch after the cancellation is in time: half a step for the cancellation until that is measured.
    let patience_ns = 100 * MS - 8 * MS - 100 * MS / 64 - 45 * MS;
    assert_eq!(
        schedule.due(0, &Inputs::default()),
        Some((Due::AfterArrival(patience_ns), patience_ns))
    );
    assert_eq!(
        schedule.due(0, &waiting(1, 7 * MS)),
        Some((Due::At(7 * MS + patience_ns), patience_ns))
    );
    // Every loss doubles the time to the next try; a step that ends well resets it.
    let retry_ns = |schedule: &Schedule| match schedule.step(0, &Inputs::default()) {
        Action::Wait { until_ns } => until_ns.unwrap(),
        action => panic!("{action:?}"),
    };
    schedule.observe_cancelled(0, 50 * MS, 3 * MS);
    assert_eq!(retry_ns(&schedule), 180 * MS);
    schedule.observe_cancelled(0, 50 * MS, 3 * MS);
    assert_eq!(retry_ns(&schedule), 360 * MS);
    for _ in 0..100 {
        schedule.observe_cancelled(0, 50 * MS, 3 * MS);
    }
    assert_eq!(retry_ns(&schedule), RETRY_MAX_NS);
    let longer_ns = patience_ns + 42 * MS;
    assert_eq!(
        schedule.due(0, &Inputs::default()),
        Some((Due::AfterArrival(longer_ns), longer_ns))
    );
    assert_eq!(
        schedule.step(RETRY_MAX_NS, &Inputs::default()),
        Action::Train
    );
}

#[test]
fn every_action_can_be_carried_out_whatever_the_inputs() {
    let extremes = [0, 1, 8 * MS, 100 * MS, u64::MAX / 2, u64::MAX];
    for infer_ns in extremes {
        for budget_ns in extremes {
            for train_ns in extremes.map(Some).into_iter().chain([None]) {
                for batch in [1, 4, u16::MAX] {
                    let serving = Some(Serving {
                        batch,
                        infer_ns,
                        budget_ns,
                    });
                    let schedule = Schedule::new(
                        Assignment {
                            serving,
                            train_ns,
                            bulk: None,
                            policy: Policy::default(),
                        },
                        0,
                    );
                    for now_ns in extremes {
                        for pending in [0, 1, usize::MAX] {
                            let inputs = Inputs {
                                rate: MilliRps(u32::MAX),
                                ..waiting(pending, 0)
                            };
                            match schedule.step(now_ns, &inputs) {
                                Action::Infer { count } => {
                                    assert!(count > 0 && count <= pending);
                                    assert!(count <= usize::from(batch));
                                }
                                Action::Wait { until_ns } => {
                                    assert!(until_ns.is_none_or(|until_ns| until_ns > now_ns));
                                }
                                Action::Train => assert!(train_ns.is_some()),
                                action => panic!("{action:?} was not asked for"),
                            }
                        }
                    }
                }
            }
        }
    }
}
