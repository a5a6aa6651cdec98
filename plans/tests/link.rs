//! The link: every message comes through, damage and garbage never do.

use fulcrum_plan::board::{Clocks, Name};
use fulcrum_plan::link::frame::{CONTENT_LEN_MAX, decode};
use fulcrum_plan::link::message::{OFFERS_MAX, TEXT_LEN_MAX};
use fulcrum_plan::link::{
    FRAME_LEN_MAX, FrameError, Hello, L4t, Measured, No, Offer, Order, Progress, Reason, Receiver,
    Request, Response, Role, Stage, VERSION, encode, text,
};
use fulcrum_plan::table::Workload;
use fulcrum_plan::units::{Khz, MicroSec, MilliWatt};
use fulcrum_plan::{GpuMasks, PowerMode};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

const MODE: PowerMode = PowerMode {
    cores: 8,
    cpu_khz: Khz(1_344_000),
    gpu_khz: Khz(930_750),
    emc_khz: Khz(2_133_000),
};

fn frame(message: &impl Serialize) -> Vec<u8> {
    encode(message, &mut [0; FRAME_LEN_MAX]).unwrap().to_vec()
}

fn received<T: DeserializeOwned>(bytes: &[u8]) -> Vec<Result<T, FrameError>> {
    let mut receiver = Receiver::default();
    bytes
        .iter()
        .filter_map(|byte| receiver.push(*byte))
        .collect()
}

/// Only what came through.
fn messages<T: DeserializeOwned>(bytes: &[u8]) -> Vec<T> {
    received(bytes).into_iter().flatten().collect()
}

fn order() -> Request {
    Request::Profile(Order {
        number: 7,
        mode: MODE,
        role: Role::Infer,
        workload: "mobilenetv3".try_into().unwrap(),
        batch: 32,
    })
}

fn hello() -> Response {
    Response::Hello(Hello {
        board: Name::try_from("orin-agx").unwrap(),
        module: "p3701-0005".try_into().unwrap(),
        l4t: Some(L4t {
            major: 36,
            minor: 4,
            patch: 3,
        }),
        cores: 12,
        cpu_khz: [Khz(729_600), Khz(1_344_000)].into_iter().collect(),
        gpu_khz: [Khz(930_750)].into_iter().collect(),
        emc_khz: [Khz(2_133_000)].into_iter().collect(),
        counts_over_current: true,
        gpu_masks: GpuMasks::default(),
        offers: [Offer {
            role: Role::Train,
            workload: Workload {
                name: "resnet18".try_into().unwrap(),
                batches: [16].into_iter().collect(),
            },
        }]
        .into_iter()
        .collect(),
    })
}

fn measured() -> Response {
    Response::Measured(Measured {
        number: 7,
        time_us: MicroSec(70_020),
        time_spread_us: MicroSec(310),
        power_mw: MilliWatt(29_488),
        power_spread_mw: MilliWatt(240),
        mode_before: MODE,
        mode_after: MODE,
        over_current_events: Some(0),
        throttled: false,
        minibatches: 40,
        warm_up: 9,
        settled: true,
    })
}

fn responses() -> Vec<Response> {
    let no = No {
        number: 7,
        reason: Reason::Power,
        text: text("rail VDD_IN is absent"),
    };
    let progress = Progress {
        number: 7,
        stage: Stage::Settle,
        minibatches: 0,
        left_ms: 9_000,
    };
    vec![
        hello(),
        Response::Progress(progress),
        measured(),
        Response::Refused(no.clone()),
        Response::Failed(no),
    ]
}

/// The worked example of `docs/link.md`.
#[test]
fn the_bytes_of_an_order_are_those_of_the_document() {
    let document = include_str!("../../docs/link.md");
    let block = document.split("```hex\n").nth(1).unwrap();
    let bytes: Vec<u8> = block
        .split("```")
        .next()
        .unwrap()
        .lines()
        .flat_map(|line| line.split(';').next().unwrap().split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|b| format!("{b:02x} "))
            .collect::<String>()
    };
    assert_eq!(hex(&frame(&order())), hex(&bytes));
}

