//! Every rule of a good plan: the good plan passes, and one change breaks exactly that rule.

mod sample;

use fulcrum_plan::board::ModeError;
use fulcrum_plan::check::{CheckError, Rule, check};
use fulcrum_plan::units::{Khz, MicroSec, MilliWatt};
use fulcrum_plan::{Board, Cell, PlanTable, PowerMode, Row};

fn good() -> (PlanTable, Board) {
    let board = sample::board("orin-agx");
    let mut plan = sample::plan(0, 1);
    plan.board = board.name.clone();
    plan.train = Some(sample::workload("resnet18", &[16]));
    plan.infer = [sample::workload("mobilenetv3", &[1, 16])]
        .into_iter()
        .collect();
    let row = |gpu_khz, time_us: u32, power_mw: u32| Row {
        mode: PowerMode {
            cores: 4,
            cpu_khz: Khz(1_344_000),
            gpu_khz: Khz(gpu_khz),
            emc_khz: Khz(2_133_000),
        },
        cells: [0u32, 1, 2]
            .map(|slot| {
                let time_us = MicroSec(time_us + slot);
                Some(Cell {
                    time_us,
                    power_mw: MilliWatt(power_mw + slot),
                })
            })
            .into_iter()
            .collect(),
    };
    let rows = [
        (318_750, 90_000, 15_000),
        (624_750, 50_000, 22_000),
        (1_300_500, 30_000, 35_000),
    ];
    plan.rows = rows
        .map(|(gpu, time, power)| row(gpu, time, power))
        .into_iter()
        .collect();
    (plan, board)
}

fn broken(change: impl FnOnce(&mut PlanTable)) -> CheckError {
    let (mut plan, board) = good();
    assert_eq!(check(&plan, &board), Ok(()));
    change(&mut plan);
    check(&plan, &board).unwrap_err()
}

fn rule(change: impl FnOnce(&mut PlanTable)) -> (Rule, Option<usize>) {
    let error = broken(change);
    assert!(error.to_string().contains(error.rule.name()), "{error}");
    (error.rule, error.row)
}

#[test]
fn each_rule_is_broken_by_the_change_that_breaks_it() {
    assert_eq!(
        rule(|p| p.board = "orin-nano-8".try_into().unwrap()),
        (Rule::Board, None)
    );
    let no_workload = |p: &mut PlanTable| {
        p.train = None;
        p.infer.clear();
    };
    assert_eq!(rule(no_workload), (Rule::AnyWorkload, None));
    assert_eq!(rule(|p| p.infer[0].name.clear()), (Rule::Name, None));
    let blank = |p: &mut PlanTable| p.provenance.strategy = "als 50".try_into().unwrap();
    assert_eq!(rule(blank), (Rule::Name, None));
    assert_eq!(rule(|p| p.infer[0].batches[1] = 1), (Rule::Batches, None));
    assert_eq!(rule(|p| p.infer[0].batches[0] = 0), (Rule::Batches, None));
    let two = |p: &mut PlanTable| p.train.as_mut().unwrap().batches.push(32).unwrap();
    assert_eq!(rule(two), (Rule::Batches, None));
    assert_eq!(rule(|p| p.rows.clear()), (Rule::AnyRow, None));
    assert_eq!(
        rule(|p| p.rows[1].cells.truncate(2)),
        (Rule::Slots, Some(1))
    );
    assert_eq!(rule(|p| p.rows[2].cells.fill(None)), (Rule::Slots, Some(2)));
    let zero = |p: &mut PlanTable| p.rows[0].cells[1].as_mut().unwrap().power_mw = MilliWatt(0);
    assert_eq!(rule(zero), (Rule::Cell, Some(0)));
    assert_eq!(rule(|p| p.rows.swap(0, 1)), (Rule::RowsSorted, Some(1)));
    let same_mode = |p: &mut PlanTable| p.rows[2].mode = p.rows[0].mode;
    assert_eq!(rule(same_mode), (Rule::ModeUnique(0), Some(2)));
}

#[test]
fn every_part_of_a_mode_must_be_on_the_board() {
    let on_board = |change: fn(&mut PowerMode)| match rule(|p| change(&mut p.rows[1].mode)) {
        (Rule::ModeOnBoard(what), Some(1)) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(on_board(|mode| mode.cores = 0), ModeError::Cores(0));
    assert_eq!(on_board(|mode| mode.cores = 13), ModeError::Cores(13));
    assert_eq!(
        on_board(|mode| mode.cpu_khz.0 += 1),
        ModeError::Cpu(Khz(1_344_001))
    );
    assert_eq!(
        on_board(|mode| mode.gpu_khz.0 += 1),
        ModeError::Gpu(Khz(624_751))
    );
    assert_eq!(
        on_board(|mode| mode.emc_khz.0 += 1),
        ModeError::Emc(Khz(2_133_001))
    );
}

#[test]
fn gpu_clocks_of_two_firmware_generations_do_not_mix() {
    // 306 MHz is only in the newer table; 318.75 MHz in row 0 only in the older one.
    let mixed = |p: &mut PlanTable| p.rows[1].mode.gpu_khz = Khz(306_000);
    assert_eq!(rule(mixed), (Rule::GpuTable, Some(1)));
}

#[test]
fn a_row_that_another_covers_is_refused_even_with_cells_missing() {
    let slower = |p: &mut PlanTable| {
        for cell in p.rows[2].cells.iter_mut().flatten() {
            cell.time_us = MicroSec(60_000);
        }
    };
    assert_eq!(rule(slower), (Rule::NotDominated(1), Some(2)));
    // Row 2 still answers what row 1 cannot: not dominated.
    let (mut plan, board) = good();
    slower(&mut plan);
    plan.rows[1].cells[2] = None;
    assert_eq!(check(&plan, &board), Ok(()));
    // And a row that only has what another has too is covered.
    plan.rows[2].cells[2] = None;
    assert_eq!(
        check(&plan, &board).unwrap_err().rule,
        Rule::NotDominated(1)
    );
}
