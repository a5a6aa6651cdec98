//! Finding ONNX Runtime's shared library.
//!
//! In this order, the first that exists:
//!
//! 1. the path given (`--onnxruntime PATH`);
//! 2. the path in `ORT_DYLIB_PATH`;
//! 3. fulcrum's cache, where `fulcrum engine install` puts it:
//!    `$XDG_CACHE_HOME/fulcrum/onnxruntime-VERSION/libonnxruntime.so.VERSION`, `~/.cache` without that
//!    variable; the highest version;
//! 4. an installed Python package `onnxruntime` or `onnxruntime-gpu`, whose wheels hold the library since
//!    1.19: `onnxruntime/capi/libonnxruntime.so.VERSION` in the packages' folder of `$VIRTUAL_ENV`, of
//!    `$CONDA_PREFIX`, of `~/.local`, of `/usr/local` and of `/usr`. Python itself is not run.
//!
//! A path given by 1 or 2 must exist: fulcrum does not silently take another library than the one asked for.
//! The one taken is opened and asked for its version; before 1.17 it lacks calls that fulcrum needs.

use super::ffi::{self, OpenFailure};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};

/// Oldest version with every call that is used (`ort`'s feature `api-17`).
pub const MINIMUM: Version = Version([1, 17, 0]);

/// The command that installs the library.
const INSTALL: &str = "fulcrum engine install";

/// Start of the library's file name; a version may follow.
const FILE: &str = "libonnxruntime.so";

/// Version of a library: major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub [u32; 3]);

impl Version {
    /// Reads `1.23.2`, also with a suffix (`1.24.0-dev`) and with parts missing (`1.23`).
    fn parse(text: &str) -> Option<Self> {
        let mut parts = [0; 3];
        for (part, text) in parts.iter_mut().zip(text.split('.')) {
            let end = text.find(|c: char| !c.is_ascii_digit());
            *part = text.get(..end.unwrap_or(text.len()))?.parse().ok()?;
        }
        Some(Self(parts))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// How a library was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `--onnxruntime`.
    Option,
    /// `ORT_DYLIB_PATH`.
    Variable,
    /// Fulcrum's cache.
    Cache,
    /// A Python package.
    Python,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Option => "given by --onnxruntime",
            Self::Variable => "given by ORT_DYLIB_PATH",
            Self::Cache => "in fulcrum's cache",
            Self::Python => "of a Python package",
        })
    }
}

/// A library that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Its absolute path.
    pub path: PathBuf,
    /// How it was found.
    pub source: Source,
    /// What it says its version is.
    pub version: Version,
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "ONNX Runtime {} {}: {path}", self.version, self.source)
    }
}

/// Why no library can be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum LibraryError {
    /// There is none in any of the places.
    NotFound,
    /// The one asked for does not exist or cannot be reached.
    Missing {
        /// Its path.
        path: PathBuf,
        /// Who asked.
        source: Source,
        /// The file system's reason.
        error: io::Error,
    },
    /// The dynamic loader refuses it.
    Unloadable {
        /// Its path.
        path: PathBuf,
        /// How it was found.
        source: Source,
        /// The loader's reason.
        reason: String,
    },
    /// It is another library.
    NotOnnxRuntime {
        /// Its path.
        path: PathBuf,
        /// How it was found.
        source: Source,
    },
    /// It is too old.
    TooOld {
        /// Its path.
        path: PathBuf,
        /// How it was found.
        source: Source,
        /// What it says its version is.
        found: String,
    },
}