#[test]
fn every_message_comes_through() {
    for request in [Request::Hello, order()] {
        assert_eq!(messages::<Request>(&frame(&request)), [request]);
    }
    for response in responses() {
        assert_eq!(messages::<Response>(&frame(&response)), [response]);
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for response in responses() {
        let good = frame(&response);
        for bit in 0..8 * good.len() {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // A frame that follows is found all the same.
            bad.extend(frame(&measured()));
            let found = messages::<Response>(&bad);
            assert_eq!(found, [measured()], "bit {bit} of {response:?}");
        }
    }
}

#[test]
fn every_cut_frame_is_refused_and_the_next_one_found() {
    let good = frame(&hello());
    for end in 1..good.len() - 1 {
        let mut bytes = good[..end].to_vec();
        bytes.extend(frame(&measured()));
        assert_eq!(messages::<Response>(&bytes), [measured()], "{end} bytes");
    }
}

#[test]
fn garbage_before_and_between_frames_does_no_harm() {
    let mut bytes = b"Welcome to Ubuntu 22.04 LTS (GNU/Linux 5.15.148-tegra aarch64)\r\n".to_vec();
    bytes.extend(frame(&hello()));
    bytes.extend(b"\xff\xfe\x00\x00\x00broadcast message from root\x00\x01");
    bytes.extend(vec![b'x'; 3 * FRAME_LEN_MAX]);
    bytes.extend(frame(&measured()));
    assert_eq!(messages::<Response>(&bytes), [hello(), measured()]);
}

#[test]
fn another_version_is_told_apart_from_damage() {
    let body = [VERSION + 1, 0];
    let mut content = body.to_vec();
    content.extend(fulcrum_plan::wire::checksum(&body).to_le_bytes());
    assert_eq!(
        decode::<Request>(&content),
        Err(FrameError::Version(VERSION + 1))
    );
    content[0] = VERSION;
    assert_eq!(decode::<Request>(&content), Err(FrameError::Damaged));
}

#[test]
fn a_sound_frame_of_another_kind_and_one_with_trailing_bytes_are_no_message() {
    let mut found = received::<Request>(&frame(&hello()));
    assert_eq!(found.pop(), Some(Err(FrameError::Message)));
    let trailing = frame(&(Request::Hello, 0u8));
    assert_eq!(received::<Request>(&trailing), [Err(FrameError::Message)]);
}

#[test]
fn the_largest_message_fits() {
    let clocks: Clocks = (0..40).map(|step| Khz(u32::MAX - 40 + step)).collect();
    let offer = Offer {
        role: Role::Infer,
        workload: Workload {
            name: "n".repeat(32).as_str().try_into().unwrap(),
            batches: (65_528..=65_535).collect(),
        },
    };
    let largest = Response::Hello(Hello {
        board: "b".repeat(24).as_str().try_into().unwrap(),
        module: "m".repeat(24).as_str().try_into().unwrap(),
        l4t: Some(L4t {
            major: 255,
            minor: 255,
            patch: 255,
        }),
        cores: 255,
        cpu_khz: clocks.clone(),
        gpu_khz: clocks.clone(),
        emc_khz: clocks,
        counts_over_current: true,
        gpu_masks: GpuMasks {
            tpc: Some(u32::MAX),
            fbp: Some(u32::MAX),
            gpc: Some(u32::MAX),
        },
        offers: vec![offer; OFFERS_MAX].into_iter().collect(),
    });
    let frame = frame(&largest);
    assert_eq!(messages::<Response>(&frame), [largest]);
    let content = frame.len() - 2 - 1 - frame.len() / 254;
    assert!(content < CONTENT_LEN_MAX, "{content}");
    println!("the largest message: {} bytes", frame.len());
}

#[test]
fn an_explanation_is_cut_at_the_end_of_a_character() {
    assert_eq!(text("short"), "short");
    let long = text("µ".repeat(TEXT_LEN_MAX));
    assert_eq!(long, "µ".repeat(TEXT_LEN_MAX / 2).as_str());
    let odd = text(format!("a{}", "µ".repeat(TEXT_LEN_MAX)));
    assert_eq!(odd.len(), TEXT_LEN_MAX - 1);
}

proptest! {
    #[test]
    fn random_bytes_give_no_message(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        prop_assert!(messages::<Response>(&bytes).is_empty());
        prop_assert!(messages::<Request>(&bytes).is_empty());
    }

    #[test]
    fn sound_frames_with_random_content_never_panic(
        message in proptest::collection::vec(any::<u8>(), 0..256)
    ) {
        let mut content = vec![VERSION];
        content.extend(message);
        content.extend(fulcrum_plan::wire::checksum(&content).to_le_bytes());
        // Either a message or not one: what matters is that this returns.
        if let Ok(message) = decode::<Response>(&content) {
            prop_assert_eq!(messages::<Response>(&frame(&message)), [message]);
        }
    }
}
