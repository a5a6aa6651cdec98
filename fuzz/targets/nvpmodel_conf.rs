//! A conf file of any content is read or refused with a line that it has, and its modes are modes of the
//! board.
#![no_main]

use fulcrum_runtime::board::shipped;
use libfuzzer_sys::fuzz_target;

// The module alone: the workstation's other crates would only slow the counters down.
#[allow(dead_code, reason = "its messages are for the command line")]
#[path = "../../tools/src/nvpmodel.rs"]
mod nvpmodel;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    match nvpmodel::parse(&text) {
        Err(error) => {
            assert!(error.line <= text.lines().count(), "{error}");
            assert!(!error.to_string().is_empty());
        }
        Ok(conf) => {
            assert!(!conf.modes.is_empty());
            for board in shipped() {
                let modes = conf.named_modes(board);
                assert_eq!(modes.len(), conf.modes.len());
                for named in modes {
                    board.check_mode(&named.mode).expect("a mode of the board");
                }
            }
        }
    }
});