impl fmt::Display for LibraryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => write!(
                f,
                "no ONNX Runtime library found (--onnxruntime, ORT_DYLIB_PATH, fulcrum's cache, Python \
                 packages); run `{INSTALL}`"
            ),
            Self::Missing {
                path,
                source,
                error,
            } => write!(
                f,
                "ONNX Runtime library {} {source}: {error}; correct the path, or leave it out and run \
                 `{INSTALL}`",
                path.display()
            ),
            Self::Unloadable {
                path,
                source,
                reason,
            } => write!(
                f,
                "ONNX Runtime library {} {source} does not load: {reason}; run `{INSTALL}` for one that does",
                path.display()
            ),
            Self::NotOnnxRuntime { path, source } => write!(
                f,
                "{} {source} is not ONNX Runtime (it does not export OrtGetApiBase)",
                path.display()
            ),
            Self::TooOld {
                path,
                source,
                found,
            } => write!(
                f,
                "ONNX Runtime library {} {source} is version {found}; at least {MINIMUM} is needed: run \
                 `{INSTALL}`",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LibraryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Missing { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Finds the library as the [module](self) says, with the process's environment. `given` is the value of
/// `--onnxruntime`.
///
/// # Errors
/// When there is none, or the first one found cannot be used; the error says what to do.
pub fn find(given: Option<&Path>) -> Result<Library, LibraryError> {
    let (path, source) = Places::of_process(given).first()?;
    checked(path, source)
}

/// Opens a library and checks its version.
fn checked(path: PathBuf, source: Source) -> Result<Library, LibraryError> {
    let found = match ffi::version_of(&path) {
        Ok(found) => found,
        Err(OpenFailure::Loader(reason)) => {
            return Err(LibraryError::Unloadable {
                path,
                source,
                reason,
            });
        }
        Err(OpenFailure::NotOnnxRuntime) => {
            return Err(LibraryError::NotOnnxRuntime { path, source });
        }
    };
    match Version::parse(&found) {
        Some(version) if version >= MINIMUM => Ok(Library {
            path,
            source,
            version,
        }),
        _ => Err(LibraryError::TooOld {
            path,
            source,
            found,
        }),
    }
}

/// Where to look.
#[derive(Debug, Default)]
struct Places {
    given: Option<PathBuf>,
    variable: Option<PathBuf>,
    cache: Option<PathBuf>,
    python: Vec<PathBuf>,
}

impl Places {
    fn of_process(given: Option<&Path>) -> Self {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let path = |name: &str| variable(name).map(PathBuf::from);
        let home = path("HOME");
        // A relative XDG path is invalid and to be ignored (XDG Base Directory Specification 0.8).
        let cache = path("XDG_CACHE_HOME")
            .filter(|folder| folder.is_absolute())
            .or_else(|| home.as_ref().map(|home| home.join(".cache")))
            .map(|folder| folder.join("fulcrum"));
        let prefixes = [
            path("VIRTUAL_ENV"),
            path("CONDA_PREFIX"),
            home.map(|home| home.join(".local")),
            Some("/usr/local".into()),
            Some("/usr".into()),
        ];
        Self {
            given: given.map(Path::to_owned),
            variable: path("ORT_DYLIB_PATH"),
            cache,
            python: prefixes.into_iter().flatten().collect(),
        }
    }

    fn first(&self) -> Result<(PathBuf, Source), LibraryError> {
        let asked = [
            (&self.given, Source::Option),
            (&self.variable, Source::Variable),
        ];
        for (path, source) in asked {
            if let Some(path) = path {
                return match fs::canonicalize(path) {
                    Ok(path) => Ok((path, source)),
                    Err(error) => Err(LibraryError::Missing {
                        path: path.clone(),
                        source,
                        error,
                    }),
                };
            }
        }
        let in_cache = self.cache.iter().find_map(|cache| in_cache(cache));
        let in_python = || self.python.iter().find_map(|prefix| in_python(prefix));
        in_cache
            .map(|path| (path, Source::Cache))
            .or_else(|| in_python().map(|path| (path, Source::Python)))
            .ok_or(LibraryError::NotFound)
    }
}

/// The library of the highest version in fulcrum's cache.
fn in_cache(cache: &Path) -> Option<PathBuf> {
    let versions = entries(cache, |name| name.strip_prefix("onnxruntime-").is_some());
    highest(versions, |folder| folder.strip_prefix("onnxruntime-"))
        .into_iter()
        .find_map(|folder| library_in(&folder))
}

/// The library in a Python installation's packages, those of the newest Python first.
fn in_python(prefix: &Path) -> Option<PathBuf> {
    let pythons = entries(&prefix.join("lib"), |name| name.starts_with("python3"));
    highest(pythons, |folder| folder.strip_prefix("python"))
        .into_iter()
        .flat_map(|python| ["site-packages", "dist-packages"].map(|folder| python.join(folder)))
        .find_map(|packages| library_in(&packages.join("onnxruntime/capi")))
}

/// The library of the highest version in a folder.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let libraries = entries(folder, |name| {
        name == FILE
            || name
                .strip_prefix(FILE)
                .is_some_and(|rest| rest.starts_with('.'))
    });
    highest(libraries, |name| {
        name.strip_prefix(FILE)
            .map(|rest| rest.trim_start_matches('.'))
    })
    .into_iter()
    .find(|path| path.is_file())
}

