//! A plan that decodes passes every check, is written back as the same bytes, and can be asked anything
//! (I1 to I3). The first byte chooses: the rest is a whole file, or a payload in a sound frame.
#![no_main]

use fulcrum_plan::problem::Demand;
use fulcrum_plan::select::{Problem, select};
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};
use fulcrum_plan::{check, wire};
use fulcrum_runtime::board::shipped;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let framed;
    let bytes = if choice % 2 == 0 {
        rest
    } else {
        framed = fulcrum_fuzz::plan_frame(rest);
        &framed
    };
    let boards = shipped();
    let Ok(plan) = wire::decode(bytes, boards) else {
        return;
    };
    let board = boards.iter().find(|board| board.name == plan.board);
    let board = board.expect("a decoded plan is for a known board");
    check::check(&plan, board).expect("a decoded plan passes every check");
    let mut buffer = vec![0; wire::LEN_MAX];
    assert_eq!(wire::encode(&plan, board, &mut buffer), Ok(bytes));

    let word = |at: usize| {
        let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
        u32::from_le_bytes(word.copied().unwrap_or_default())
    };
    let demand = Demand {
        power_mw: MilliWatt(word(bytes.len() - 4) % 60_000),
        latency_us: MicroSec(word(bytes.len() - 7) % 2_000_000),
        rate: MilliRps(word(bytes.len() - 9) % 200_000),
    };
    for problem in [
        Problem::Training,
        Problem::Inference(0),
        Problem::TrainingInference(0),
        Problem::TrainingInference(1),
        Problem::TwoInferences,
    ] {
        if let Some(solution) = select(&plan, problem, &demand) {
            assert_eq!(plan.rows[solution.row].mode, solution.mode);
            assert!(solution.power_mw <= demand.power_mw);
        }
    }
});
