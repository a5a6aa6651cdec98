//! Applying a mode, restoring, watching and sampling: no Rust allocation, no file opened while
//! sampling, and little time of our own.

use fulcrum::board_folder::{self, JetPack};
use fulcrum_plan::PowerMode;
use fulcrum_plan::units::Khz;
use fulcrum_runtime::allocation::{self, Count, CountingAllocator};
use fulcrum_runtime::board::node::Cause;
use fulcrum_runtime::board::{ApplyError, Controls, Jetson, Node, NodeError, Options, shipped};
use fulcrum_tests::tree::TemporaryFolder;
use std::cell::Cell;
use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

const LOW: PowerMode = PowerMode {
    cores: 4,
    cpu_khz: Khz(422_400),
    gpu_khz: Khz(318_750),
    emc_khz: Khz(665_600),
};
const HIGH: PowerMode = PowerMode {
    cores: 12,
    cpu_khz: Khz(2_201_600),
    gpu_khz: Khz(1_300_500),
    emc_khz: Khz(3_199_000),
};

fn orin() -> TemporaryFolder {
    let folder = TemporaryFolder::new();
    let board = shipped().iter().find(|board| board.name == "orin-agx");
    board_folder::create(folder.path(), board.unwrap(), JetPack::Five).unwrap();
    folder
}

#[track_caller]
fn without_allocation<T>(call: impl FnOnce() -> T) -> T {
    let before = allocation::count();
    let result = call();
    assert_eq!(allocation::count().since(before), Count::default());
    result
}

#[test]
fn i5_board_control_does_not_allocate_after_discovery() {
    let folder = orin();
    let mut board = Jetson::discover(folder.path()).unwrap();
    for mode in [LOW, HIGH, LOW] {
        without_allocation(|| board.apply(&mode)).unwrap();
        assert!(!without_allocation(|| board.verify(&mode)).unwrap().any());
    }
    without_allocation(|| board.power()).unwrap();
    without_allocation(|| board.rails().sample());
    without_allocation(|| board.temperature_max()).unwrap();
    without_allocation(|| board.over_current_events()).unwrap();
    without_allocation(|| board.restore()).unwrap();
}

/// The live files, with one node that refuses every write.
struct Refusing<C> {
    inner: C,
    node: Node,
}

impl<C: Controls> Controls for Refusing<C> {
    fn read(&mut self, node: Node) -> Result<u64, NodeError> {
        self.inner.read(node)
    }

    fn write(&mut self, node: Node, value: u64) -> Result<(), NodeError> {
        match node == self.node {
            true => Err(NodeError {
                node,
                cause: Cause::Write(libc_ebusy()),
            }),
            false => self.inner.write(node, value),
        }
    }

    fn has(&self, node: Node) -> bool {
        self.inner.has(node)
    }

    fn wait(&mut self, _pause: Duration) {}
}

/// An errno that is tried again.
fn libc_ebusy() -> i32 {
    16
}

#[test]
fn i5_board_control_does_not_allocate_when_it_fails() {
    for node in [Node::CpuMax(4), Node::GpuPower, Node::GpuMin, Node::EmcRate] {
        let folder = orin();
        let wrap = |inner| Refusing { inner, node };
        let mut board = Jetson::discover_with(folder.path(), Options::default(), wrap).unwrap();
        let mode = match node {
            Node::CpuMax(_) => HIGH,
            _ => LOW,
        };
        let outcome = without_allocation(|| board.apply(&mode));
        assert!(matches!(outcome, Err(ApplyError::Failed { .. })), "{node}");
    }
    let folder = orin();
    let mut board = Jetson::discover(folder.path()).unwrap();
    let impossible = PowerMode { cores: 13, ..LOW };
    without_allocation(|| board.apply(&impossible)).unwrap_err();
    fs::write(
        folder.path().join("sys/class/hwmon/hwmon0/curr1_input"),
        "?",
    )
    .unwrap();
    assert_eq!(without_allocation(|| board.power()), None);
}

#[test]
fn sampling_opens_nothing() {
    let folder = orin();
    let moved = TemporaryFolder::new();
    let board = Jetson::discover(folder.path()).unwrap();
    let before = (
        board.power(),
        board.temperature_max(),
        board.over_current_events(),
    );
    // No path leads to the files any more; only descriptors that are open already do.
    fs::rename(folder.path(), moved.path().join("elsewhere")).unwrap();
    let after = (
        board.power(),
        board.temperature_max(),
        board.over_current_events(),
    );
    assert_eq!(before, after);
    assert!(before.0.is_some() && before.1.is_some() && before.2.is_some());
}

/// The live files, with the time spent in them and in waiting.
struct Timed<C> {
    inner: C,
    elsewhere: Rc<Cell<Duration>>,
}

impl<C> Timed<C> {
    fn timed<T>(&mut self, call: impl FnOnce(&mut C) -> T) -> T {
        let start = Instant::now();
        let result = call(&mut self.inner);
        self.elsewhere.set(self.elsewhere.get() + start.elapsed());
        result
    }
}

impl<C: Controls> Controls for Timed<C> {
    fn read(&mut self, node: Node) -> Result<u64, NodeError> {
        self.timed(|inner| inner.read(node))
    }

    fn write(&mut self, node: Node, value: u64) -> Result<(), NodeError> {
        self.timed(|inner| inner.write(node, value))
    }

    fn has(&self, node: Node) -> bool {
        self.inner.has(node)
    }

    fn wait(&mut self, pause: Duration) {
        self.timed(|inner| inner.wait(pause));
    }
}

#[test]
fn applying_a_mode_takes_less_than_100_us_of_our_own() {
    let folder = orin();
    let elsewhere = Rc::new(Cell::new(Duration::ZERO));
    let wrap = |inner| Timed {
        inner,
        elsewhere: Rc::clone(&elsewhere),
    };
    let mut board = Jetson::discover_with(folder.path(), Options::default(), wrap).unwrap();
    // The first application also writes the record to disk.
    board.apply(&HIGH).unwrap();
    let mut own = Duration::MAX;
    let mut whole = Duration::MAX;
    for mode in [LOW, HIGH].repeat(20) {
        elsewhere.set(Duration::ZERO);
        let start = Instant::now();
        board.apply(&mode).unwrap();
        whole = whole.min(start.elapsed());
        own = own.min(start.elapsed().saturating_sub(elsewhere.get()));
    }
    println!("apply: {own:?} of our own, {whole:?} with the file system (best of 40)");
    assert!(own < Duration::from_micros(100), "{own:?}");
}