/// The entries of a folder whose name fits; none when there is no such folder.
fn entries(folder: &Path, fits: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let name_fits = |name: &OsString| name.to_str().is_some_and(&fits);
    entries
        .flatten()
        .filter(|entry| name_fits(&entry.file_name()))
        .map(|entry| entry.path())
        .collect()
}

/// Paths by falling version, which `version` cuts out of the file name; equal ones by name.
fn highest(mut paths: Vec<PathBuf>, version: impl Fn(&str) -> Option<&str>) -> Vec<PathBuf> {
    paths.sort_by_cached_key(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        let version = name.and_then(&version).and_then(Version::parse);
        (std::cmp::Reverse(version), path.clone())
    });
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test's own, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("fulcrum-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }

        fn file(&self, path: &str) -> PathBuf {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, b"").unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_places_are_searched_in_the_documented_order() {
        let folder = Folder::new("library-order");
        let given = folder.file("given.so");
        let variable = folder.file("variable.so");
        let cached = folder.file("cache/onnxruntime-1.23.2/libonnxruntime.so.1.23.2");
        let python =
            folder.file("lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.20.1");
        let mut places = Places {
            given: Some(given.clone()),
            variable: Some(variable.clone()),
            cache: Some(folder.0.join("cache")),
            python: vec![folder.0.join("missing"), folder.0.clone()],
        };
        assert_eq!(places.first().unwrap(), (given, Source::Option));
        places.given = None;
        assert_eq!(places.first().unwrap(), (variable, Source::Variable));
        places.variable = None;
        assert_eq!(places.first().unwrap(), (cached, Source::Cache));
        places.cache = None;
        assert_eq!(places.first().unwrap(), (python, Source::Python));
        places.python.clear();
        let error = places.first().unwrap_err();
        assert!(matches!(error, LibraryError::NotFound));
        assert!(
            error.to_string().contains("fulcrum engine install"),
            "{error}"
        );
    }

    #[test]
    fn a_path_asked_for_is_never_replaced_by_another() {
        let folder = Folder::new("library-missing");
        folder.file("cache/onnxruntime-1.23.2/libonnxruntime.so.1.23.2");
        let places = Places {
            variable: Some(folder.0.join("no.so")),
            cache: Some(folder.0.join("cache")),
            ..Places::default()
        };
        let error = places.first().unwrap_err();
        let source = Source::Variable;
        assert!(matches!(&error, LibraryError::Missing { source: found, .. } if *found == source));
    }

    #[test]
    fn the_highest_version_is_taken() {
        let folder = Folder::new("library-versions");
        for version in ["1.9.0", "1.23.2", "1.20.1"] {
            folder.file(&format!(
                "onnxruntime-{version}/libonnxruntime.so.{version}"
            ));
        }
        folder.file("onnxruntime-1.99.0/half-written");
        let best = folder.0.join("onnxruntime-1.23.2/libonnxruntime.so.1.23.2");
        assert_eq!(in_cache(&folder.0), Some(best));
    }

    #[test]
    fn versions_are_read_and_compared_by_number() {
        assert_eq!(Version::parse("1.23.2"), Some(Version([1, 23, 2])));
        assert_eq!(Version::parse("1.24.0-dev"), Some(Version([1, 24, 0])));
        assert_eq!(Version::parse("1.17"), Some(MINIMUM));
        assert_eq!(Version::parse("next"), None);
        assert!(Version([1, 9, 0]) < MINIMUM);
    }

    #[test]
    fn a_file_that_is_no_library_and_one_that_is_another_are_refused() {
        let folder = Folder::new("library-foreign");
        let text = folder.file("libonnxruntime.so");
        let error = checked(text, Source::Option).unwrap_err();
        assert!(matches!(error, LibraryError::Unloadable { .. }), "{error}");
        let error = checked("libc.so.6".into(), Source::Option).unwrap_err();
        assert!(
            matches!(error, LibraryError::NotOnnxRuntime { .. }),
            "{error}"
        );
    }
}
