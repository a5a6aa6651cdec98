//! From observations to the rows of a plan.
//!
//! Only observed modes (invariant I3). A row that another one answers as well in every question
//! (`Row::covers`) is dropped; of two equal rows the smaller mode stays. If more than a plan holds are
//! left, the rows that lose least are dropped: see `trim`.

use crate::pool::Pool;
use fulcrum_plan::table::ROWS_MAX;
use fulcrum_plan::{Cell, PowerMode, Row};

/// The rows that some question may choose, sorted by (smallest power, mode).
#[must_use]
pub fn rows(pool: &Pool, modes: &[PowerMode]) -> Vec<Row> {
    let observed: Vec<Row> = pool
        .observed_modes()
        .into_iter()
        .map(|mode| Row {
            mode: modes[mode],
            cells: (0..pool.slot_count())
                .map(|slot| pool.cell(mode, slot))
                .collect(),
        })
        .collect();
    let is_covered = |at: usize| {
        observed.iter().enumerate().any(|(other, row)| {
            // Of two rows that cover each other the earlier one, which is the smaller mode, stays.
            other != at && row.covers(&observed[at]) && (other < at || !observed[at].covers(row))
        })
    };
    let mut rows: Vec<Row> = (0..observed.len())
        .filter(|&at| !is_covered(at))
        .map(|at| observed[at].clone())
        .collect();
    sort(&mut rows);
    trim(&mut rows, ROWS_MAX);
    rows
}

fn sort(rows: &mut [Row]) {
    rows.sort_by_key(|row| (row.power_min(), row.mode));
}

/// How much slower the fastest other row is, relative, that can stand in for a cell at its power;
/// infinite where none can.
fn loss_without(rows: &[Row], at: usize, slot: usize, cell: &Cell) -> f64 {
    let stand_in = rows
        .iter()
        .enumerate()
        .filter(|&(other, _)| other != at)
        .filter_map(|(_, row)| row.cell(slot))
        .filter(|other| other.power_mw <= cell.power_mw)
        .map(|other| other.time_us.0)
        .min();
    stand_in.map_or(f64::INFINITY, |time| {
        f64::from(time) / f64::from(cell.time_us.0.max(1)) - 1.0
    })
}

/// Drops rows until at most `most` are left: again and again the one whose absence costs least, where
/// the cost of a row is the largest relative loss of time, over its cells, of the best remaining row
/// at no more power. Ties: the later row goes.
fn trim(rows: &mut Vec<Row>, most: usize) {
    while rows.len() > most {
        let cost = |at: usize| {
            rows[at]
                .cells
                .iter()
                .enumerate()
                .filter_map(|(slot, cell)| Some(loss_without(rows, at, slot, cell.as_ref()?)))
                .fold(f64::NEG_INFINITY, f64::max)
        };
        let costs: Vec<f64> = (0..rows.len()).map(cost).collect();
        let cheapest = (0..rows.len())
            .rev()
            .min_by(|&one, &other| costs[one].total_cmp(&costs[other]));
        if let Some(at) = cheapest {
            rows.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Observation;
    use crate::random::Random;
    use fulcrum_plan::units::{Khz, MicroSec, MilliWatt};

    fn modes(count: usize) -> Vec<PowerMode> {
        (0..count)
            .map(|at| PowerMode {
                cpu_khz: Khz(at as u32),
                ..PowerMode::default()
            })
            .collect()
    }

    fn cell(time: u32, power: u32) -> Cell {
        Cell {
            time_us: MicroSec(time),
            power_mw: MilliWatt(power),
        }
    }

    fn pool(cells: &[&[Option<(u32, u32)>]]) -> Pool {
        let mut pool = Pool::new(cells.len(), cells[0].len());
        for (mode, row) in cells.iter().enumerate() {
            for (slot, seen) in row.iter().enumerate() {
                if let Some((time, power)) = seen {
                    pool.record(mode, slot, Observation::Seen(cell(*time, *power)));
                }
            }
        }
        pool
    }

    fn kept(pool: &Pool) -> Vec<u32> {
        rows(pool, &modes(pool.mode_count()))
            .iter()
            .map(|row| row.mode.cpu_khz.0)
            .collect()
    }

    #[test]
    fn dominated_rows_and_copies_go_and_the_rest_is_sorted_by_power() {
        let pool = pool(&[
            &[Some((100, 50))],
            &[Some((300, 20))],
            &[Some((300, 30))], // dominated by 1
            &[Some((100, 50))], // a copy of 0
            &[None],            // not observed
        ]);
        assert_eq!(kept(&pool), [1, 0]);
    }

    #[test]
    fn a_row_with_a_cell_that_the_better_one_lacks_stays() {
        let pool = pool(&[
            &[Some((100, 20)), None],
            &[Some((200, 30)), Some((5, 20))],
            &[None, Some((6, 21))], // dominated by 1
        ]);
        assert_eq!(kept(&pool), [0, 1]);
    }

    #[test]
    fn no_answer_gets_worse_by_dropping_and_none_is_left_to_drop() {
        for seed in 0..20 {
            let mut random = Random::new(seed, &[b"front"]);
            let mut pool = Pool::new(40, 2);
            for mode in 0..40 {
                for slot in 0..2 {
                    if random.uniform() < 0.7 {
                        let seen = cell(1 + random.below(30) as u32, 1 + random.below(30) as u32);
                        pool.record(mode, slot, Observation::Seen(seen));
                    }
                }
            }
            let rows = rows(&pool, &modes(40));
            for &(mode, slot) in pool.order() {
                let seen = pool.cell(mode, slot).unwrap();
                let answered = rows
                    .iter()
                    .filter_map(|row| row.cell(slot))
                    .any(|c| c.covers(&seen));
                assert!(answered, "seed {seed}: mode {mode} slot {slot}");
            }
            for (at, row) in rows.iter().enumerate() {
                let covered = rows
                    .iter()
                    .enumerate()
                    .any(|(o, other)| o != at && other.covers(row));
                assert!(!covered, "seed {seed}: row {at}");
            }
        }
    }

    #[test]
    fn beyond_the_limit_the_rows_that_lose_least_go() {
        let row = |at: u32, time, power| Row {
            mode: modes(10)[at as usize],
            cells: [Some(cell(time, power))].into_iter().collect(),
        };
        let mut rows = vec![
            row(0, 1000, 10),
            row(1, 500, 20),
            row(2, 495, 21),
            row(3, 100, 40),
        ];
        trim(&mut rows, 3);
        let left: Vec<u32> = rows.iter().map(|row| row.mode.cpu_khz.0).collect();
        assert_eq!(left, [0, 1, 3]);
    }

    #[test]
    fn an_exhaustive_search_fits_a_plan() {
        let mut pool = Pool::new(400, 1);
        for mode in 0..400 {
            let seen = cell(100_000 - mode as u32 * 100, 10_000 + mode as u32 * 10);
            pool.record(mode, 0, Observation::Seen(seen));
        }
        let rows = rows(&pool, &modes(400));
        assert_eq!(rows.len(), ROWS_MAX);
        assert_eq!(rows[0].mode.cpu_khz.0, 0, "the least power must stay");
    }
}
