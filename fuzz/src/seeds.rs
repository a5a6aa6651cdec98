//! Writes the seeds of every target into `fuzz/corpus/`: one good input of each kind, so that a fuzzer
//! begins inside of the formats. Same files every time. Run it after a format changed: `.ci/fuzz seeds`.

use fulcrum_fuzz::with_checksum;
use fulcrum_plan::link::frame::{FRAME_LEN_MAX, VERSION, encode};
use fulcrum_plan::link::{
    Hello, L4t, Measured, No, Offer, Order, Progress, Reason, Request, Response, Role, Stage, text,
};
use fulcrum_plan::table::Provenance;
use fulcrum_plan::units::{MicroSec, MilliWatt};
use fulcrum_plan::{Board, Cell, GpuMasks, PlanTable, PowerMode, Row, Workload, wire};
use fulcrum_runtime::board::shipped;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What precedes an input that stands for a whole file or stream.
const WHOLE: u8 = 0;
/// What precedes an input whose frame and checksums the target adds.
const REPAIRED: u8 = 1;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    plans(&Seeds::new(&corpus, "plan_decode")?)?;
    messages(&Seeds::new(&corpus, "link_frames")?)?;
    samples(&Seeds::new(&corpus, "training_records")?)?;
    let confs = Seeds::new(&corpus, "nvpmodel_conf")?;
    confs.write("two-modes", CONF.as_bytes())?;
    let numbers = Seeds::new(&corpus, "sysfs_numbers")?;
    for (name, spelling) in NUMBERS {
        numbers.write(name, spelling.as_bytes())?;
    }
    Ok(())
}

/// A target's folder.
struct Seeds(PathBuf);

impl Seeds {
    fn new(corpus: &Path, target: &str) -> io::Result<Self> {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        fs::write(self.0.join(format!("seed-{name}")), bytes)
    }

    fn write_chosen(&self, choice: u8, name: &str, bytes: &[u8]) -> io::Result<()> {
        let suffix = if choice == WHOLE { "whole" } else { "repaired" };
        self.write(&format!("{name}-{suffix}"), &[&[choice], bytes].concat())
    }
}

fn workload(name: &str, batches: &[u16]) -> Workload {
    Workload {
        name: name.try_into().expect("a short name"),
        batches: batches.iter().copied().collect(),
    }
}

fn mode(board: &Board, cores: u8, step: usize) -> PowerMode {
    let gpu = board.gpu_khz.first().expect("a GPU table");
    let nth = |clocks: &[_], at: usize| clocks[at.min(clocks.len() - 1)];
    PowerMode {
        cores,
        cpu_khz: nth(&board.cpu_khz, 3 * step),
        gpu_khz: nth(gpu, step),
        emc_khz: nth(&board.emc_khz, step),
    }
}

/// A plan of a few rows: each faster and hungrier than the one before.
fn plan(board: &Board, train: Option<Workload>, infer: &[Workload]) -> PlanTable {
    let mut plan = PlanTable {
        board: board.name.clone(),
        provenance: Provenance {
            strategy: "als:50".try_into().expect("a short name"),
            seed: 7,
            profiles: 50,
            inputs_crc: 0x1234_5678,
            gpu_masks: GpuMasks {
                tpc: Some(240),
                fbp: Some(2),
                gpc: None,
            },
        },
        train,
        infer: infer.iter().cloned().collect(),
        rows: heapless::Vec::new(),
    };
    for step in 1..5u8 {
        let cells = (0..plan.slot_count()).map(|slot| {
            // A hole in the first row.
            (step > 1 || slot == 0).then_some(Cell {
                time_us: MicroSec((slot as u32 + 1) * 90_000 / u32::from(step)),
                power_mw: MilliWatt(u32::from(step) * 9_000 + slot as u32 * 300),
            })
        });
        let row = Row {
            mode: mode(board, step, usize::from(step)),
            cells: cells.collect(),
        };
        plan.rows.push(row).expect("four rows");
    }
    plan
}

fn plans(seeds: &Seeds) -> io::Result<()> {
    let train = || Some(workload("resnet18", &[16]));
    let urgent = workload("mobilenetv3", &[1, 4, 16]);
    let other = workload("resnet50", &[2, 8]);
    for (name, board, train, infer) in [
        ("training", "orin-agx", train(), &[][..]),
        (
            "both",
            "orin-nano-8",
            train(),
            std::slice::from_ref(&urgent),
        ),
        ("two", "agx-xavier", None, &[urgent.clone(), other][..]),
    ] {
        let board = shipped().iter().find(|shipped| shipped.name == board);
        let board = board.expect("a shipped board");
        let mut buffer = vec![0; wire::LEN_MAX];
        let bytes = wire::encode(&plan(board, train, infer), board, &mut buffer);
        let bytes = bytes.expect("a good plan");
        seeds.write_chosen(WHOLE, name, bytes)?;
        seeds.write_chosen(REPAIRED, name, &bytes[20..bytes.len() - 4])?;
    }
    Ok(())
}

fn message(seeds: &Seeds, name: &str, message: &impl Serialize) -> io::Result<()> {
    let mut buffer = [0; FRAME_LEN_MAX];
    let frame = encode(message, &mut buffer).expect("it fits a frame");
    seeds.write_chosen(WHOLE, name, frame)?;
    // Between the delimiters, without stuffing, version and checksum: what the target adds.
    let mut content = frame[1..frame.len() - 1].to_vec();
    let length = cobs::decode_in_place(&mut content).expect("it was encoded just now");
    assert_eq!(content[0], VERSION);
    seeds.write_chosen(REPAIRED, name, &content[1..length - 4])
}

