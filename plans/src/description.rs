//! Board descriptions as people write them: `plans/boards/*.toml`.
//!
//! The build script of the planner and of the runtime reads them with [`parse`] and embeds the result
//! ([`encode_all`]); the workstation reads a user's own file with the same function. There is no
//! second parser.

use crate::board::{Board, CLOCKS_MAX, Clocks};
use crate::units::Khz;
use heapless::{String, Vec};
use serde::Deserialize;

/// The file, field by field; see any file in `plans/boards` for an example.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    name: std::string::String,
    title: std::string::String,
    /// Where the numbers come from; required, so that nobody has to guess.
    #[serde(rename = "source")]
    _source: std::string::String,
    modules: std::vec::Vec<std::string::String>,
    cores: u8,
    clusters: std::vec::Vec<u8>,
    cpu_khz: std::vec::Vec<u32>,
    cpu_floor_khz: u32,
    gpu_khz: std::vec::Vec<std::vec::Vec<u32>>,
    emc_khz: std::vec::Vec<u32>,
    power_rails: std::vec::Vec<std::string::String>,
}

/// Why a description is no board.
#[derive(Debug)]
#[non_exhaustive]
pub enum DescriptionError {
    /// Not TOML, an unknown or missing key, a value of another type.
    Toml(toml::de::Error),
    /// A value outside its range: the key, what was found, and what is allowed.
    Value {
        /// Key in the file.
        key: &'static str,
        /// What it holds.
        found: std::string::String,
        /// What it may hold.
        allowed: std::string::String,
    },
}

impl core::fmt::Display for DescriptionError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Toml(error) => write!(f, "{error}"),
            Self::Value {
                key,
                found,
                allowed,
            } => {
                write!(f, "`{key}` is {found}; allowed: {allowed}")
            }
        }
    }
}

impl core::error::Error for DescriptionError {}

fn bad<T>(
    key: &'static str,
    found: impl core::fmt::Debug,
    allowed: impl core::fmt::Display,
) -> Result<T, DescriptionError> {
    Err(DescriptionError::Value {
        key,
        found: std::format!("{found:?}"),
        allowed: allowed.to_string(),
    })
}

fn string<const N: usize>(key: &'static str, text: &str) -> Result<String<N>, DescriptionError> {
    if text.is_empty() {
        return bad(key, text, std::format!("1 to {N} bytes"));
    }
    String::try_from(text).or_else(|_| bad(key, text, std::format!("1 to {N} bytes")))
}

fn strings<const N: usize, const M: usize>(
    key: &'static str,
    texts: &[std::string::String],
) -> Result<Vec<String<N>, M>, DescriptionError> {
    let mut list = Vec::new();
    for text in texts {
        if list.push(string(key, text)?).is_err() {
            return bad(key, texts, std::format!("at most {M} entries"));
        }
    }
    if list.is_empty() {
        return bad(key, texts, std::format!("1 to {M} entries"));
    }
    Ok(list)
}

fn clocks(key: &'static str, khz: &[u32]) -> Result<Clocks, DescriptionError> {
    let ascending = khz
        .windows(2)
        .all(|pair| matches!(pair, [low, high] if low < high));
    if khz.is_empty() || khz.len() > CLOCKS_MAX || !ascending || khz.first() == Some(&0) {
        return bad(
            key,
            khz,
            std::format!("1 to {CLOCKS_MAX} clocks in kHz, ascending, not 0"),
        );
    }
    Ok(khz.iter().copied().map(Khz).collect())
}

