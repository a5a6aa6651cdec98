//! The wire format: what is written reads back, and nothing else is accepted.

mod sample;

use fulcrum_plan::check::Rule;
use fulcrum_plan::units::MicroSec;
use fulcrum_plan::wire::{self, DecodeError, EncodeError, LEN_MAX};
use fulcrum_plan::{Board, PlanTable};

fn encode(plan: &PlanTable, boards: &[Board]) -> Vec<u8> {
    let board = boards
        .iter()
        .find(|board| board.name == plan.board)
        .unwrap();
    let mut buffer = vec![0; LEN_MAX];
    wire::encode(plan, board, &mut buffer).unwrap().to_vec()
}

/// Recomputes length and checksum, for the tests that look behind them.
fn reseal(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() - 4);
    let payload_len = bytes.len() as u32 - 20;
    bytes[16..20].copy_from_slice(&payload_len.to_le_bytes());
    bytes.extend(wire::checksum(bytes).to_le_bytes());
}

#[test]
fn decode_of_encode_is_the_same_plan_and_the_same_bytes() {
    let boards = sample::boards();
    for seed in 0..400 {
        let plan = sample::plan(seed, 300);
        let bytes = encode(&plan, &boards);
        let decoded = wire::decode(&bytes, &boards).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(decoded, plan, "seed {seed}");
        assert_eq!(encode(&decoded, &boards), bytes, "seed {seed}");
    }
}

#[test]
fn i2_every_flipped_bit_is_refused() {
    let boards = sample::boards();
    for seed in 0..12 {
        let bytes = encode(&sample::plan(seed, 60), &boards);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = wire::decode(&flipped, &boards).unwrap_err();
            let expected = match bit / 8 {
                0..4 => matches!(error, DecodeError::NotAPlan),
                16..20 => matches!(error, DecodeError::Truncated { .. } | DecodeError::Trailing),
                _ => error == DecodeError::Checksum,
            };
            assert!(expected, "seed {seed}, bit {bit}: {error:?}");
        }
    }
}

#[test]
fn i2_every_truncation_and_every_trailing_byte_is_refused() {
    let boards = sample::boards();
    let bytes = encode(&sample::plan(3, 60), &boards);
    for len in 0..bytes.len() {
        let error = wire::decode(&bytes[..len], &boards).unwrap_err();
        let expected = matches!(error, DecodeError::Size(_) | DecodeError::Truncated { .. });
        assert!(expected, "{len} bytes: {error:?}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(wire::decode(&longer, &boards), Err(DecodeError::Trailing));
    // A trailing byte inside a frame that is otherwise sound.
    let mut inside = bytes;
    inside.insert(inside.len() - 4, 0);
    reseal(&mut inside);
    assert_eq!(wire::decode(&inside, &boards), Err(DecodeError::Trailing));
}

#[test]
fn i2_other_versions_flags_schemas_and_boards_have_their_own_errors() {
    let boards = sample::boards();
    let plan = sample::plan(5, 60);
    let bytes = encode(&plan, &boards);
    let with = |offset: usize, value: u8| {
        let mut changed = bytes.clone();
        changed[offset] = value;
        reseal(&mut changed);
        wire::decode(&changed, &boards).unwrap_err()
    };
    assert_eq!(with(4, 2), DecodeError::Version(2));
    assert_eq!(with(6, 1), DecodeError::Flags(1));
    assert!(matches!(with(8, 0x77), DecodeError::Schema(_)));
    let others: Vec<Board> = boards
        .iter()
        .filter(|board| board.name != plan.board)
        .cloned()
        .collect();
    assert_eq!(
        wire::decode(&bytes, &others),
        Err(DecodeError::Board(plan.board))
    );
}

#[test]
fn i2_another_spelling_of_the_same_payload_is_refused() {
    let boards = sample::boards();
    let bytes = encode(&sample::plan(7, 60), &boards);
    // The first payload byte is the length of the board's name; the same number in two bytes.
    let mut longer = bytes.clone();
    longer[20] |= 0x80;
    longer.insert(21, 0);
    reseal(&mut longer);
    assert_eq!(
        wire::decode(&longer, &boards),
        Err(DecodeError::NotCanonical)
    );
}

#[test]
fn i1_random_bytes_in_a_sound_frame_never_panic() {
    let boards = sample::boards();
    let bytes = encode(&sample::plan(11, 40), &boards);
    for seed in 0..4000 {
        let mut rng = sample::Rng(seed);
        let mut changed = bytes.clone();
        for _ in 0..rng.within(1, 4) {
            let at = rng.within(20, bytes.len() as u32 - 5) as usize;
            changed[at] = rng.next() as u8;
        }
        reseal(&mut changed);
        // Whatever it says, a plan that decodes encodes to the same bytes.
        if let Ok(plan) = wire::decode(&changed, &boards) {
            assert_eq!(encode(&plan, &boards), changed, "seed {seed}");
        }
    }
}

#[test]
fn a_bad_plan_is_not_written() {
    let boards = sample::boards();
    let mut plan = sample::plan(1, 20);
    let board = boards
        .iter()
        .find(|board| board.name == plan.board)
        .unwrap();
    assert_eq!(
        wire::encode(&plan, board, &mut [0; 30]),
        Err(EncodeError::Full)
    );
    plan.rows[0].cells[0].as_mut().unwrap().time_us = MicroSec(0);
    let error = wire::encode(&plan, board, &mut vec![0; LEN_MAX]).unwrap_err();
    assert!(
        matches!(error, EncodeError::Check(check) if check.rule == Rule::Cell),
        "{error}"
    );
}

#[test]
fn fifty_modes_of_one_training_and_one_inference_workload_fit_in_two_kib() {
    // Times from 8 ms to 3.2 s and powers from 10 to 50 W, as on an AGX Orin, every cell filled.
    let board = sample::board("orin-agx");
    let mut plan = sample::plan(0, 1);
    plan.board = board.name.clone();
    plan.train = Some(sample::workload("resnet18", &[16]));
    plan.infer = [sample::workload("mobilenetv3", &[1, 4, 16, 32, 64])]
        .into_iter()
        .collect();
    let mut rng = sample::Rng(50);
    let rows = (0..50u32).map(|index| {
        let mode = fulcrum_plan::PowerMode {
            cores: rng.within(1, 12) as u8,
            cpu_khz: board.cpu_khz[rng.within(0, 28) as usize],
            gpu_khz: board.gpu_khz[0][rng.within(0, 12) as usize],
            emc_khz: board.emc_khz[rng.within(0, 3) as usize],
        };
        let cells = [180_000, 10_000, 24_000, 80_000, 160_000, 320_000].map(|time_us: u32| {
            Some(fulcrum_plan::Cell {
                time_us: MicroSec(time_us * 10 / (index + 1) + time_us / 10),
                power_mw: fulcrum_plan::units::MilliWatt(
                    10_000 + index * 800 + rng.within(0, 2000),
                ),
            })
        });
        fulcrum_plan::Row {
            mode,
            cells: cells.into_iter().collect(),
        }
    });
    plan.rows = sample::into_front(rows.collect());
    assert!(plan.rows.len() >= 48, "{} rows", plan.rows.len());
    let bytes = encode(&plan, &[board]);
    println!("{} rows: {} bytes", plan.rows.len(), bytes.len());
    assert!(bytes.len() <= 2048, "{} bytes", bytes.len());
}
