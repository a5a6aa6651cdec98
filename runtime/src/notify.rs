//! Tells the service manager how we are: `READY=1`, `WATCHDOG=1`, `STOPPING=1` (sd_notify(3)).
//!
//! systemd puts a datagram socket's name into `NOTIFY_SOCKET` for units of `Type=notify`, and with
//! `WatchdogSec=` the interval after which a silent service counts as hung into `WATCHDOG_USEC`
//! (sd_watchdog_enabled(3)). Outside of such a unit there is no socket and every call here does nothing.
//!
//! The watchdog is fed by whoever takes turns ([`Notifier::alive`] from the loop), never by a thread of
//! its own: a fed watchdog must mean that the loop turns, not that the process exists.
//!
//! After start nothing here allocates, waits or fails: the socket is connected once and does not block.
//! A message that the manager's queue has no room for is dropped; the next comes a third of the interval
//! later, so two may be lost in a row before the manager acts.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use std::{env, fmt, io, process};

/// Messages per watchdog interval; sd_watchdog_enabled(3) asks for at least two.
const BEATS_PER_INTERVAL: u32 = 3;

/// Why the service manager cannot be told anything.
#[derive(Debug)]
pub struct NotifyError {
    /// The value of `NOTIFY_SOCKET`.
    pub socket: String,
    /// What failed.
    pub error: io::Error,
}

impl fmt::Display for NotifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "NOTIFY_SOCKET={}: {}; unset it outside of systemd, or set NotifyAccess=main in the unit",
            self.socket, self.error
        )
    }
}

impl std::error::Error for NotifyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Watchdog>,
}

/// When the next sign of life is due.
#[derive(Clone, Copy, Debug)]
struct Watchdog {
    beat_ns: u64,
    due_ns: u64,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. Without the first, nobody listens and
    /// every message goes nowhere, which is no error.
    ///
    /// # Errors
    /// There is a name, but no socket of that name that takes messages.
    pub fn from_environment() -> Result<Self, NotifyError> {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let number = |key| env::var(key).ok().and_then(|text| text.parse::<u64>().ok());
        // A variable inherited from a parent's unit is not about us.
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        let interval = number("WATCHDOG_USEC")
            .filter(|interval_us| ours && *interval_us > 0)
            .map(Duration::from_micros);
        Self::connect(name.as_bytes(), interval).map_err(|error| NotifyError {
            socket: name.to_string_lossy().into_owned(),
            error,
        })
    }

    /// Connects to a socket: a path, or `@` and a name of Linux's abstract namespace.
    ///
    /// # Errors
    /// The name is neither, or nobody listens there.
    pub fn connect(name: &[u8], watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match name {
            [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
            [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "neither an absolute path nor @ and a name",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        let watchdog = watchdog.map(|interval| Watchdog {
            beat_ns: (interval / BEATS_PER_INTERVAL)
                .as_nanos()
                .try_into()
                .unwrap_or(u64::MAX),
            due_ns: 0,
        });
        Ok(Self {
            socket: Some(socket),
            watchdog,
        })
    }

    /// Start-up is done: the mode is applied and read back.
    pub fn ready(&self) {
        self.send(b"READY=1");
    }

    /// The loop turned at this instant (of a clock that never goes back). Sends at most three messages
    /// per watchdog interval; costs one comparison otherwise. Does not allocate.
    ///
    /// A loop that waits has to come back within a third of the interval.
    pub fn alive(&mut self, now_ns: u64) {
        let Some(watchdog) = &mut self.watchdog else {
            return;
        };
        if now_ns < watchdog.due_ns {
            return;
        }
        watchdog.due_ns = now_ns.saturating_add(watchdog.beat_ns);
        self.send(b"WATCHDOG=1");
    }

    /// The clocks are about to be put back.
    pub fn stopping(&self) {
        self.send(b"STOPPING=1");
    }

    fn send(&self, message: &[u8]) {
        if let Some(socket) = &self.socket {
            // A manager that went away or is busy is no reason to stop serving.
            let _ = socket.send(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// The manager's end of a socket that no other test uses.
    fn listener(address: &SocketAddr) -> UnixDatagram {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn abstract_listener(test: &str) -> (UnixDatagram, String) {
        let name = format!("fulcrum-notify-{test}-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        (listener(&address), format!("@{name}"))
    }

    fn received(listener: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 64];
        let length = listener.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    #[test]
    fn messages_reach_an_abstract_socket_in_order() {
        let (listener, name) = abstract_listener("order");
        let mut notifier =
            Notifier::connect(name.as_bytes(), Some(Duration::from_secs(1))).unwrap();
        notifier.ready();
        notifier.alive(0);
        notifier.stopping();
        assert_eq!(received(&listener).as_deref(), Some("READY=1"));
        assert_eq!(received(&listener).as_deref(), Some("WATCHDOG=1"));
        assert_eq!(received(&listener).as_deref(), Some("STOPPING=1"));
        assert_eq!(received(&listener), None);
    }

    #[test]
    fn messages_reach_a_socket_in_the_file_system() {
        let path: PathBuf = env::temp_dir().join(format!("fulcrum-notify-{}", process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = listener(&SocketAddr::from_pathname(&path).unwrap());
        let notifier = Notifier::connect(path.as_os_str().as_bytes(), None).unwrap();
        notifier.ready();
        assert_eq!(received(&listener).as_deref(), Some("READY=1"));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_watchdog_is_fed_three_times_per_interval_however_often_the_loop_turns() {
        let (listener, name) = abstract_listener("beats");
        let interval = Duration::from_micros(900);
        let mut notifier = Notifier::connect(name.as_bytes(), Some(interval)).unwrap();
        let mut fed_ns = Vec::new();
        for now_ns in (0..1_800_000).step_by(1_000) {
            notifier.alive(now_ns);
            if received(&listener).is_some() {
                fed_ns.push(now_ns);
            }
        }
        assert_eq!(fed_ns, [0, 300_000, 600_000, 900_000, 1_200_000, 1_500_000]);
    }

    #[test]
    fn without_a_watchdog_a_turn_sends_nothing() {
        let (listener, name) = abstract_listener("none");
        let mut notifier = Notifier::connect(name.as_bytes(), None).unwrap();
        notifier.alive(u64::MAX);
        assert_eq!(received(&listener), None);
    }

    #[test]
    fn a_full_queue_drops_the_message_instead_of_waiting() {
        let (listener, name) = abstract_listener("full");
        let mut notifier =
            Notifier::connect(name.as_bytes(), Some(Duration::from_nanos(3))).unwrap();
        // Linux queues at most net.unix.max_dgram_qlen datagrams (10 to 512); a blocking send would hang here.
        for now_ns in 0..10_000 {
            notifier.alive(now_ns);
        }
        assert_eq!(received(&listener).as_deref(), Some("WATCHDOG=1"));
    }

    #[test]
    fn a_listener_that_went_away_stops_nothing() {
        let (listener, name) = abstract_listener("gone");
        let notifier = Notifier::connect(name.as_bytes(), None).unwrap();
        drop(listener);
        notifier.ready();
        notifier.stopping();
    }

    #[test]
    fn what_is_no_socket_is_refused() {
        for (name, kind) in [
            ("relative/path", io::ErrorKind::InvalidInput),
            ("/nobody/listens/here", io::ErrorKind::NotFound),
            ("@fulcrum-notify-nobody", io::ErrorKind::ConnectionRefused),
        ] {
            let error = Notifier::connect(name.as_bytes(), None).unwrap_err();
            assert_eq!(error.kind(), kind, "{name}");
        }
    }
}
