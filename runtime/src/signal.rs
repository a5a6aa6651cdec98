//! SIGTERM, SIGINT and SIGHUP as a flag: whoever loops looks at it, ends, and so puts the clocks back.
//!
//! A SIGHUP that is ignored at the start stays so: that is how `nohup` asks to outlive a terminal.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

/// A second signal while the first is being served ends the process at once (the default action):
/// the record of the original clocks is there for that case.
extern "C" fn stop(_signal: i32) {
    STOP.store(true, Ordering::Relaxed);
}

/// From now on these signals set the returned flag. `read` and `sleep` under way return early
/// (`EINTR`).
///
/// # Errors
/// The kernel refused a handler; it does not for these signals.
pub fn install() -> nix::Result<&'static AtomicBool> {
    let action = SigAction::new(
        SigHandler::Handler(stop),
        SaFlags::SA_RESETHAND,
        SigSet::empty(),
    );
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        #[expect(unsafe_code, reason = "sigaction has no safe form")]
        // SAFETY: the handler stores to an atomic and does nothing else, which is async-signal-safe.
        let before = unsafe { sigaction(signal, &action)? };
        if signal == Signal::SIGHUP && matches!(before.handler(), SigHandler::SigIgn) {
            #[expect(unsafe_code, reason = "sigaction has no safe form")]
            // SAFETY: no handler is installed, the signal is ignored as before.
            unsafe {
                sigaction(signal, &before)?;
            }
        }
    }
    Ok(&STOP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_sets_the_flag_and_a_second_one_would_end_the_process() {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        #[expect(unsafe_code, reason = "sigaction has no safe form")]
        // SAFETY: no handler is installed, the signal is ignored.
        unsafe { sigaction(Signal::SIGHUP, &ignore) }.unwrap();
        let flag = install().unwrap();
        nix::sys::signal::raise(Signal::SIGHUP).unwrap();
        assert!(!flag.load(Ordering::Relaxed), "as `nohup` asks");
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        assert!(flag.load(Ordering::Relaxed));
        #[expect(unsafe_code, reason = "sigaction has no safe form")]
        // SAFETY: no handler is installed, the signal is ignored.
        let now = unsafe { sigaction(Signal::SIGTERM, &ignore) }.unwrap();
        assert!(matches!(now.handler(), SigHandler::SigDfl));
    }
}
