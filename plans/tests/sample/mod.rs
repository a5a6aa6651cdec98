//! Random good plans from a seed, and the boards they are for.
#![allow(dead_code, reason = "each test file uses its own part")]

use fulcrum_plan::table::Provenance;
use fulcrum_plan::units::{MicroSec, MilliWatt};
use fulcrum_plan::{Board, Cell, GpuMasks, PlanTable, PowerMode, Row, Workload, description};

/// SplitMix64 (Steele, Lea, Flood 2014): enough randomness for tests, in five lines.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `low..=high`.
    pub(crate) fn within(&mut self, low: u32, high: u32) -> u32 {
        low + (self.next() % u64::from(high - low + 1)) as u32
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.within(0, from.len() as u32 - 1) as usize].clone()
    }
}

pub(crate) fn board(name: &str) -> Board {
    let path = format!("{}/boards/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    description::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub(crate) fn boards() -> Vec<Board> {
    vec![board("orin-agx"), board("orin-nano-8"), board("agx-xavier")]
}

pub(crate) fn workload(name: &str, batches: &[u16]) -> Workload {
    Workload {
        name: name.try_into().unwrap(),
        batches: batches.iter().copied().collect(),
    }
}

/// Sorts rows and drops what another row covers, the way a planner has to.
pub(crate) fn into_front(
    mut rows: Vec<Row>,
) -> heapless::Vec<Row, { fulcrum_plan::table::ROWS_MAX }> {
    rows.sort_by_key(|row| (row.power_min(), row.mode));
    let mut front: heapless::Vec<Row, { fulcrum_plan::table::ROWS_MAX }> = heapless::Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let mode_known = front.iter().any(|kept| kept.mode == row.mode);
        let covered = rows.iter().enumerate().any(|(at, other)| {
            at != index && other.covers(row) && (!row.covers(other) || at < index)
        });
        if !mode_known && !covered && !front.is_full() {
            front.push(row.clone()).unwrap();
        }
    }
    front
}

/// A good plan: any mix of workloads, up to `rows_max` rows, cells missing here and there.
pub(crate) fn plan(seed: u64, rows_max: u32) -> PlanTable {
    let mut rng = Rng(seed);
    let board = rng.pick(&boards());
    let all_batches: &[&[u16]] = &[&[1], &[1, 4, 16, 32, 64], &[2, 3, 5, 7, 11, 13, 17, 65535]];
    let infer_count = rng.within(0, 2);
    let train = (infer_count == 0 || rng.within(0, 1) == 0).then(|| workload("resnet18", &[16]));
    let names = ["mobilenetv3", "resnet50"];
    let infer = names[..infer_count as usize]
        .iter()
        .map(|name| workload(name, rng.pick(all_batches)))
        .collect();
    let mut plan = PlanTable {
        board: board.name.clone(),
        provenance: Provenance {
            strategy: "als:50".try_into().unwrap(),
            seed,
            profiles: rng.within(1, 500),
            inputs_crc: rng.next() as u32,
            gpu_masks: GpuMasks {
                tpc: rng.pick(&[None, Some(0), Some(240)]),
                fbp: rng.pick(&[None, Some(u32::MAX)]),
                gpc: None,
            },
        },
        train,
        infer,
        rows: heapless::Vec::new(),
    };
    let table = rng.within(0, board.gpu_khz.len() as u32 - 1) as usize;
    let slots = plan.slot_count();
    let mut rows = Vec::new();
    for _ in 0..rng.within(1, rows_max) {
        let mode = PowerMode {
            cores: rng.within(1, u32::from(board.cores)) as u8,
            cpu_khz: rng.pick(&board.cpu_khz),
            gpu_khz: rng.pick(&board.gpu_khz[table]),
            emc_khz: rng.pick(&board.emc_khz),
        };
        // Faster modes draw more, with noise: a front of some length.
        let speed = rng.within(1, 1000);
        let mut cells: heapless::Vec<Option<Cell>, _> = heapless::Vec::new();
        for slot in 0..slots {
            let time = (slot as u32 + 1) * 2_000_000 / speed + rng.within(1, 2000);
            let power = 9_000 + speed * 40 + rng.within(0, 3000);
            let cell = Cell {
                time_us: MicroSec(time),
                power_mw: MilliWatt(power),
            };
            let missing = slot > 0 && rng.within(0, 9) == 0;
            cells.push((!missing).then_some(cell)).unwrap();
        }
        rows.push(Row { mode, cells });
    }
    plan.rows = into_front(rows);
    plan
}
