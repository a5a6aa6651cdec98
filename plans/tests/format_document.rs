//! The worked example of `docs/plan-format.md` is what this build writes.

mod sample;

use fulcrum_plan::table::Provenance;
use fulcrum_plan::units::{Khz, MicroSec, MilliWatt};
use fulcrum_plan::{Cell, PlanTable, PowerMode, Row, wire};

/// The plan that the document describes in words.
fn worked_example() -> PlanTable {
    let cell = |time_us, power_mw| {
        Some(Cell {
            time_us: MicroSec(time_us),
            power_mw: MilliWatt(power_mw),
        })
    };
    let mode = |cores, cpu_khz, gpu_khz| PowerMode {
        cores,
        cpu_khz: Khz(cpu_khz),
        gpu_khz: Khz(gpu_khz),
        emc_khz: Khz(2_133_000),
    };
    let rows = [
        Row {
            mode: mode(4, 729_600, 318_750),
            cells: [cell(157_300, 17_461), cell(18_900, 16_102), None]
                .into_iter()
                .collect(),
        },
        Row {
            mode: mode(8, 1_344_000, 930_750),
            cells: [
                cell(70_020, 29_488),
                cell(11_050, 22_911),
                cell(46_000, 28_040),
            ]
            .into_iter()
            .collect(),
        },
    ];
    PlanTable {
        board: "orin-agx".try_into().unwrap(),
        provenance: Provenance {
            strategy: "als:5".try_into().unwrap(),
            seed: 7,
            profiles: 5,
            inputs_crc: 0x1234_5678,
            gpu_masks: fulcrum_plan::GpuMasks {
                tpc: Some(240),
                fbp: Some(2),
                gpc: None,
            },
        },
        train: Some(sample::workload("resnet18", &[16])),
        infer: [sample::workload("mobilenetv3", &[1, 32])]
            .into_iter()
            .collect(),
        rows: rows.into_iter().collect(),
    }
}

/// The hexadecimal bytes between the document's ```` ```hex ```` fences; `;` starts a comment.
fn documented() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/plan-format.md");
    let text = std::fs::read_to_string(path).unwrap();
    let dump = text.split("```hex\n").nth(1).expect("a ```hex block");
    let dump = dump.split("```").next().unwrap();
    dump.lines()
        .flat_map(|line| line.split(';').next().unwrap().split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

#[test]
fn the_documented_bytes_are_what_is_written_and_read() {
    let board = sample::board("orin-agx");
    let plan = worked_example();
    let mut buffer = [0; 512];
    let bytes = wire::encode(&plan, &board, &mut buffer).unwrap();
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(bytes, documented(), "now written: {}", hex.join(" "));
    assert_eq!(wire::decode(&documented(), &[board]).unwrap(), plan);
}
