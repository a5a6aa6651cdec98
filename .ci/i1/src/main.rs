//! **I1**: decode, check and select neither panic nor allocate, proved by the linker.
//!
//! This program is linked for bare metal and never run. Its panic handler calls a symbol that nobody
//! defines: where the compiler could not show that a panic is unreachable, the handler stays, and the link
//! fails with `undefined symbol: i1_a_panic_is_reachable`. There is no `alloc` and no global allocator in
//! the crate graph, so whatever links cannot allocate.
//!
//! What it covers: everything reachable from [`fulcrum_plan::board::decode_all`],
//! [`fulcrum_plan::wire::decode`], [`fulcrum_plan::wire::encode`], [`fulcrum_plan::select::select`], and
//! receiving every message of [`fulcrum_plan::link`], on inputs the compiler knows nothing about. What it
//! does not: sending a message (postcard's COBS writer indexes into what it has written, which it has, but
//! the compiler cannot know), formatting an error for people, `std`, and the depth of the stack.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::panic::PanicInfo;
use fulcrum_plan::link::{Receiver, Request, Response};
use fulcrum_plan::problem::Demand;
use fulcrum_plan::select::{Problem, select};
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};
use fulcrum_plan::{board, wire};
use serde::de::DeserializeOwned;

unsafe extern "C" {
    /// Defined nowhere.
    fn i1_a_panic_is_reachable() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: never called, because a program with this call in it does not link.
    unsafe { i1_a_panic_is_reachable() }
}

/// Unknown to the compiler.
static PLAN: [u8; wire::LEN_MAX] = [0; wire::LEN_MAX];
static BOARDS: [u8; 8192] = [0; 8192];
static DEMAND: Demand = Demand {
    power_mw: MilliWatt(0),
    latency_us: MicroSec(0),
    rate: MilliRps(0),
};
static LENGTH: usize = 0;

/// A prefix of a length that the compiler does not know.
fn unknown(bytes: &'static [u8]) -> &'static [u8] {
    black_box(bytes)
        .get(..black_box(LENGTH))
        .unwrap_or_default()
}

fn decode_check_and_select() -> Option<()> {
    let boards = board::decode_all(unknown(&BOARDS)).ok()?;
    let plan = wire::decode(unknown(&PLAN), &boards).ok()?;
    let demand = black_box(&DEMAND);
    for problem in [
        Problem::Training,
        Problem::Inference(black_box(0)),
        Problem::TrainingInference(black_box(0)),
        Problem::TwoInferences,
    ] {
        black_box(select(&plan, problem, demand));
    }
    let mut buffer = [0; wire::LEN_MAX];
    let board = boards.iter().find(|board| board.name == plan.board)?;
    black_box(wire::encode(&plan, board, &mut buffer)).ok()?;
    #[cfg(feature = "reachable-panic")]
    black_box(buffer[black_box(LENGTH)]);
    Some(())
}

/// Receives a stream as messages of `T`.
fn receive<T: DeserializeOwned>() {
    let mut receiver = Receiver::<T>::default();
    for byte in unknown(&PLAN) {
        black_box(receiver.push(*byte));
    }
}

/// Where a linker for bare metal looks for a program's first instruction.
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    black_box(decode_check_and_select());
    receive::<Request>();
    receive::<Response>();
    loop {}
}
