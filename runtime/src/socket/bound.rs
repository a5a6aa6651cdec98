//! A socket at a path, from its first connection to its end.

use std::io::{self, ErrorKind};
use std::ops::Deref;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket that listens at a path. Dropped, it takes the path away: whoever connects then is told that nobody is there.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    path: PathBuf,
}

/// Listens at a path. A socket that nobody listens at any more is replaced; anything else is not.
///
/// # Errors
/// The path is in use or cannot be created.
pub fn listen(path: &Path) -> io::Result<Bound> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            // A plain file refuses connections, too.
            let is_socket = std::fs::symlink_metadata(path)?.file_type().is_socket();
            let refused = UnixStream::connect(path)
                .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
            if !is_socket || !refused {
                let taken =
                    "in use: another process listens there, or it is no socket; name another path";
                return Err(io::Error::new(ErrorKind::AddrInUse, taken));
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }?;
    Ok(Bound {
        listener,
        path: path.to_owned(),
    })
}

impl Deref for Bound {
    type Target = UnixListener;

    fn deref(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // While it still listens, so that nobody else has taken the path. Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}
