//! `fulcrumd accept`: the device's side of `fulcrum flash --to ssh:…`. Takes a plan from standard input,
//! verifies it with this device's own decoder, and puts it into the slot that is not in use.

use crate::Failure;
use crate::args::Accept;
use fulcrum_plan::answer::Answer;
use fulcrum_plan::store::{Flashed, Store, StoreError};
use fulcrum_plan::wire::{self, DecodeError};
use fulcrum_plan::{Board, board};
use fulcrum_runtime::board::{DiscoverError, Identity, shipped};
use std::io::{self, Read, Write};

/// Flashes, and answers in one line.
pub(crate) fn accept(options: &Accept) -> Result<(), Failure> {
    let outcome = flash(options);
    let answer = match &outcome {
        Ok(Flashed::Switched(slot)) => Answer::Switched(*slot),
        Ok(Flashed::Already(slot)) => Answer::Already(*slot),
        Err(Failure::No(reason)) => Answer::Refused(reason.clone()),
        Err(Failure::Trouble(reason)) => Answer::Failed(reason.clone()),
    };
    writeln!(io::stdout().lock(), "{answer}").map_err(Failure::trouble)?;
    outcome.map(drop)
}

fn flash(options: &Accept) -> Result<Flashed, Failure> {
    let boards = boards(options)?;
    let mut bytes = Vec::new();
    // One byte more than a plan has: enough for the decoder to say that it is too long.
    io::stdin()
        .lock()
        .take(wire::LEN_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(Failure::trouble)?;
    let flashed = Store::new(&options.plan_dir).flash(&bytes, &boards);
    flashed.map_err(|error| match error {
        StoreError::Plan(_, reason @ DecodeError::Board(_)) => match &boards[..] {
            [this] => Failure::no(format!("{reason}, this board is `{}`", this.name)),
            _ => Failure::no(reason),
        },
        StoreError::Plan(_, reason) => Failure::no(reason),
        other => Failure::trouble(other),
    })
}

/// This very board; on a machine that is no Jetson, every board there is.
fn boards(options: &Accept) -> Result<board::Boards, Failure> {
    match Identity::of(&options.board.sysfs_root) {
        Ok(identity) => {
            options.board.check(identity.name())?;
            Ok(std::iter::once(identity.board).collect())
        }
        Err(error @ DiscoverError::NoDeviceTree { .. }) => {
            log::warn!("{error}: whether the plan is for this board is not checked");
            let named = |board: &&Board| {
                let name = options.board.name.as_deref();
                name.is_none_or(|name| name == board.name.as_str())
            };
            Ok(shipped().iter().filter(named).cloned().collect())
        }
        Err(error) => Err(Failure::trouble(error)),
    }
}