/// Reads one board description.
///
/// # Errors
/// [`DescriptionError::Toml`] for what is not such a file, [`DescriptionError::Value`] for a list that
/// is empty, too long, or not ascending, and for clusters that are not CPUs of the board.
pub fn parse(text: &str) -> Result<Board, DescriptionError> {
    let file: Description = toml::from_str(text).map_err(DescriptionError::Toml)?;
    if file.cores == 0 || file.cores > 64 {
        return bad("cores", file.cores, "1 to 64");
    }
    let ascending = file
        .clusters
        .windows(2)
        .all(|pair| matches!(pair, [low, high] if low < high));
    let on_board = file.clusters.last().is_some_and(|last| *last < file.cores);
    let Some(clusters) = Vec::from_slice(&file.clusters)
        .ok()
        .filter(|_| ascending && on_board && file.clusters.first() == Some(&0))
    else {
        return bad(
            "clusters",
            file.clusters,
            "first CPU of each cluster, ascending, from 0",
        );
    };
    let mut gpu_khz = Vec::new();
    for table in &file.gpu_khz {
        if gpu_khz.push(clocks("gpu_khz", table)?).is_err() {
            return bad("gpu_khz", &file.gpu_khz, "at most 2 tables");
        }
    }
    if gpu_khz.is_empty() {
        return bad("gpu_khz", &file.gpu_khz, "at least 1 table");
    }
    Ok(Board {
        name: string("name", &file.name)?,
        title: string("title", &file.title)?,
        modules: strings("modules", &file.modules)?,
        cores: file.cores,
        clusters,
        cpu_khz: clocks("cpu_khz", &file.cpu_khz)?,
        cpu_floor_khz: Khz(file.cpu_floor_khz),
        gpu_khz,
        emc_khz: clocks("emc_khz", &file.emc_khz)?,
        power_rails: strings("power_rails", &file.power_rails)?,
    })
}

/// Encodes boards for embedding; [`crate::board::decode_all`] reads them back.
///
/// # Errors
/// None for boards that came from [`parse`].
pub fn encode_all(boards: &[Board]) -> Result<std::vec::Vec<u8>, postcard::Error> {
    let mut bytes = std::vec![0u8; boards.len().saturating_mul(1024).saturating_add(16)];
    // postcard writes a slice and a fixed-capacity list alike: length, then the elements.
    let length = postcard::to_slice(boards, &mut bytes)?.len();
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> std::vec::Vec<(std::string::String, std::string::String)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/boards");
        let mut files: std::vec::Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ext| ext == "toml"))
            .map(|path| {
                let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
                (stem, std::fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn every_shipped_board_parses_and_bears_its_files_name() {
        let boards: std::vec::Vec<Board> = shipped()
            .iter()
            .map(|(stem, text)| {
                let board = parse(text).unwrap_or_else(|error| panic!("{stem}: {error}"));
                assert_eq!(board.name, stem.as_str());
                board
            })
            .collect();
        assert!(boards.len() >= 9);
        let bytes = encode_all(&boards).unwrap();
        assert_eq!(crate::board::decode_all(&bytes).unwrap(), boards.as_slice());
    }

    #[test]
    fn an_agx_orin_has_18096_modes() {
        let (_, text) = shipped()
            .into_iter()
            .find(|(stem, _)| stem == "orin-agx")
            .unwrap();
        let board = parse(&text).unwrap();
        let gpu = board.gpu_khz.first().unwrap().len();
        let modes = usize::from(board.cores) * board.cpu_khz.len() * gpu * board.emc_khz.len();
        assert_eq!(modes, 18_096);
        assert_eq!(board.gpu_khz.get(1).unwrap().len(), 11);
        assert_eq!(board.gpu_tables_with(Khz(1_300_500)), 0b11);
        assert_eq!(board.gpu_tables_with(Khz(306_000)), 0b10);
        assert_eq!(board.gpu_tables_with(Khz(1)), 0);
    }

    #[test]
    fn bad_descriptions_name_the_key() {
        let (_, good) = shipped()
            .into_iter()
            .find(|(stem, _)| stem == "orin-nano-8")
            .unwrap();
        for (from, to, key) in [
            ("cores = 6", "cores = 0", "cores"),
            ("clusters = [0, 4]", "clusters = [0, 6]", "clusters"),
            ("clusters = [0, 4]", "clusters = [4, 0]", "clusters"),
            ("[204_000, ", "[204_000, 204_000, ", "emc_khz"),
            ("name = ", "colour = 1\nname = ", "colour"),
            (
                "power_rails = [\"VDD_IN\"]",
                "power_rails = []",
                "power_rails",
            ),
        ] {
            let text = good.replace(from, to);
            assert_ne!(text, good, "{from} is not in the file");
            let message = parse(&text).unwrap_err().to_string();
            assert!(message.contains(key), "{message}");
        }
    }
}