fn messages(seeds: &Seeds) -> io::Result<()> {
    let board = shipped().first().expect("a shipped board");
    let order = Order {
        number: 3,
        mode: mode(board, 4, 2),
        role: Role::Train,
        workload: "resnet18".try_into().expect("a short name"),
        batch: 16,
    };
    let hello = Hello {
        board: board.name.clone(),
        module: "p3701-0005".try_into().expect("a short name"),
        l4t: Some(L4t {
            major: 36,
            minor: 4,
            patch: 3,
        }),
        cores: board.cores,
        cpu_khz: board.cpu_khz.clone(),
        gpu_khz: board.gpu_khz.first().cloned().unwrap_or_default(),
        emc_khz: board.emc_khz.clone(),
        counts_over_current: true,
        gpu_masks: GpuMasks {
                tpc: Some(240),
                fbp: Some(2),
                gpc: None,
            },
        offers: [Offer {
            role: Role::Infer,
            workload: workload("mobilenetv3", &[1, 4]),
        }]
        .into_iter()
        .collect(),
    };
    let measured = Measured {
        number: 3,
        time_us: MicroSec(96_063),
        time_spread_us: MicroSec(120),
        power_mw: MilliWatt(28_500),
        power_spread_mw: MilliWatt(90),
        mode_before: order.mode,
        mode_after: order.mode,
        over_current_events: Some(0),
        throttled: false,
        minibatches: 40,
        warm_up: 5,
        settled: true,
    };
    let progress = Progress {
        number: 3,
        stage: Stage::Measure,
        minibatches: 12,
        left_ms: 4_000,
    };
    let no = No {
        number: 3,
        reason: Reason::Clocks,
        text: text("policy0/scaling_max_freq: EBUSY"),
    };
    message(seeds, "ask-hello", &Request::Hello)?;
    message(seeds, "ask-profile", &Request::Profile(order))?;
    message(seeds, "hello", &Response::Hello(hello))?;
    message(seeds, "progress", &Response::Progress(progress))?;
    message(seeds, "measured", &Response::Measured(measured))?;
    message(seeds, "failed", &Response::Failed(no))
}

fn samples(seeds: &Seeds) -> io::Result<()> {
    // Classes of version 1 and, with a channel's normalisation, of version 2; values.
    for (name, start, per_label, channel) in [
        ("three", b"FREC\x01\x00\x01\x00", 10u32, &[][..]),
        ("normalised", b"FREC\x02\x00\x01\x01", 10, &[0.5f32, 0.25]),
        ("values", b"FREC\x02\x00\x02\x00", 2, &[]),
    ] {
        let mut header = start.to_vec();
        let (count, elements) = (3u32, 2u32);
        header.extend(
            [count, elements, per_label]
                .iter()
                .flat_map(|field| field.to_le_bytes()),
        );
        header.extend(channel.iter().flat_map(|value| value.to_le_bytes()));
        let records = (0..count).map(|record| {
            // Two values take as many bytes as a class.
            let mut bytes = i64::from(record).to_le_bytes().to_vec();
            bytes.extend([0.5f32, -1.0].iter().flat_map(|value| value.to_le_bytes()));
            bytes
        });
        let (mut whole, mut repaired) = (with_checksum(&header), header);
        for record in records {
            whole.extend(with_checksum(&record));
            repaired.extend(record);
        }
        seeds.write_chosen(WHOLE, name, &whole)?;
        seeds.write_chosen(REPAIRED, name, &repaired)?;
    }
    Ok(())
}

/// What kernels spell: (name, content).
const NUMBERS: [(&str, &str); 9] = [
    ("khz", "2201600\n"),
    ("hex", "0xf0\n"),
    ("blank", " 248 \n"),
    ("temperature", "-256000\n"),
    ("unsupported", "<unsupported>\n"),
    ("table", "204000 665600 2133000 (kHz)\n"),
    ("cpus", "0-3,5\n"),
    ("related", "4 5 6 7 \n"),
    ("lines", "5\n00000\n"),
];

/// Our own text in NVIDIA's syntax.
const CONF: &str = "\
# a comment
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_1\t/sys/devices/system/cpu/cpu1/online
CORE_4 /sys/devices/system/cpu/cpu4/online
< PARAM TYPE=FILE NAME=TPC_POWER_GATING >
TPC_PG_MASK /sys/devices/gpu.0/tpc_pg_mask
< PARAM TYPE=CLOCK NAME=CPU_A78_0 >
MAX_FREQ /sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq
MIN_FREQ /sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq
< PARAM TYPE=CLOCK NAME=GPU >
MAX_FREQ /sys/devices/17000000.ga10b/devfreq_dev/max_freq
MAX_FREQ_KNEXT /sys/devices/platform/17000000.gpu/devfreq_dev/max_freq
<PARAM TYPE=CLOCK NAME=EMC >
MAX_FREQ /sys/kernel/nvpmodel_emc_cap/emc_iso_cap
< PARAM TYPE=HWMON NAME=OC >
WARN /sys/devices/platform/c250000.i2c/i2c-7/7-0040/hwmon curr1_max
< POWER_MODEL ID=2 NAME=ALL >
CPU_A78_0 MAX_FREQ -1
GPU MAX_FREQ 2147483647
EMC MAX_FREQ 0
< POWER_MODEL ID=0 NAME=SMALL_7W >
CPU_ONLINE CORE_1 1
CPU_ONLINE CORE_4 0 # off
TPC_POWER_GATING TPC_PG_MASK 252
CPU_A78_0 MAX_FREQ 1000000
GPU MAX_FREQ 408000000
OC WARN 3000
< PM_CONFIG DEFAULT=2 >
";
