//! The ONNX Runtime library and the data that tests with real sessions run on: fetched into fulcrum's cache
//! where they are missing, as the demo does it.

use fulcrum::digits::{self, Digits};
use fulcrum::engine_install;
use fulcrum_runtime::engine::library::{self, LibraryError};
use fulcrum_runtime::engine::{Engine, Library};
use std::sync::OnceLock;

/// The process's engine, on the library that `fulcrumd` would take.
///
/// # Panics
/// When there is no library and none can be fetched.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let library = library();
        println!("{library}");
        Engine::start(&library).unwrap_or_else(|error| panic!("{error}"))
    })
}

/// The library that `fulcrumd` would take, installed first if there is none.
///
/// # Panics
/// As [`engine`].
pub fn library() -> Library {
    let found = match library::find(None) {
        Err(LibraryError::NotFound) => {
            engine_install::install().unwrap_or_else(|error| panic!("{error:#}"));
            library::find(None)
        }
        found => found,
    };
    found.unwrap_or_else(|error| panic!("{error}"))
}

/// The digits data set.
///
/// # Panics
/// When it is missing and cannot be fetched.
pub fn digits() -> Digits {
    digits::install().unwrap_or_else(|error| panic!("{error:#}"))
}
