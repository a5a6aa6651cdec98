//! What a run of the engine takes from the system: goal is nothing, on success and on error (invariant I5).
//! Method: real sessions under the counting allocator and the kernel's count of page faults.

use fulcrum_runtime::allocation::{self, Count, CountingAllocator};
use fulcrum_runtime::data::{Batches, Records};
use fulcrum_runtime::engine::{
    Engine, InferenceSession, RunError, SessionOptions, Targets, TrainingSession,
};
use fulcrum_tests::models::{digits, fixture, load};
use fulcrum_tests::onnxruntime::{self, engine};
use fulcrum_tests::tree::TemporaryFolder;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

fn allocations_of(work: impl FnOnce()) -> Count {
    let before = allocation::count();
    work();
    allocation::count().since(before)
}

#[test]
fn i5_runs_do_not_allocate_on_success_or_error() {
    let folder = TemporaryFolder::new();
    let failing = fixture(folder.path(), "fails.onnx", &[&[1.0, 2.0, 3.0, 4.0]]);
    for threads in [1, 2] {
        no_allocation(engine(), &failing, threads);
    }
    // As on a GPU.
    no_allocation(&engine().clone().copying(), &failing, 1);
}

fn no_allocation(engine: &Engine, failing: &Path, intra_op_threads: u16) {
    let options = SessionOptions {
        batch: Some(16),
        intra_op_threads,
    };
    let (mut training, mut parameters) =
        TrainingSession::load(engine, &digits("train.onnx"), options).unwrap();
    let mut inference =
        InferenceSession::load(engine, &digits("infer.onnx"), options, Some(&parameters)).unwrap();
    let (mut failing, mut failing_parameters) = load(failing);
    let Targets::Classes(y) = failing.y_mut() else {
        panic!("class targets")
    };
    y.fill(9);

    let mut batches = Batches::new(Records::open(&onnxruntime::digits().train).unwrap(), 3);
    let success = allocations_of(|| {
        for _ in 0..1_000 {
            let (x, y) = training.x_and_y_mut();
            batches.fill(x, y);
            training.set_learning_rate(0.1);
            training.step(&mut parameters).unwrap();
            inference.x_mut().copy_from_slice(training.x_mut());
            inference.run(Some(&parameters)).unwrap();
            assert!(inference.logits()[0].is_finite());
        }
    });
    assert_eq!(
        success,
        Count::default(),
        "1000 steps and 1000 inferences, {intra_op_threads} threads"
    );

    let failure = allocations_of(|| {
        for _ in 0..100 {
            let error = failing.step(&mut failing_parameters).unwrap_err();
            assert!(matches!(error, RunError::Failed { .. }));
            assert!(!failing.last_error().is_empty());
            assert_eq!(inference.run(None), Err(RunError::ForeignParameters));
        }
    });
    assert_eq!(
        failure,
        Count::default(),
        "100 failing steps, {intra_op_threads} threads"
    );
}

/// Minor and major page faults of the calling thread (proc(5), fields 10 and 12 of `stat`).
fn page_faults() -> [u64; 2] {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
    // The second field, the name, may hold spaces; it ends with the last parenthesis.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    [fields[7], fields[9]].map(|field| field.parse().unwrap())
}

#[test]
fn runs_meet_no_page_fault_after_warm_up() {
    let (mut training, mut parameters) = load(&digits("train.onnx"));
    let options = SessionOptions::with_batch(16);
    let mut inference =
        InferenceSession::load(engine(), &digits("infer.onnx"), options, Some(&parameters))
            .unwrap();
    let mut run = |count| {
        for _ in 0..count {
            training.step(&mut parameters).unwrap();
            inference.run(Some(&parameters)).unwrap();
        }
    };
    run(10);
    // A kernel short of memory may take pages away at any time: one window without a fault shows that the
    // runs themselves need none.
    let mut windows = Vec::new();
    while windows.len() < 50 && !windows.contains(&[0, 0]) {
        let before = page_faults();
        run(500);
        let after = page_faults();
        windows.push([after[0] - before[0], after[1] - before[1]]);
    }
    assert!(
        windows.contains(&[0, 0]),
        "minor and major faults per 500 steps: {windows:?}"
    );
}

#[test]
fn i5_a_cancelled_step_does_not_allocate() {
    let folder = TemporaryFolder::new();
    let model = fixture(folder.path(), "slow.onnx", &[&[0.001; 384 * 384]]);
    let (mut training, mut parameters) = load(&model);
    let handle = training.cancel_handle();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_micros(500));
                handle.cancel();
            }
        });
        let mut cancelled = 0;
        let count = allocations_of(|| {
            // On a busy machine until the other thread had its turn.
            for step in 0..5_000 {
                if step >= 50 && cancelled > 0 {
                    break;
                }
                cancelled += u32::from(training.step(&mut parameters) == Err(RunError::Cancelled));
            }
        });
        stop.store(true, Ordering::Relaxed);
        assert!(cancelled > 0, "no step was cancelled");
        assert_eq!(count, Count::default());
    });
}
